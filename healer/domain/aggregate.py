"""What both aggregates share: a stream of facts, evolved by replay or by new decisions alike.

The library's protocols (`MutableAggregateProtocol`, `CollectEventsProtocol`) and its `mutate`
(which checks the stream and the version of each event) are used as they are; its metaclass is not,
see docs/decisions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from healer.domain.events import Event

__all__ = ["Aggregate", "Stamp"]


@dataclass(frozen=True, slots=True)
class Stamp:
    """When, by whom and where a fact comes to be; given to every command, never looked up.

    `causation_id` is the event (`stream/version`) or the alert that led to it; the event before it
    in its own stream when None.
    """

    now: datetime
    actor: str
    node: str
    causation_id: str | None = None


class Aggregate:
    """A consistency boundary: one stream in the log. Commands decide and may refuse; `evolve`
    never does, because history is not ours to judge."""

    def __init__(self, stream_id: str) -> None:
        self._id = stream_id
        self.version = 0
        self.modified_on: datetime | None = None
        self._pending: list[Event] = []

    @classmethod
    def replay(cls, stream_id: str, events: Iterable[Event]) -> Self:
        """The aggregate as its history left it."""
        aggregate = cls(stream_id)
        for event in events:
            event.mutate(aggregate)  # type: ignore[arg-type]
        return aggregate

    @property
    def id(self) -> str:
        """The name of its stream."""
        return self._id

    @property
    def pending_events(self) -> tuple[Event, ...]:
        """Facts decided and not yet collected for the log."""
        return tuple(self._pending)

    def collect_events(self) -> Sequence[Event]:
        """Hand over the pending facts. If they then cannot be appended, reload the aggregate."""
        collected, self._pending = self._pending, []
        return collected

    def evolve(self, event: Any) -> None:
        """Apply one fact; each aggregate says how."""
        raise NotImplementedError

    def _record(
        self, event_type: type[Event], stamp: Stamp, *, correlation_id: str, **facts: Any
    ) -> None:
        previous = f"{self._id}/{self.version}" if self.version else None
        event = event_type(
            originator_id=self._id,
            originator_version=self.version + 1,
            timestamp=stamp.now,
            actor=stamp.actor,
            node=stamp.node,
            correlation_id=correlation_id,
            causation_id=stamp.causation_id or previous,
            **facts,
        )
        event.mutate(self)  # type: ignore[arg-type]
        self._pending.append(event)
