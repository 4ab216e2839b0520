"""The log of several nodes in memory: the twin of the one in PostgreSQL, with its leases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from healer.domain.component import component_of
from healer.domain.events import Event, Fact, IssueDetected, IssueFailed, IssueVerified
from healer.errors import IssueConflictError, StoreError
from healer.ports import Claim, Holder, Recorded
from healer.store.feed import Listener
from healer.store.memory import MemoryLog
from healer.store.unshared import NOTHING_SEEN, moved

__all__ = ["SharedLog", "SharedMemory"]


@dataclass(slots=True)
class _Holding:
    issue: str
    node: str
    fence: int
    expires: float


@dataclass(slots=True)
class SharedMemory:
    """What the nodes share. `time` is the clock by which leases run out, in seconds."""

    time: Callable[[], float]
    log: MemoryLog = field(default_factory=MemoryLog)
    holdings: dict[str, _Holding] = field(default_factory=dict)

    def held(self, stream: str) -> tuple[str, _Holding] | None:
        """The component, and who holds its issue, that a stream belongs to."""
        for component, holding in self.holdings.items():
            if holding.issue == stream or component_of(stream) == component:
                return component, holding
        return None


class SharedLog:
    """An `EventLog` of one node over what all share; make one for each.

    While `cut` is set the log cannot be reached from here. `monotonic` is the node's own clock, by
    which its claims say when they end; that of the log where it is not given.
    """

    shared = True
    broken: str | None = None
    unavailable: str | None = None

    def __init__(
        self, memory: SharedMemory, *, monotonic: Callable[[], float] | None = None
    ) -> None:
        self.cut = False
        self._memory = memory
        self._monotonic = monotonic or memory.time
        self._fences: dict[str, int] = {}

    async def append(self, events: Sequence[Event]) -> int:
        """See `healer.ports.EventLog.append`."""
        return await self._append(events, None)

    async def _append(self, events: Sequence[Event], claimed: str | None) -> int:
        await self._reach()
        for event in events:
            self._check_fence(event, claimed)
        position = await self._memory.log.append(events)
        for event in events:
            if isinstance(event, IssueVerified | IssueFailed):
                found = self._memory.held(event.originator_id)
                if found is not None:
                    del self._memory.holdings[found[0]]
                self._fences.pop(event.originator_id, None)
        return position

    def _check_fence(self, event: Event, claimed: str | None) -> None:
        found = self._memory.held(event.originator_id)
        if found is None or found[0] == claimed:
            return
        holding = found[1]
        if self._fences.get(holding.issue) != holding.fence:
            what = "issue" if event.originator_id == holding.issue else "component"
            raise IssueConflictError(
                f"cannot append {event.event_id}: the {what} is healed by node {holding.node!r} "
                f"since event {holding.fence}"
            )

    async def claim(
        self,
        component: str,
        events: Sequence[Event],
        *,
        node: str,
        ttl: float,
        seen: Mapping[str, int] = NOTHING_SEEN,
    ) -> Claim:
        """See `healer.ports.EventLog.claim`."""
        asked = self._monotonic()
        await self._reach()
        memory = self._memory
        holding = memory.holdings.get(component)
        if holding is not None and holding.expires > memory.time() and holding.node != node:
            raise IssueConflictError(
                f"cannot claim component {component!r} for node {node!r}: its issue "
                f"{holding.issue} is healed by node {holding.node!r}"
            )
        for stream, expected in seen.items():
            version = len(await memory.log.stream(stream))
            if version != expected:
                raise moved(stream, expected, version)
        opened = [each.originator_id for each in events if isinstance(each, IssueDetected)]
        issue = opened[0] if opened else (await memory.log.open_issues()).get(component)
        if issue is None:
            raise IssueConflictError(f"cannot claim component {component!r}: it has no open issue")
        if all(each.originator_id != issue for each in events):
            raise StoreError(
                f"cannot claim component {component!r}: no fact of its issue {issue} says so"
            )
        fence = await self._append(events, component)
        if component in await memory.log.open_issues():
            memory.holdings[component] = _Holding(issue, node, fence, memory.time() + ttl)
            self._fences[issue] = fence
        return Claim(component, node, fence, asked + ttl)

    async def renew(self, *, ttl: float) -> list[Claim]:
        """See `healer.ports.EventLog.renew`."""
        asked = self._monotonic()
        await self._reach()
        held = []
        for component, holding in self._memory.holdings.items():
            if self._fences.get(holding.issue) == holding.fence:
                holding.expires = self._memory.time() + ttl
                held.append(Claim(component, holding.node, holding.fence, asked + ttl))
        return held

    async def holder(self, component: str) -> Holder | None:
        """See `healer.ports.EventLog.holder`."""
        await self._reach()
        holding = self._memory.holdings.get(component)
        if holding is not None:
            return Holder(holding.issue, holding.node, holding.expires - self._memory.time())
        issue = (await self._memory.log.open_issues()).get(component)
        return None if issue is None else Holder(issue, None, 0.0)

    async def read(self, *, after: int = 0, limit: int = 500) -> list[Recorded]:
        """See `healer.ports.EventLog.read`."""
        await self._reach()
        return await self._memory.log.read(after=after, limit=limit)

    def recall(
        self, topics: Collection[str], *, refused: Callable[[StoreError], None]
    ) -> AsyncGenerator[Sequence[Any]]:
        """See `healer.ports.EventLog.recall`."""
        return self._memory.log.recall(topics, refused=refused)

    async def stream(self, stream_id: str) -> list[Fact]:
        """See `healer.ports.EventLog.stream`."""
        await self._reach()
        return await self._memory.log.stream(stream_id)

    async def open_issues(self) -> dict[str, str]:
        """See `healer.ports.EventLog.open_issues`."""
        await self._reach()
        return await self._memory.log.open_issues()

    async def head(self) -> int:
        """See `healer.ports.EventLog.head`."""
        await self._reach()
        return await self._memory.log.head()

    def follow(self, *, after: int) -> AsyncGenerator[Recorded]:
        """See `healer.ports.EventLog.follow`."""
        return self._memory.log.follow(after=after)

    def listen(self, callback: Listener) -> Callable[[], None]:
        """See `healer.ports.EventLog.listen`; while it is `cut` nothing is heard, nor afterwards of
        what was appended meanwhile."""
        return self._memory.log.listen(lambda facts: None if self.cut else callback(facts))

    async def _reach(self) -> None:
        await asyncio.sleep(0)
        if self.cut:
            raise StoreError("cannot reach the log: the network is cut")

    async def close(self) -> None:
        """Let go of the log, which the other nodes keep."""
        self.cut = True
