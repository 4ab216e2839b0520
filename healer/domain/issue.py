"""NetworkIssue: one incident of one component, from detection to its verified or failed end."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Self, assert_never

from healer.domain import events as fact
from healer.domain.aggregate import Aggregate, Stamp
from healer.domain.label import Label
from healer.domain.lifecycle import TERMINAL, State, Trigger, destination
from healer.domain.playbook import (
    Check,
    Evidence,
    Finding,
    Playbook,
    PlaybookOutcome,
    Settlement,
    Skipped,
    Step,
    StepResult,
    Target,
)
from healer.domain.probe import Outcome, ProbeResult
from healer.domain.process import ProcessIdentity
from healer.domain.spec import Criticality, IssueType, Severity
from healer.errors import IllegalCommandError

__all__ = ["NetworkIssue", "StepOutcome"]

StepOutcome = fact.StepSucceeded | fact.StepFailed | fact.StepSkipped | fact.StepSettled


class NetworkIssue(Aggregate):
    """One incident. Read its attributes, command it by its methods; the last line of every command
    is a fact, and nothing else changes it."""

    component: str
    host: str
    port: int
    issue_type: IssueType
    severity: Severity
    criticality: Criticality
    evidence: Evidence

    def __init__(self, issue_id: str) -> None:
        super().__init__(issue_id)
        self._opened: Label | None = None
        self.state = State.DETECTED
        self.node: str | None = None
        self.cause: str | None = None
        self.asked_by: str | None = None
        self.epoch = 0
        self.seen_after = 0.0
        self.previous: str | None = None
        self.recurrence = 0
        self.checks: dict[str, Check] = {}
        self.diagnosed = False
        self.findings: tuple[Finding, ...] = ()
        self.recommendations: tuple[str, ...] = ()
        self.pending_checks: tuple[str, ...] = ()
        self.routed = False
        self.finished: list[tuple[Playbook, PlaybookOutcome]] = []
        self.remaining: list[Playbook] = []
        self.playbook: Playbook | None = None
        self.intent: fact.StepStarted | None = None
        self.outcomes: dict[int, StepOutcome] = {}
        self.acted_at = 0
        self.verification: fact.VerificationRecorded | None = None
        self.verified_at = 0
        self.approval: (
            fact.ApprovalRequested | fact.ApprovalGranted | fact.ApprovalDenied | None
        ) = None
        self.withheld: fact.HealWithheld | None = None
        self.escalations: list[str] = []
        self.reason: str | None = None

    # Questions

    def age(self, now: datetime) -> float:
        """Seconds since it was detected, as far as labels can tell."""
        return self._opened.age(now) if self._opened else 0.0

    @property
    def closed(self) -> bool:
        """Whether it has ended, verified or failed."""
        return self.state in TERMINAL

    @property
    def looked_since_acting(self) -> bool:
        """Whether a verification was recorded after the last step and playbook."""
        return self.verification is not None and self.verified_at > self.acted_at

    @property
    def executed(self) -> tuple[str, ...]:
        """The playbooks that have begun, in order."""
        names = [playbook.name for playbook, _ in self.finished]
        return (*names, self.playbook.name) if self.playbook else tuple(names)

    @property
    def broken(self) -> bool:
        """Whether a step of the playbook under way has failed, so that only undoing is left."""
        return any(_is_failure(outcome) for outcome in self.outcomes.values())

    @property
    def next_step(self) -> tuple[int, Step] | None:
        """The step of the playbook under way that is due, by its place; None when it is through."""
        if self.playbook is None:
            return None
        broken = self.broken
        for index, step in enumerate(self.playbook.steps):
            done = self.outcomes.get(index)
            absent = isinstance(done, fact.StepSettled) and done.settlement is Settlement.ABSENT
            if (done is None or absent) and step.undo is broken:
                return index, step
        return None

    # Commands

    @classmethod
    def detect(
        cls,
        issue_id: str,
        *,
        component: str,
        host: str,
        port: int,
        issue_type: IssueType,
        severity: Severity,
        criticality: Criticality,
        epoch: int,
        evidence: Evidence,
        stamp: Stamp,
        seen_after: float = 0.0,
        previous: str | None = None,
        recurrence: int = 0,
        reason: str | None = None,
    ) -> Self:
        """Open an issue. The log refuses it when the component has an open one."""
        issue = cls(issue_id)
        issue._fact(
            fact.IssueDetected,
            stamp,
            component=component,
            host=host,
            port=port,
            issue_type=issue_type,
            severity=severity,
            criticality=criticality,
            epoch=epoch,
            evidence=evidence,
            seen_after=seen_after,
            previous=previous,
            recurrence=recurrence,
            reason=reason,
        )
        return issue

    def start_diagnosis(self, playbook: str, checks: Sequence[str], *, stamp: Stamp) -> None:
        """Begin to look; has no side effects."""
        destination(Trigger.DIAGNOSE, self.state)
        self._fact(fact.DiagnosisStarted, stamp, playbook=playbook, checks=tuple(checks))

    def record_check(self, check: Check, *, stamp: Stamp) -> None:
        """Take down one diagnostic reading; late ones too, while the issue is open."""
        self._require("record a check", self.state in {State.DIAGNOSING, State.REMEDIATING})
        self._fact(fact.CheckRecorded, stamp, check=check)

    def complete_diagnosis(
        self,
        *,
        issue_type: IssueType,
        findings: Sequence[Finding],
        recommendations: Sequence[str],
        pending: Sequence[str] = (),
        stamp: Stamp,
    ) -> None:
        """Say what the checks mean together."""
        self._require("complete the diagnosis", self.state is State.DIAGNOSING)
        self._fact(
            fact.DiagnosisCompleted,
            stamp,
            issue_type=issue_type,
            findings=tuple(findings),
            recommendations=tuple(recommendations),
            pending=tuple(pending),
        )

    def choose_route(
        self,
        playbooks: Sequence[Playbook],
        *,
        candidates: Sequence[str],
        probabilities: Sequence[float],
        chosen_by: str,
        skipped: Sequence[Skipped] = (),
        stamp: Stamp,
    ) -> None:
        """Set the playbooks that are still to run. While one runs its route stands."""
        self._require("choose a route", self.diagnosed and not self.closed, "it is not diagnosed")
        self._require("choose a route", self.playbook is None, "a playbook is under way")
        self._require(
            "choose a route",
            len(candidates) == len(probabilities),
            f"{len(candidates)} candidates have {len(probabilities)} probabilities",
        )
        self._fact(
            fact.RouteChosen,
            stamp,
            issue_type=self.issue_type,
            candidates=tuple(candidates),
            probabilities=tuple(probabilities),
            playbooks=tuple(playbooks),
            chosen_by=chosen_by,
            skipped=tuple(skipped),
        )

    def request_approval(self, *, expires_in: float, stamp: Stamp) -> None:
        """Ask a person for leave to run the route."""
        self._require("ask for approval", self.state is State.DIAGNOSING and self.routed)
        self._fact(
            fact.ApprovalRequested,
            stamp,
            playbooks=tuple(playbook.name for playbook in self.remaining),
            expires_in=expires_in,
        )

    def grant_approval(self, *, stamp: Stamp) -> None:
        """The actor allows the suggested heal."""
        self._require("approve the heal", isinstance(self.approval, fact.ApprovalRequested))
        self._fact(fact.ApprovalGranted, stamp)

    def deny_approval(self, reason: str, *, stamp: Stamp) -> None:
        """The actor refuses the suggested heal."""
        self._require("refuse the heal", isinstance(self.approval, fact.ApprovalRequested))
        self._fact(fact.ApprovalDenied, stamp, reason=reason)

    def start_remediation(self, *, attempt: int, stamp: Stamp) -> None:
        """Begin to act on the route."""
        destination(Trigger.REMEDIATE, self.state)
        self._require("remediate", bool(self.remaining), "its route holds no playbook")
        self._fact(fact.RemediationStarted, stamp, attempt=attempt)

    def start_playbook(self, *, stamp: Stamp) -> None:
        """Begin the next playbook of the route."""
        self._require("start a playbook", self.state is State.REMEDIATING)
        self._require("start a playbook", self.playbook is None, "another one is under way")
        self._require("start a playbook", bool(self.remaining), "the route is through")
        self._fact(fact.PlaybookStarted, stamp, playbook=self.remaining[0].name)

    def start_step(
        self,
        *,
        targets: Sequence[Target] = (),
        port: int | None = None,
        launch_id: str | None = None,
        manager: str | None = None,
        stamp: Stamp,
    ) -> None:
        """Record the intent to carry out the step that is due. Act only once this is durable."""
        playbook, index, step = self._due("start a step")
        self._fact(
            fact.StepStarted,
            stamp,
            playbook=playbook,
            step=index,
            action=step.action,
            targets=tuple(targets),
            port=port,
            launch_id=launch_id,
            manager=manager,
        )

    def succeed_step(self, result: StepResult, *, elapsed: float, stamp: Stamp) -> None:
        """Record that the effect of the open intent was had."""
        self._end_step(fact.StepSucceeded, stamp, elapsed=elapsed, result=result)

    def fail_step(self, result: StepResult, *, elapsed: float, stamp: Stamp) -> None:
        """Record that the effect of the open intent was not had."""
        self._end_step(fact.StepFailed, stamp, elapsed=elapsed, result=result)

    def settle_step(self, settlement: Settlement, result: StepResult, *, stamp: Stamp) -> None:
        """Record what a look at the world says of an intent that a dead healer left open."""
        self._end_step(fact.StepSettled, stamp, settlement=settlement, result=result)

    def skip_step(self, reason: str, *, stamp: Stamp) -> None:
        """Record that the step that is due has nothing to do."""
        playbook, index, step = self._due("skip a step")
        self._fact(
            fact.StepSkipped,
            stamp,
            playbook=playbook,
            step=index,
            action=step.action,
            reason=reason,
        )

    def finish_playbook(self, *, stamp: Stamp) -> None:
        """End the playbook under way: completed, or failed, or failed and undone."""
        self._require("finish a playbook", self.playbook is not None, "none is under way")
        assert self.playbook is not None
        due = self.next_step
        self._require(
            "finish a playbook", due is None and self.intent is None, "a step of it is still to do"
        )
        outcome = PlaybookOutcome.COMPLETED
        if self.broken:
            undoes = any(step.undo for step in self.playbook.steps)
            outcome = PlaybookOutcome.UNDONE if undoes else PlaybookOutcome.FAILED
        self._fact(fact.PlaybookFinished, stamp, playbook=self.playbook.name, outcome=outcome)

    def record_verification(
        self,
        *,
        healthy: bool,
        probes: Sequence[ProbeResult],
        epoch: int,
        elapsed: float,
        stamp: Stamp,
        foreign: Sequence[ProcessIdentity] = (),
    ) -> None:
        """Take down fresh probes, made after the last step; `foreign` answered in its place."""
        self._require(
            "record a verification",
            self.state in {State.DIAGNOSING, State.REMEDIATING} and self.intent is None,
            "a step is under way" if self.intent else None,
        )
        seen = bool(probes) and probes[-1].outcome is Outcome.HEALTHY
        self._require(
            "record a healthy verification", seen or not healthy, "its last probe is not healthy"
        )
        self._require(
            "record a healthy verification", not (healthy and foreign), "a stranger answered it"
        )
        self._fact(
            fact.VerificationRecorded,
            stamp,
            healthy=healthy,
            probes=tuple(probes),
            epoch=epoch,
            after=self.finished[-1][0].name if self.finished else None,
            elapsed=elapsed,
            foreign=tuple(foreign),
        )

    def withhold(
        self,
        reason: str,
        *,
        arithmetic: dict[str, float],
        cause: str | None = None,
        retry_in: float | None = None,
        stamp: Stamp,
    ) -> None:
        """Record that a heal is due and not allowed now."""
        self._require("withhold the heal", not self.closed)
        self._fact(
            fact.HealWithheld,
            stamp,
            reason=reason,
            arithmetic=arithmetic,
            cause=cause,
            retry_in=retry_in,
        )

    def escalate(self, reason: str, *, stamp: Stamp) -> None:
        """Record that a person has to know, and why."""
        self._require("escalate", not self.closed)
        self._fact(fact.IssueEscalated, stamp, reason=reason, recommendations=self.recommendations)

    def take_over(self, holder: str | None, *, stamp: Stamp) -> None:
        """Record that who healed it so far, `holder`, is given up for dead."""
        self._require("take the issue over", not self.closed)
        self._fact(fact.IssueTakenOver, stamp, holder=holder)

    def verify(self, *, resolved_in: float, stamp: Stamp) -> None:
        """End it as cured. Only fresh, healthy probes after the last step allow that; what a
        playbook thinks of itself does not."""
        destination(Trigger.VERIFY, self.state)
        self._require("verify", self.intent is None, "a step is under way")
        seen = self.verification
        self._require(
            "verify",
            seen is not None and seen.healthy and self.looked_since_acting,
            "no healthy verification was recorded after the last step",
        )
        assert seen is not None
        completed = bool(self.finished) and self.finished[-1][1] is PlaybookOutcome.COMPLETED
        # What failed has cured nothing, whatever is seen behind it.
        healed_by = seen.after if completed else None
        self._fact(fact.IssueVerified, stamp, healed_by=healed_by, resolved_in=resolved_in)

    def fail(self, reason: str, *, resolved_in: float, stamp: Stamp) -> None:
        """End it as not cured."""
        destination(Trigger.FAIL, self.state)
        self._require("fail", self.intent is None, "a step is under way: settle it first")
        self._fact(fact.IssueFailed, stamp, reason=reason, resolved_in=resolved_in)

    # Evolution

    def evolve(self, event: fact.IssueFact) -> None:
        """Apply one fact. Never refuses: guards belong to today, history does not."""
        if self._opened is not None:
            self._opened.precede(event.timestamp)
        match event:
            case fact.IssueDetected():
                self._open(event)
            case fact.DiagnosisStarted():
                self.state = State.DIAGNOSING
            case fact.CheckRecorded():
                self.checks[event.check.name] = event.check
            case fact.DiagnosisCompleted():
                self.diagnosed = True
                self.issue_type = event.issue_type
                self.findings = event.findings
                self.recommendations = event.recommendations
                self.pending_checks = event.pending
            case fact.RouteChosen():
                self.routed = True
                if event.actor != fact.POLICY:  # a person wants it done, by this route
                    self.asked_by = self.asked_by or event.actor
                self.remaining = list(event.playbooks)
            case fact.ApprovalRequested() | fact.ApprovalGranted() | fact.ApprovalDenied():
                self.approval = event
            case fact.RemediationStarted():
                self.state = State.REMEDIATING
                self.withheld = None
            case fact.PlaybookStarted():
                self.playbook = self.remaining.pop(0) if self.remaining else None
                self.outcomes = {}
            case fact.StepStarted():
                self.intent = event
                self.acted_at = event.originator_version
            case fact.StepSucceeded() | fact.StepFailed() | fact.StepSkipped() | fact.StepSettled():
                self.intent = None
                self.outcomes[event.step] = event
                self.acted_at = event.originator_version
            case fact.PlaybookFinished():
                if self.playbook is not None:
                    self.finished.append((self.playbook, event.outcome))
                self.playbook = None
                self.acted_at = event.originator_version
            case fact.VerificationRecorded():
                self.verification = event
                self.verified_at = event.originator_version
            case fact.HealWithheld():
                self.withheld = event
            case fact.IssueEscalated():
                self.escalations.append(event.reason)
            case fact.IssueTakenOver():
                self.node = event.node
            case fact.IssueVerified():
                self.state = State.VERIFIED
            case fact.IssueFailed():
                self.state = State.FAILED
                self.reason = event.reason
            case _:
                assert_never(event)

    def _open(self, event: fact.IssueDetected) -> None:
        self._opened = Label(event.timestamp)
        self.node = event.node
        self.cause = event.causation_id
        self.component = event.component
        self.host = event.host
        self.port = event.port
        self.issue_type = event.issue_type
        self.severity = event.severity
        self.criticality = event.criticality
        self.epoch = event.epoch
        self.evidence = event.evidence
        self.seen_after = event.seen_after
        self.previous = event.previous
        self.recurrence = event.recurrence

    # How commands record

    def _fact(self, event_type: type[fact.IssueEvent], stamp: Stamp, **facts: Any) -> None:
        self._record(event_type, stamp, correlation_id=self.id, **facts)

    def _require(self, command: str, condition: bool, why: str | None = None) -> None:
        if not condition:
            raise IllegalCommandError(command, why or f"the issue is {self.state}")

    def _due(self, command: str) -> tuple[str, int, Step]:
        self._require(command, self.state is State.REMEDIATING)
        self._require(command, self.intent is None, "another step is under way")
        self._require(command, self.playbook is not None, "no playbook is under way")
        due = self.next_step
        self._require(command, due is not None, "the playbook is through")
        assert due is not None
        assert self.playbook is not None
        return self.playbook.name, *due

    def _end_step(self, event_type: type[fact.IssueEvent], stamp: Stamp, **facts: Any) -> None:
        intent = self.intent
        self._require("end a step", intent is not None, "none is under way")
        assert intent is not None
        self._fact(
            event_type,
            stamp,
            playbook=intent.playbook,
            step=intent.step,
            action=intent.action,
            **facts,
        )


def _is_failure(outcome: StepOutcome) -> bool:
    if isinstance(outcome, fact.StepSettled):
        return outcome.settlement is Settlement.UNKNOWABLE
    return isinstance(outcome, fact.StepFailed)
