"""The shapes of what is published beside the events: held against what is written by tests."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from healer.domain.lifecycle import State
from healer.domain.playbook import Evidence
from healer.domain.spec import Criticality, IssueType, Severity
from healer.domain.value import Value

__all__ = ["Escalation", "HealingLine", "HistoryRecord", "Refusal"]

Ended = Literal["healed", "recovered", "failed"]


class HealingLine(Value):
    """One line of `healings_YYYYMMDD.jsonl`: an issue that ended on that day (UTC).

    `position` is that of its end in the log, `time_to_resolution` the seconds from the first
    evidence to it.
    """

    position: int = Field(ge=1)
    timestamp: datetime
    detected: datetime
    issue_id: str
    component: str
    port: int
    issue_type: IssueType
    severity: Severity
    playbooks: tuple[str, ...]
    success: bool
    outcome: Ended
    actions_taken: tuple[str, ...]
    time_to_resolution: float


class Refusal(Value):
    """A heal that was due and not allowed. `arithmetic` are the figures; `retry_in` in seconds."""

    timestamp: datetime
    reason: str
    cause: str | None
    arithmetic: dict[str, float]
    retry_in: float | None


class Escalation(Value):
    """A person was told."""

    timestamp: datetime
    reason: str


class HistoryRecord(Value):
    """One issue, as the history shows it; durations in seconds.

    `position` is that of its detection. `ended`, `success` and `time_to_resolution` are null while
    it is open, `time_to_detect` where a person reported it. `evidence` leaves out what it does not
    know.
    """

    position: int = Field(ge=1)
    issue_id: str
    timestamp: datetime
    ended: datetime | None
    component: str
    host: str
    port: int
    issue_type: IssueType
    detected_as: IssueType
    severity: Severity
    criticality: Criticality
    node: str
    state: State
    outcome: Ended | Literal["open"]
    success: bool | None
    reason: str | None
    healed_by: str | None
    chosen_by: str | None
    approval: str | None
    playbooks_executed: tuple[str, ...]
    actions_taken: tuple[str, ...]
    time_to_detect: float | None
    time_to_resolution: float | None
    evidence: Evidence
    findings: tuple[str, ...]
    recommendations: tuple[str, ...]
    withheld: tuple[Refusal, ...]
    escalations: tuple[Escalation, ...]
    attempt: int
    recurrence: int
    previous: str | None
