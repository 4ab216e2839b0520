"""One issue, as far as the log has told it: what every projection of issues is made from.

This is the only place that says when a playbook has succeeded, when a healing has, and what counts
as recovered by itself; statistics, history, recommendations and files can therefore not disagree.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, Self

import msgspec

from healer.domain.events import (
    ApprovalDenied,
    ApprovalGranted,
    ApprovalRequested,
    CheckRecorded,
    DiagnosisCompleted,
    DiagnosisStarted,
    HealWithheld,
    IssueDetected,
    IssueEscalated,
    IssueFailed,
    IssueTakenOver,
    IssueVerified,
    PlaybookFinished,
    PlaybookStarted,
    RemediationStarted,
    RouteChosen,
    StepFailed,
    StepSettled,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    VerificationRecorded,
)
from healer.domain.lifecycle import State
from healer.domain.playbook import PlaybookOutcome
from projections.statistic import microseconds

__all__ = ["DiagnosedRecord", "Escalated", "IssueRecord", "Outcome", "Run", "Withheld", "instant"]

# Plain strings: reading an enum member's value costs more than the rest of a case.
_DETECTED: Final = State.DETECTED.value
_DIAGNOSING: Final = State.DIAGNOSING.value
_REMEDIATING: Final = State.REMEDIATING.value
_VERIFIED: Final = State.VERIFIED.value
_FAILED: Final = State.FAILED.value

_PEOPLE: Final = ("api", "cli")
"""Actors that report an issue instead of detecting it: nothing was measured."""


def instant(moment: datetime | None) -> str | None:
    """An instant in UTC, always with microseconds, so that it sorts as text."""
    if moment is None:
        return None
    if moment.tzinfo is UTC:  # as it is read from a log: the short way
        return f"{moment.isoformat(timespec='microseconds')[:-6]}Z"
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


class Outcome:
    """What became of an issue. HEALED: verified after a playbook. RECOVERED: verified, and no
    playbook did it. FAILED: not cured. OPEN: not ended yet."""

    HEALED: Final = "healed"
    RECOVERED: Final = "recovered"
    FAILED: Final = "failed"
    OPEN: Final = "open"
    ALL: Final = (HEALED, RECOVERED, FAILED, OPEN)


class Run(msgspec.Struct, array_like=True, eq=False, gc=False):
    """One execution of a playbook.

    `success` is None until it is judged. A remediating playbook succeeded when it completed *and*
    the verification right after it was healthy; a diagnosis when it completed. One that was still
    unjudged when the next began, or when its issue ended, failed. `elapsed`, in microseconds, is
    what its steps took (of a diagnosis, whose checks run side by side, the longest check).
    """

    playbook: str
    outcome: PlaybookOutcome | None = None
    healthy: bool | None = None
    success: bool | None = None
    elapsed: int = 0
    failed_step: str | None = None

    def judge(self) -> None:
        """Settle `success` as soon as the facts allow it."""
        if self.success is None and self.outcome is not None:
            self.success = self.outcome is PlaybookOutcome.COMPLETED and self.healthy
        if self.outcome is not None and self.outcome is not PlaybookOutcome.COMPLETED:
            self.success = False

    def close(self) -> None:
        """Nothing more will be told of this run."""
        self.success = bool(self.success)


class Withheld(msgspec.Struct, array_like=True, gc=False):
    """What is kept of a `HealWithheld`."""

    timestamp: datetime
    reason: str
    cause: str | None
    arithmetic: dict[str, float]
    retry_in: float | None


class Escalated(msgspec.Struct, array_like=True, gc=False):
    """What is kept of an `IssueEscalated`."""

    timestamp: datetime
    reason: str


class IssueRecord(msgspec.Struct, array_like=True, eq=False, gc=False):
    """The facts of one issue that figures are made from. Durations in microseconds.

    `issue_type` is what diagnosis made of the `detected_as`. `seen_after` is None where a person
    reported the issue. `playbook` and `step` are what is being done now.
    """

    position: int
    issue_id: str
    component: str
    host: str
    port: int
    detected_as: str
    issue_type: str
    severity: str
    criticality: str
    epoch: int
    node: str
    timestamp: datetime
    updated: datetime
    seen_after: int | None
    previous: str | None
    recurrence: int
    state: str = _DETECTED
    remediated: bool = False
    attempt: int = 0
    diagnosis: Run | None = None
    runs: list[Run] = []
    step: str | None = None
    withheld: list[Withheld] = []
    escalations: list[Escalated] = []
    healed_by: str | None = None
    reason: str | None = None
    resolved_in: int | None = None
    ended: datetime | None = None

    @classmethod
    def detected(cls, position: int, event: IssueDetected) -> Self:
        """The record of an issue that begins with this fact."""
        issue_type = str(event.issue_type)
        return cls(
            position,
            event.originator_id,
            event.component,
            event.host,
            event.port,
            issue_type,
            issue_type,
            str(event.severity),
            str(event.criticality),
            event.epoch,
            event.node,
            event.timestamp,
            event.timestamp,
            None if event.actor.startswith(_PEOPLE) else microseconds(event.seen_after),
            event.previous,
            event.recurrence,
        )

    @property
    def outcome(self) -> str:
        """One of `Outcome.ALL`."""
        if self.state == _FAILED:
            return Outcome.FAILED
        if self.state == _VERIFIED:
            return Outcome.HEALED if self.healed_by is not None else Outcome.RECOVERED
        return Outcome.OPEN

    @property
    def success(self) -> bool | None:
        """Whether the component is well again, by whatever cause; None while the issue is open."""
        return None if self.ended is None else self.state == _VERIFIED

    @property
    def healing(self) -> bool | None:
        """Whether the healing succeeded; None when there was none (nothing was done, or it
        recovered by itself) or it is not over."""
        if not self.remediated or self.outcome in {Outcome.RECOVERED, Outcome.OPEN}:
            return None
        return self.outcome == Outcome.HEALED

    @property
    def playbook(self) -> str | None:
        """The playbook that runs now."""
        if self.ended is None and self.runs and self.runs[-1].outcome is None:
            return self.runs[-1].playbook
        if self.diagnosis is not None and self.state == _DIAGNOSING:
            return None if self.diagnosis.outcome else self.diagnosis.playbook
        return None

    def diagnosing(self, event: DiagnosisStarted) -> None:
        self.state = _DIAGNOSING
        if self.diagnosis is None:
            self.diagnosis = Run(event.playbook)

    def checked(self, event: CheckRecorded) -> None:
        if self.diagnosis is not None:
            took = microseconds(event.check.elapsed)
            self.diagnosis.elapsed = max(took, self.diagnosis.elapsed)

    def diagnosed(self, event: DiagnosisCompleted) -> None:
        self.issue_type = str(event.issue_type)
        if self.diagnosis is not None:
            self.diagnosis.outcome = PlaybookOutcome.COMPLETED
            self.diagnosis.success = True

    def routed(self, event: RouteChosen) -> None:
        pass

    def asked(self, event: ApprovalRequested) -> None:
        pass

    def granted(self, event: ApprovalGranted) -> None:
        pass

    def denied(self, event: ApprovalDenied) -> None:
        pass

    def remediating(self, event: RemediationStarted) -> None:
        self.state = _REMEDIATING
        self.remediated = True
        self.attempt = event.attempt

    def playbook_started(self, event: PlaybookStarted) -> None:
        if self.runs:
            self.runs[-1].close()
        self.runs.append(Run(event.playbook))

    def step_started(self, event: StepStarted) -> None:
        self.step = event.action

    def step_succeeded(self, event: StepSucceeded) -> None:
        self._step_ended(event.elapsed)

    def step_failed(self, event: StepFailed) -> None:
        self._step_ended(event.elapsed)
        if self.runs and self.runs[-1].failed_step is None:
            self.runs[-1].failed_step = f"{event.action}: {event.result.error or 'failed'}"

    def step_skipped(self, event: StepSkipped) -> None:
        pass

    def step_settled(self, event: StepSettled) -> None:
        self.step = None

    def _step_ended(self, elapsed: float) -> None:
        self.step = None
        if self.runs:
            self.runs[-1].elapsed += microseconds(elapsed)

    def playbook_finished(self, event: PlaybookFinished) -> None:
        if self.runs:
            self.runs[-1].outcome = event.outcome
            self.runs[-1].judge()

    def looked(self, event: VerificationRecorded) -> None:
        if self.runs:
            run = self.runs[-1]
            if run.healthy is None and event.after == run.playbook:
                run.healthy = event.healthy
                run.judge()

    def refused(self, event: HealWithheld) -> None:
        self.withheld.append(
            Withheld(event.timestamp, event.reason, event.cause, event.arithmetic, event.retry_in)
        )

    def escalated(self, event: IssueEscalated) -> None:
        self.escalations.append(Escalated(event.timestamp, event.reason))

    def taken_over(self, event: IssueTakenOver) -> None:
        """The same issue goes on: who carries it changes nothing of what is told of it."""

    def verified(self, event: IssueVerified) -> None:
        self.state = _VERIFIED
        self.healed_by = event.healed_by
        self._end(event)

    def failed(self, event: IssueFailed) -> None:
        self.state = _FAILED
        self.reason = event.reason
        self._end(event)

    def _end(self, event: IssueVerified | IssueFailed) -> None:
        self.step = None
        self.ended = event.timestamp
        self.resolved_in = microseconds(event.resolved_in)
        if self.diagnosis is not None:
            self.diagnosis.close()
        if self.runs:
            self.runs[-1].close()


class DiagnosedRecord(IssueRecord, array_like=True, eq=False, gc=False):
    """Keeps the words of the diagnosis as well."""

    findings: tuple[str, ...] = ()
    recommendations: tuple[str, ...] = ()

    def diagnosed(self, event: DiagnosisCompleted) -> None:
        super().diagnosed(event)
        self.findings = tuple([finding.code for finding in event.findings])
        self.recommendations = event.recommendations
