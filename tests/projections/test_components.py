"""The inventory, and what a component's record advises."""

from __future__ import annotations

from healer.domain import events as fact
from healer.domain.health import Health
from healer.domain.probe import Reason
from healer.domain.spec import ComponentSpec, Mode
from projections.components import COMPONENTS
from projections.fold import Fold
from projections.recommendations import RECOMMENDATIONS, recommend
from tests.projections.build import Log, heal, view_of


def advise(log: Log, spec: ComponentSpec | None = None):
    fold = Fold([RECOMMENDATIONS])
    fold.apply(log.facts)
    return recommend(fold.state("recommendations"), "chat_api", spec)


def settings_of(shown):
    return [entry["setting"] for entry in shown["advice"]]


def test_the_inventory_tells_who_holds_the_port_and_since_when():
    log = Log()
    log.register()
    log.adopt(pid=42, epoch=3)
    log.health(Health.STARTING, Health.HEALTHY, epoch=3)
    [shown] = view_of(COMPONENTS, log.facts)
    assert (shown["name"], shown["port"], shown["health"]) == ("chat_api", 8220, "healthy")
    assert (shown["epoch"], shown["failures"], shown["mode"]) == (3, 0, "act")
    assert shown["process"]["pid"] == 42
    assert shown["process"]["since"] == "2026-03-01T12:00:00.001000Z"
    assert shown["last_change"] == "2026-03-01T12:00:00.002000Z"


def test_a_process_that_ended_holds_nothing():
    log = Log()
    log.register()
    log.adopt()
    log.health(Health.HEALTHY, Health.UNHEALTHY, reason=Reason.EXITED)
    [shown] = view_of(COMPONENTS, log.facts)
    assert (shown["process"], shown["failures"]) == (None, 1)
    assert shown["last_probe"]["reason"] == "exited"


def test_a_rebound_port_outlives_a_registration_that_changed_something_else():
    log = Log()
    log.register(port=8220)
    log.component(fact.PortRebound, "chat_api", old_port=8220, new_port=8221)
    log.register(port=8220)
    [shown] = view_of(COMPONENTS, log.facts)
    assert (shown["port"], shown["configured_port"]) == (8221, 8220)
    log.register(port=9000)
    assert view_of(COMPONENTS, log.facts)[0]["port"] == 9000


def test_maintenance_mode_and_open_issue_come_and_go():
    log = Log()
    log.register()
    log.component(fact.MaintenanceStarted, "chat_api", duration=60.0, reason="deploy")
    log.component(fact.ModeChanged, "chat_api", before=Mode.ACT, after=Mode.OBSERVE, reason="asked")
    issue = log.detect()
    [shown] = view_of(COMPONENTS, log.facts)
    assert shown["in_maintenance"]
    assert shown["maintenance"]["until"] == "2026-03-01T12:01:00.001000Z"
    assert (shown["mode"], shown["open_issue"]) == ("observe", issue.id)
    issue.fail()
    log.component(fact.MaintenanceEnded, "chat_api", reason="done")
    [shown] = view_of(COMPONENTS, log.facts)
    assert (shown["in_maintenance"], shown["maintenance"]) == (False, None)
    assert (shown["open_issue"], shown["last_issue"], shown["issues"]) == (None, issue.id, 1)


def test_an_endless_maintenance_has_no_end():
    log = Log()
    log.component(fact.MaintenanceStarted, "chat_api", duration=1e12, reason="retired")
    assert view_of(COMPONENTS, log.facts)[0]["maintenance"]["until"] is None


def test_a_component_without_a_record_gets_no_advice():
    shown = advise(Log())
    assert (shown["recommendations"], shown["diagnosis"], shown["advice"]) == ([], None, [])


def test_the_last_diagnosis_and_what_worked_are_shown_with_n():
    log = Log()
    heal(log)
    issue = log.detect().diagnose(recommendations=("high memory",))
    issue.route("clear_port", "restart_component").remediate().run("clear_port", cured=False)
    issue.run("restart_component", cured=True).verify("restart_component")
    shown = advise(log)
    assert shown["recommendations"] == ["high memory"]
    assert shown["diagnosis"]["issue_id"] == issue.id
    worked = [(each["playbook"], each["successes"], each["n"]) for each in shown["what_worked"]]
    assert worked == [("restart_component", 2, 2), ("clear_port", 0, 1)]


def test_issues_that_end_by_themselves_ask_for_a_higher_failure_threshold():
    log = Log()
    for _ in range(3):
        log.detect().diagnose().look(healthy=True).verify(None)
    spec = ComponentSpec(name="chat_api", port=8220, failure_threshold=2)
    [entry] = advise(log, spec)["advice"]
    assert (entry["setting"], entry["value"], entry["n"]) == ("failure_threshold", 3, 3)
    for _ in range(20):
        heal(log)
    assert settings_of(advise(log)) == []


def test_a_start_period_shorter_than_the_measured_starts_is_to_be_raised():
    log = Log()
    for epoch in range(1, 5):
        log.adopt(epoch=epoch)
        log.wait(seconds=12)
        log.health(Health.STARTING, Health.HEALTHY, epoch=epoch)
    log.adopt(epoch=9)
    log.detect(epoch=9).fail()
    short = ComponentSpec(name="chat_api", port=8220, start_period=10.0)
    long = ComponentSpec(name="chat_api", port=8220, start_period=15.0)
    [entry] = advise(log, short)["advice"]
    assert (entry["setting"], entry["value"], entry["n"]) == ("start_period", 12.0, 4)
    assert settings_of(advise(log)) == ["start_period"]
    assert settings_of(advise(log, long)) == []


def test_a_clock_that_was_set_back_measures_no_start():
    log = Log()
    log.adopt()
    log.wait(hours=-1)
    log.health(Health.STARTING, Health.HEALTHY)
    assert advise(log)["time_to_healthy"]["n"] == 0


def test_a_playbook_that_never_cured_and_an_issue_that_recurs_are_named():
    log = Log()
    for recurrence in range(4):
        issue = log.detect(recurrence=recurrence).diagnose().route("clear_port").remediate()
        issue.run("clear_port", cured=False).fail()
    shown = advise(log)
    assert shown["recurring"] == {"port_not_listening": 3}
    assert settings_of(shown) == ["routes.port_not_listening", None]
