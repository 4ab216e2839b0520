"""What an issue needs next: a pure function of its own history.

The engine carries the answer out; recovery after a crash is the same question asked of the replayed
issue; a dry run is the same answer without the last line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from healer.domain.events import ApprovalDenied, ApprovalGranted, StepStarted
from healer.domain.issue import NetworkIssue
from healer.domain.lifecycle import State
from healer.domain.playbook import Playbook, PlaybookOutcome, Step
from healer.domain.routing import CLEAR_PORT, RESTART_COMPONENT
from healer.domain.spec import Mode

__all__ = [
    "ALERT_RESOLVED",
    "AskApproval",
    "Diagnose",
    "Done",
    "Fail",
    "FinishPlaybook",
    "Move",
    "Remediate",
    "RouteIssue",
    "RunStep",
    "SettleStep",
    "StartPlaybook",
    "Verified",
    "Verify",
    "next_move",
    "wants_launcher",
]

ALERT_RESOLVED: Final = "alert_resolved"
"""Why an issue failed that nobody wanted healed any more: no decision of ours, and nothing that was
tried."""


@dataclass(frozen=True, slots=True)
class Diagnose:
    """Look; nothing is known yet. Safe to repeat: looking has no side effects."""


@dataclass(frozen=True, slots=True)
class RouteIssue:
    """Choose the playbooks."""


@dataclass(frozen=True, slots=True)
class AskApproval:
    """The component's mode is `suggest`: wait for a person's yes."""


@dataclass(frozen=True, slots=True)
class Remediate:
    """Act, if the budget allows it now."""


@dataclass(frozen=True, slots=True)
class StartPlaybook:
    """Begin the next playbook of the route."""


@dataclass(frozen=True, slots=True)
class RunStep:
    """Carry out one step: intent, effect, outcome."""

    playbook: Playbook
    index: int
    step: Step


@dataclass(frozen=True, slots=True)
class SettleStep:
    """A healer died in the middle of this step: look at the world before anything else."""

    intent: StepStarted


@dataclass(frozen=True, slots=True)
class FinishPlaybook:
    """Every step of the playbook is through."""


@dataclass(frozen=True, slots=True)
class Verify:
    """Look again, with fresh probes."""


@dataclass(frozen=True, slots=True)
class Verified:
    """It is cured, and was seen to be."""


@dataclass(frozen=True, slots=True)
class Fail:
    """Nothing is left to try."""

    reason: str


@dataclass(frozen=True, slots=True)
class Done:
    """The issue has ended."""


Move = (
    Diagnose
    | RouteIssue
    | AskApproval
    | Remediate
    | StartPlaybook
    | RunStep
    | SettleStep
    | FinishPlaybook
    | Verify
    | Verified
    | Fail
    | Done
)


def next_move(issue: NetworkIssue, mode: Mode) -> Move:
    """What `issue` needs next, under the component's `mode`."""
    match issue.state:
        case State.VERIFIED | State.FAILED:
            return Done()
        case State.DETECTED:
            return Diagnose()
        case State.DIAGNOSING:
            return _while_diagnosing(issue, mode)
        case State.REMEDIATING:
            return _while_remediating(issue)


def _while_diagnosing(issue: NetworkIssue, mode: Mode) -> Move:
    if not issue.diagnosed:
        return Diagnose()
    if not issue.routed:
        return RouteIssue()
    if issue.looked_since_acting and issue.verification and issue.verification.healthy:
        return Verified()
    if isinstance(issue.approval, ApprovalDenied):
        return Fail("approval_denied")
    if issue.remaining:
        if mode is Mode.SUGGEST and not isinstance(issue.approval, ApprovalGranted):
            return AskApproval()
        return Remediate()
    return Fail("no_remedy") if issue.looked_since_acting else Remediate()


def _while_remediating(issue: NetworkIssue) -> Move:
    if issue.intent is not None:
        return SettleStep(issue.intent)
    if issue.playbook is not None:
        due = issue.next_step
        return RunStep(issue.playbook, *due) if due is not None else FinishPlaybook()
    if not issue.finished:
        return StartPlaybook()
    if not issue.looked_since_acting:
        return Verify()
    assert issue.verification is not None
    if issue.verification.healthy:
        return Verified()
    return StartPlaybook() if issue.remaining else Fail("not_cured")


def wants_launcher(issue: NetworkIssue, *, port_free: bool, has_launcher: bool) -> bool:
    """Whether a cleared port is to be filled by the component's own launcher before anything else.

    ClearPort that leaves nothing listening has not healed. Moving a component whose port is free
    again, or giving up on it, would be wrong while it has a launcher that was not tried.
    """
    if not (issue.finished and port_free and has_launcher):
        return False
    last, outcome = issue.finished[-1]
    tried = RESTART_COMPONENT in issue.executed
    next_is_restart = bool(issue.remaining) and issue.remaining[0].name == RESTART_COMPONENT
    return (
        last.name == CLEAR_PORT
        and outcome is PlaybookOutcome.COMPLETED
        and not tried
        and not next_is_restart
    )
