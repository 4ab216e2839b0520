"""Whether this node may act on a component: its lease on the open issue, asked before each effect.

The log decides who holds an issue; here is what is known of it between two looks, by the monotonic
clock. It errs to one side: a lease ends here sooner than there, never later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from healer.domain.events import Event, IssueDetected, IssueFailed, IssueTakenOver, IssueVerified
from healer.errors import LeaseLostError, StoreError
from healer.ports import Clock, EventLog, Holder

__all__ = ["LEASE", "Lease", "Leases"]

LEASE: Final = 15.0
"""Seconds for which a node that is not heard of keeps an issue: long enough for a restart of the
database, short enough for a person who waits."""

_PARTS: Final = 3
"""A lease is renewed each third of its term: two renewals may fail before it runs out. With less
than a third left the log is asked before anything is done."""

_log = structlog.get_logger("healer.lease")


@dataclass(frozen=True, slots=True)
class _Held:
    issue: str
    fence: int
    expires: float


class Leases:
    """What this node holds of a log that several share. In a log of one healer everything is its
    own, and nothing here ever waits.

    `term` is for how many seconds a node that is not heard of keeps an issue.
    """

    def __init__(self, log: EventLog, clock: Clock, *, node: str, term: float) -> None:
        self.log = log
        self.node = node
        self.term = term
        self._clock = clock
        self._leases: dict[str, Lease] = {}

    def of(self, component: str) -> Lease:
        """The lease of a component: one and the same, whoever keeps the component."""
        if component not in self._leases:
            self._leases[component] = Lease(self, component, self._clock)
        return self._leases[component]

    def forget(self, component: str) -> None:
        """Renew no more what this node held of the component."""
        self._leases.pop(component, None)

    async def keep(self) -> None:
        """Renew what is held, for ever."""
        while self.log.shared:
            await asyncio.sleep(self.term / _PARTS)
            if not any(lease.issue for lease in self._leases.values()):
                continue
            try:
                await self.renew()
            except StoreError as error:
                _log.warning("not_renewed", error=str(error))

    async def renew(self) -> None:
        """Ask the log for another term of all that is held, and hear what was lost.

        Raises:
            StoreError: the log cannot be reached; the leases run out as they stand.
        """
        asked = {lease: lease.fence for lease in self._leases.values() if lease.fence}
        claims = {claim.component: claim for claim in await self.log.renew(ttl=self.term)}
        for lease, fence in asked.items():
            claim = claims.get(lease.component)
            if lease.fence != fence:
                continue  # it has ended, or was claimed anew, since the log was asked
            if claim is not None and claim.fence == fence:
                lease.prolong(claim.expires)
            else:
                lease.lose()


class Lease:
    """What this node holds of one component: nothing, or its open issue `issue`. `on_loss` is
    called when another node has taken it."""

    def __init__(self, leases: Leases, component: str, clock: Clock) -> None:
        self.component = component
        self.on_loss: Callable[[], None] = lambda: None
        self._leases = leases
        self._log = leases.log
        self._clock = clock
        self._held: _Held | None = None

    @property
    def issue(self) -> str | None:
        """The issue that is held."""
        return self._held.issue if self._held else None

    @property
    def fence(self) -> int | None:
        """The position in the log of the fact that took the issue."""
        return self._held.fence if self._held else None

    def covers(self, issue: str) -> bool:
        """Whether facts of `issue` can be appended without taking it over first."""
        return not self._log.shared or self.issue == issue

    async def append(self, events: Sequence[Event], seen: Mapping[str, int]) -> None:
        """Append `events`; those that open an issue or take it over claim it in the same commit, if
        the streams of `seen` still stand at those versions.

        Raises:
            IssueConflictError: another node was faster, or holds it.
            StoreError: as `EventLog.append`.
        """
        taken = next(
            (each for each in events if isinstance(each, IssueDetected | IssueTakenOver)), None
        )
        if taken is None or not self._log.shared:
            await self._log.append(events)
        else:
            claim = await self._log.claim(
                self.component,
                events,
                node=self._leases.node,
                ttl=self._leases.term,
                seen=seen,
            )
            self._held = _Held(taken.originator_id, claim.fence, claim.expires)
        if any(isinstance(each, IssueVerified | IssueFailed) for each in events):
            self._held = None

    async def permit(self) -> None:
        """Ask right before a signal or a start. Nothing of the log changes.

        Raises:
            LeaseLostError: this node may not act on the component any more.
            StoreError: it cannot be said.
        """
        if not self._log.shared:
            return
        if self._left() < self._leases.term / _PARTS:
            await self._leases.renew()
        if self._left() <= 0:
            raise LeaseLostError(self.component, self._leases.node)

    def _left(self) -> float:
        return self._held.expires - self._clock.monotonic() if self._held else 0.0

    def prolong(self, expires: float) -> None:
        """The log has granted another term."""
        assert self._held is not None
        self._held = _Held(self._held.issue, self._held.fence, expires)

    def lose(self) -> None:
        """Another node has it."""
        if self._held is not None:
            _log.warning("lease_lost", component=self.component, issue=self._held.issue)
            self._held = None
            self.on_loss()

    async def holder(self) -> Holder | None:
        """Who carries the component's open issue; None where none is open.

        Raises:
            StoreError: the log cannot be read.
        """
        return await self._log.holder(self.component)

    async def elsewhere(self) -> Holder | None:
        """The other node that heals the component now; None: nobody does, or this one.

        Raises:
            StoreError: the log cannot be read.
        """
        if not self._log.shared:
            return None
        holder = await self.holder()
        if holder is None or holder.node in {None, self._leases.node} or holder.left <= 0:
            return None
        self._held = None
        return holder
