"""One decision of an issue: what was known, what was chosen, what came of it."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from healer.domain.decision import ALERT_RESOLVED
from healer.domain.events import (
    CheckRecorded,
    DiagnosisCompleted,
    HealWithheld,
    IssueDetected,
    IssueFailed,
    IssueVerified,
    PlaybookStarted,
    RemediationStarted,
    RouteChosen,
)
from healer.domain.playbook import Finding
from projections.past import Past, seconds
from projections.projection import Json, micros
from projections.training_column import FINDINGS

__all__ = ["NO_PLAYBOOK", "RESOURCE_CHECK", "Decision", "OpenIssue"]

RESOURCE_CHECK: Final = "system_resources"
"""The check whose facts are the machine's readings."""

NO_PLAYBOOK: Final = "none"
"""The action of an empty route: look again, and tell a person."""

_PEOPLE: Final = ("api", "cli")


class OpenIssue:
    """What later decisions of an open issue need of it, and the `past` of its component. `before`
    is how many failures that had had, `failed` when it last had one, `detected` when this one was
    detected, in microseconds."""

    __slots__ = ("before", "component", "decision", "detected", "event", "failed", "findings",
                 "issue_type", "ordinal", "past")  # fmt: skip

    def __init__(self, event: IssueDetected, past: Past, now: int) -> None:
        self.event = event
        self.component = event.component
        self.past = past
        self.issue_type = str(event.issue_type)
        self.findings: tuple[Finding, ...] = ()
        self.ordinal = 0
        self.decision: Decision | None = None
        self.before, self.failed = past.total, past.failed
        self.detected = now

    def checked(self, event: CheckRecorded) -> None:
        if event.check.name == RESOURCE_CHECK:
            self.past.note(event.check, micros(event.timestamp))

    def diagnosed(self, event: DiagnosisCompleted) -> None:
        self.issue_type = str(event.issue_type)
        self.findings = event.findings

    def remediating(self, event: RemediationStarted) -> None:
        now = self.past.healed = micros(event.timestamp)
        if self.decision is not None:
            self.decision.began, self.decision.attempt = now, event.attempt

    def playbook_started(self, _event: PlaybookStarted) -> None:
        if self.decision is not None:
            self.decision.ran = True

    def withheld(self, event: HealWithheld) -> None:
        if self.decision is not None:
            self.decision.withheld(event)

    def decide(self, position: int, event: RouteChosen, now: int) -> Decision:
        """A new decision, made at `now` in microseconds; what was known is taken down now and never
        touched again."""
        detected = self.event
        evidence = detected.evidence
        probe, ended = evidence.probe, evidence.exit
        reported = detected.actor.startswith(_PEOPLE)
        known_past = self.past.features(
            now, total=self.before, failed=self.failed, mine=self.detected
        )
        known_past[0] = str(detected.criticality)
        codes = [finding.code for finding in self.findings]
        playbooks = [playbook.name for playbook in event.playbooks]
        action = playbooks[0] if playbooks else NO_PLAYBOOK
        known: list[Json] = [
            event.event_id,
            position,
            now,
            event.originator_id,
            self.component,
            event.node,
            str(event.issue_type),
            str(detected.issue_type),
            str(detected.severity),
            reported,
            None if reported else detected.seen_after,
            detected.recurrence,
            detected.epoch,
            self.ordinal,
            None if probe is None else str(probe.reason),
            ended is not None or evidence.alive is False,
            None if ended is None else ended.code,
            None if ended is None else ended.signal,
            len(evidence.listeners),
            *known_past,
            codes,
            *_found(tuple(codes)),
            list(event.candidates),
            list(event.probabilities),
            playbooks,
            [skipped.playbook for skipped in event.skipped] if event.skipped else [],
            action,
            _propensity(event, action),
            event.chosen_by,
        ]
        self.ordinal += 1
        self.decision = Decision(known, action, now)
        return self.decision


@lru_cache(1024)
def _found(codes: tuple[str, ...]) -> tuple[bool, ...]:
    return tuple([code in codes for code in FINDINGS])


def _propensity(event: RouteChosen, action: str) -> float | None:
    if not event.playbooks:
        # What the candidates leave: nothing was chosen first of them.
        return max(0.0, 1.0 - sum(event.probabilities))
    found = None
    for candidate, probability in zip(event.candidates, event.probabilities, strict=False):
        if candidate == action:
            found = probability
    return found


class Decision:
    """A decision and what came of it so far. `known` are the values before the labels, complete
    from the beginning. `ended` is when its issue ended, in microseconds."""

    __slots__ = ("action", "attempt", "began", "cured_by", "cured_by_action", "ended", "known",
                 "made", "outcome", "ran", "reason", "resolved_in", "withheld_reason",
                 "withholdings")  # fmt: skip

    def __init__(self, known: list[Json], action: str, made: int) -> None:
        self.known = known
        self.action = action
        self.made = made
        self.ran = False
        self.began: int | None = None
        self.attempt: int | None = None
        self.withholdings = 0
        self.withheld_reason: str | None = None
        self.outcome: str | None = None
        self.reason: str | None = None
        self.cured_by: str | None = None
        self.cured_by_action: bool | None = None
        self.resolved_in: float | None = None
        self.ended: int | None = None

    @property
    def _nothing_to_do(self) -> bool:
        return self.action == NO_PLAYBOOK

    def withheld(self, event: HealWithheld) -> None:
        self.withholdings += 1
        if self.withheld_reason is None:
            self.withheld_reason = event.reason

    def rerouted(self) -> None:
        """Another decision takes over: it did not cure, or was never carried out."""
        self.outcome = "not_cured" if self.ran else "superseded"
        self.reason = "rerouted"
        self.cured_by_action = False if self.ran else None

    def verified(self, event: IssueVerified, now: int) -> None:
        self.outcome = "recovered" if event.healed_by is None else "cured"
        self.cured_by = event.healed_by
        if self.ran:
            self.cured_by_action = event.healed_by == self.action
        elif self._nothing_to_do:
            self.cured_by_action = event.healed_by is None
        self._end(event, now)

    def failed(self, event: IssueFailed, now: int) -> None:
        # Nothing was looked at again for an alert that was taken back.
        looked = self._nothing_to_do and event.reason != ALERT_RESOLVED
        tried = self.ran or looked
        self.outcome = "not_cured" if tried else "withheld"
        self.reason = event.reason
        self.cured_by_action = False if tried else None
        self._end(event, now)

    def _end(self, event: IssueVerified | IssueFailed, now: int) -> None:
        self.resolved_in = event.resolved_in
        self.ended = now

    def row(self, *, recurred: bool | None, again: int | None = None) -> list[Json]:
        """The values of the whole row; `again` is when the component's next issue was detected."""
        return [
            *self.known,
            self.outcome,
            self.reason,
            self.cured_by,
            self.cured_by_action,
            self.attempt,
            None if self.began is None else seconds(self.made, self.began),
            self.withholdings,
            self.withheld_reason,
            self.resolved_in,
            None if again is None else seconds(self.ended, again),
            recurred,
        ]
