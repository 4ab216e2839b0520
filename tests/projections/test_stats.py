"""The statistics of the user's document, worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from healer.domain import events as fact
from healer.domain.playbook import PlaybookOutcome
from healer.domain.spec import IssueType
from projections.history import HISTORY
from projections.playbook_stats import PLAYBOOK_STATS
from projections.stats import STATS
from tests.projections.build import Log, heal, logs, view_of


def stats(log: Log):
    return view_of(STATS, log.facts)


def test_an_empty_log_has_all_fields_of_the_document():
    shown = stats(Log())
    document = {
        "total_healings": 0,
        "successful_healings": 0,
        "failed_healings": 0,
        "success_rate": 0.0,
        "active_healings": 0,
        "playbook_stats": {},
    }
    assert document.items() <= shown.items()


def test_the_documents_example_comes_out_as_it_stands_there():
    log = Log()
    for _ in range(42):
        heal(log)
    for _ in range(3):
        log.detect().diagnose().route("restart_component").remediate().run(
            "restart_component", cured=False
        ).fail()
    log.detect().diagnose().route("restart_component").remediate().playbook("restart_component")
    shown = stats(log)
    assert (shown["total_healings"], shown["successful_healings"]) == (45, 42)
    assert (shown["failed_healings"], shown["success_rate"]) == (3, 93.3)
    assert shown["active_healings"] == 1
    restart = shown["playbook_stats"]["restart_component"]
    assert (restart["executions"], restart["successes"], restart["failures"]) == (46, 42, 3)
    assert restart["success_rate"] == 93.3
    assert shown["playbook_stats"]["diagnose_network"]["executions"] == 46


def test_an_issue_that_recovered_by_itself_is_not_a_healing():
    log = Log()
    log.detect().diagnose().look(healthy=True).verify(None)
    later = log.detect().diagnose().route("restart_component").remediate()
    later.run("restart_component", cured=False).look(healthy=True).verify(None)
    shown = stats(log)
    assert (shown["total_healings"], shown["self_recovered"], shown["issues"]) == (0, 2, 2)
    assert shown["time_to_resolution"]["overall"]["n"] == 0


def test_an_issue_that_failed_before_anything_was_done_is_not_a_healing():
    log = Log()
    log.detect().diagnose().withhold("quorum").withhold("quorum").escalate("held").fail("withheld")
    shown = stats(log)
    assert (shown["total_healings"], shown["failed_healings"], shown["issues"]) == (0, 0, 1)
    assert shown["withheld_by_reason"] == {"quorum": 2}
    assert shown["escalated_by_reason"] == {"held": 1}
    assert (shown["withheld"], shown["escalated"]) == (2, 1)


def test_a_playbook_that_completed_without_curing_has_failed_and_the_next_one_healed():
    log = Log()
    issue = log.detect().diagnose().route("clear_port", "restart_component").remediate()
    issue.run("clear_port", cured=False).run("restart_component", cured=True)
    issue.verify("restart_component", resolved_in=2.0)
    playbooks = stats(log)["playbook_stats"]
    assert (playbooks["clear_port"]["successes"], playbooks["clear_port"]["failures"]) == (0, 1)
    assert playbooks["restart_component"]["success_rate"] == 100.0


def test_only_the_verification_right_after_a_playbook_judges_it():
    log = Log()
    issue = log.detect().diagnose().route("clear_port").remediate()
    issue.run("clear_port", cured=False).look(healthy=True, after="clear_port").verify("clear_port")
    shown = stats(log)
    assert shown["playbook_stats"]["clear_port"]["failures"] == 1
    assert shown["successful_healings"] == 1


@pytest.mark.parametrize("outcome", [PlaybookOutcome.FAILED, PlaybookOutcome.UNDONE])
def test_a_playbook_that_did_not_complete_failed_though_the_component_is_well(outcome):
    log = Log()
    issue = log.detect().diagnose().route("rebind_port").remediate()
    issue.playbook("rebind_port").fail_step().finish(outcome)
    issue.look(healthy=True, after="rebind_port").verify("rebind_port")
    assert stats(log)["playbook_stats"]["rebind_port"]["failures"] == 1


def test_a_playbook_that_its_issues_end_cut_short_failed():
    log = Log()
    issue = log.detect().diagnose().route("clear_port").remediate()
    issue.playbook("clear_port").step()
    assert stats(log)["playbook_stats"]["clear_port"]["failures"] == 0
    issue.fail("interrupted")
    assert stats(log)["playbook_stats"]["clear_port"]["failures"] == 1


def test_a_diagnosis_succeeds_when_it_completes():
    log = Log()
    log.detect().diagnose().escalate().fail()
    log.detect().diagnose(complete=False).fail("interrupted")
    diagnosis = stats(log)["playbook_stats"]["diagnose_network"]
    assert (diagnosis["executions"], diagnosis["successes"], diagnosis["failures"]) == (2, 1, 1)


def test_times_are_grouped_by_type_after_diagnosis_component_and_healing_playbook():
    log = Log()
    for name, seen_after, resolved_in in [("a", 0.1, 1.0), ("a", 0.3, 2.0), ("b", 0.2, 6.0)]:
        issue = log.detect(name, IssueType.CONNECTION_TIMEOUT, seen_after=seen_after)
        issue.diagnose(IssueType.CONNECTION_REFUSED).route("clear_port").remediate()
        issue.run("clear_port", cured=True).verify("clear_port", resolved_in)
    shown = stats(log)
    assert shown["issues_by_type"] == {"connection_refused": 3}
    resolution = shown["time_to_resolution"]
    assert resolution["by_component"]["a"] == {
        "n": 2, "mean": 1.5, "p50": 1.0, "p95": 2.0, "min": 1.0, "max": 2.0
    }  # fmt: skip
    assert resolution["by_issue_type"]["connection_refused"]["mean"] == 3.0
    assert resolution["by_playbook"]["clear_port"] == resolution["overall"]
    assert shown["time_to_detect"]["overall"]["p50"] == 0.2
    assert shown["time_to_detect"]["by_component"]["b"]["max"] == 0.2
    assert shown["success_by_component"]["a"]["n"] == 2


@pytest.mark.parametrize("actor", ["api:ops", "cli"])
def test_an_issue_that_a_person_reported_was_not_detected(actor):
    log = Log()
    log.actor = actor
    heal(log, seen_after=0.0)
    assert stats(log)["time_to_detect"]["overall"]["n"] == 0


def test_what_open_issues_were_refused_shows_before_they_end():
    log = Log()
    log.detect().diagnose().withhold("backoff")
    shown = stats(log)
    assert (shown["open_issues"], shown["active_healings"]) == (1, 0)
    assert shown["withheld_by_reason"] == {"backoff": 1}
    assert shown["issues_by_type"] == {"port_not_listening": 1}


def test_playbook_stats_tell_why_playbooks_failed_and_how_long_they_took():
    log = Log()
    issue = log.detect().diagnose().route("restart_component").remediate()
    issue.playbook("restart_component").step(elapsed=0.25).fail_step("start", "exited")
    issue.finish(PlaybookOutcome.FAILED).look(healthy=False, after="restart_component").fail()
    heal(log)
    shown = view_of(PLAYBOOK_STATS, log.facts)["restart_component"]
    assert (shown["executions"], shown["successes"], shown["failures"]) == (2, 1, 1)
    assert shown["failed_steps"] == {"start: exited": 1}
    assert shown["outcomes"] == {"failed": 1, "completed": 1}
    assert (shown["duration"]["min"], shown["duration"]["max"]) == (0.02, 0.27)
    assert shown["by_issue_type"]["port_not_listening"]["success_rate"] == 50.0


@given(facts=logs())
@settings(max_examples=40, deadline=None)
def test_statistics_and_history_tell_the_same_story(facts):
    shown, records = view_of(STATS, facts), view_of(HISTORY, facts)
    outcomes = [record["outcome"] for record in records]
    began = {
        recorded.event.originator_id
        for recorded in facts
        if isinstance(recorded.event, fact.RemediationStarted)
    }
    assert shown["issues"] == len(records)
    assert shown["successful_healings"] == outcomes.count("healed")
    assert shown["self_recovered"] == outcomes.count("recovered")
    assert shown["open_issues"] == outcomes.count("open")
    assert shown["failed_healings"] == sum(
        record["outcome"] == "failed" and record["issue_id"] in began for record in records
    )
    finished = view_of(PLAYBOOK_STATS, facts)
    if not shown["open_issues"]:
        for name, entry in shown["playbook_stats"].items():
            assert entry.items() <= finished[name].items()
