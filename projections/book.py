"""Following open issues: how a projection comes by the records of those that ended."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

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
from projections.projection import Case, Cases
from projections.record import IssueRecord

__all__ = [
    "APPROVAL_EVENTS",
    "COMPONENT_EVENTS",
    "FLEET_EVENTS",
    "STEP_EVENTS",
    "Book",
    "Evolved",
    "Follower",
    "Following",
    "Shared",
    "follow_issues",
    "share",
]

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
APPROVAL_EVENTS: Final = (ApprovalRequested, ApprovalGranted, ApprovalDenied)
STEP_EVENTS: Final = (StepStarted, StepSucceeded, StepFailed, StepSettled, StepSkipped)
FLEET_EVENTS: Final = (FleetPaused, FleetResumed)
"""What a projection of issues alone ignores, with `COMPONENT_EVENTS`."""


class Book(Protocol):
    """A state that keeps the records of open issues, by issue id."""

    open: dict[str, Any]


B = TypeVar("B", bound=Book)
R = TypeVar("R", bound=IssueRecord)


class Evolved:
    """A case by which what is kept of an open issue evolves: `method` takes that, which knows whose
    it is, and a fact that need not (see `Fold.consume`). When `dated` it says when it was updated.
    """

    __slots__ = ("dated", "method")

    def __init__(self, method: Callable[..., None], *, dated: bool = False) -> None:
        self.method = method
        self.dated = dated

    def __call__(self, state: Book, _position: int, event: IssueEvent) -> None:
        kept = state.open.get(event.originator_id)
        if kept is not None:
            if self.dated:
                kept.updated = event.timestamp
            self.method(kept, event)


@dataclass(frozen=True, slots=True)
class Following(Generic[B, R]):
    """How a projection follows issues: see `follow_issues`."""

    record: type[R]
    finish: Callable[[B, int, R], None]
    begun: Callable[[B, R], None] | None
    ignore: Collection[type[IssueEvent]]
    dated: bool

    def cases(self) -> dict[type[IssueEvent], Case[B] | None]:
        """What each fact of an issue does to a state; None where it is ignored."""
        record = self.record
        methods: dict[type[IssueEvent], Callable[..., None]] = {
            DiagnosisStarted: record.diagnosing,
            CheckRecorded: record.checked,
            DiagnosisCompleted: record.diagnosed,
            ApprovalRequested: record.asked,
            ApprovalGranted: record.granted,
            ApprovalDenied: record.denied,
            RouteChosen: record.routed,
            RemediationStarted: record.remediating,
            PlaybookStarted: record.playbook_started,
            StepStarted: record.step_started,
            StepSucceeded: record.step_succeeded,
            StepFailed: record.step_failed,
            StepSettled: record.step_settled,
            StepSkipped: record.step_skipped,
            PlaybookFinished: record.playbook_finished,
            VerificationRecorded: record.looked,
            HealWithheld: record.refused,
            IssueEscalated: record.escalated,
            IssueTakenOver: record.taken_over,
        }
        return {
            IssueDetected: self._detected(),
            **{
                kind: None if kind in self.ignore else Evolved(method, dated=self.dated)
                for kind, method in methods.items()
            },
            IssueVerified: self._ended(record.verified),
            IssueFailed: self._ended(record.failed),
        }

    def _detected(self) -> Case[B]:
        record, begun = self.record, self.begun

        def detected(state: B, position: int, event: IssueDetected) -> None:
            made = record.detected(position, event)
            state.open[event.originator_id] = made
            if begun is not None:
                begun(state, made)

        return detected

    def _ended(self, method: Callable[..., None]) -> Case[B]:
        finish = self.finish

        def ended(state: B, position: int, event: IssueEvent) -> None:
            kept = state.open.pop(event.originator_id, None)
            if kept is not None:
                kept.updated = event.timestamp
                method(kept, event)
                finish(state, position, kept)

        return ended


def follow_issues(
    cases: Cases[B],
    record: type[R],
    finish: Callable[[B, int, R], None],
    begun: Callable[[B, R], None] | None = None,
    *,
    ignore: Collection[type[IssueEvent]] = (),
    dated: bool = False,
) -> None:
    """Give `cases` all facts of issues: `record` is what an issue's record is made of (`begun` is
    told of it), the facts evolve it, `finish` takes it when its issue has ended and is not among
    the open ones any more. Both read the record and change nothing of it: several projections may
    be told of the same one, and it may be of a class derived from `record` (see `Shared`).

    Facts of the classes in `ignore` are ignored: what the record says by them is not asked for. The
    record of an open issue says when it was updated when it is `dated`.
    Facts of an issue that is not open (a check that came after the end) change nothing: a fold does
    not judge history, the audit does.
    """
    following = Following(record, finish, begun, ignore, dated)
    for kind, case in following.cases().items():
        if case is None:
            cases.ignore(kind)
        else:
            cases.on(kind)(case)
    cases.following = following


Follower = tuple[str, Any, Following[Any, Any]]
"""A projection's name, its state, and how it follows issues."""

Stop = Callable[[str, int, Exception], None]
"""Takes a projection's name, a position, and what it cannot apply there."""


class Shared:
    """The open issues of several projections, each followed once for all of them: the states of
    `followers` keep their open records in the same place. One that cannot take a record is told to
    `stop`, and the others go on."""

    def __init__(self, followers: Sequence[Follower], stop: Stop) -> None:
        self.names = tuple(name for name, _, _ in followers)
        self.open: dict[str, Any] = followers[0][1].open
        self._followers = followers
        self._stop = stop

    def cases(self) -> dict[type[IssueEvent], Case[Shared] | None]:
        """What each fact of an issue does to all of them; None where they all ignore it."""
        ways = [following for _, _, following in self._followers]
        record = max((each.record for each in ways), key=lambda each: len(each.__mro__))
        ignored = frozenset[type[IssueEvent]].intersection(*(frozenset(w.ignore) for w in ways))
        dated = any(each.dated for each in ways)
        return Following(record, Shared._finish, Shared._begun, ignored, dated).cases()

    def _begun(self, record: IssueRecord) -> None:
        for name, state, following in self._followers:
            if following.begun is not None:
                try:
                    following.begun(state, record)
                except Exception as error:
                    self._stop(name, record.position, error)

    def _finish(self, position: int, record: IssueRecord) -> None:
        for name, state, following in self._followers:
            try:
                following.finish(state, position, record)
            except Exception as error:
                self._stop(name, position, error)


def share(states: Iterable[tuple[Any, Following[Any, Any]]]) -> None:
    """Let those of these empty states share their open issues whose records are of one line: each
    of a class derived from that of the one before."""
    shelves: list[tuple[type[IssueRecord], dict[str, Any]]] = []
    for state, following in sorted(states, key=lambda each: len(each[1].record.__mro__)):
        for place, (record, kept) in enumerate(shelves):
            if issubclass(following.record, record):
                state.open = kept
                shelves[place] = following.record, kept
                break
        else:
            shelves.append((following.record, state.open))
