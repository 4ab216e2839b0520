"""Following open issues: how a projection comes by the records of those that ended."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final, Protocol, TypeVar

from healer.domain.events import (
    ApprovalDenied,
    ApprovalGranted,
    ApprovalRequested,
    BudgetReset,
    CheckRecorded,
    ComponentRegistered,
    ComponentRemoved,
    DiagnosisCompleted,
    DiagnosisStarted,
    FleetPaused,
    FleetResumed,
    HealthChanged,
    HealWithheld,
    IssueDetected,
    IssueEscalated,
    IssueEvent,
    IssueFailed,
    IssueTakenOver,
    IssueVerified,
    MaintenanceEnded,
    MaintenanceStarted,
    ModeChanged,
    PlaybookFinished,
    PlaybookStarted,
    PortRebound,
    ProcessAdopted,
    RemediationStarted,
    RouteChosen,
    StepFailed,
    StepSettled,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    VerificationRecorded,
)
from projections.projection import Cases
from projections.record import IssueRecord

__all__ = ["COMPONENT_EVENTS", "FLEET_EVENTS", "Book", "follow_issues"]

COMPONENT_EVENTS: Final = (
    ComponentRegistered,
    HealthChanged,
    PortRebound,
    MaintenanceStarted,
    MaintenanceEnded,
    ModeChanged,
    ProcessAdopted,
    BudgetReset,
    ComponentRemoved,
)
FLEET_EVENTS: Final = (FleetPaused, FleetResumed)
"""What a projection of issues alone ignores, with `COMPONENT_EVENTS`."""


class Book(Protocol):
    """A state that keeps the records of open issues, by issue id."""

    open: dict[str, Any]


B = TypeVar("B", bound=Book)
R = TypeVar("R", bound=IssueRecord)
E = TypeVar("E", bound=IssueEvent)


def follow_issues(
    cases: Cases[B],
    record: type[R],
    finish: Callable[[B, int, R], None],
    begun: Callable[[B, R], None] | None = None,
    *,
    ignore: Collection[type[IssueEvent]] = (),
) -> None:
    """Give `cases` all facts of issues: `record` is what an issue's record is made of (`begun` is
    told of it), the facts evolve it, `finish` takes it when its issue has ended and is not among
    the open ones any more.

    Facts of the classes in `ignore` are ignored: what the record says by them is not asked for.
    Facts of an issue that is not open (a check that came after the end) change nothing: a fold does
    not judge history, the audit does.
    """

    def evolve(kind: type[E], method: Callable[[R, E], None]) -> None:
        if kind in ignore:
            cases.ignore(kind)
            return

        def case(state: B, _position: int, event: E) -> None:
            kept = state.open.get(event.originator_id)
            if kept is not None:
                kept.updated = event.timestamp
                method(kept, event)

        cases.on(kind)(case)

    def end(kind: type[E], method: Callable[[R, E], None]) -> None:
        def case(state: B, position: int, event: E) -> None:
            kept = state.open.pop(event.originator_id, None)
            if kept is not None:
                kept.updated = event.timestamp
                method(kept, event)
                finish(state, position, kept)

        cases.on(kind)(case)

    @cases.on(IssueDetected)
    def detected(state: B, position: int, event: IssueDetected) -> None:
        made = record.detected(position, event)
        state.open[event.originator_id] = made
        if begun is not None:
            begun(state, made)

    evolve(DiagnosisStarted, record.diagnosing)
    evolve(CheckRecorded, record.checked)
    evolve(DiagnosisCompleted, record.diagnosed)
    evolve(ApprovalRequested, record.asked)
    evolve(ApprovalGranted, record.granted)
    evolve(ApprovalDenied, record.denied)
    evolve(RouteChosen, record.routed)
    evolve(RemediationStarted, record.remediating)
    evolve(PlaybookStarted, record.playbook_started)
    evolve(StepStarted, record.step_started)
    evolve(StepSucceeded, record.step_succeeded)
    evolve(StepFailed, record.step_failed)
    evolve(StepSettled, record.step_settled)
    evolve(StepSkipped, record.step_skipped)
    evolve(PlaybookFinished, record.playbook_finished)
    evolve(VerificationRecorded, record.looked)
    evolve(HealWithheld, record.refused)
    evolve(IssueEscalated, record.escalated)
    evolve(IssueTakenOver, record.taken_over)
    end(IssueVerified, record.verified)
    end(IssueFailed, record.failed)
