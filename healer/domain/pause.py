"""Pause: whether anything may be healed at all. One stream for all components and nodes."""

from __future__ import annotations

from typing import Any, Final, assert_never

from healer.domain import events as fact
from healer.domain.aggregate import Aggregate, Stamp

__all__ = ["FLEET_STREAM", "Pause"]

FLEET_STREAM: Final = "fleet"


class Pause(Aggregate):
    """What the log remembers of pauses: the one that holds, or None."""

    def __init__(self, stream_id: str = FLEET_STREAM) -> None:
        super().__init__(stream_id)
        self.since: fact.FleetPaused | None = None

    def begin(self, reason: str, *, stamp: Stamp) -> None:
        """Hold all heals; records nothing when they are held already."""
        if self.since is None:
            self._fact(fact.FleetPaused, stamp, reason=reason)

    def end(self, reason: str, *, stamp: Stamp) -> None:
        """Allow heals again; records nothing when they are allowed."""
        if self.since is not None:
            self._fact(fact.FleetResumed, stamp, reason=reason)

    def evolve(self, event: fact.FleetFact) -> None:
        """Apply one fact; never refuses."""
        match event:
            case fact.FleetPaused():
                self.since = event
            case fact.FleetResumed():
                self.since = None
            case _:
                assert_never(event)

    def _fact(self, event_type: type[fact.FleetEvent], stamp: Stamp, **facts: Any) -> None:
        self._record(event_type, stamp, correlation_id=stamp.causation_id or self.id, **facts)
