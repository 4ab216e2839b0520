"""Appends what aggregates have decided, and stamps decisions."""

from __future__ import annotations

from heapq import merge
from operator import attrgetter

from healer.domain.aggregate import Aggregate, Stamp
from healer.domain.events import Event
from healer.engine.lease import Lease
from healer.ports import Clock, EventLog

__all__ = ["Journal"]


class Journal:
    """The way of facts into the log, for one component: in order, one append at a time."""

    def __init__(self, log: EventLog, clock: Clock, node: str, lease: Lease | None = None) -> None:
        """With a `lease`, what opens or takes over an issue of its component claims it."""
        self.log = log
        self._lease = lease
        self._clock = clock
        self._node = node

    def stamp(self, actor: str, causation_id: str | None = None) -> Stamp:
        """A stamp for decisions made now."""
        return Stamp(now=self._clock.now(), actor=actor, node=self._node, causation_id=causation_id)

    async def save(self, *aggregates: Aggregate) -> None:
        """Append the pending facts of all of `aggregates`, together or not at all.

        Raises:
            IssueConflictError: another node was faster, or heals the component.
            StoreError: they are not durable, and the aggregates have to be read again.
        """
        seen = {each.id: each.version - len(each.pending_events) for each in aggregates}
        # In the order in which they were decided, which is the order in which they make sense.
        decided = (aggregate.collect_events() for aggregate in aggregates)
        events: list[Event] = [*merge(*decided, key=attrgetter("timestamp"))]
        if not events:
            return
        if self._lease is None:
            await self.log.append(events)
        else:
            await self._lease.append(events, seen)
