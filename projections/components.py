"""The inventory: each component, where it lives, how it is, and who holds its port since when.

`failures` counts how often it became unhealthy. `maintenance.until` is when it would end by itself.
That it has is a fact of its own, which a healer writes: while none runs, a fold still shows the
window, since it knows no clock. `process` is None where none is known or the last one is known to
have ended.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from healer.domain.events import (
    BudgetReset,
    CheckRecorded,
    ComponentRegistered,
    ComponentRemoved,
    DiagnosisCompleted,
    DiagnosisStarted,
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
    VerificationRecorded,
)
from healer.domain.health import Health
from healer.domain.probe import ProbeResult, Reason
from healer.store.compiled import plain
from projections.book import APPROVAL_EVENTS, FLEET_EVENTS, STEP_EVENTS
from projections.projection import Cases, Json, Projection
from projections.record import instant

__all__ = ["COMPONENTS", "ComponentRecord", "Components", "maintenance_view"]

_LONGEST: Final = timedelta(days=36_500)
"""A maintenance that is longer (or endless) has no end worth showing."""


@dataclass(slots=True)
class ComponentRecord:
    """What the log says of one component. `open_issue` and `last_issue` are ids."""

    name: str
    host: str | None = None
    port: int | None = None
    configured_port: int | None = None
    criticality: str | None = None
    mode: str | None = None
    launcher: str | None = None
    depends_on: tuple[str, ...] = ()
    health: str = Health.UNKNOWN.value
    epoch: int = 0
    failures: int = 0
    changed: datetime | None = None
    probe: ProbeResult | None = None
    adopted: ProcessAdopted | None = None
    maintenance: MaintenanceStarted | None = None
    open_issue: str | None = None
    last_issue: str | None = None
    issues: int = 0

    def view(self) -> Json:
        return {
            "name": self.name,
            "host": self.host,
            "port": self.port,
            "configured_port": self.configured_port,
            "criticality": self.criticality,
            "mode": self.mode,
            "launcher": self.launcher,
            "depends_on": list(self.depends_on),
            "health": self.health,
            "epoch": self.epoch,
            "failures": self.failures,
            "last_change": instant(self.changed),
            "last_probe": None if self.probe is None else plain(self.probe),
            "process": _process(self.adopted),
            "in_maintenance": self.maintenance is not None,
            "maintenance": maintenance_view(self.maintenance),
            "open_issue": self.open_issue,
            "last_issue": self.last_issue,
            "issues": self.issues,
        }


def _process(adopted: ProcessAdopted | None) -> Json:
    if adopted is None:
        return None
    process = adopted.process
    return {
        "pid": process.pid,
        "name": process.name,
        "exe": process.exe,
        "start_ticks": process.start_ticks,
        "proof": adopted.proof.value,
        "launch_id": adopted.launch_id,
        "since": instant(adopted.timestamp),
    }


def maintenance_view(started: MaintenanceStarted | None) -> Json:
    """A maintenance window, as it is shown; None when none was opened."""
    if started is None:
        return None
    ends = started.duration < _LONGEST.total_seconds()
    until = started.timestamp + timedelta(seconds=started.duration) if ends else None
    return {
        "since": instant(started.timestamp),
        "until": instant(until),
        "reason": started.reason,
        "actor": started.actor,
    }


@dataclass(slots=True)
class Components:
    """Components by name; `owners` tells whose an open issue is."""

    components: dict[str, ComponentRecord] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)

    def of(self, name: str) -> ComponentRecord:
        """The record of `name`, a new one where there is none."""
        record = self.components.get(name)
        if record is None:
            record = self.components[name] = ComponentRecord(name)
        return record


_cases: Cases[Components] = Cases()


@_cases.on(ComponentRegistered)
def _registered(state: Components, _position: int, event: ComponentRegistered) -> None:
    record = state.of(event.component)
    # A rebound component keeps its port until the configuration really names another one.
    if record.configured_port != event.port:
        record.port = event.port
    record.configured_port = event.port
    record.host = event.host
    record.criticality = event.criticality.value
    record.mode = event.mode.value
    record.launcher = event.launcher
    record.depends_on = event.depends_on


@_cases.on(HealthChanged)
def _health_changed(state: Components, _position: int, event: HealthChanged) -> None:
    record = state.of(event.component)
    record.health = event.after.value
    record.epoch = event.epoch
    record.changed = event.timestamp
    record.probe = event.probe
    if event.after is Health.UNHEALTHY:
        record.failures += 1
    if event.probe is not None and event.probe.reason is Reason.EXITED:
        record.adopted = None


@_cases.on(PortRebound)
def _rebound(state: Components, _position: int, event: PortRebound) -> None:
    state.of(event.component).port = event.new_port


@_cases.on(MaintenanceStarted)
def _maintenance_started(state: Components, _position: int, event: MaintenanceStarted) -> None:
    state.of(event.component).maintenance = event


@_cases.on(MaintenanceEnded)
def _maintenance_ended(state: Components, _position: int, event: MaintenanceEnded) -> None:
    state.of(event.component).maintenance = None


@_cases.on(ModeChanged)
def _mode_changed(state: Components, _position: int, event: ModeChanged) -> None:
    state.of(event.component).mode = event.after.value


@_cases.on(ComponentRemoved)
def _removed(state: Components, _position: int, event: ComponentRemoved) -> None:
    state.components.pop(event.component, None)


@_cases.on(ProcessAdopted)
def _adopted(state: Components, _position: int, event: ProcessAdopted) -> None:
    record = state.of(event.component)
    record.adopted = event
    record.epoch = event.epoch


@_cases.on(IssueDetected)
def _detected(state: Components, _position: int, event: IssueDetected) -> None:
    record = state.of(event.component)
    record.host = record.host or event.host
    record.port = record.port or event.port
    record.open_issue = record.last_issue = event.originator_id
    record.issues += 1
    state.owners[event.originator_id] = event.component


def _ended(state: Components, _position: int, event: Any) -> None:
    owner = state.owners.pop(event.originator_id, None)
    if owner is not None and state.of(owner).open_issue == event.originator_id:
        state.of(owner).open_issue = None


_cases.on(IssueVerified)(_ended)
_cases.on(IssueFailed)(_ended)
_cases.ignore(
    *APPROVAL_EVENTS,
    *STEP_EVENTS,
    DiagnosisStarted,
    CheckRecorded,
    DiagnosisCompleted,
    RouteChosen,
    RemediationStarted,
    PlaybookStarted,
    PlaybookFinished,
    VerificationRecorded,
    HealWithheld,
    IssueEscalated,
    BudgetReset,
    *FLEET_EVENTS,
    IssueTakenOver,
)


def _view(state: Components) -> Json:
    return [state.components[name].view() for name in sorted(state.components)]


def _merge(left: Components, right: Components) -> Components:
    left.components.update(right.components)
    left.owners.update(right.owners)
    return left


COMPONENTS = Projection("components", 1, Components, _cases, _view, _merge)
