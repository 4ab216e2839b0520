"""The history of `GET /network-healer/history`: one record per issue, newest first.

Open issues are kept in memory, ended ones on a shelf: memory does not grow with the log, and a page
costs what it holds, not what the history holds.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Final, NamedTuple, Protocol, Self

import msgspec

from healer.domain.events import (
    ApprovalDenied,
    ApprovalGranted,
    ApprovalRequested,
    CheckRecorded,
    IssueDetected,
    IssueTakenOver,
    PlaybookFinished,
    RouteChosen,
    StepFailed,
    StepSettled,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    VerificationRecorded,
)
from healer.errors import HealerError
from healer.store.compiled import LightEvidence, plain, sparse
from projections.action import actions
from projections.book import COMPONENT_EVENTS, FLEET_EVENTS, follow_issues
from projections.projection import Cases, Json, Projection, micros
from projections.record import DiagnosedRecord, Outcome, instant
from projections.shelf import Shelf, Shelved, Wanted

__all__ = [
    "HISTORY",
    "FullRecord",
    "History",
    "HistoryQuery",
    "HistoryQueryError",
    "Issues",
    "Page",
    "find",
    "in_memory",
    "page",
    "pages",
    "shown",
]

_LONGEST_PAGE: Final = 1000


class FullRecord(DiagnosedRecord, array_like=True, eq=False, gc=False):
    """All that a person wants to see of an issue. It is shelved as it is in memory: what is shown
    of it is made when it is asked for."""

    evidence: LightEvidence | None = None
    actions: list[str] = msgspec.field(default_factory=list)
    chosen_by: str | None = None
    approval: str | None = None

    @classmethod
    def detected(cls, position: int, event: IssueDetected) -> Self:
        """See `IssueRecord.detected`."""
        record = super().detected(position, event)
        record.evidence = event.evidence
        return record

    def routed(self, event: RouteChosen) -> None:
        self.chosen_by = event.chosen_by

    def asked(self, event: ApprovalRequested) -> None:
        self.approval = "requested"

    def granted(self, event: ApprovalGranted) -> None:
        self.approval = f"granted by {event.actor}"

    def denied(self, event: ApprovalDenied) -> None:
        self.approval = f"denied by {event.actor}: {event.reason}"

    def step_succeeded(self, event: StepSucceeded) -> None:
        self._step_ended(event.elapsed)
        self.actions += actions(event)

    def step_failed(self, event: StepFailed) -> None:
        super().step_failed(event)
        self.actions += actions(event)

    def step_settled(self, event: StepSettled) -> None:
        super().step_settled(event)
        self.actions += actions(event)

    def shelved(self) -> Shelved:
        """The record as it is found, and kept once its issue has ended."""
        return Shelved(
            self.position,
            self.issue_id,
            self.component,
            self.issue_type,
            self.outcome,
            micros(self.timestamp),
            _encode(self),
        )

    def view(self) -> Json:
        """The record as JSON; durations in seconds, times of finished issues only."""
        return {
            "position": self.position,
            "issue_id": self.issue_id,
            "timestamp": instant(self.timestamp),
            "ended": instant(self.ended),
            "component": self.component,
            "host": self.host,
            "port": self.port,
            "issue_type": self.issue_type,
            "detected_as": self.detected_as,
            "severity": self.severity,
            "criticality": self.criticality,
            "node": self.node,
            "state": self.state,
            "outcome": self.outcome,
            "success": self.success,
            "reason": self.reason,
            "healed_by": self.healed_by,
            "chosen_by": self.chosen_by,
            "approval": self.approval,
            "playbooks_executed": [run.playbook for run in self.runs],
            "actions_taken": list(self.actions),
            "time_to_detect": _seconds(self.seen_after),
            "time_to_resolution": _seconds(self.resolved_in),
            "evidence": sparse(self.evidence),
            "findings": list(self.findings),
            "recommendations": list(self.recommendations),
            "withheld": [
                {
                    "timestamp": instant(each.timestamp),
                    "reason": each.reason,
                    "cause": each.cause,
                    "arithmetic": each.arithmetic,
                    "retry_in": each.retry_in,
                }
                for each in self.withheld
            ],
            "escalations": [
                {"timestamp": instant(each.timestamp), "reason": each.reason}
                for each in self.escalations
            ],
            "attempt": self.attempt,
            "recurrence": self.recurrence,
            "previous": self.previous,
        }


# A real event's evidence is no struct.
_encode: Final = msgspec.msgpack.Encoder(enc_hook=plain).encode
_decode: Final = msgspec.msgpack.Decoder(FullRecord).decode


def _seconds(duration: int | None) -> float | None:
    return None if duration is None else duration / 1_000_000


class Issues(Protocol):
    """What can be asked of a history, of now or of a past moment. The answers are to be used before
    anything else is asked.

    Raises:
        StoreError: what was put away cannot be read.
    """

    def newest(self, wanted: Wanted) -> Iterator[Shelved]:
        """The issues that are wanted, the newest first."""
        ...

    def find(self, issue_id: str) -> Shelved | None:
        """One issue; None where there is none of that id."""
        ...

    @property
    def components(self) -> Iterable[str]:
        """The components that had issues."""
        ...


def in_memory(records: Iterable[FullRecord], wanted: Wanted) -> list[Shelved]:
    """Those of `records` that are wanted, the newest first."""
    return sorted(filter(wanted.fits, (each.shelved() for each in records)), reverse=True)


@dataclass(slots=True)
class History:
    """Records of open issues, the shelf of the ended ones, and the components of all with the
    positions of their first issues."""

    open: dict[str, FullRecord] = field(default_factory=dict)
    shelf: Shelf = field(default_factory=Shelf)
    components: dict[str, int] = field(default_factory=dict)

    def newest(self, wanted: Wanted) -> Iterator[Shelved]:
        """See `Issues.newest`."""
        now = in_memory(self.open.values(), wanted)
        return heapq.merge(now, self.shelf.newest(wanted), key=_newest_first)

    def find(self, issue_id: str) -> Shelved | None:
        """See `Issues.find`."""
        record = self.open.get(issue_id)
        return self.shelf.get(issue_id) if record is None else record.shelved()


def pages(state: History, position: int, size: int) -> Iterator[list[Shelved]]:
    """All issues as they are now, at `position`, the newest first, at most `size` at a time.

    The history may go on from one page to the next: those that are open are taken down at once, and
    one that has ended does not change any more.
    """
    return _pages(state.shelf, in_memory(state.open.values(), Wanted()), position + 1, size)


def _pages(shelf: Shelf, unended: list[Shelved], below: int, size: int) -> Iterator[list[Shelved]]:
    while page := _page_of(shelf, unended, Wanted(below=below), size):
        yield page
        below = page[-1].position


def _page_of(shelf: Shelf, unended: list[Shelved], wanted: Wanted, size: int) -> list[Shelved]:
    later = {each.position for each in unended}  # what has ended since is on the shelf by now
    ended = (each for each in shelf.newest(wanted) if each.position not in later)
    found = heapq.merge(filter(wanted.fits, unended), ended, key=_newest_first)
    return list(islice(found, size))


def _newest_first(record: Shelved) -> int:
    return -record.position


def shown(record: Shelved) -> Json:
    """The record as JSON, see `FullRecord.view`."""
    return _decode(record.body).view()


class HistoryQueryError(HealerError):
    """A history query that cannot be answered. `field`, `value` and `allowed` say why."""

    def __init__(self, name: str, value: object, allowed: str) -> None:
        self.field = name
        self.value = value
        self.allowed = allowed
        super().__init__(f"cannot search history with {name} {value!r}; allowed: {allowed}")


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryQuery:
    """Which records. All given conditions hold together.

    `since` is included, `until` is not; both are compared with the detection's time. `before` is
    the cursor: the `next` of the page before, a position in the log.

    Raises:
        HistoryQueryError: a value that is not allowed.
    """

    component: str | None = None
    issue_type: str | None = None
    outcome: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: int | None = None
    limit: int = 100

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= _LONGEST_PAGE:
            raise HistoryQueryError("limit", self.limit, f"1 to {_LONGEST_PAGE}")
        if self.before is not None and self.before < 1:
            raise HistoryQueryError("before", self.before, "a position, from 1")
        if self.outcome is not None and self.outcome not in Outcome.ALL:
            raise HistoryQueryError("outcome", self.outcome, ", ".join(Outcome.ALL))
        for name, moment in (("since", self.since), ("until", self.until)):
            if moment is not None and moment.tzinfo is None:
                raise HistoryQueryError(name, moment.isoformat(), "an instant with its UTC offset")

    def wanted(self) -> Wanted:
        """What is asked for, as the records are found by it."""
        return Wanted(
            component=self.component,
            issue_type=self.issue_type,
            outcome=self.outcome,
            since=None if self.since is None else micros(self.since),
            until=None if self.until is None else micros(self.until),
            below=self.before,
        )


class Page(NamedTuple):
    """Issues that were found, newest first, and the cursor of the next page."""

    records: list[Shelved]
    next: int | None

    def view(self) -> dict[str, Json]:
        """`{"records": [...], "next": cursor or None}`. It needs the page alone, in any thread."""
        return {"records": [shown(record) for record in self.records], "next": self.next}


def find(issues: Issues, query: HistoryQuery) -> Page:
    """What the query asks for; raises as `Issues` says."""
    found = issues.newest(query.wanted())
    records = list(islice(found, query.limit))
    more = next(found, None) is not None
    return Page(records, records[-1].position if more else None)


def page(issues: Issues, query: HistoryQuery) -> dict[str, Json]:
    """The page as it is shown, see `Page.view`; raises as `Issues` says."""
    return find(issues, query).view()


def _begun(state: History, record: FullRecord) -> None:
    state.components.setdefault(record.component, record.position)


def _finish(state: History, _position: int, record: FullRecord) -> None:
    state.shelf.add(record.shelved())


def _entries(state: History) -> Iterator[Json]:
    return map(shown, state.newest(Wanted()))


def _view(state: History) -> Json:
    return list(_entries(state))


def _merge(left: History, right: History) -> History:
    left.open.update(right.open)
    left.shelf.merge(right.shelf)
    for component, position in right.components.items():
        left.components[component] = min(position, left.components.get(component, position))
    return left


_cases: Cases[History] = Cases()
_NOT_SHOWN: Final = (
    CheckRecorded,
    StepStarted,
    StepSkipped,
    PlaybookFinished,
    VerificationRecorded,
    IssueTakenOver,
)
"""What a record does not show: how runs are judged is the statistics' business."""

follow_issues(_cases, FullRecord, _finish, _begun, ignore=_NOT_SHOWN)
_cases.ignore(*COMPONENT_EVENTS, *FLEET_EVENTS)

HISTORY = Projection("history", 1, History, _cases, _view, _merge, _entries)
