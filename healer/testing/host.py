"""The machine as a healer sees it, over a `World` in memory."""

from __future__ import annotations

import asyncio
import errno
import signal
from collections.abc import Sequence
from typing import Final

from healer.domain.playbook import Check, CheckStatus
from healer.domain.process import ExitStatus, Launch, Listener, ProcessIdentity, ProcessView
from healer.domain.spec import ComponentSpec, PortRange
from healer.errors import HostError, UnknownNameError
from healer.ports import Bind, HeldProcess, Permit, Reservation, Stopped, always
from healer.testing.world import Job, World, WorldProcess

__all__ = ["FakeHeld", "FakeHost", "FakeReservation"]

_FAST: Final = ("port_listening", "localhost_reachable", "name_resolution", "route")
_CHECKS: Final = (
    "port_listening",
    "localhost_reachable",
    "network_interfaces",
    "firewall_rules",
    "port_conflicts",
    "system_resources",
    "name_resolution",
    "route",
)
_POLL: Final = 0.01


class FakeHeld:
    """See `healer.ports.HeldProcess`."""

    def __init__(self, host: FakeHost, process: WorldProcess) -> None:
        self._host = host
        self._process: WorldProcess = process
        self._child = process.ppid == host.pid
        self._closed = False

    @property
    def identity(self) -> ProcessIdentity:
        return self._process.identity

    def gone(self) -> bool:
        """Whether it has ended.

        Raises:
            HostError: it was let go while it lived, so that nobody can know.
        """
        return not self._held().alive

    async def exited(self) -> ExitStatus:
        """Wait for its end; how it ended is told to its parent only."""
        process = self._held()
        await process.ended.wait()
        assert process.status is not None
        return process.status if self._child else ExitStatus()

    def close(self) -> None:
        self._closed = True
        self._host.let_go(self)

    def process(self, host: FakeHost) -> WorldProcess:
        """What it holds, for the `host` that holds it."""
        if host is not self._host:
            raise HostError("cannot signal a process that is not held by this host")
        return self._held()

    def _held(self) -> WorldProcess:
        if self._closed and self._process.alive:
            raise HostError(f"cannot ask about {self.identity}: it was let go")
        return self._process


class FakeReservation:
    """See `healer.ports.Reservation`."""

    def __init__(self, world: World, port: int) -> None:
        self._world = world
        self._port = port
        self._held = True
        world.reserved.add(port)

    @property
    def port(self) -> int:
        return self._port

    def release(self) -> None:
        if self._held:
            self._held = False
            self._world.reserved.discard(self._port)


class FakeHost:
    """See `healer.ports.Host`. It is itself a process of its world, and can `die`.

    `faults` maps the name of a method (or `check:<name>`) to the exception that it shall raise.
    `checks` maps the name of a check to what it shall read; the others are fine. `kill_wait` is how
    many seconds after SIGKILL a process counts as unkillable, `check_time` what a slow check takes.
    `loading` are the commands that its threads are starting: it ends by itself only after them.
    """

    def __init__(self, world: World, *, kill_wait: float = 10.0, check_time: float = 0.05) -> None:
        self.world = world
        self.faults: dict[str, BaseException] = {}
        self.checks: dict[str, Check] = {}
        self._kill_wait = kill_wait
        self._check_time = check_time
        self._self = world.spawn("healer", forbidden="healer")
        self._handles: set[FakeHeld] = set()
        self.loading: set[Job] = set()
        self._reservations: list[FakeReservation] = []

    @property
    def boot_id(self) -> str:
        return self.world.boot_id

    @property
    def pid(self) -> int:
        """The healer's own."""
        return self._self.pid

    @property
    def alive(self) -> bool:
        """Whether the healer's own process lives."""
        return self._self.alive

    @property
    def holding(self) -> tuple[ProcessIdentity, ...]:
        """Every process that is held and was not let go yet."""
        return tuple(held.identity for held in self._handles)

    def die(self) -> None:
        """The healer's process is killed: what it held is let go, and it never acts again."""
        self.world.end(self._self, signal=signal.SIGKILL)
        for job in self.loading:
            job.cancel()
        for reservation in self._reservations:
            reservation.release()
        for held in tuple(self._handles):
            held.close()

    def let_go(self, held: FakeHeld) -> None:
        """Called by what is held when it is closed."""
        self._handles.discard(held)

    async def _called(self, method: str) -> None:
        await asyncio.sleep(0)
        if not self._self.alive:
            await asyncio.Event().wait()  # the dead do nothing, and never come back from a call
        if method in self.faults:
            raise self.faults[method]

    # Looking

    async def listeners(self, port: int) -> tuple[Listener, ...]:
        await self._called("listeners")
        found: list[Listener] = []
        for socket in self.world.on_port(port):
            visible = [process for process in socket.holders if not process.hidden]
            found.append(
                Listener(
                    address=socket.address,
                    port=port,
                    family=socket.family,
                    inode=socket.inode,
                    uid=socket.holders[0].identity.uid,
                    dual_stack=socket.dual_stack,
                    holders=tuple(
                        process.identity for process in sorted(visible, key=lambda each: each.pid)
                    ),
                    hidden=not visible,
                )
            )
        return tuple(found)

    async def sockets(self, port: int) -> frozenset[int]:
        await self._called("sockets")
        return frozenset(socket.inode for socket in self.world.on_port(port))

    async def holds(self, process: HeldProcess, inode: int) -> bool:
        await self._called("holds")
        held = self._own(process)
        if held.hidden and held.alive:
            raise HostError(
                f"cannot see the descriptors of {held.identity}: permission denied",
                errno=errno.EACCES,
            )
        return any(
            socket.inode == inode and held in socket.holders for socket in self.world.sockets
        )

    async def hold(self, pid: int) -> FakeHeld | None:
        await self._called("hold")
        if pid <= 0:
            raise HostError(f"cannot hold process {pid}: allowed are pids from 1")
        process = self.world.processes.get(pid)
        return None if process is None else self._take(process)

    async def reacquire(self, identity: ProcessIdentity) -> FakeHeld | None:
        await self._called("reacquire")
        process = self.world.processes.get(identity.pid)
        if process is None or process.identity.same_as(identity) is not True:
            return None
        return self._take(process)

    async def inspect(self, process: HeldProcess) -> ProcessView | None:
        await self._called("inspect")
        seen = self._own(process)
        if not seen.alive:
            return None
        return ProcessView(
            identity=seen.identity,
            ppid=seen.ppid,
            pgid=seen.pgid,
            sid=seen.sid,
            state=seen.state,
            user=seen.user,
            cmdline=seen.cmdline,
            unit=seen.unit,
            launch_id=None if seen.hidden else seen.launch_id,
            forbidden=seen.forbidden,
        )

    async def members(self, launch: Launch) -> tuple[FakeHeld, ...]:
        await self._called("members")
        leader = launch.leader
        if leader is not None and leader.boot_id != self.boot_id:
            return ()
        living = [each for each in self.world.processes.values() if each is not self._self]
        carriers = [each for each in living if each.launch_id == launch.launch_id]
        comrades = [
            each
            for each in living
            if leader is not None
            and leader.pid in {each.pgid, each.sid}
            and each.identity.start_ticks >= leader.start_ticks
            and each.launch_id in {None, launch.launch_id}
        ]
        # A group number proves nothing unless the leader, or a carrier of the launch id, is in it.
        led = any(leader is not None and leader.same_as(each.identity) is True for each in living)
        ours = {each.pid: each for each in carriers}
        if led or any(each in carriers for each in comrades):
            ours |= {each.pid: each for each in comrades}
        return tuple(self._take(ours[pid]) for pid in sorted(ours))

    def _take(self, process: WorldProcess) -> FakeHeld:
        held = FakeHeld(self, process)
        self._handles.add(held)
        return held

    def _own(self, process: HeldProcess) -> WorldProcess:
        if not isinstance(process, FakeHeld):
            raise HostError("cannot look at a process that is not held by this host")
        return process.process(self)

    # Acting

    async def stop(
        self, processes: Sequence[HeldProcess], *, grace: float, permit: Permit = always
    ) -> Stopped:
        await self._called("stop")
        await permit()
        asked = [self._own(process) for process in processes]
        alive = [process for process in asked if process.alive]
        for process in alive:
            if process.forbidden is not None:
                raise HostError(
                    f"cannot signal {process.identity}: forbidden ({process.forbidden})"
                )
        at_once = [process for process in alive if process.state == "T"]
        for process in alive:
            self.world.send(process, signal.SIGKILL if process in at_once else signal.SIGTERM)
        late = await _wait_gone(alive, grace)
        await self._called("stop")
        if late:
            await permit()
        for process in late:
            if process not in at_once:
                self.world.send(process, signal.SIGKILL)
        unkillable = await _wait_gone(late, self._kill_wait)
        gone = [process for process in asked if process not in unkillable]
        return Stopped(
            stopped=tuple(process.identity for process in gone),
            killed=tuple(each.identity for each in gone if each in at_once or each in late),
            unkillable=tuple(process.identity for process in unkillable),
        )

    async def bind_test(self, host: str, port: int) -> Bind:
        await self._called("bind_test")
        return self._bind(host, port)

    async def wait_bindable(self, host: str, port: int, *, timeout: float) -> Bind:
        await self._called("wait_bindable")
        deadline = asyncio.get_running_loop().time() + timeout
        while True:
            bind = self._bind(host, port)
            left = deadline - asyncio.get_running_loop().time()
            if bind.result != "in_use" or left <= 0:
                return bind
            await asyncio.sleep(min(_POLL, left))

    async def reserve(
        self, host: str, ports: PortRange, *, excluding: Sequence[int] = ()
    ) -> Reservation | None:
        await self._called("reserve")
        for port in range(ports.first, ports.last + 1):
            taken = port in excluding or port in self.world.reserved
            if not taken and self._bind(host, port).free and self._bind("::", port).free:
                reservation = FakeReservation(self.world, port)
                self._reservations.append(reservation)
                return reservation
        return None

    def _bind(self, host: str, port: int) -> Bind:
        if not self.world.is_local(host):
            return Bind("not_local", errno.EADDRNOTAVAIL)
        if port in self.world.denied:
            return Bind("denied", errno.EACCES)
        if self.world.in_use(host, port):
            return Bind("in_use", errno.EADDRINUSE)
        return Bind("free")

    # Checks

    async def check(self, name: str, spec: ComponentSpec, port: int) -> Check:
        await self._called(f"check:{name}")
        if name not in _CHECKS:
            raise UnknownNameError("check", name, _CHECKS)
        if name not in _FAST:
            await asyncio.sleep(self._check_time)
        return self.checks.get(name, Check(name=name, status=CheckStatus.OK))

    def check_names(self) -> tuple[str, ...]:
        return _CHECKS

    def fast_checks(self) -> tuple[str, ...]:
        return _FAST


async def _wait_gone(processes: Sequence[WorldProcess], seconds: float) -> list[WorldProcess]:
    waits = [asyncio.ensure_future(process.ended.wait()) for process in processes]
    try:
        if waits:
            await asyncio.wait(waits, timeout=seconds)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
    return [process for process in processes if process.alive]
