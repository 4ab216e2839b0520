"""The open issues of `GET /network-healer/active`, oldest first, and what is being done about them.

`since` is the detection, `updated` the last fact; `playbook` and `step` are what runs now.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from projections.book import COMPONENT_EVENTS, FLEET_EVENTS, follow_issues
from projections.projection import Cases, Json, Projection
from projections.record import IssueRecord, instant

__all__ = ["ACTIVE", "Active"]


@dataclass(slots=True)
class Active:
    """Open issues by id."""

    open: dict[str, IssueRecord] = field(default_factory=dict)


def _finish(_state: Active, _position: int, _record: IssueRecord) -> None:
    """An ended issue is of no interest here."""


def _entry(record: IssueRecord) -> Json:
    return {
        "issue_id": record.issue_id,
        "component": record.component,
        "host": record.host,
        "port": record.port,
        "issue_type": record.issue_type,
        "severity": record.severity,
        "criticality": record.criticality,
        "node": record.node,
        "state": record.state,
        "playbook": record.playbook,
        "step": record.step,
        "playbooks_executed": [run.playbook for run in record.runs],
        "since": instant(record.timestamp),
        "updated": instant(record.updated),
        "attempt": record.attempt,
        "withheld": record.withheld[-1].reason if record.withheld else None,
        "escalated": bool(record.escalations),
        "position": record.position,
    }


def _view(state: Active) -> Json:
    return [
        _entry(record) for record in sorted(state.open.values(), key=lambda each: each.position)
    ]


def _merge(left: Active, right: Active) -> Active:
    left.open.update(right.open)
    return left


_cases: Cases[Active] = Cases()
follow_issues(_cases, IssueRecord, _finish, dated=True)
_cases.ignore(*COMPONENT_EVENTS, *FLEET_EVENTS)

ACTIVE = Projection("active", 1, Active, _cases, _view, _merge)
