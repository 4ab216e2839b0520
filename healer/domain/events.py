"""Every fact that the log can hold.

A stored name (`TOPIC`) is a promise, not a Python path: modules may move, topics may not. A topic
ends in the version of its schema; old versions are upcast on reading (`healer.store`). The two
unions at the end are closed: forgetting a fact in an applier or a projection does not type-check.
"""

from __future__ import annotations

from datetime import datetime
from types import MappingProxyType
from typing import Any, ClassVar, Final, get_args

from eventsourcing.domain import CanMutateAggregate
from pydantic import Field

from healer.domain.health import Health
from healer.domain.playbook import (
    Check,
    Evidence,
    Finding,
    Playbook,
    PlaybookOutcome,
    Settlement,
    Skipped,
    StepResult,
    Target,
)
from healer.domain.probe import ProbeResult
from healer.domain.process import OwnerProof, ProcessIdentity
from healer.domain.spec import Criticality, IssueType, Mode, Severity
from healer.domain.value import Value

__all__ = [
    "EVENT_TYPES",
    "POLICY",
    "ApprovalDenied",
    "ApprovalGranted",
    "ApprovalRequested",
    "BudgetReset",
    "CheckRecorded",
    "ComponentEvent",
    "ComponentFact",
    "ComponentRegistered",
    "ComponentRemoved",
    "DiagnosisCompleted",
    "DiagnosisStarted",
    "Event",
    "Fact",
    "FleetEvent",
    "FleetFact",
    "FleetPaused",
    "FleetResumed",
    "HealWithheld",
    "HealthChanged",
    "IssueDetected",
    "IssueEscalated",
    "IssueEvent",
    "IssueFact",
    "IssueFailed",
    "IssueTakenOver",
    "IssueVerified",
    "MaintenanceEnded",
    "MaintenanceStarted",
    "ModeChanged",
    "PlaybookFinished",
    "PlaybookStarted",
    "PortRebound",
    "ProcessAdopted",
    "RemediationStarted",
    "RouteChosen",
    "StepFailed",
    "StepSettled",
    "StepSkipped",
    "StepStarted",
    "StepSucceeded",
    "VerificationRecorded",
]

POLICY: Final = "policy"
"""The actor of what the healer decides by its own rules."""


class Event(Value, CanMutateAggregate[str]):
    """What every fact carries.

    `originator_id` is the stream (an issue's id, `component:<name>`, or `fleet`),
    `originator_version` the position in it, from 1. `timestamp` is UTC and a label: no duration is
    computed from it while the healer lives. `actor` is who did it (watchdog, policy, recovery,
    config, api:<token name>), `node` where. `correlation_id` is the issue that it belongs to,
    `causation_id` what led to it: an event (`stream/version`), or the alert of another system
    (`alert:<its key>`) that opened the issue.
    """

    TOPIC: ClassVar[str]

    originator_id: str
    originator_version: int = Field(ge=1)
    timestamp: datetime
    actor: str
    node: str
    correlation_id: str
    causation_id: str | None = None

    @property
    def event_id(self) -> str:
        """Names this event for ever: `stream/version`."""
        return f"{self.originator_id}/{self.originator_version}"

    def apply(self, aggregate: Any) -> None:
        """Evolve `aggregate` by this fact; called by the library's `mutate`, never refuses."""
        aggregate.evolve(self)


class IssueEvent(Event):
    """A fact in the life of an issue."""


class ComponentEvent(Event):
    """A fact about a component."""


class FleetEvent(Event):
    """A fact about all components together."""


class IssueDetected(IssueEvent):
    """A component is in need.

    `seen_after` is how many seconds passed between the first evidence and this event, by the
    monotonic clock. `previous` names the component's last issue; `recurrence` counts the issues
    before this one. `reason` is what an operator who asked for the heal said it is for.
    """

    TOPIC: ClassVar[str] = "issue.detected.v1"
    component: str
    host: str
    port: int
    issue_type: IssueType
    severity: Severity
    criticality: Criticality
    epoch: int
    evidence: Evidence
    seen_after: float = 0.0
    previous: str | None = None
    recurrence: int = 0
    reason: str | None = None


class DiagnosisStarted(IssueEvent):
    """The checks named here begin, all at once."""

    TOPIC: ClassVar[str] = "issue.diagnosis_started.v1"
    playbook: str
    checks: tuple[str, ...]


class CheckRecorded(IssueEvent):
    """One diagnostic reading. A slow one may arrive while remediation is under way."""

    TOPIC: ClassVar[str] = "issue.check_recorded.v1"
    check: Check


class DiagnosisCompleted(IssueEvent):
    """What the checks say together. `pending` are the slow checks that were not waited for because
    the evidence was conclusive already; `issue_type` may refine the one that was detected."""

    TOPIC: ClassVar[str] = "issue.diagnosis_completed.v1"
    issue_type: IssueType
    findings: tuple[Finding, ...]
    recommendations: tuple[str, ...]
    pending: tuple[str, ...] = ()


class RouteChosen(IssueEvent):
    """Which playbooks will run, in order, as data, and who or what chose them.

    `probabilities` holds, for each of `candidates`, how likely it was to be chosen first: 1 and 0
    under a fixed table. Where a person asked for the heal by hand, the actor of this event is that
    person, else `policy`.
    """

    TOPIC: ClassVar[str] = "issue.route_chosen.v1"
    issue_type: IssueType
    candidates: tuple[str, ...]
    probabilities: tuple[float, ...]
    playbooks: tuple[Playbook, ...]
    chosen_by: str
    skipped: tuple[Skipped, ...] = ()


class ApprovalRequested(IssueEvent):
    """The healer may only suggest: somebody has to say yes within `expires_in` seconds."""

    TOPIC: ClassVar[str] = "issue.approval_requested.v1"
    playbooks: tuple[str, ...]
    expires_in: float


class ApprovalGranted(IssueEvent):
    """The actor of this event allowed the suggested heal."""

    TOPIC: ClassVar[str] = "issue.approval_granted.v1"


class ApprovalDenied(IssueEvent):
    """The actor of this event refused the suggested heal, or it expired (`reason`)."""

    TOPIC: ClassVar[str] = "issue.approval_denied.v1"
    reason: str


class RemediationStarted(IssueEvent):
    """The first playbook is about to run. `attempt` counts the heals in a row, from 1."""

    TOPIC: ClassVar[str] = "issue.remediation_started.v1"
    attempt: int


class PlaybookStarted(IssueEvent):
    """A playbook of the route begins."""

    TOPIC: ClassVar[str] = "issue.playbook_started.v1"
    playbook: str


class StepStarted(IssueEvent):
    """The intent to act is durable; the effect may follow. `targets` are all that it may touch."""

    TOPIC: ClassVar[str] = "issue.step_started.v1"
    playbook: str
    step: int
    action: str
    targets: tuple[Target, ...] = ()
    port: int | None = None
    launch_id: str | None = None
    manager: str | None = None


class StepSucceeded(IssueEvent):
    """The effect was had. `elapsed` in seconds."""

    TOPIC: ClassVar[str] = "issue.step_succeeded.v1"
    playbook: str
    step: int
    action: str
    elapsed: float
    result: StepResult


class StepFailed(IssueEvent):
    """The effect was not had; `result.error` is a stable word for why."""

    TOPIC: ClassVar[str] = "issue.step_failed.v1"
    playbook: str
    step: int
    action: str
    elapsed: float
    result: StepResult


class StepSkipped(IssueEvent):
    """There was nothing to do (`reason`), so no intent was needed."""

    TOPIC: ClassVar[str] = "issue.step_skipped.v1"
    playbook: str
    step: int
    action: str
    reason: str


class StepSettled(IssueEvent):
    """The healer died between intent and outcome; a look at the world says what became of it."""

    TOPIC: ClassVar[str] = "issue.step_settled.v1"
    playbook: str
    step: int
    action: str
    settlement: Settlement
    result: StepResult


class PlaybookFinished(IssueEvent):
    """A playbook of the route ended."""

    TOPIC: ClassVar[str] = "issue.playbook_finished.v1"
    playbook: str
    outcome: PlaybookOutcome


class VerificationRecorded(IssueEvent):
    """Fresh probes, made after the last step. Only a healthy one can make an issue verified.

    `after` is the playbook that it followed, None when no playbook had run. `foreign` are processes
    that answer in the component's place: their health is not its own.
    """

    TOPIC: ClassVar[str] = "issue.verification_recorded.v1"
    healthy: bool
    probes: tuple[ProbeResult, ...]
    epoch: int
    after: str | None = None
    elapsed: float = 0.0
    foreign: tuple[ProcessIdentity, ...] = ()


class HealWithheld(IssueEvent):
    """A heal was due and is not allowed now. `reason` is a stable word (backoff, budget_spent,
    concurrency, quorum, dependency, maintenance, paused, observe, denied), `arithmetic` the figures
    that it was refused on, `cause` the component that is to blame, `retry_in` seconds or None."""

    TOPIC: ClassVar[str] = "issue.heal_withheld.v1"
    reason: str
    arithmetic: dict[str, float] = Field(default_factory=dict)
    cause: str | None = None
    retry_in: float | None = None


class IssueEscalated(IssueEvent):
    """A person has to know. `reason` is a stable word."""

    TOPIC: ClassVar[str] = "issue.escalated.v1"
    reason: str
    recommendations: tuple[str, ...] = ()


class IssueTakenOver(IssueEvent):
    """Another node, or the same one after a restart, goes on with the issue. Its position in the
    log is the fence: whoever held the issue before, as `holder` (None: nobody did), writes no more.
    """

    TOPIC: ClassVar[str] = "issue.taken_over.v1"
    holder: str | None = None


class IssueVerified(IssueEvent):
    """Cured, and seen to be. `healed_by` is the playbook after which it was, None when it recovered
    by itself, or behind a playbook that failed. `resolved_in` is the seconds since the first
    evidence."""

    TOPIC: ClassVar[str] = "issue.verified.v1"
    healed_by: str | None
    resolved_in: float


class IssueFailed(IssueEvent):
    """Not cured. `reason` is a stable word. `resolved_in`: seconds since the first evidence."""

    TOPIC: ClassVar[str] = "issue.failed.v1"
    reason: str
    resolved_in: float


class ComponentRegistered(ComponentEvent):
    """The configuration names this component, or names it differently than before."""

    TOPIC: ClassVar[str] = "component.registered.v1"
    component: str
    host: str
    port: int
    criticality: Criticality
    mode: Mode
    launcher: str | None = None
    depends_on: tuple[str, ...] = ()


class HealthChanged(ComponentEvent):
    """The component's health went from one state to another, in the given epoch."""

    TOPIC: ClassVar[str] = "component.health_changed.v1"
    component: str
    before: Health
    after: Health
    epoch: int
    probe: ProbeResult | None = None


class PortRebound(ComponentEvent):
    """The component lives on another port now; consumers have to follow."""

    TOPIC: ClassVar[str] = "component.port_rebound.v1"
    component: str
    old_port: int
    new_port: int


class MaintenanceStarted(ComponentEvent):
    """No heals until it ends or `duration` seconds have passed."""

    TOPIC: ClassVar[str] = "component.maintenance_started.v1"
    component: str
    duration: float
    reason: str


class MaintenanceEnded(ComponentEvent):
    """Heals are allowed again."""

    TOPIC: ClassVar[str] = "component.maintenance_ended.v1"
    component: str
    reason: str


class ModeChanged(ComponentEvent):
    """How far the healer may go with this component changed."""

    TOPIC: ClassVar[str] = "component.mode_changed.v1"
    component: str
    before: Mode
    after: Mode
    reason: str


class ProcessAdopted(ComponentEvent):
    """This process is the component from now on. A new one opens a new epoch.

    `proof` is why it is believed; `launch_id` names the launch that started it, if we did.
    """

    TOPIC: ClassVar[str] = "component.process_adopted.v1"
    component: str
    process: ProcessIdentity
    proof: OwnerProof
    port: int
    epoch: int
    launch_id: str | None = None


class BudgetReset(ComponentEvent):
    """The component has its whole budget again; `attempts` heals in a row are forgotten."""

    TOPIC: ClassVar[str] = "component.budget_reset.v1"
    component: str
    attempts: int
    reason: str


class ComponentRemoved(ComponentEvent):
    """The configuration does not name this component any more: nobody watches it."""

    TOPIC: ClassVar[str] = "component.removed.v1"
    component: str


class FleetPaused(FleetEvent):
    """No heals at all, not even by hand, until they are resumed."""

    TOPIC: ClassVar[str] = "fleet.paused.v1"
    reason: str


class FleetResumed(FleetEvent):
    """Heals are allowed again, for all components."""

    TOPIC: ClassVar[str] = "fleet.resumed.v1"
    reason: str


IssueFact = (
    IssueDetected
    | DiagnosisStarted
    | CheckRecorded
    | DiagnosisCompleted
    | RouteChosen
    | ApprovalRequested
    | ApprovalGranted
    | ApprovalDenied
    | RemediationStarted
    | PlaybookStarted
    | StepStarted
    | StepSucceeded
    | StepFailed
    | StepSkipped
    | StepSettled
    | PlaybookFinished
    | VerificationRecorded
    | HealWithheld
    | IssueEscalated
    | IssueTakenOver
    | IssueVerified
    | IssueFailed
)
ComponentFact = (
    ComponentRegistered
    | HealthChanged
    | PortRebound
    | MaintenanceStarted
    | MaintenanceEnded
    | ModeChanged
    | ProcessAdopted
    | BudgetReset
    | ComponentRemoved
)
FleetFact = FleetPaused | FleetResumed
Fact = IssueFact | ComponentFact | FleetFact

EVENT_TYPES: Final = MappingProxyType(
    {
        event.TOPIC: event
        for event in (*get_args(IssueFact), *get_args(ComponentFact), *get_args(FleetFact))
    }
)
"""Topic → class of every fact: a closed registry, so that no stored name can import a module."""
