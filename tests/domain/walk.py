"""Commands for an issue, their arguments, and a look at all that an aggregate shows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from healer.domain import decision
from healer.domain.aggregate import Aggregate, Stamp
from healer.domain.issue import NetworkIssue
from healer.domain.lifecycle import State
from healer.domain.playbook import (
    Check,
    CheckStatus,
    Evidence,
    Playbook,
    Settlement,
    Step,
    StepResult,
)
from healer.domain.probe import Reason
from healer.domain.spec import Criticality, IssueType, Mode, Severity
from tests import factory

UNDOABLE: Final = Playbook(
    name="undoable",
    steps=(Step(action="reserve"), Step(action="move"), Step(action="undo", undo=True)),
)
PLAIN: Final = Playbook(name="plain", steps=(Step(action="stop"), Step(action="start")))
EMPTY: Final = Playbook(name="empty", steps=())
BOOKS: Final = (PLAIN, UNDOABLE, EMPTY)


def stamp(second: int = 0) -> Stamp:
    return Stamp(now=factory.BEGIN + timedelta(seconds=second), actor="test", node=factory.NODE)


def detected(
    issue_id: str = factory.ISSUE, *, epoch: int = 1, at: Stamp | None = None
) -> NetworkIssue:
    return NetworkIssue.detect(
        issue_id,
        component=factory.COMPONENT,
        host="127.0.0.1",
        port=factory.PORT,
        issue_type=IssueType.CONNECTION_REFUSED,
        severity=Severity.MEDIUM,
        criticality=Criticality.MEDIUM,
        epoch=epoch,
        evidence=Evidence(probe=factory.probe(Reason.REFUSED)),
        stamp=at or stamp(),
    )


def shown(aggregate: Aggregate) -> dict[str, Any]:
    """Every public attribute, properties too; copies of what could change."""
    names = [name for name in dir(aggregate) if not name.startswith("_")]
    found: dict[str, Any] = {}
    for name in names:
        value = getattr(aggregate, name, None)
        if callable(value) or name == "pending_events":
            continue
        found[name] = value.copy() if isinstance(value, dict | list) else value
    return found


Command = Callable[[NetworkIssue, Stamp], None]


def route(*playbooks: Playbook) -> Command:
    def choose(issue: NetworkIssue, at: Stamp) -> None:
        issue.choose_route(
            playbooks,
            candidates=[book.name for book in playbooks],
            probabilities=[1.0 / len(playbooks) for _ in playbooks],
            chosen_by="test",
            stamp=at,
        )

    return choose


def look(*, healthy: bool, strangers: bool = False) -> Command:
    def verify(issue: NetworkIssue, at: Stamp) -> None:
        issue.record_verification(
            healthy=healthy,
            probes=(factory.probe(Reason.OK if healthy else Reason.REFUSED),),
            epoch=1,
            elapsed=0.1,
            foreign=(factory.process(),) if strangers else (),
            stamp=at,
        )

    return verify


COMMANDS: Final[dict[str, Command]] = {
    "start_diagnosis": lambda issue, at: issue.start_diagnosis("look", ("route",), stamp=at),
    "record_check": lambda issue, at: issue.record_check(
        Check(name="route", status=CheckStatus.OK), stamp=at
    ),
    "complete_diagnosis": lambda issue, at: issue.complete_diagnosis(
        issue_type=IssueType.PORT_NOT_LISTENING, findings=(), recommendations=("x",), stamp=at
    ),
    "choose_one": route(PLAIN),
    "choose_two": route(UNDOABLE, PLAIN),
    "choose_empty": route(EMPTY),
    "choose_none": route(),
    "request_approval": lambda issue, at: issue.request_approval(expires_in=60.0, stamp=at),
    "grant_approval": lambda issue, at: issue.grant_approval(stamp=at),
    "deny_approval": lambda issue, at: issue.deny_approval("no", stamp=at),
    "start_remediation": lambda issue, at: issue.start_remediation(attempt=1, stamp=at),
    "start_playbook": lambda issue, at: issue.start_playbook(stamp=at),
    "start_step": lambda issue, at: issue.start_step(port=1, stamp=at),
    "succeed_step": lambda issue, at: issue.succeed_step(StepResult(), elapsed=0.1, stamp=at),
    "fail_step": lambda issue, at: issue.fail_step(StepResult(error="x"), elapsed=0.1, stamp=at),
    "settle_observed": lambda issue, at: issue.settle_step(
        Settlement.OBSERVED, StepResult(), stamp=at
    ),
    "settle_absent": lambda issue, at: issue.settle_step(Settlement.ABSENT, StepResult(), stamp=at),
    "settle_unknowable": lambda issue, at: issue.settle_step(
        Settlement.UNKNOWABLE, StepResult(), stamp=at
    ),
    "skip_step": lambda issue, at: issue.skip_step("nothing to do", stamp=at),
    "finish_playbook": lambda issue, at: issue.finish_playbook(stamp=at),
    "see_healthy": look(healthy=True),
    "see_unhealthy": look(healthy=False),
    "see_stranger": look(healthy=True, strangers=True),
    "withhold": lambda issue, at: issue.withhold("paused", arithmetic={"a": 1.0}, stamp=at),
    "escalate": lambda issue, at: issue.escalate("deadline", stamp=at),
    "take_over": lambda issue, at: issue.take_over("elsewhere", stamp=at),
    "verify": lambda issue, at: issue.verify(resolved_in=1.0, stamp=at),
    "fail": lambda issue, at: issue.fail("not_cured", resolved_in=1.0, stamp=at),
}
"""Every command of an issue, under the names of the tests."""


_WAY_ON: Final[dict[type[decision.Move], str]] = {
    decision.RouteIssue: "choose_two",
    decision.AskApproval: "request_approval",
    decision.Remediate: "start_remediation",
    decision.StartPlaybook: "start_playbook",
    decision.RunStep: "start_step",
    decision.SettleStep: "settle_observed",
    decision.FinishPlaybook: "finish_playbook",
    decision.Verify: "see_unhealthy",
    decision.Verified: "verify",
    decision.Fail: "fail",
}


def next_command(issue: NetworkIssue, mode: Mode) -> str | None:
    """A command that carries out what the issue needs next; None when it has ended."""
    move = decision.next_move(issue, mode)
    match move:
        case decision.Done():
            return None
        case decision.Diagnose():
            return "start_diagnosis" if issue.state is State.DETECTED else "complete_diagnosis"
        case decision.AskApproval() if issue.approval is not None:
            return "grant_approval"
        case decision.Remediate() if not issue.remaining:
            return "see_unhealthy"
        case _:
            return _WAY_ON[type(move)]


def given(*names: str) -> NetworkIssue:
    """An issue that has been through these commands, with nothing pending."""
    issue = detected()
    for second, name in enumerate(names, 1):
        COMMANDS[name](issue, stamp(second))
    issue.collect_events()
    return issue
