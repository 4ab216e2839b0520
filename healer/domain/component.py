"""Component: a named service on a port, as the log knows it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, assert_never

from healer.domain import events as fact
from healer.domain.aggregate import Aggregate, Stamp
from healer.domain.health import Health
from healer.domain.label import Label
from healer.domain.probe import ProbeResult
from healer.domain.process import Launch, OwnerProof, ProcessIdentity
from healer.domain.spec import ComponentSpec, Mode
from healer.errors import IllegalCommandError

__all__ = ["Component", "component_of", "component_stream"]

_PREFIX: Final = "component:"

_LAUNCHES_KEPT: Final = 8
"""Launches that still prove ownership: an orphan of one of the last eight starts is ours."""


def component_stream(name: str) -> str:
    """The stream of the component of that name."""
    return f"{_PREFIX}{name}"


def component_of(stream_id: str) -> str | None:
    """The name of the component whose stream this is; None for every other stream."""
    return stream_id.removeprefix(_PREFIX) if stream_id.startswith(_PREFIX) else None


class Component(Aggregate):
    """What the log remembers of a component: where it lives, which process it is, how it fares."""

    def __init__(self, stream_id: str) -> None:
        super().__init__(stream_id)
        self.name = stream_id.partition(":")[2]
        self.host: str | None = None
        self.configured_port: int | None = None
        self.port: int | None = None
        self.registered: fact.ComponentRegistered | None = None
        self.mode = Mode.ACT
        self.health = Health.UNKNOWN
        self.epoch = 0
        self.process: ProcessIdentity | None = None
        self.launches: tuple[Launch, ...] = ()
        self.maintenance: fact.MaintenanceStarted | None = None
        self._maintained: Label | None = None

    def register(self, spec: ComponentSpec, *, launcher: str | None, stamp: Stamp) -> None:
        """Take the configuration over; records nothing when it says what it said before.

        A changed port in the configuration overrules an earlier rebinding; an unchanged one does
        not.
        """
        known = self.registered
        facts = {
            "component": spec.name,
            "host": spec.host,
            "port": spec.port,
            "criticality": spec.criticality,
            "mode": spec.mode,
            "launcher": launcher,
            "depends_on": spec.depends_on,
        }
        if known is None or any(getattr(known, key) != value for key, value in facts.items()):
            self._fact(fact.ComponentRegistered, stamp, **facts)

    def change_health(
        self, after: Health, *, epoch: int, probe: ProbeResult | None, stamp: Stamp
    ) -> None:
        """Record a new health; records nothing when it is the old one."""
        if after is not self.health:
            self._fact(
                fact.HealthChanged, stamp, before=self.health, after=after, epoch=epoch, probe=probe
            )

    def adopt(
        self,
        process: ProcessIdentity,
        *,
        proof: OwnerProof,
        port: int,
        epoch: int,
        launch_id: str | None,
        stamp: Stamp,
    ) -> None:
        """Record that this process is the component; records nothing when that is known."""
        if self.process is None or self.process.same_as(process) is not True:
            self._fact(
                fact.ProcessAdopted,
                stamp,
                process=process,
                proof=proof,
                port=port,
                epoch=epoch,
                launch_id=launch_id,
            )

    def rebind(self, new_port: int, *, stamp: Stamp) -> None:
        """Record that the component lives on another port now."""
        if self.port is None or self.port == new_port:
            raise IllegalCommandError("rebind", f"{self.name} lives on port {self.port} already")
        self._fact(fact.PortRebound, stamp, old_port=self.port, new_port=new_port)

    def start_maintenance(self, duration: float, reason: str, *, stamp: Stamp) -> None:
        """No heals for `duration` seconds."""
        self._fact(fact.MaintenanceStarted, stamp, duration=duration, reason=reason)

    def end_maintenance(self, reason: str, *, stamp: Stamp) -> None:
        """Heals are allowed again."""
        if self.maintenance is None:
            raise IllegalCommandError("end the maintenance", f"{self.name} is in none")
        self._fact(fact.MaintenanceEnded, stamp, reason=reason)

    def change_mode(self, after: Mode, reason: str, *, stamp: Stamp) -> None:
        """Change how far the healer may go; records nothing when it is the old mode."""
        if after is not self.mode:
            self._fact(fact.ModeChanged, stamp, before=self.mode, after=after, reason=reason)

    def reset_budget(self, attempts: int, reason: str, *, stamp: Stamp) -> None:
        """Forget the heals in a row."""
        self._fact(fact.BudgetReset, stamp, attempts=attempts, reason=reason)

    def remove(self, *, stamp: Stamp) -> None:
        """Say that the configuration does not name it any more."""
        if self.registered is not None:
            self._fact(fact.ComponentRemoved, stamp)

    def maintenance_age(self, now: datetime) -> float:
        """Seconds since the window that is open began, as far as labels can tell."""
        return self._maintained.age(now) if self._maintained else 0.0

    def evolve(self, event: fact.ComponentFact) -> None:
        """Apply one fact; never refuses."""
        if self._maintained is not None:
            self._maintained.precede(event.timestamp)
        match event:
            case fact.ComponentRegistered():
                if event.port != self.configured_port:
                    self.port = self.configured_port = event.port
                if self.registered is None or self.registered.mode is not event.mode:
                    self.mode = event.mode
                self.host = event.host
                self.registered = event
            case fact.HealthChanged():
                self.health = event.after
                self.epoch = max(self.epoch, event.epoch)
            case fact.PortRebound():
                self.port = event.new_port
            case fact.MaintenanceStarted():
                self.maintenance = event
                self._maintained = Label(event.timestamp)
            case fact.MaintenanceEnded():
                self.maintenance = self._maintained = None
            case fact.ModeChanged():
                self.mode = event.after
            case fact.ProcessAdopted():
                self.process = event.process
                self.epoch = max(self.epoch, event.epoch)
                if event.launch_id is not None:
                    launch = Launch(launch_id=event.launch_id, leader=event.process)
                    kept = [old for old in self.launches if old.launch_id != event.launch_id]
                    self.launches = (*kept, launch)[-_LAUNCHES_KEPT:]
            case fact.BudgetReset():
                pass  # the policy's ledger is not part of a component
            case fact.ComponentRemoved():
                # Named again, it is a new one: its mode and port are the configuration's.
                self.registered = self.configured_port = None
                self.maintenance = self._maintained = None
            case _:
                assert_never(event)

    def _fact(self, event_type: type[fact.ComponentEvent], stamp: Stamp, **facts: Any) -> None:
        facts.setdefault("component", self.name)
        self._record(event_type, stamp, correlation_id=stamp.causation_id or self.id, **facts)
