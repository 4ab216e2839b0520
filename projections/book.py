"""Following open issues: how a projection comes by the records of those that ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

from healer.domain.events import (
    ApprovalDenied,
    ApprovalGranted,
    ApprovalRequested,
    CheckRecorded,
    ComponentRegistered,
    DiagnosisCompleted,
    DiagnosisStarted,
    HealthChanged,
    HealWithheld,
    IssueDetected,
    IssueEscalated,
    IssueEvent,
    IssueFailed,
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

__all__ = ["COMPONENT_EVENTS", "Book", "follow_issues"]

COMPONENT_EVENTS: Final = (
    ComponentRegistered,
    HealthChanged,
    PortRebound,
    MaintenanceStarted,
    MaintenanceEnded,
    ModeChanged,
    ProcessAdopted,
)
"""What a projection of issues alone ignores."""


class Book(Protocol):
    """A state that keeps the records of open issues, by issue id."""

    open: dict[str, Any]


B = TypeVar("B", bound=Book)
R = TypeVar("R", bound=IssueRecord)
E = TypeVar("E", bound=IssueEvent)


def follow_issues(
    cases: Cases[B],
    begin: Callable[[int, IssueDetected], R],
    finish: Callable[[B, int, R], None],
    begun: Callable[[B, R], None] | None = None,
) -> None:
    """Give `cases` all facts of issues: `begin` makes an issue's record (`begun` is told of it),
    the facts evolve it, `finish` takes it when its issue has ended and is not among the open ones
    any more.

    Facts of an issue that is not open (a check that came after the end) change nothing: a fold does
    not judge history, the audit does.
    """

    def evolve(kind: type[E], method: Callable[[R, E], None]) -> None:
        def case(state: B, _position: int, event: E) -> None:
            record = state.open.get(event.originator_id)
            if record is not None:
                record.updated = event.timestamp
                method(record, event)

        cases.on(kind)(case)

    def end(kind: type[E], method: Callable[[R, E], None]) -> None:
        def case(state: B, position: int, event: E) -> None:
            record = state.open.pop(event.originator_id, None)
            if record is not None:
                record.updated = event.timestamp
                method(record, event)
                finish(state, position, record)

        cases.on(kind)(case)

    @cases.on(IssueDetected)
    def detected(state: B, position: int, event: IssueDetected) -> None:
        record = begin(position, event)
        state.open[event.originator_id] = record
        if begun is not None:
            begun(state, record)

    # Lambdas, not methods of the class: a record's subclass may override them.
    evolve(DiagnosisStarted, lambda record, event: record.diagnosing(event))
    evolve(CheckRecorded, lambda record, event: record.checked(event))
    evolve(DiagnosisCompleted, lambda record, event: record.diagnosed(event))
    evolve(ApprovalRequested, lambda record, event: record.asked(event))
    evolve(ApprovalGranted, lambda record, event: record.granted(event))
    evolve(ApprovalDenied, lambda record, event: record.denied(event))
    evolve(RouteChosen, lambda record, event: record.routed(event))
    evolve(RemediationStarted, lambda record, event: record.remediating(event))
    evolve(PlaybookStarted, lambda record, event: record.playbook_started(event))
    evolve(StepStarted, lambda record, event: record.step_started(event))
    evolve(StepSucceeded, lambda record, event: record.step_succeeded(event))
    evolve(StepFailed, lambda record, event: record.step_failed(event))
    evolve(StepSettled, lambda record, event: record.step_settled(event))
    evolve(StepSkipped, lambda record, event: record.step_skipped(event))
    evolve(PlaybookFinished, lambda record, event: record.playbook_finished(event))
    evolve(VerificationRecorded, lambda record, event: record.looked(event))
    evolve(HealWithheld, lambda record, event: record.refused(event))
    evolve(IssueEscalated, lambda record, event: record.escalated(event))
    end(IssueVerified, lambda record, event: record.verified(event))
    end(IssueFailed, lambda record, event: record.failed(event))
