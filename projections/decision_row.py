"""One decision of an issue: what was known, what was chosen, what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from healer.domain.events import (
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
from projections.projection import Json
from projections.training_column import FINDINGS

__all__ = ["NO_PLAYBOOK", "Decision", "OpenIssue"]

NO_PLAYBOOK: Final = "none"
"""The action of an empty route: look again, and tell a person."""

_PEOPLE: Final = ("api", "cli")
_KNOWN: Final = tuple((code, f"finding_{code}") for code in FINDINGS)
_CODES: Final = frozenset(FINDINGS)
_NOT_FOUND: Final[Json] = {column: False for _, column in _KNOWN}


class OpenIssue:
    """What later decisions of an open issue need of it. `before` is how many failures the component
    had had, `failed` when it last had one, `detected` when this one was detected, in
    microseconds."""

    __slots__ = ("before", "component", "decision", "detected", "event", "failed", "findings",
                 "issue_type", "ordinal")  # fmt: skip

    def __init__(self, event: IssueDetected, past: Past, now: int) -> None:
        self.event = event
        self.component = event.component
        self.issue_type = str(event.issue_type)
        self.findings: tuple[Finding, ...] = ()
        self.ordinal = 0
        self.decision: Decision | None = None
        self.before, self.failed = past.total, past.failed
        self.detected = now

    def diagnosed(self, event: DiagnosisCompleted) -> None:
        self.issue_type = str(event.issue_type)
        self.findings = event.findings

    def decide(self, position: int, event: RouteChosen, past: Past, now: int) -> Decision:
        """A new decision, made at `now` in microseconds; what was known is taken down now and never
        touched again."""
        detected = self.event
        evidence = detected.evidence
        reported = detected.actor.startswith(_PEOPLE)
        known = past.features(now, total=self.before, failed=self.failed, mine=self.detected)
        row: dict[str, Json] = {
            "decision_id": event.event_id,
            "position": position,
            "time": now,
            "issue_id": event.originator_id,
            "component": self.component,
            "node": event.node,
            "issue_type": str(event.issue_type),
            "detected_as": str(detected.issue_type),
            "severity": str(detected.severity),
            "reported": reported,
            "seen_after": None if reported else detected.seen_after,
            "recurrence": detected.recurrence,
            "epoch": detected.epoch,
            "ordinal": self.ordinal,
            "probe_reason": None if evidence.probe is None else str(evidence.probe.reason),
            "process_exited": evidence.exit is not None or evidence.alive is False,
            "exit_code": None if evidence.exit is None else evidence.exit.code,
            "exit_signal": None if evidence.exit is None else evidence.exit.signal,
            "listeners": len(evidence.listeners),
            **known,
            "criticality": str(detected.criticality),
            **_found(self.findings),
            **_chosen(event),
        }
        self.ordinal += 1
        self.decision = Decision(row, now)
        return self.decision


def _found(findings: Sequence[Finding]) -> dict[str, Json]:
    codes = [finding.code for finding in findings]
    hot = {f"finding_{code}": True for code in codes if code in _CODES}
    return {"findings": codes, **_NOT_FOUND, **hot}


def _chosen(event: RouteChosen) -> dict[str, Json]:
    playbooks = [playbook.name for playbook in event.playbooks]
    action = playbooks[0] if playbooks else NO_PLAYBOOK
    propensity: float | None
    if not playbooks:
        # What the candidates leave: nothing was chosen first of them.
        propensity = max(0.0, 1.0 - sum(event.probabilities))
    else:
        named = dict(zip(event.candidates, event.probabilities, strict=False))
        propensity = named.get(action)
    return {
        "candidates": list(event.candidates),
        "probabilities": list(event.probabilities),
        "playbooks": playbooks,
        "skipped": [skipped.playbook for skipped in event.skipped],
        "action": action,
        "propensity": propensity,
        "chosen_by": event.chosen_by,
    }


class Decision:
    """A decision and what came of it so far. `known` is complete from the beginning; the labels
    follow. `ended` is when its issue ended, in microseconds."""

    __slots__ = ("attempt", "began", "cured_by", "cured_by_action", "ended", "known", "made",
                 "outcome", "ran", "reason", "resolved_in", "withheld_reason",
                 "withholdings")  # fmt: skip

    def __init__(self, known: dict[str, Json], made: int) -> None:
        self.known = known
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
        return bool(self.known["action"] == NO_PLAYBOOK)

    def remediating(self, event: RemediationStarted, now: int) -> None:
        self.began, self.attempt = now, event.attempt

    def playbook_started(self, _event: PlaybookStarted) -> None:
        self.ran = True

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
            self.cured_by_action = event.healed_by == self.known["action"]
        elif self._nothing_to_do:
            self.cured_by_action = event.healed_by is None
        self._end(event, now)

    def failed(self, event: IssueFailed, now: int) -> None:
        tried = self.ran or self._nothing_to_do
        self.outcome = "not_cured" if tried else "withheld"
        self.reason = event.reason
        self.cured_by_action = False if tried else None
        self._end(event, now)

    def _end(self, event: IssueVerified | IssueFailed, now: int) -> None:
        self.resolved_in = event.resolved_in
        self.ended = now

    def row(self, *, recurred: bool | None, again: int | None = None) -> dict[str, Json]:
        """The whole row; `again` is when the component's next issue was detected."""
        return {
            **self.known,
            "outcome": self.outcome,
            "reason": self.reason,
            "cured_by": self.cured_by,
            "cured_by_action": self.cured_by_action,
            "attempt": self.attempt,
            "waited": None if self.began is None else seconds(self.made, self.began),
            "withholdings": self.withholdings,
            "withheld_reason": self.withheld_reason,
            "time_to_resolution": self.resolved_in,
            "time_to_recurrence": None if again is None else seconds(self.ended, again),
            "recurred": recurred,
        }
