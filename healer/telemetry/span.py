"""An issue's facts as spans: one for the issue, one for each thing that was done in it.

They are made from the log alone, so that a healer that died leaves the trace that is right, and the
one that goes on with the issue continues it: each id is a digest of what the log calls the thing.
Attributes are names of the configuration, stable words and figures; never what a person, a process
or an environment said, because that may hold a secret.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final, assert_never

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
    IssueFact,
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
from healer.domain.playbook import PlaybookOutcome, Settlement

__all__ = ["ENDING", "Moment", "Span", "spans", "trace_id"]

Attributes = Mapping[str, str | int | float | bool | Sequence[str]]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

ENDING: Final = (
    DiagnosisCompleted.TOPIC,
    StepSucceeded.TOPIC,
    StepFailed.TOPIC,
    StepSkipped.TOPIC,
    StepSettled.TOPIC,
    PlaybookFinished.TOPIC,
    VerificationRecorded.TOPIC,
    IssueVerified.TOPIC,
    IssueFailed.TOPIC,
)
"""The topics of the facts that end a span."""


def trace_id(issue_id: str) -> int:
    """The 128 bits that name the trace of an issue, on whatever node it is healed."""
    return _digest(f"trace/{issue_id}", 16)


def _digest(text: str, size: int) -> int:
    return int.from_bytes(sha256(f"network-healer/{text}".encode()).digest()[:size])


def _nanoseconds(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1) * 1000


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened within a span; `at` in nanoseconds since 1970."""

    name: str
    at: int
    attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Span:
    """Something that took from `begun` to `ended`, in nanoseconds since 1970 by the clock on the
    wall. `failed` is a stable word when it did not succeed. `ended_by` is the version in the
    issue's stream of the fact that ended it, `parent` the id of the span that it is a part of."""

    name: str
    id: int
    parent: int | None
    begun: int
    ended: int
    ended_by: int
    attributes: Attributes
    moments: tuple[Moment, ...] = ()
    failed: str | None = None


def spans(facts: Sequence[IssueFact]) -> list[Span]:
    """All spans that have ended in the first facts of an issue's stream."""
    trace = _Trace()
    for fact in facts:
        trace.add(fact)
    return trace.ended


class _Trace:
    """What the facts so far have begun and ended."""

    def __init__(self) -> None:
        self.ended: list[Span] = []
        self._issue: IssueDetected | None = None
        self._diagnosis: DiagnosisStarted | None = None
        self._playbook: PlaybookStarted | None = None
        self._step: StepStarted | None = None
        self._moments: list[Moment] = []
        self._checks: list[Moment] = []

    def add(self, fact: IssueFact) -> None:
        """The next fact of the stream."""
        match fact:
            case IssueDetected():
                self._issue = fact
            case DiagnosisStarted():
                self._diagnosis = fact
            case CheckRecorded(check=check):
                told = {"healer.check.status": check.status.value}
                self._checks.append(_moment(fact, f"check {check.name}", told))
            case DiagnosisCompleted():
                found: Attributes = {
                    "healer.issue.type": fact.issue_type.value,
                    "healer.findings": [finding.code for finding in fact.findings],
                }
                self._end(fact, "diagnose", self._diagnosis, found, moments=tuple(self._checks))
            case PlaybookStarted():
                self._playbook = fact
            case StepStarted():
                self._step = fact
            case StepSucceeded():
                self._end_step(fact, "succeeded")
            case StepFailed():
                self._end_step(fact, "failed", fact.result.error or "failed")
            case StepSkipped():
                self._step = None
                self._end_step(fact, "skipped")
            case StepSettled():
                lost = fact.settlement is not Settlement.OBSERVED
                self._end_step(fact, fact.settlement.value, "interrupted" if lost else None)
            case PlaybookFinished():
                outcome = {"healer.outcome": fact.outcome.value}
                failed = None if fact.outcome is PlaybookOutcome.COMPLETED else fact.outcome.value
                self._end(fact, f"playbook {fact.playbook}", self._playbook, outcome, failed=failed)
                self._playbook = None
            case VerificationRecorded():
                failed = None if fact.healthy else "unhealthy"
                self._end(fact, "verify", None, {}, took=fact.elapsed, failed=failed)
            case HealWithheld(reason=reason):
                self._moments.append(_moment(fact, "withheld", {"healer.reason": reason}))
            case IssueEscalated(reason=reason):
                self._moments.append(_moment(fact, "escalated", {"healer.reason": reason}))
            case IssueTakenOver():
                self._moments.append(_moment(fact, "taken over", {"healer.node": fact.node}))
            case ApprovalRequested() | ApprovalGranted() | ApprovalDenied():
                name = fact.TOPIC.split(".")[1].replace("_", " ")
                self._moments.append(_moment(fact, name, {}))
            case IssueVerified(healed_by=healed_by):
                told = {"healer.outcome": "healed" if healed_by else "recovered"}
                self._end_issue(fact, told | ({"healer.healed_by": healed_by} if healed_by else {}))
            case IssueFailed(reason=reason):
                self._end_issue(fact, {"healer.outcome": "failed"}, reason)
            case RouteChosen() | RemediationStarted():
                pass
            case _:
                assert_never(fact)

    def _end_issue(
        self, fact: IssueVerified | IssueFailed, told: Attributes, failed: str | None = None
    ) -> None:
        issue = self._issue
        if issue is None:
            return
        ended = _nanoseconds(fact.timestamp)
        begun = _nanoseconds(issue.timestamp - timedelta(seconds=issue.seen_after))
        attributes = {
            "healer.issue.id": issue.originator_id,
            "healer.issue.type": issue.issue_type.value,
            "healer.issue.severity": issue.severity.value,
            "healer.component": issue.component,
            "healer.recurrence": issue.recurrence,
            "healer.resolved_in": fact.resolved_in,
            "server.address": issue.host,
            "server.port": issue.port,
            **told,
        }
        self.ended.append(
            Span(
                f"heal {issue.issue_type.value}",
                _root(issue),
                None,
                min(begun, ended),
                ended,
                fact.originator_version,
                attributes,
                tuple(self._moments),
                failed,
            )
        )

    def _end_step(
        self,
        fact: StepSucceeded | StepFailed | StepSkipped | StepSettled,
        outcome: str,
        failed: str | None = None,
    ) -> None:
        told: Attributes = {"healer.step": fact.step, "healer.outcome": outcome}
        self._end(fact, f"step {fact.action}", self._step, told, failed=failed)
        self._step = None

    def _end(
        self,
        fact: IssueFact,
        name: str,
        begun: IssueFact | None,
        told: Attributes,
        *,
        took: float = 0.0,
        moments: tuple[Moment, ...] = (),
        failed: str | None = None,
    ) -> None:
        """A span from the fact `begun` to `fact`; where nothing begun it, of the seconds `took`."""
        if self._issue is None:
            return
        ended = _nanoseconds(fact.timestamp)
        start = _nanoseconds((begun or fact).timestamp) - int(took * 1e9)
        parent = _root(self._issue)
        if name.startswith("step ") and self._playbook is not None:
            parent = _id(self._playbook)
        common = {"healer.component": self._issue.component, "healer.node": fact.node}
        playbook = getattr(fact, "playbook", None)
        if playbook is not None:
            common["healer.playbook"] = playbook
        self.ended.append(
            Span(
                name,
                _id(begun or fact),
                parent,
                min(start, ended),  # the clock on the wall may have been set back
                ended,
                fact.originator_version,
                {**common, **told},
                moments,
                failed,
            )
        )


def _root(issue: IssueDetected) -> int:
    return _digest(f"issue/{issue.originator_id}", 8)


def _id(fact: IssueFact) -> int:
    return _digest(f"span/{fact.event_id}", 8)


def _moment(fact: IssueFact, name: str, told: Attributes) -> Moment:
    return Moment(name, _nanoseconds(fact.timestamp), told)
