"""A small machine in memory: processes, sockets, and programs that can be started.

Everything that was done to it is kept (`signals`, `starts`), so that a test can look at what really
happened and need not believe what was recorded.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import signal as signals
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from healer.domain.probe import Reason
from healer.domain.process import ExitStatus, ProcessIdentity
from healer.errors import LaunchError

__all__ = ["Job", "Program", "World", "WorldProcess", "WorldSocket"]

WILDCARDS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, not bound
_FIRST_PID: Final = 1000


@dataclass(frozen=True, slots=True)
class Program:
    """What a launcher starts. Durations in seconds.

    It listens on `address` (nowhere when None) `ready_after` its start, and answers probes with
    `answers`. With `exits_after` it ends by itself, with `exit_code`. It ends with 1 when it cannot
    bind; one that does not set SO_REUSEADDR cannot bind a port that is reserved, either.
    `shutdown` is how long it takes to obey SIGTERM. `children` are forked at its start.
    """

    name: str = "service"
    cmdline: tuple[str, ...] = ()
    address: str | None = "127.0.0.1"
    ready_after: float = 0.05
    answers: Reason = Reason.OK
    exits_after: float | None = None
    exit_code: int = 3
    reuses_address: bool = True
    shutdown: float = 0.0
    ignores_sigterm: bool = False
    unkillable: bool = False
    children: int = 0


@dataclass(eq=False, slots=True)
class WorldProcess:
    """A process. `state` is its letter in /proc (S, T, D); `status` is None while it lives.

    `hidden`: its descriptors may not be seen. `forbidden`: why it may never be signalled.
    """

    identity: ProcessIdentity
    ppid: int
    pgid: int
    sid: int
    state: str = "S"
    cmdline: tuple[str, ...] = ()
    user: str | None = None
    unit: str | None = None
    launch_id: str | None = None
    forbidden: str | None = None
    hidden: bool = False
    answers: Reason = Reason.OK
    shutdown: float = 0.0
    ignores_sigterm: bool = False
    unkillable: bool = False
    status: ExitStatus | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def pid(self) -> int:
        return self.identity.pid

    @property
    def alive(self) -> bool:
        return self.status is None


@dataclass(eq=False, slots=True)
class WorldSocket:
    """A LISTEN socket and who has it open."""

    inode: int
    address: str
    port: int
    dual_stack: bool
    holders: list[WorldProcess]

    @property
    def family(self) -> int:
        return 6 if ":" in self.address else 4


class Job:
    """A start that is under way: after so many seconds `done` has its process, or why it has none.

    It belongs to the machine: nobody has to wait for it.
    """

    def __init__(self, seconds: float, launch: Callable[[], WorldProcess]) -> None:
        loop = asyncio.get_running_loop()
        self.done: asyncio.Future[WorldProcess] = loop.create_future()
        self._launch = launch
        self._timer = loop.call_later(seconds, self._end)

    def cancel(self) -> None:
        """Nothing is started by it any more, and nobody is told."""
        self._timer.cancel()

    def fail(self, error: LaunchError) -> None:
        """Nothing is started, and whoever waits for it is told."""
        self._timer.cancel()
        self.done.set_exception(error)
        self.done.exception()  # nobody need have waited

    def _end(self) -> None:
        try:
            self.done.set_result(self._launch())
        except LaunchError as error:
            self.fail(error)


class World:
    """The machine. Make a `FakeHost` on it for every healer that is to live there.

    `signals` and `starts` are all that were ever sent and made, `processes` those that live, by
    pid. `managed` are what managers keep, by program, and `jobs` what they are starting; `denied`
    the ports that nobody may bind.
    """

    def __init__(self, *, boot_id: str = "boot-1", pidfd_inodes: bool = True) -> None:
        """Without `pidfd_inodes` it is a kernel before 6.9: identities cannot always be told."""
        self.boot_id = boot_id
        self.processes: dict[int, WorldProcess] = {}
        self.sockets: list[WorldSocket] = []
        self.signals: list[tuple[ProcessIdentity, int]] = []
        self.starts: list[WorldProcess] = []
        self.reserved: set[int] = set()
        self.denied: set[int] = set()
        self.managed: dict[str, WorldProcess] = {}
        self.jobs: dict[str, Job] = {}
        self._occupied: set[int] = set()
        self._pidfd_inodes = pidfd_inodes
        self._counter = 0
        self.spawn("init", pid=1, ppid=0, forbidden="init")

    # Processes

    def spawn(
        self,
        name: str = "service",
        *,
        pid: int | None = None,
        ppid: int = 1,
        start_ticks: int | None = None,
        cmdline: Sequence[str] = (),
        exe: str | None = None,
        user: str | None = "root",
        uid: int | None = 0,
        cgroup: str | None = None,
        unit: str | None = None,
        launch_id: str | None = None,
        forbidden: str | None = None,
        hidden: bool = False,
        answers: Reason = Reason.OK,
        shutdown: float = 0.0,
        ignores_sigterm: bool = False,
        unkillable: bool = False,
        session: WorldProcess | None = None,
    ) -> WorldProcess:
        """A new process, in a session of its own, or in the one of `session`.

        Give the `pid` of a process that has ended to see it reused.

        Raises:
            ValueError: a living process has that pid.
        """
        self._counter += 1
        if pid is None:
            pid = max(self.processes, default=0) + 1
            pid = max(pid, _FIRST_PID)
        if pid in self.processes:
            raise ValueError(f"cannot spawn {name}: pid {pid} is alive")
        identity = ProcessIdentity(
            boot_id=self.boot_id,
            pid=pid,
            start_ticks=100 * self._counter if start_ticks is None else start_ticks,
            pidfd_inode=10_000 + self._counter if self._pidfd_inodes else None,
            name=name,
            exe=exe,
            uid=uid,
            cgroup=cgroup,
        )
        process = WorldProcess(
            identity,
            ppid,
            pgid=pid if session is None else session.pgid,
            sid=pid if session is None else session.sid,
            cmdline=tuple(cmdline) or (name,),
            user=user,
            unit=unit,
            launch_id=launch_id,
            forbidden=forbidden,
            hidden=hidden,
            answers=answers,
            shutdown=shutdown,
            ignores_sigterm=ignores_sigterm,
            unkillable=unkillable,
        )
        self.processes[pid] = process
        return process

    def fork(self, parent: WorldProcess) -> WorldProcess:
        """A child in the same session, with the same environment and the same open sockets."""
        child = self.spawn(
            parent.identity.name,
            ppid=parent.pid,
            cmdline=parent.cmdline,
            exe=parent.identity.exe,
            user=parent.user,
            uid=parent.identity.uid,
            cgroup=parent.identity.cgroup,
            unit=parent.unit,
            launch_id=parent.launch_id,
            answers=parent.answers,
            session=parent,
        )
        for socket in self.sockets:
            if parent in socket.holders:
                socket.holders.append(child)
        return child

    def run(
        self, program: Program, port: int, *, ppid: int = 1, launch_id: str | None = None
    ) -> WorldProcess:
        """Start a program; it will listen, and perhaps end, in its own time."""
        process = self.spawn(
            program.name,
            ppid=ppid,
            cmdline=program.cmdline or (program.name, "--port", str(port)),
            launch_id=launch_id,
            answers=program.answers,
            shutdown=program.shutdown,
            ignores_sigterm=program.ignores_sigterm,
            unkillable=program.unkillable,
        )
        self.starts.append(process)
        for _ in range(program.children):
            self.fork(process)
        loop = asyncio.get_running_loop()
        if program.address is not None:
            loop.call_later(program.ready_after, self._become_ready, process, program, port)
        if program.exits_after is not None:
            loop.call_later(program.exits_after, lambda: self.end(process, code=program.exit_code))
        return process

    def _become_ready(self, process: WorldProcess, program: Program, port: int) -> None:
        assert program.address is not None
        blocked = port in self.reserved and not program.reuses_address
        if not process.alive:
            return
        if blocked or self.in_use(program.address, port):
            self.end(process, code=1)
        else:
            self.listen(process, port, program.address)

    def end(
        self, process: WorldProcess, *, code: int | None = None, signal: int | None = None
    ) -> None:
        """The process ends, by `signal` (SIGKILL when nothing is said) or with exit `code`."""
        if not process.alive:
            return
        if code is None and signal is None:
            signal = signals.SIGKILL
        process.status = ExitStatus(code=code, signal=signal)
        del self.processes[process.pid]
        for socket in list(self.sockets):
            if process in socket.holders:
                socket.holders.remove(process)
                if not socket.holders:
                    self.sockets.remove(socket)
        for child in self.processes.values():
            if child.ppid == process.pid:
                child.ppid = 1
        process.ended.set()

    def send(self, process: WorldProcess, number: int) -> None:
        """Deliver a signal, and keep it in `signals`."""
        self.signals.append((process.identity, number))
        if number == signals.SIGKILL and not process.unkillable:
            self.end(process, signal=number)
        elif number == signals.SIGTERM and self._obeys(process):
            if process.shutdown:
                loop = asyncio.get_running_loop()
                loop.call_later(process.shutdown, lambda: self.end(process, signal=number))
            else:
                self.end(process, signal=number)

    def _obeys(self, process: WorldProcess) -> bool:
        return not (process.ignores_sigterm or process.unkillable or process.state == "T")

    # Ports

    def listen(
        self, process: WorldProcess, port: int, address: str = "127.0.0.1", *, shared: bool = False
    ) -> WorldSocket:
        """Open a LISTEN socket; several on one port when they are `shared` (SO_REUSEPORT).

        Raises:
            OSError: somebody listens there already (EADDRINUSE).
        """
        if not shared and self.in_use(address, port):
            raise OSError(errno.EADDRINUSE, f"cannot listen on {address}:{port}: it is in use")
        self._counter += 1
        dual = address == "::"
        socket = WorldSocket(50_000 + self._counter, address, port, dual, [process])
        self.sockets.append(socket)
        return socket

    def on_port(self, port: int) -> Iterator[WorldSocket]:
        """The LISTEN sockets on a port."""
        return (socket for socket in self.sockets if socket.port == port)

    def in_use(self, address: str, port: int) -> bool:
        """Whether `address`:`port` cannot be bound by a server now."""
        return port in self._occupied or any(
            socket.address == address
            or address in WILDCARDS
            or (socket.address in WILDCARDS and (socket.dual_stack or ":" not in address))
            for socket in self.on_port(port)
        )

    def occupy(self, port: int, seconds: float) -> None:
        """For so long the port is bound by something that does not listen."""
        self._occupied.add(port)
        asyncio.get_running_loop().call_later(seconds, self._occupied.discard, port)

    @staticmethod
    @cache
    def is_local(host: str) -> bool:
        """Whether an address is this machine's: loopback and the wildcards are."""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return host == "localhost"
        return address.is_loopback or address.is_unspecified
