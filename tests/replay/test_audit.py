"""Which histories cannot have happened."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from healer.domain import events as fact
from healer.domain.playbook import Settlement
from healer.ports import Recorded
from replay.audit import legality
from tests.projections.build import Log, heal, logs


def codes(log: Log) -> list[str]:
    return [problem.code for problem in legality(log.facts)]


def begun(log: Log):
    return log.detect().diagnose().route("restart_component").remediate()


@given(facts=logs())
@settings(max_examples=60, deadline=None)
def test_a_history_that_happened_has_no_problems(facts):
    assert legality(facts) == []


def test_a_settled_step_is_an_outcome():
    log = Log()
    issue = begun(log).playbook("restart_component").intend("start")
    issue.settle("start", Settlement.OBSERVED).finish()
    issue.look(healthy=True, after="restart_component").verify("restart_component")
    assert codes(log) == []


def test_a_problem_names_the_fact_and_says_why():
    log = Log()
    issue = log.detect()
    issue.remediate()
    [problem] = legality(log.facts)
    assert (problem.position, problem.event_id) == (2, f"{issue.id}/2")
    assert problem.message == (
        f"cannot accept {issue.id}/2 (issue.remediation_started.v1): cannot remediate an issue "
        "that is detected; allowed: diagnose, fail"
    )


@pytest.mark.parametrize("version", [1, 2, 4, 9])
def test_positions_in_a_stream_have_no_gaps_and_no_repeats(version):
    log = Log()
    issue = log.detect().diagnose(complete=False)
    assert log.facts[-1].event.originator_version == 3
    log.facts.pop()
    log.add_raw(fact.IssueEscalated, issue.id, version, reason="x")
    assert codes(log) == ["gap"] if version != 3 else []


def test_a_stream_begins_at_one():
    log = Log()
    log.add_raw(fact.MaintenanceEnded, "component:a", 2, component="a", reason="x")
    assert codes(log) == ["gap"]


def test_positions_in_the_log_rise():
    log = Log()
    log.detect().diagnose()
    twice = [*log.facts, Recorded(2, log.facts[-1].event)]
    assert [problem.code for problem in legality(twice)][-1] == "out_of_order"


def test_an_outcome_needs_an_intent():
    log = Log()
    issue = begun(log).playbook("restart_component").step("terminate")
    issue.settle("start", Settlement.ABSENT)
    assert codes(log) == ["no_intent"]


def test_an_outcome_is_that_of_its_intent():
    log = Log()
    begun(log).playbook("restart_component").intend("terminate").settle("start", Settlement.ABSENT)
    assert codes(log) == ["other_intent"]


def test_two_intents_are_never_open_together():
    log = Log()
    begun(log).playbook("restart_component").intend("terminate").intend("start")
    assert codes(log) == ["two_intents"]


def test_an_issue_does_not_end_with_an_open_intent():
    log = Log()
    begun(log).playbook("restart_component").intend("terminate").fail()
    assert codes(log) == ["open_intent"]


def test_verified_needs_a_healthy_look_after_the_last_step():
    log = Log()
    begun(log).run("restart_component", cured=False).verify("restart_component")
    begun(log).verify(None)
    late = begun(log).look(healthy=True).playbook("restart_component").step().finish()
    late.verify("restart_component")
    assert codes(log) == ["not_verified"] * 3


def test_the_cure_is_the_playbook_that_was_looked_at():
    log = Log()
    begun(log).run("clear_port", cured=True).verify("restart_component")
    assert codes(log) == ["other_cure"]


def test_nothing_happens_after_the_end():
    log = Log()
    issue = heal(log)
    issue.escalate()
    assert codes(log) == ["after_the_end"]


def test_an_issue_is_detected_first_and_once():
    log = Log()
    log.add(fact.IssueEscalated, "nobody", reason="x")
    issue = log.detect()
    again = log.facts[-1].event.model_dump(
        exclude={"originator_id", "originator_version", "timestamp", "node", "correlation_id"}
    )
    log.add(fact.IssueDetected, issue.id, **again)
    assert codes(log) == ["undetected", "detected_twice"]


def test_a_component_has_one_open_issue():
    log = Log()
    first = log.detect()
    log.detect()
    assert codes(log) == ["two_open_issues"]
    first.fail()
    assert codes(log) == ["two_open_issues"]


@pytest.mark.parametrize("start", ["diagnose", "remediate", "verify"])
def test_the_lifecycle_judges_each_transition(start):
    log = Log()
    issue = log.detect()
    if start == "diagnose":
        issue.diagnose().diagnose()
    elif start == "remediate":
        issue.diagnose().remediate().remediate()
    else:
        issue.look(healthy=True).verify(None)
    assert codes(log) == ["illegal_transition"]
