"""The history of `GET /network-healer/history`: one record per issue, newest first.

Records stand in log order, and so do those of each component: a page is
found by bisection and costs what it holds, not what the history holds.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import orjson

from healer.domain.events import (
    ApprovalDenied,
    ApprovalGranted,
    ApprovalRequested,
    CheckRecorded,
    DiagnosisCompleted,
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
from healer.store.compiled import sparse
from projections.action import actions
from projections.book import COMPONENT_EVENTS, FLEET_EVENTS, follow_issues
from projections.projection import Cases, Json, Projection
from projections.record import IssueRecord, Outcome, instant

__all__ = ["HISTORY", "FullRecord", "History", "HistoryQuery", "HistoryQueryError", "page"]

_LONGEST_PAGE: Final = 1000


class FullRecord(IssueRecord):
    """All that a person wants to see of an issue. `evidence` is kept as JSON: it is small so."""

    __slots__ = ("actions", "approval", "chosen_by", "evidence", "findings", "recommendations")

    def __init__(self, position: int, event: IssueDetected) -> None:
        super().__init__(position, event)
        self.evidence = orjson.dumps(sparse(event.evidence))
        self.actions: list[str] = []
        self.findings: tuple[str, ...] = ()
        self.recommendations: tuple[str, ...] = ()
        self.chosen_by: str | None = None
        self.approval: str | None = None

    def diagnosed(self, event: DiagnosisCompleted) -> None:
        super().diagnosed(event)
        self.findings = tuple(finding.code for finding in event.findings)
        self.recommendations = event.recommendations

    def routed(self, event: RouteChosen) -> None:
        self.chosen_by = event.chosen_by

    def asked(self, event: ApprovalRequested) -> None:
        self.approval = "requested"

    def granted(self, event: ApprovalGranted) -> None:
        self.approval = f"granted by {event.actor}"

    def denied(self, event: ApprovalDenied) -> None:
        self.approval = f"denied by {event.actor}: {event.reason}"

    def step_succeeded(self, event: StepSucceeded) -> None:
        super().step_succeeded(event)
        self.actions += actions(event)

    def step_failed(self, event: StepFailed) -> None:
        super().step_failed(event)
        self.actions += actions(event)

    def step_settled(self, event: StepSettled) -> None:
        super().step_settled(event)
        self.actions += actions(event)

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
            "evidence": orjson.loads(self.evidence),
            "findings": list(self.findings),
            "recommendations": list(self.recommendations),
            "withheld": [
                {
                    "timestamp": instant(event.timestamp),
                    "reason": event.reason,
                    "cause": event.cause,
                    "arithmetic": event.arithmetic,
                    "retry_in": event.retry_in,
                }
                for event in self.withheld
            ],
            "escalations": [
                {"timestamp": instant(event.timestamp), "reason": event.reason}
                for event in self.escalations
            ],
            "attempt": self.attempt,
            "recurrence": self.recurrence,
            "previous": self.previous,
        }


def _seconds(duration: int | None) -> float | None:
    return None if duration is None else duration / 1_000_000


@dataclass(slots=True)
class History:
    """Records in log order: all, by component, and by issue id."""

    open: dict[str, FullRecord] = field(default_factory=dict)
    records: list[FullRecord] = field(default_factory=list)
    by_component: dict[str, list[FullRecord]] = field(default_factory=dict)
    by_issue: dict[str, FullRecord] = field(default_factory=dict)


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


def page(state: History, query: HistoryQuery) -> Json:
    """`{"records": [...], "next": cursor or None}`, newest first."""
    records = state.records
    if query.component is not None:
        records = state.by_component.get(query.component, [])
    end = len(records)
    if query.before is not None:
        end = bisect_left(records, query.before, key=lambda record: record.position)
    found = _newest_first(records, end, query)
    shown = [record for _, record in zip(range(query.limit), found, strict=False)]
    more = next(found, None) is not None
    return {
        "records": [record.view() for record in shown],
        "next": shown[-1].position if more else None,
    }


def _newest_first(records: list[FullRecord], end: int, query: HistoryQuery) -> Iterator[FullRecord]:
    issue_type, outcome = query.issue_type, query.outcome
    since, until = query.since, query.until
    # Nothing may match and all are looked at: no call for each.
    for index in range(end - 1, -1, -1):
        record = records[index]
        if (
            (issue_type is None or record.issue_type == issue_type)
            and (outcome is None or record.outcome == outcome)
            and (since is None or record.timestamp >= since)
            and (until is None or record.timestamp < until)
        ):
            yield record


def _begun(state: History, record: FullRecord) -> None:
    state.records.append(record)
    state.by_component.setdefault(record.component, []).append(record)
    state.by_issue[record.issue_id] = record


def _finish(_state: History, _position: int, _record: FullRecord) -> None:
    """The record stands in its lists already."""


def _view(state: History) -> Json:
    return [record.view() for record in reversed(state.records)]


def _merge(left: History, right: History) -> History:
    left.open.update(right.open)
    left.by_issue.update(right.by_issue)
    for component, records in right.by_component.items():
        left.by_component[component] = _joined(left.by_component.get(component, []), records)
    left.records = _joined(left.records, right.records)
    return left


def _joined(left: list[FullRecord], right: list[FullRecord]) -> list[FullRecord]:
    return list(heapq.merge(left, right, key=lambda record: record.position))


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

HISTORY = Projection("history", 1, History, _cases, _view, _merge)
