"""A component as it runs on this machine: its processes, its port, and what provably is its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import chain

from healer.domain.classification import reaches
from healer.domain.component import Component
from healer.domain.playbook import Target
from healer.domain.process import (
    Launch,
    Listener,
    OwnerProof,
    ProcessIdentity,
    ProcessView,
    prove_owner,
)
from healer.domain.spec import CommandLaunch, ComponentSpec, DockerLaunch
from healer.errors import HostError
from healer.ports import (
    HeldProcess,
    Host,
    Ids,
    Launched,
    Launcher,
    Permit,
    Prober,
    Reservation,
    always,
)

__all__ = ["Instance", "Occupancy"]

_GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL for a component whose launcher does not say (Pebble's)."""


@dataclass(slots=True)
class Occupancy:
    """Who is where the component should be, or is the component somewhere else.

    `owned` are held processes with the proof that they are the component's; `foreign` hold a
    listener that stands in its way and are not; `hidden` says that somebody listens there whom we
    cannot see, `serving` that one of the owned listens where the component is looked for.
    `listeners` are all on the port.
    """

    owned: list[tuple[HeldProcess, Target]] = field(default_factory=list)
    foreign: list[tuple[HeldProcess, ProcessView]] = field(default_factory=list)
    hidden: bool = False
    serving: bool = False
    listeners: tuple[Listener, ...] = ()

    @property
    def targets(self) -> tuple[Target, ...]:
        return tuple(target for _, target in self.owned)

    @property
    def strangers(self) -> tuple[ProcessIdentity, ...]:
        return tuple(held.identity for held, _ in self.foreign)

    def close(self, *, keep: HeldProcess | None = None) -> None:
        """Let go of every process that was held for the look, except `keep`."""
        for held in [*(held for held, _ in self.owned), *(held for held, _ in self.foreign)]:
            if held is not keep:
                held.close()


class Instance:
    """One component on this host. The watchdog looks through it, the playbooks act through it, and
    ask `permit` right before each effect."""

    def __init__(
        self,
        spec: ComponentSpec,
        component: Component,
        *,
        host: Host,
        prober: Prober,
        ids: Ids,
        launcher: Launcher | None,
        announcer: Launcher | None = None,
        permit: Permit = always,
    ) -> None:
        self.spec = spec
        self.component = component
        self.host = host
        self.prober = prober
        self.ids = ids
        self.launcher = launcher
        self.announcer = announcer
        self.permit = permit
        self.process: HeldProcess | None = None
        self.reservation: Reservation | None = None
        self.extra_launches: tuple[Launch, ...] = ()

    @property
    def port(self) -> int:
        """Where it lives now: the port that it was rebound to, else the configured one."""
        return self.component.port or self.spec.port

    @property
    def launches(self) -> tuple[Launch, ...]:
        """Launches whose processes are the component's."""
        return (*self.component.launches, *self.extra_launches)

    @property
    def grace(self) -> float:
        """Seconds between SIGTERM and SIGKILL."""
        if isinstance(self.spec.launch, CommandLaunch | DockerLaunch):
            return self.spec.launch.grace
        return _GRACE

    def hold(self, process: HeldProcess | None) -> None:
        """Take `process` as the one whose end is watched; lets go of the one before."""
        if self.process is not None and self.process is not process:
            self.process.close()
        self.process = process

    def started(self, launched: Launched, launch_id: str) -> None:
        """Take over what a launcher started."""
        leader = launched.process.identity if launched.process is not None else None
        self.extra_launches = (Launch(launch_id=launch_id, leader=leader),)
        self.hold(launched.process)

    def release(self) -> None:
        """Give up a reserved port, if any."""
        if self.reservation is not None:
            self.reservation.release()
            self.reservation = None

    def close(self) -> None:
        """Let go of everything; stops nothing."""
        self.release()
        self.hold(None)

    async def prove(self, held: HeldProcess) -> tuple[ProcessView | None, OwnerProof | None]:
        """A look at a held process, and why it is the component's (None: it is not)."""
        view = await self.host.inspect(held)
        if view is None:
            return None, None
        return view, prove_owner(view, self.spec.owner, self.launches)

    @asynccontextmanager
    async def occupants(self, port: int, *, members: bool) -> AsyncIterator[Occupancy]:
        """Everybody who has to do with `port`, held while the context lasts.

        With `members`, the component's processes that do not listen are found too.
        """
        occupancy = Occupancy()
        try:
            await self._add_listeners(occupancy, port)
            if members:
                await self._add_members(occupancy)
            yield occupancy
        finally:
            occupancy.close(keep=self.process)

    async def adopt(self) -> tuple[ProcessIdentity, OwnerProof | None] | None:
        """Hold the process that serves the port, so that its end is seen; None: there is none.

        Of several (pre-forked workers) the oldest that is provably the component's is taken.
        """
        async with self.occupants(self.port, members=False) as found:
            owned = sorted(found.owned, key=lambda entry: entry[0].identity.start_ticks)
            if owned:
                held, target = owned[0]
                self.hold(held)
                return held.identity, target.proof
            serving = [held for held, _ in found.foreign if not held.gone()]
            if serving:
                # Watching is not acting: an unproven process may be looked at, never signalled.
                self.hold(min(serving, key=lambda held: held.identity.start_ticks))
                assert self.process is not None
                return self.process.identity, None
        return None

    async def reacquire(self) -> bool:
        """Hold the process that the log says is the component; False when it is gone."""
        known = self.component.process
        if known is None:
            return False
        held = await self.host.reacquire(known)
        if held is None:
            return False
        self.hold(held)
        return True

    async def look_again(self) -> None:
        """Read again what the held process calls itself: what a script started has become another
        program by the time it serves, and is the same process all along."""
        if self.process is None or self.process.gone():
            return
        try:
            held = await self.host.reacquire(self.process.identity)
        except HostError:
            return  # it stays held, under the name that it had
        if held is not None:
            self.hold(held)

    async def _add_listeners(self, occupancy: Occupancy, port: int) -> None:
        listeners = await self.host.listeners(port)
        occupancy.listeners = listeners
        for listener in listeners:
            in_the_way = reaches(listener, self.spec.host)
            occupancy.hidden |= listener.hidden and in_the_way
            for holder in listener.holders:
                if not _holds(occupancy, holder):
                    await self._add_holder(occupancy, listener, holder, in_the_way=in_the_way)
                occupancy.serving |= in_the_way and _owns(occupancy, holder)

    async def _add_holder(
        self, occupancy: Occupancy, listener: Listener, holder: ProcessIdentity, *, in_the_way: bool
    ) -> None:
        held = await self.host.hold(holder.pid)
        if held is None:
            return
        # Held first, compared after: the pid may have been reused since the look.
        same = held.identity.same_as(holder)
        if same is False or not await self._still_holds(held, listener.inode):
            held.close()
            return
        view, proof = await self.prove(held)
        if view is not None and proof is not None and view.forbidden is None:
            target = Target(process=held.identity, proof=proof, listening=True)
            occupancy.owned.append((held, target))
        elif view is not None and in_the_way:
            occupancy.foreign.append((held, view))
        else:
            held.close()

    async def _still_holds(self, held: HeldProcess, inode: int) -> bool:
        try:
            return await self.host.holds(held, inode)
        except HostError:
            return True  # it held it a moment ago; that we may not look closer makes it foreign

    async def _add_members(self, occupancy: Occupancy) -> None:
        candidates: list[HeldProcess] = []
        if self.process is not None and not self.process.gone():
            candidates.append(self.process)
        # Asked together: the host answers for all of them with one look.
        found = await asyncio.gather(*(self.host.members(launch) for launch in self.launches))
        candidates += chain.from_iterable(found)
        for held in candidates:
            if _holds(occupancy, held.identity):
                if held is not self.process:
                    held.close()
                continue
            view, proof = await self.prove(held)
            # A member of the launch's group is ours even if it cleaned its environment.
            if view is None or view.forbidden is not None:
                if held is not self.process:
                    held.close()
                continue
            if proof is None and held is self.process:
                continue
            target = Target(process=held.identity, proof=proof or OwnerProof.LAUNCHED)
            occupancy.owned.append((held, target))


def _owns(occupancy: Occupancy, identity: ProcessIdentity) -> bool:
    return any(held.identity.same_as(identity) is not False for held, _ in occupancy.owned)


def _holds(occupancy: Occupancy, identity: ProcessIdentity) -> bool:
    known: Iterable[ProcessIdentity] = [
        *(held.identity for held, _ in occupancy.owned),
        *(held.identity for held, _ in occupancy.foreign),
    ]
    return any(other.same_as(identity) is not False for other in known)
