"""What the audit says of a history that cannot have happened: which fact, and why."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from healer.domain import events as fact
from healer.domain.playbook import Settlement
from healer.ports import Recorded
from replay.audit import Problem, legality
from tests.projections.build import Log, heal


def remediating(log: Log, component: str = "chat_api"):
    return log.detect(component).diagnose().route("restart_component").remediate()


def acting(log: Log):
    return remediating(log).playbook("restart_component").intend("terminate")


def gap(log: Log) -> None:
    issue = log.detect()
    log.add_raw(fact.IssueEscalated, issue.id, 5, reason="x")


def gap_and_on(log: Log) -> None:
    """After a gap the stream is believed to stand where it was said to."""
    gap(log)
    log.add_raw(fact.IssueEscalated, "issue-0001", 6, reason="x")


def repeated(log: Log) -> None:
    """A repeat does not set the stream back."""
    issue = log.detect().diagnose()
    log.add_raw(fact.IssueEscalated, issue.id, 2, reason="x")
    log.add_raw(fact.IssueEscalated, issue.id, 5, reason="x")


def out_of_order(log: Log) -> None:
    log.detect().diagnose()
    log.facts.append(Recorded(2, log.facts.pop().event))


def at_the_same_position(log: Log) -> None:
    issue = log.detect()
    issue.escalate()
    log.facts.append(Recorded(2, issue.escalate().log.facts.pop().event))


def undetected(log: Log) -> None:
    log.add(fact.IssueEscalated, "nobody", reason="x")


def after_the_end(log: Log) -> None:
    heal(log).escalate()


def detected_twice(log: Log) -> None:
    issue = log.detect()
    again = log.facts[-1].event.model_dump(
        exclude={"originator_id", "originator_version", "timestamp", "node", "correlation_id"}
    )
    log.add(fact.IssueDetected, issue.id, **again)


def correlated_with_another(log: Log) -> None:
    log.detect()
    recorded = log.facts.pop()
    event = recorded.event.model_copy(update={"correlation_id": "another"})
    log.facts.append(Recorded(recorded.position, event))


def two_open_issues(log: Log) -> None:
    log.detect()
    log.detect()


def two_open_issues_one_ended(log: Log) -> None:
    """The end of the first does not free the component from the second."""
    first = log.detect()
    log.detect()
    first.fail()
    log.detect()


def one_after_the_other(log: Log) -> None:
    log.detect().fail()
    log.detect().fail()
    log.detect("another")


def two_intents(log: Log) -> None:
    acting(log).intend("start")


def skipped_under_an_intent(log: Log) -> None:
    acting(log).skip("terminate")


def finished_under_an_intent(log: Log) -> None:
    acting(log).finish()


def ended_under_an_intent(log: Log) -> None:
    acting(log).fail()


def no_intent(log: Log) -> None:
    issue = remediating(log).playbook("restart_component").step("terminate")
    issue.settle("start", Settlement.OBSERVED)


def other_intent(log: Log) -> None:
    acting(log).settle("start", Settlement.OBSERVED)


def not_verified(log: Log) -> None:
    remediating(log).run("restart_component", cured=False).verify("restart_component")


def never_looked(log: Log) -> None:
    remediating(log).verify(None)


def acted_after_the_look(log: Log) -> None:
    issue = remediating(log).look(healthy=True).playbook("restart_component")
    issue.step("terminate").verify(None)


def acting_since_the_look(log: Log) -> None:
    """What has begun to act may have undone what was seen."""
    issue = remediating(log).look(healthy=True).playbook("restart_component")
    issue.intend("terminate").verify(None)


def other_cure(log: Log) -> None:
    remediating(log).run("clear_port", cured=True).verify("restart_component")


def cured_by_itself(log: Log) -> None:
    """A cure that nobody claims is no contradiction."""
    remediating(log).run("clear_port", cured=True).verify(None)


def illegal_transition(log: Log) -> None:
    log.detect().remediate()


def illegal_twice(log: Log) -> None:
    """An illegal transition happened all the same: what follows is judged from where it led."""
    log.detect().remediate().remediate()


STEP = "step 0 terminate of restart_component"
REMEDIATE = "cannot remediate an issue that is"
SAID: dict[Callable[[Log], None], list[tuple[int, str, str]]] = {
    gap: [(2, "gap", "its stream stood at 1, so 2 is next")],
    gap_and_on: [(2, "gap", "its stream stood at 1, so 2 is next")],
    repeated: [(5, "gap", "its stream stood at 4, so 5 is next")],
    out_of_order: [(2, "out_of_order", "position 2 comes after 3")],
    at_the_same_position: [(2, "out_of_order", "position 2 comes after 2")],
    undetected: [(1, "undetected", "its issue was never detected")],
    after_the_end: [(15, "after_the_end", "its issue has ended")],
    detected_twice: [(2, "detected_twice", "its issue was detected before")],
    correlated_with_another: [
        (1, "correlation", "it is correlated with another, not with its issue")
    ],
    two_open_issues: [
        (2, "two_open_issues", "chat_api has the open issue issue-0001 already"),
    ],
    two_open_issues_one_ended: [
        (2, "two_open_issues", "chat_api has the open issue issue-0001 already"),
        (4, "two_open_issues", "chat_api has the open issue issue-0002 already"),
    ],
    one_after_the_other: [],
    two_intents: [(9, "two_intents", f"{STEP} has no outcome yet")],
    skipped_under_an_intent: [(9, "two_intents", f"{STEP} has no outcome yet")],
    finished_under_an_intent: [(9, "open_intent", f"{STEP} has no outcome yet")],
    ended_under_an_intent: [(9, "open_intent", f"{STEP} has no outcome yet")],
    no_intent: [
        (10, "no_intent", "step 1 start of restart_component has an outcome and no intent")
    ],
    other_intent: [
        (9, "other_intent", f"the intent was {STEP}, not step 0 start of restart_component")
    ],
    not_verified: [
        (14, "not_verified", "no healthy verification was recorded after its last step")
    ],
    never_looked: [(7, "not_verified", "no healthy verification was recorded after its last step")],
    acted_after_the_look: [
        (11, "not_verified", "no healthy verification was recorded after its last step")
    ],
    acting_since_the_look: [
        (10, "not_verified", "no healthy verification was recorded after its last step"),
        (10, "open_intent", f"{STEP} has no outcome yet"),
    ],
    other_cure: [(14, "other_cure", "the verification followed clear_port, not restart_component")],
    cured_by_itself: [],
    illegal_transition: [
        (2, "illegal_transition", f"{REMEDIATE} detected; allowed: diagnose, fail")
    ],
    illegal_twice: [
        (2, "illegal_transition", f"{REMEDIATE} detected; allowed: diagnose, fail"),
        (3, "illegal_transition", f"{REMEDIATE} remediating; allowed: verify, fail"),
    ],
}


@pytest.mark.parametrize("history", SAID, ids=lambda history: history.__name__)
def test_a_problem_says_where_and_why(history: Callable[[Log], None]) -> None:
    log = Log()
    history(log)
    expected = []
    facts = {recorded.position: recorded.event for recorded in log.facts}
    for position, code, why in SAID[history]:
        event = facts[position]
        message = f"cannot accept {event.event_id} ({event.TOPIC}): {why}"
        expected.append(Problem(position, event.event_id, code, message))
    assert legality(log.facts) == expected
