"""The training set: what was known when a decision was made, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from healer.domain import events as fact
from healer.domain.health import Health
from healer.domain.playbook import Check, CheckStatus, Finding
from healer.domain.probe import Reason
from healer.domain.spec import Criticality, IssueType, Mode
from healer.ports import Recorded
from projections.column import Role, names
from projections.projection import canonical
from projections.training import TRAINING, Row, training, unfinished
from projections.training_column import DECISION_COLUMNS, WINDOW_COLUMNS
from projections.training_state import DECISIONS, WINDOWS, Training
from tests.projections.build import Log, heal, logs, view_of

COLUMNS = {DECISIONS: DECISION_COLUMNS, WINDOWS: WINDOW_COLUMNS}
KNOWN = {
    table: names(columns, Role.KEY, Role.FEATURE, Role.ACTION) for table, columns in COLUMNS.items()
}


def rows_of(facts: Sequence[Recorded], **options: float) -> dict[str, dict[int, Row]]:
    """All rows, final and not, by table and position."""
    made: dict[str, dict[int, Row]] = {DECISIONS: {}, WINDOWS: {}}

    def take(table: str, row: Row) -> None:
        assert row["position"] not in made[table], "a row came twice"
        made[table][row["position"]] = row

    projection = training(take, **options)
    state: Training = projection.initial()
    for recorded in facts:
        projection.apply(state, recorded)
    for table, row in unfinished(state):
        take(table, row)
    return made


def decisions(log: Log, **options: float) -> list[Row]:
    rows = rows_of(log.facts, **options)[DECISIONS]
    return [rows[position] for position in sorted(rows)]


def windows(log: Log) -> list[Row]:
    rows = rows_of(log.facts)[WINDOWS]
    return [rows[position] for position in sorted(rows)]


def with_more(facts: Sequence[Recorded], random: Random) -> list[Recorded]:
    """The log with what features are made of besides: components that depend on each other and
    change that, and readings of the machine in front of decisions and behind them."""
    names = [f"component-{index}" for index in range(4)]
    more: list[fact.Fact] = []
    for recorded in facts:
        event = recorded.event
        if random.random() < 0.3:
            reading = {"cpu_percent": random.random() * 100, "cores": random.randint(1, 64)}
            check = Check(name="system_resources", status=CheckStatus.OK, facts=reading)
            if isinstance(event, fact.RouteChosen | fact.IssueVerified | fact.RemediationStarted):
                fields = dict(event)
                stamp = {name: fields[name] for name in fact.Event.model_fields}
                more.append(fact.CheckRecorded(**stamp, check=check))
        more.append(event)
        if isinstance(event, fact.HealthChanged) and random.random() < 0.3:
            stamp = {name: getattr(event, name) for name in fact.Event.model_fields}
            more.append(
                fact.ComponentRegistered(
                    **stamp,
                    component=event.component,
                    host="127.0.0.1",
                    port=1,
                    criticality=random.choice(list(Criticality)),
                    mode=random.choice(list(Mode)),
                    depends_on=tuple(random.sample(names, random.randint(0, 3))),
                )
            )
    return [Recorded(position, event) for position, event in enumerate(more, 1)]


full_logs = st.builds(with_more, logs(), st.randoms(use_true_random=False))


@given(facts=full_logs, where=st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_no_feature_of_a_row_changes_when_later_events_are_appended(facts, where):
    before, whole = rows_of(facts[: int(where * len(facts))]), rows_of(facts)
    for table, rows in before.items():
        for position, row in rows.items():
            later = whole[table][position]
            assert {name: row[name] for name in KNOWN[table]} == {
                name: later[name] for name in KNOWN[table]
            }


@given(facts=full_logs)
@settings(max_examples=25, deadline=None)
def test_every_row_is_known_in_full_right_at_its_own_event(facts):
    """As the test before, for every cut of the log at once."""
    seen: dict[tuple[str, int], Row] = {}
    final: list[tuple[str, Row]] = []
    projection = training(lambda table, row: final.append((table, row)))
    state: Training = projection.initial()
    for recorded in facts:
        projection.apply(state, recorded)
        for table, row in unfinished(state):
            if row["position"] == recorded.position:
                seen[table, recorded.position] = {name: row[name] for name in KNOWN[table]}
    made = [*final, *unfinished(state)]
    assert len(made) == len(seen)
    for table, row in made:
        assert {name: row[name] for name in KNOWN[table]} == seen[table, row["position"]]


@given(facts=full_logs, data=st.data())
@settings(max_examples=40, deadline=None)
def test_parts_with_dependencies_between_them_merge_to_the_whole(facts, data):
    owners: dict[str, str] = {}
    places: dict[str, int] = {}
    states = [TRAINING.initial() for _ in range(3)]
    for recorded in facts:
        event = recorded.event
        if hasattr(event, "component"):
            owners[event.originator_id] = event.component
        name = owners[event.originator_id]
        if name not in places:
            places[name] = data.draw(st.integers(0, 2))
        TRAINING.apply(states[places[name]], recorded)
    merge = TRAINING.merge
    assert merge is not None
    merged = TRAINING.view(merge(states[0], merge(states[1], states[2])))
    assert canonical(merged) == canonical(view_of(TRAINING, facts))


@given(facts=full_logs, where=st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_a_row_that_was_final_is_never_made_again_and_never_otherwise(facts, where):
    cut = int(where * len(facts))
    made: list[tuple[str, Row]] = []
    projection = training(lambda table, row: made.append((table, row)))
    state: Training = projection.initial()
    for recorded in facts[:cut]:
        projection.apply(state, recorded)
    final = list(made)
    for recorded in facts[cut:]:
        projection.apply(state, recorded)
    assert made[: len(final)] == final
    keys = [(table, row["position"]) for table, row in made]
    assert len(keys) == len(set(keys))


@given(facts=full_logs)
@settings(max_examples=20, deadline=None)
def test_every_row_has_exactly_the_columns_of_its_card_and_nulls_only_where_it_says_so(facts):
    for table, rows in rows_of(facts).items():
        for row in rows.values():
            assert row.keys() == set(names(COLUMNS[table]))
            assert [
                column.name
                for column in COLUMNS[table]
                if row[column.name] is None and not column.null
            ] == []


def test_a_cured_decision_says_what_was_known_chosen_and_reached():
    log = Log()
    log.register()
    log.adopt()
    log.wait(seconds=60)
    heal(log)
    [row] = decisions(log)
    assert row["action"] == "restart_component"
    assert row["propensity"] == 1.0
    assert row["candidates"] == ["restart_component"]
    assert (row["outcome"], row["cured_by"], row["cured_by_action"]) == (
        "cured",
        "restart_component",
        True,
    )
    assert row["time_to_resolution"] == 1.5
    assert row["process_age"] == pytest.approx(60, abs=0.1)
    assert (row["hour"], row["weekday"]) == (12, 6)
    assert (row["mode"], row["criticality"]) == ("act", "medium")
    assert row["failures_total"] == row["failures_7d"] == 0
    assert row["since_last_heal"] is row["previous_outcome"] is None


def test_failures_of_the_past_are_counted_by_age_and_the_present_one_is_not():
    log = Log()
    for pause in (timedelta(days=8), timedelta(days=3), timedelta(hours=5), timedelta(minutes=20)):
        heal(log)
        log.now += pause
    heal(log)
    heal(log)
    last = decisions(log)[-1]
    assert [last[f"failures_{width}"] for width in ("5m", "1h", "24h", "7d", "total")] == [
        1,
        2,
        3,
        4,
        5,
    ]
    assert last["previous_outcome"] == "healed"
    assert last["previous_healed_by"] == "restart_component"
    assert last["since_last_heal"] < 1


def test_a_reading_counts_only_from_before_the_decision_and_says_its_age():
    log = Log()

    def reading(percent: float) -> Check:
        facts = {"cpu_percent": percent, "memory_available_percent": None, "cores": 8}
        return Check(name="system_resources", status=CheckStatus.OK, facts=facts)

    issue = log.detect().diagnose().route("restart_component")
    issue.add(fact.CheckRecorded, check=reading(30.0))
    issue.fail()
    log.wait(seconds=10)
    heal(log)
    first, second = decisions(log)
    assert first["resource_cpu_percent"] is first["resource_age"] is None
    assert second["resource_cpu_percent"] == 30.0
    assert second["resource_cores"] == 8.0
    assert second["resource_memory_available_percent"] is None
    assert second["resource_age"] == pytest.approx(10, abs=0.1)


def test_findings_have_a_column_each_and_unknown_ones_only_the_list():
    log = Log()
    issue = log.detect()
    issue.add(fact.DiagnosisStarted, playbook="diagnose_network", checks=())
    issue.add(
        fact.DiagnosisCompleted,
        issue_type=IssueType.CONNECTION_TIMEOUT,
        findings=(Finding(code="cpu_strained"), Finding(code="of_tomorrow")),
        recommendations=(),
    )
    issue.route("clear_port")
    [row] = decisions(log)
    assert row["findings"] == ["cpu_strained", "of_tomorrow"]
    assert row["finding_cpu_strained"] is True
    assert row["finding_disk_strained"] is False
    assert "finding_of_tomorrow" not in row


def test_a_heal_that_never_came_is_withheld_and_says_why():
    log = Log()
    log.detect().diagnose().route("restart_component").withhold("quorum").withhold("backoff").fail(
        "withheld"
    )
    [row] = decisions(log)
    assert (row["outcome"], row["withheld_reason"], row["withholdings"]) == (
        "withheld",
        "quorum",
        2,
    )
    assert row["cured_by_action"] is row["attempt"] is row["waited"] is None


def test_what_was_withdrawn_with_its_alert_says_nothing_of_any_action():
    log = Log()
    log.detect().diagnose().route("restart_component").withhold("maintenance").fail(
        "alert_resolved"
    )
    log.detect().diagnose().route().withhold("maintenance").fail("alert_resolved")
    for row in decisions(log):
        assert (row["outcome"], row["reason"]) == ("withheld", "alert_resolved")
        assert row["cured_by_action"] is None


def test_what_recovers_by_itself_is_no_success_of_the_action():
    log = Log()
    log.detect().diagnose().route("restart_component").look(healthy=True).verify(None)
    log.detect().diagnose().route().look(healthy=True).verify(None)
    waiting, nothing = decisions(log)
    assert (waiting["outcome"], waiting["cured_by_action"]) == ("recovered", None)
    assert (nothing["action"], nothing["propensity"]) == ("none", 1.0)
    assert (nothing["outcome"], nothing["cured_by_action"]) == ("recovered", True)


def test_a_second_decision_ends_the_first_by_whether_it_was_carried_out():
    log = Log()
    issue = log.detect().diagnose().route("clear_port").route("restart_component").remediate()
    issue.run("restart_component", cured=False)
    issue.route("clear_port")
    issue.run("clear_port", cured=True).verify("clear_port")
    rows = decisions(log)
    assert [row["outcome"] for row in rows] == ["superseded", "not_cured", "cured"]
    assert [row["cured_by_action"] for row in rows] == [None, False, True]
    assert [row["ordinal"] for row in rows] == [0, 1, 2]


@pytest.mark.parametrize(
    ("minutes", "window", "recurred"), [(29, 30, True), (31, 30, False), (31, 60, True)]
)
def test_a_recurrence_is_another_issue_within_the_window(minutes, window, recurred):
    log = Log()
    heal(log)
    log.wait(minutes=minutes)
    heal(log)
    row = decisions(log, recurrence_window=window * 60.0)[0]
    assert row["recurred"] is recurred
    if recurred:
        assert row["time_to_recurrence"] == pytest.approx(minutes * 60, abs=0.1)
    else:
        assert row["time_to_recurrence"] is None


def test_a_log_that_ends_before_the_window_says_nothing_of_recurrence():
    log = Log()
    heal(log)
    assert decisions(log)[0]["recurred"] is None
    log.wait(minutes=31)
    log.register("other")
    assert decisions(log)[0]["recurred"] is False


def test_the_dependencies_are_those_of_the_moment():
    log = Log()
    log.component(
        fact.ComponentRegistered,
        "chat_api",
        host="127.0.0.1",
        port=8220,
        criticality=Criticality.HIGH,
        mode=Mode.ACT,
        depends_on=("bus", "store"),
    )
    heal(log)
    log.health(Health.UNKNOWN, Health.HEALTHY, "bus")
    log.health(Health.UNKNOWN, Health.HEALTHY, "store")
    heal(log)
    log.health(Health.HEALTHY, Health.UNHEALTHY, "bus", reason=Reason.REFUSED)
    heal(log)
    heal(log, "bus")
    assert [
        (row["dependencies"], row["dependencies_unhealthy"], row["dependency_state"])
        for row in decisions(log)
    ] == [(2, 0, "unknown"), (2, 0, "healthy"), (2, 1, "unhealthy"), (0, 0, "none")]


def test_parts_without_each_others_dependencies_merge_to_the_whole():
    log = Log()
    log.component(
        fact.ComponentRegistered,
        "chat_api",
        host="127.0.0.1",
        port=8220,
        criticality=Criticality.HIGH,
        mode=Mode.ACT,
        depends_on=("bus",),
    )
    log.health(Health.UNKNOWN, Health.HEALTHY, "bus")
    heal(log)
    log.health(Health.HEALTHY, Health.UNHEALTHY, "bus", reason=Reason.REFUSED)
    heal(log)
    states = []
    for bus in (True, False):
        state = TRAINING.initial()
        for recorded in log.facts:
            if (recorded.event.originator_id == "component:bus") is bus:
                TRAINING.apply(state, recorded)
        states.append(state)
    assert TRAINING.merge is not None
    merged = TRAINING.view(TRAINING.merge(*states))
    assert canonical(merged) == canonical(view_of(TRAINING, log.facts))
    assert merged["dependencies"]["rows"] == 2


def test_a_window_knows_its_next_failure_and_one_without_is_censored():
    log = Log()
    log.health(Health.STARTING, Health.HEALTHY)
    log.wait(minutes=10)
    log.health(Health.HEALTHY, Health.SUSPECT, reason=Reason.TIMEOUT)
    log.wait(minutes=5)
    log.health(Health.SUSPECT, Health.UNHEALTHY, reason=Reason.TIMEOUT)
    heal(log)
    log.health(Health.UNHEALTHY, Health.HEALTHY, epoch=2)
    log.wait(minutes=7)
    log.register("other")
    healthy, suspect, last = windows(log)
    assert [row["health"] for row in (healthy, suspect, last)] == ["healthy", "suspect", "healthy"]
    assert healthy["length"] == pytest.approx(600, abs=0.1)
    assert healthy["time_to_failure"] == pytest.approx(900, abs=0.1)
    assert suspect["time_to_failure"] == pytest.approx(300, abs=0.1)
    assert (healthy["censored"], last["censored"]) == (False, True)
    assert last["time_to_failure"] is last["length"] is None
    assert last["observed"] == pytest.approx(420, abs=0.1)
    assert (healthy["failures_1h"], last["failures_1h"]) == (0, 1)


def test_a_clock_that_was_set_back_makes_no_negative_durations():
    log = Log()
    log.adopt()
    heal(log)
    log.now -= timedelta(days=1)
    heal(log)
    last = decisions(log)[-1]
    assert last["process_age"] == last["since_last_heal"] == last["since_last_failure"] == 0


def test_the_view_is_small_however_long_the_log_and_shows_another_log():
    log = Log()
    for _ in range(50):
        heal(log)
        log.wait(hours=1)
    view = view_of(TRAINING, log.facts)
    assert view["decisions"]["outcomes"] == {"cured": 50}
    assert len(canonical(view)) < 1000
    facts = list(log.facts)
    edited = facts[-1].event.model_copy(update={"resolved_in": 2.0})
    facts[-1] = Recorded(facts[-1].position, edited)
    assert view_of(TRAINING, facts)["decisions"]["digest"] != view["decisions"]["digest"]


@pytest.mark.parametrize("window", [0.0, -1.0, float("inf"), float("nan")])
def test_a_recurrence_window_has_a_length(window):
    with pytest.raises(ValueError, match="cannot look for recurrences"):
        training(recurrence_window=window)
