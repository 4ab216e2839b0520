"""One fact of each type, filled as a real one is; any field can be overridden by name.

    factory.issue_detected(stream="i1", version=1, component="chat_api")

An issue's stream is its id; a component's is `component:<name>`. The time is fixed: a later event
is later by its version in seconds.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from healer.domain.events import (
    ApprovalDenied,
    ApprovalGranted,
    ApprovalRequested,
    BudgetReset,
    CheckRecorded,
    ComponentRegistered,
    ComponentRemoved,
    DiagnosisCompleted,
    DiagnosisStarted,
    Event,
    Fact,
    FleetPaused,
    FleetResumed,
    HealthChanged,
    HealWithheld,
    IssueDetected,
    IssueEscalated,
    IssueFailed,
    IssueTakenOver,
    IssueVerified,
    MaintenanceEnded,
    MaintenanceStarted,
    ModeChanged,
    PlaybookFinished,
    PlaybookStarted,
    PortRebound,
    ProcessAdopted,
    RemediationStarted,
    RouteChosen,
    StepFailed,
    StepSettled,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    VerificationRecorded,
)
from healer.domain.health import Health
from healer.domain.playbook import (
    Check,
    CheckStatus,
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
from healer.domain.probe import ProbeResult, Reason
from healer.domain.process import ExitStatus, Listener, OwnerProof, ProcessIdentity
from healer.domain.spec import Criticality, IssueType, Mode, Severity

__all__ = [
    "BEGIN",
    "COMPONENT",
    "ISSUE",
    "NODE",
    "PORT",
    "approval_denied",
    "approval_granted",
    "approval_requested",
    "check_recorded",
    "component_registered",
    "diagnosis_completed",
    "diagnosis_started",
    "every_fact",
    "heal_withheld",
    "health_changed",
    "issue_detected",
    "issue_escalated",
    "issue_failed",
    "issue_verified",
    "listener",
    "maintenance_ended",
    "maintenance_started",
    "mode_changed",
    "playbook_finished",
    "playbook_started",
    "port_rebound",
    "probe",
    "process",
    "process_adopted",
    "remediation_started",
    "route_chosen",
    "step_failed",
    "step_settled",
    "step_skipped",
    "step_started",
    "step_succeeded",
    "verification_recorded",
]

BEGIN: Final = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
ISSUE: Final = "0123456789abcdef0123456789abcdef"
COMPONENT: Final = "chat_api"
NODE: Final = "edge-1"
PORT: Final = 8220

_Event = TypeVar("_Event", bound=Event)


def process(pid: int = 4242, **overrides: Any) -> ProcessIdentity:
    """A process of the component."""
    fields: dict[str, Any] = {
        "boot_id": "7d6b0f3c-0c6a-4f5e-9d35-2f6a3f1f5b11",
        "pid": pid,
        "start_ticks": 100_000 + pid,
        "pidfd_inode": 900_000 + pid,
        "name": "chat_api",
        "exe": "/usr/bin/python3",
        "uid": 1000,
        "cgroup": "/system.slice/chat_api.service",
    }
    return ProcessIdentity(**(fields | overrides))


def probe(reason: Reason = Reason.OK, **overrides: Any) -> ProbeResult:
    """One look at the component's port."""
    fields: dict[str, Any] = {
        "kind": "tcp",
        "target": f"127.0.0.1:{PORT}",
        "reason": reason,
        "elapsed": 0.0004,
        "errno": 111 if reason is Reason.REFUSED else None,
    }
    return ProbeResult(**(fields | overrides))


def listener(*holders: ProcessIdentity, **overrides: Any) -> Listener:
    """A socket that listens on the component's port."""
    fields: dict[str, Any] = {
        "address": "127.0.0.1",
        "port": PORT,
        "inode": 55_555,
        "uid": 1000,
        "holders": holders,
    }
    return Listener(**(fields | overrides))


def _event(
    event_type: type[_Event],
    stream: str,
    version: int,
    overrides: dict[str, Any],
    **facts: Any,
) -> _Event:
    fields: dict[str, Any] = {
        "originator_id": stream,
        "originator_version": version,
        "timestamp": BEGIN + timedelta(seconds=version),
        "actor": "watchdog",
        "node": NODE,
        "correlation_id": stream,
        "causation_id": f"{stream}/{version - 1}" if version > 1 else None,
        **facts,
    }
    return event_type(**(fields | overrides))


def issue_detected(stream: str = ISSUE, version: int = 1, **overrides: Any) -> IssueDetected:
    """The component's process was killed."""
    return _event(
        IssueDetected,
        stream,
        version,
        overrides,
        component=COMPONENT,
        host="127.0.0.1",
        port=PORT,
        issue_type=IssueType.PROCESS_CRASHED,
        severity=Severity.HIGH,
        criticality=Criticality.HIGH,
        epoch=3,
        evidence=Evidence(
            probe=probe(Reason.REFUSED),
            exit=ExitStatus(signal=9),
            process=process(),
            alive=False,
            owned=None,
        ),
        seen_after=0.0002,
        previous="fedcba9876543210fedcba9876543210",
        recurrence=1,
    )


def diagnosis_started(stream: str = ISSUE, version: int = 2, **overrides: Any) -> DiagnosisStarted:
    """All checks begin."""
    return _event(
        DiagnosisStarted,
        stream,
        version,
        overrides,
        playbook="diagnose_network",
        checks=("port", "resolution", "route"),
    )


def check_recorded(stream: str = ISSUE, version: int = 3, **overrides: Any) -> CheckRecorded:
    """The port check found nobody there."""
    facts = {"port": PORT, "listeners": [], "free": True, "load": 0.25, "owner": None}
    check = Check(name="port", status=CheckStatus.FAIL, facts=facts, elapsed=0.001)
    return _event(CheckRecorded, stream, version, overrides, check=check)


def diagnosis_completed(
    stream: str = ISSUE, version: int = 4, **overrides: Any
) -> DiagnosisCompleted:
    """The process is gone, the slow check is not waited for."""
    return _event(
        DiagnosisCompleted,
        stream,
        version,
        overrides,
        issue_type=IssueType.PROCESS_CRASHED,
        findings=(Finding(code="process_gone", checks=("port",)),),
        recommendations=("look at the component's own log",),
        pending=("route",),
    )


def route_chosen(stream: str = ISSUE, version: int = 5, **overrides: Any) -> RouteChosen:
    """Restart it."""
    return _event(
        RouteChosen,
        stream,
        version,
        overrides,
        actor="policy",
        issue_type=IssueType.PROCESS_CRASHED,
        candidates=("restart_component", "clear_port"),
        probabilities=(1.0, 0.0),
        playbooks=(
            Playbook(
                name="restart_component",
                steps=(Step(action="stop"), Step(action="start"), Step(action="undo", undo=True)),
            ),
        ),
        chosen_by="table",
        skipped=(Skipped(playbook="clear_port", why="nobody holds the port"),),
    )


def approval_requested(
    stream: str = ISSUE, version: int = 6, **overrides: Any
) -> ApprovalRequested:
    """Somebody has to say yes within an hour."""
    return _event(
        ApprovalRequested,
        stream,
        version,
        overrides,
        playbooks=("restart_component",),
        expires_in=3600.0,
    )


def approval_granted(stream: str = ISSUE, version: int = 7, **overrides: Any) -> ApprovalGranted:
    """Somebody said yes."""
    return _event(ApprovalGranted, stream, version, overrides, actor="api:ops")


def approval_denied(stream: str = ISSUE, version: int = 7, **overrides: Any) -> ApprovalDenied:
    """Nobody answered in time."""
    return _event(ApprovalDenied, stream, version, overrides, reason="expired")


def remediation_started(
    stream: str = ISSUE, version: int = 6, **overrides: Any
) -> RemediationStarted:
    """The first heal in a row."""
    return _event(RemediationStarted, stream, version, overrides, attempt=1)


def playbook_started(stream: str = ISSUE, version: int = 7, **overrides: Any) -> PlaybookStarted:
    """The restart begins."""
    return _event(PlaybookStarted, stream, version, overrides, playbook="restart_component")


def step_started(stream: str = ISSUE, version: int = 8, **overrides: Any) -> StepStarted:
    """The intent to stop what is left of the component."""
    return _event(
        StepStarted,
        stream,
        version,
        overrides,
        playbook="restart_component",
        step=0,
        action="stop",
        targets=(Target(process=process(), proof=OwnerProof.LAUNCHED, listening=True),),
        port=PORT,
        launch_id="aaaabbbbccccddddaaaabbbbccccdddd",
        manager="command",
    )


def step_succeeded(stream: str = ISSUE, version: int = 9, **overrides: Any) -> StepSucceeded:
    """It is gone, and the port is free."""
    return _event(
        StepSucceeded,
        stream,
        version,
        overrides,
        playbook="restart_component",
        step=0,
        action="stop",
        elapsed=0.012,
        result=StepResult(
            stopped=(process(),), killed=(process(),), port=PORT, bind="free", manager="command"
        ),
    )


def step_failed(stream: str = ISSUE, version: int = 9, **overrides: Any) -> StepFailed:
    """The command could not be started."""
    return _event(
        StepFailed,
        stream,
        version,
        overrides,
        playbook="restart_component",
        step=1,
        action="start",
        elapsed=0.5,
        result=StepResult(
            exit=ExitStatus(code=127), exit_code=127, errno=2, error="not_found", detail="no such"
        ),
    )


def step_skipped(stream: str = ISSUE, version: int = 9, **overrides: Any) -> StepSkipped:
    """Nothing was left to stop."""
    return _event(
        StepSkipped,
        stream,
        version,
        overrides,
        playbook="restart_component",
        step=0,
        action="stop",
        reason="nothing_runs",
    )


def step_settled(stream: str = ISSUE, version: int = 9, **overrides: Any) -> StepSettled:
    """The healer had died; the started process was found."""
    return _event(
        StepSettled,
        stream,
        version,
        overrides,
        actor="recovery",
        playbook="restart_component",
        step=1,
        action="start",
        settlement=Settlement.OBSERVED,
        result=StepResult(started=process(4343), launch_id="eeee", probe=probe()),
    )


def playbook_finished(stream: str = ISSUE, version: int = 10, **overrides: Any) -> PlaybookFinished:
    """All steps were made."""
    return _event(
        PlaybookFinished,
        stream,
        version,
        overrides,
        playbook="restart_component",
        outcome=PlaybookOutcome.COMPLETED,
    )


def verification_recorded(
    stream: str = ISSUE, version: int = 11, **overrides: Any
) -> VerificationRecorded:
    """Fresh probes found it healthy."""
    return _event(
        VerificationRecorded,
        stream,
        version,
        overrides,
        healthy=True,
        probes=(probe(), probe(kind="http", target="http://127.0.0.1:8220/health", status=200)),
        epoch=4,
        after="restart_component",
        elapsed=0.09,
    )


def heal_withheld(stream: str = ISSUE, version: int = 6, **overrides: Any) -> HealWithheld:
    """It is too early for another heal."""
    return _event(
        HealWithheld,
        stream,
        version,
        overrides,
        actor="policy",
        reason="backoff",
        arithmetic={"attempts": 2.0, "pause": 1.5, "passed": 0.25},
        cause="message_bus",
        retry_in=1.25,
    )


def issue_escalated(stream: str = ISSUE, version: int = 12, **overrides: Any) -> IssueEscalated:
    """A person has to know."""
    return _event(
        IssueEscalated,
        stream,
        version,
        overrides,
        actor="policy",
        reason="budget_spent",
        recommendations=("look at the component's own log",),
    )


def issue_taken_over(stream: str = ISSUE, version: int = 12, **overrides: Any) -> IssueTakenOver:
    """Another node goes on."""
    return _event(IssueTakenOver, stream, version, overrides, actor="recovery", holder="edge-2")


def issue_verified(stream: str = ISSUE, version: int = 12, **overrides: Any) -> IssueVerified:
    """Cured by the restart."""
    return _event(
        IssueVerified, stream, version, overrides, healed_by="restart_component", resolved_in=0.11
    )


def issue_failed(stream: str = ISSUE, version: int = 12, **overrides: Any) -> IssueFailed:
    """No playbook was left."""
    return _event(
        IssueFailed, stream, version, overrides, reason="route_exhausted", resolved_in=12.5
    )


def _component_stream(stream: str | None, overrides: dict[str, Any]) -> str:
    return stream or f"component:{overrides.get('component', COMPONENT)}"


def component_registered(
    stream: str | None = None, version: int = 1, **overrides: Any
) -> ComponentRegistered:
    """The configuration names the component."""
    return _event(
        ComponentRegistered,
        _component_stream(stream, overrides),
        version,
        overrides,
        component=COMPONENT,
        host="127.0.0.1",
        port=PORT,
        criticality=Criticality.HIGH,
        mode=Mode.ACT,
        launcher="command",
        depends_on=("message_bus",),
    )


def health_changed(stream: str | None = None, version: int = 2, **overrides: Any) -> HealthChanged:
    """It was healthy and is suspect."""
    return _event(
        HealthChanged,
        _component_stream(stream, overrides),
        version,
        overrides,
        component=COMPONENT,
        before=Health.HEALTHY,
        after=Health.SUSPECT,
        epoch=3,
        probe=probe(Reason.TIMEOUT, elapsed=0.2),
    )


def port_rebound(stream: str | None = None, version: int = 2, **overrides: Any) -> PortRebound:
    """It lives on the next port now."""
    return _event(
        PortRebound,
        _component_stream(stream, overrides),
        version,
        overrides,
        component=COMPONENT,
        old_port=PORT,
        new_port=PORT + 1,
    )


def maintenance_started(
    stream: str | None = None, version: int = 2, **overrides: Any
) -> MaintenanceStarted:
    """No heals for an hour."""
    return _event(
        MaintenanceStarted,
        _component_stream(stream, overrides),
        version,
        overrides,
        actor="api:ops",
        component=COMPONENT,
        duration=3600.0,
        reason="upgrade",
    )


def maintenance_ended(
    stream: str | None = None, version: int = 3, **overrides: Any
) -> MaintenanceEnded:
    """Heals again."""
    return _event(
        MaintenanceEnded,
        _component_stream(stream, overrides),
        version,
        overrides,
        actor="api:ops",
        component=COMPONENT,
        reason="done",
    )


def mode_changed(stream: str | None = None, version: int = 2, **overrides: Any) -> ModeChanged:
    """Only suggestions from now on."""
    return _event(
        ModeChanged,
        _component_stream(stream, overrides),
        version,
        overrides,
        actor="cli",
        component=COMPONENT,
        before=Mode.ACT,
        after=Mode.SUGGEST,
        reason="watching a new release",
    )


def process_adopted(
    stream: str | None = None, version: int = 2, **overrides: Any
) -> ProcessAdopted:
    """A new process is the component."""
    return _event(
        ProcessAdopted,
        _component_stream(stream, overrides),
        version,
        overrides,
        component=COMPONENT,
        process=process(4343),
        proof=OwnerProof.LAUNCHED,
        port=PORT,
        epoch=4,
        launch_id="aaaabbbbccccddddaaaabbbbccccdddd",
    )


def budget_reset(stream: str | None = None, version: int = 2, **overrides: Any) -> BudgetReset:
    """An operator gives it its budget back."""
    return _event(
        BudgetReset,
        _component_stream(stream, overrides),
        version,
        overrides,
        actor="api:ops",
        component=COMPONENT,
        attempts=5,
        reason="the disk was full",
    )


def component_removed(
    stream: str | None = None, version: int = 2, **overrides: Any
) -> ComponentRemoved:
    """The configuration does not name it any more."""
    return _event(
        ComponentRemoved,
        _component_stream(stream, overrides),
        version,
        overrides,
        actor="config",
        component=COMPONENT,
    )


def fleet_paused(stream: str | None = None, version: int = 1, **overrides: Any) -> FleetPaused:
    """Hands off, all of it."""
    return _event(
        FleetPaused, stream or "fleet", version, overrides, actor="api:ops", reason="data centre"
    )


def fleet_resumed(stream: str | None = None, version: int = 2, **overrides: Any) -> FleetResumed:
    """On again."""
    return _event(
        FleetResumed, stream or "fleet", version, overrides, actor="api:ops", reason="done"
    )


def every_fact() -> tuple[Fact, ...]:
    """One of each type, in the order of the registry. They do not make one history together."""
    return (
        issue_detected(),
        diagnosis_started(),
        check_recorded(),
        diagnosis_completed(),
        route_chosen(),
        approval_requested(),
        approval_granted(),
        approval_denied(),
        remediation_started(),
        playbook_started(),
        step_started(),
        step_succeeded(),
        step_failed(),
        step_skipped(),
        step_settled(),
        playbook_finished(),
        verification_recorded(),
        heal_withheld(),
        issue_escalated(),
        issue_taken_over(),
        issue_verified(),
        issue_failed(),
        component_registered(),
        health_changed(),
        port_rebound(),
        maintenance_started(),
        maintenance_ended(),
        mode_changed(),
        process_adopted(),
        budget_reset(),
        component_removed(),
        fleet_paused(),
        fleet_resumed(),
    )
