"""What the engine and the watchdog need of the world, as small Protocols.

Real implementations live in `healer.host`, `healer.probes` and `healer.store`; public in-memory
twins in `healer.testing`. The engine reaches the machine through these and nothing else, so that a
simulated host and the real one differ in nothing else. Everything that can block is a coroutine,
and no implementation blocks the event loop.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from math import inf
from typing import Any, Protocol

from healer.domain.events import Event, Fact
from healer.domain.playbook import Check
from healer.domain.probe import ProbeResult
from healer.domain.process import ExitStatus, Launch, Listener, ProcessIdentity, ProcessView
from healer.domain.spec import ComponentSpec, PortRange
from healer.errors import StoreError

__all__ = [
    "Bind",
    "Claim",
    "Clock",
    "EventLog",
    "HeldProcess",
    "Holder",
    "Host",
    "Ids",
    "Launched",
    "Launcher",
    "Permit",
    "Prober",
    "Program",
    "Programs",
    "Recorded",
    "Reservation",
    "Stopped",
    "always",
]


Permit = Callable[[], Awaitable[None]]
"""Asked right before a signal or a start; raises a StoreError where this node may not any more."""


async def always() -> None:
    """The permit of a healer whose log is its own."""


class Clock(Protocol):
    """Wall time is a label, monotonic time measures."""

    def now(self) -> datetime:
        """The instant, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that only goes forward."""
        ...


class Ids(Protocol):
    """Where names that must be new, and chance, come from."""

    def new(self) -> str:
        """A name that nothing else bears (32 hexadecimal digits)."""
        ...

    def chance(self) -> float:
        """A number drawn evenly from [0, 1)."""
        ...


class HeldProcess(Protocol):
    """A process held by a pidfd that was opened before its identity was read.

    While it is held its pid cannot come to mean another process to us. Close it when done.
    """

    @property
    def identity(self) -> ProcessIdentity: ...

    def gone(self) -> bool:
        """Whether the pidfd says that it has ended (a zombie has)."""
        ...

    async def exited(self) -> ExitStatus:
        """Wait for its end; seen within a millisecond, without polling. Cancel-safe."""
        ...

    def close(self) -> None:
        """Let go of the pidfd; harmless when done twice."""
        ...


@dataclass(frozen=True, slots=True)
class Stopped:
    """What became of processes that were told to end; recorded only after their pidfds said so.

    `stopped` are gone, `killed` those of them that needed SIGKILL, `unkillable` survived it.
    """

    stopped: tuple[ProcessIdentity, ...]
    killed: tuple[ProcessIdentity, ...]
    unkillable: tuple[ProcessIdentity, ...]


@dataclass(frozen=True, slots=True)
class Bind:
    """The result of really binding a port: `free`, `in_use`, `denied` or `not_local`."""

    result: str
    errno: int | None = None

    @property
    def free(self) -> bool:
        return self.result == "free"


class Reservation(Protocol):
    """A port that is kept for us: bound, not listening, so that nobody is given it by chance.

    A component that sets SO_REUSEADDR (nearly every server) can start while it is held; others need
    `release` right before they start.
    """

    @property
    def port(self) -> int: ...

    def release(self) -> None:
        """Give the port up; harmless when done twice."""
        ...


class Host(Protocol):
    """The machine."""

    @property
    def boot_id(self) -> str: ...

    async def listeners(self, port: int) -> tuple[Listener, ...]:
        """Every LISTEN socket on `port` in our network namespace, with *all* of its holders."""
        ...

    async def sockets(self, port: int) -> frozenset[int]:
        """The inodes of all LISTEN sockets on `port`: cheap, for "is it still the same one?"."""
        ...

    async def holds(self, process: HeldProcess, inode: int) -> bool:
        """Whether a held process has the socket `inode` open: one process looked at, not all.

        Raises:
            HostError: its descriptors may not be seen.
        """
        ...

    async def hold(self, pid: int) -> HeldProcess | None:
        """Open a pidfd, then read the identity; None when there is no such process (any more).

        Raises:
            HostError: the process exists and may not be opened, or the kernel has no pidfds.
        """
        ...

    async def reacquire(self, identity: ProcessIdentity) -> HeldProcess | None:
        """Hold the very process that `identity` names; None when it is gone or cannot be told from
        another one (no pidfd inode to compare): unknown is never taken for yes."""
        ...

    async def inspect(self, process: HeldProcess) -> ProcessView | None:
        """Look at a held process; None when it has ended meanwhile."""
        ...

    async def members(self, launch: Launch) -> tuple[HeldProcess, ...]:
        """All live processes of a launch: its leader's group and session, and whoever carries its
        launch id. Cheap when there are none. The caller closes them."""
        ...

    async def stop(
        self, processes: Sequence[HeldProcess], *, grace: float, permit: Permit = ...
    ) -> Stopped:
        """SIGTERM, wait up to `grace` seconds, SIGKILL, wait; through the pidfds only. `permit` is
        asked right before each of the two, and what it raises ends it there.

        Raises:
            HostError: one of them may never be signalled (pid 1, a kernel thread, the healer, an
                ancestor of it, another namespace); then none was.
        """
        ...

    async def bind_test(self, host: str, port: int) -> Bind:
        """Bind `host`:`port` (as a server with SO_REUSEADDR would), and let go at once."""
        ...

    async def wait_bindable(self, host: str, port: int, *, timeout: float) -> Bind:
        """Wait until the port can be bound, `timeout` seconds at most; the last result."""
        ...

    async def reserve(
        self, host: str, ports: PortRange, *, excluding: Sequence[int] = ()
    ) -> Reservation | None:
        """Reserve the first free port of the range; None when there is none."""
        ...

    async def check(self, name: str, spec: ComponentSpec, port: int) -> Check:
        """Make one diagnostic check by name; never raises for what it finds, and never acts.

        Raises:
            UnknownNameError: there is no check of that name.
        """
        ...

    def check_names(self) -> tuple[str, ...]:
        """The diagnostic checks, in the order in which they are shown."""
        ...

    def fast_checks(self) -> tuple[str, ...]:
        """Those of them that are cheap enough to be waited for on the way to a restart."""
        ...


class Prober(Protocol):
    """Looks at a component once."""

    async def probe(self, spec: ComponentSpec, port: int) -> ProbeResult:
        """One look at `spec` on `port`, at most `spec.timeout` seconds long; never raises for what
        it meets."""
        ...


class Program(Protocol):
    """The program of an `exec` probe, while it runs."""

    async def exited(self) -> ExitStatus:
        """Wait for its end; whatever is left of its process group is killed then. Neither a code
        nor a signal where nobody can tell how it ended. Cancel-safe."""
        ...


class Programs(Protocol):
    """Runs the programs of `exec` probes, a bounded number of them at once."""

    def running(self, spec: ComponentSpec, port: int) -> AbstractAsyncContextManager[Program]:
        """Run the program of `spec.probe` for as long as the context is open.

        Entering waits until the kernel has loaded the program, or until there is room for one more.
        Leaving while it runs, cancelled or not, kills its whole session, without long waiting.

        Raises:
            LaunchError: it could not be started; `errno` says why.
        """
        ...


@dataclass(frozen=True, slots=True)
class Launched:
    """What a launcher started: held where it is our own process, None where a manager keeps it."""

    process: HeldProcess | None
    manager: str


class Launcher(Protocol):
    """How a component is started and stopped."""

    @property
    def kind(self) -> str:
        """command, systemd, docker, supervisor or hook."""
        ...

    @property
    def stops(self) -> bool:
        """Whether `stop` must be used instead of signals (a manager would restart what we kill)."""
        ...

    def describe(self, port: int) -> str:
        """What `start` would do, for a dry run: the argv, and nothing of the environment."""
        ...

    async def start(self, port: int, launch_id: str) -> Launched:
        """Start the component on `port`; returns as soon as it was started, not when it is ready.

        Raises:
            LaunchError: it could not be started.
        """
        ...

    async def stop(self, port: int) -> None:
        """Ask the manager to stop the component that lives on `port`, and wait until it says so.

        Raises:
            LaunchError: it could not be stopped, or this launcher cannot stop.
        """
        ...


@dataclass(frozen=True, slots=True)
class Recorded:
    """A fact with its place in the log."""

    position: int
    event: Fact


@dataclass(frozen=True, slots=True)
class Claim:
    """What a node got: it may act on `component` until `expires`, in seconds of its own monotonic
    clock. `fence` is the position of the fact by which it took the component's open issue."""

    component: str
    node: str
    fence: int
    expires: float = inf


@dataclass(frozen=True, slots=True)
class Holder:
    """Who carries an open issue: `node` None: nobody claimed it. `left` is how many seconds of its
    lease are left, by the log's clock; nothing or less where it has run out."""

    issue: str
    node: str | None
    left: float


class EventLog(Protocol):
    """The log: the only memory there is."""

    @property
    def shared(self) -> bool:
        """Whether other nodes append to it as well. In one that is not, a claim is an append, never
        runs out, and nobody else is ever the holder."""
        ...

    async def close(self) -> None:
        """Write what waits, and let go of the log; harmless when done twice."""
        ...

    async def append(self, events: Sequence[Event]) -> int:
        """Append all of `events` or none, durably; returns the position of the last one.

        Appends that wait together are committed together. IssueDetected claims its component until
        IssueVerified or IssueFailed releases it: at most one open issue per component.

        Raises:
            IssueConflictError: a stream has moved, or the component has an open issue already.
            StoreError: it could not be made durable. Nothing may be done on the strength of it.
        """
        ...

    async def claim(
        self,
        component: str,
        events: Sequence[Event],
        *,
        node: str,
        ttl: float,
        seen: Mapping[str, int] = ...,
    ) -> Claim:
        """Append `events` and take the component's open issue for `node`, in one commit.

        A fact of the issue is among them (IssueDetected, IssueTakenOver). From here on nobody else
        can append to the issue, until it ends or another claim succeeds: by the same node at any
        time, by another once `ttl` seconds have passed without `renew`. `seen` are streams and the
        versions at which they have to stand for the claim to make sense.

        Raises:
            IssueConflictError: another node holds it, it is open or ended already, or a stream has
                moved.
            StoreError: as `append`.
        """
        ...

    async def renew(self, *, ttl: float) -> list[Claim]:
        """Prolong every claim made through this log to `ttl` seconds from now, without a trace in
        the log; those that still hold. What is missing was lost, or its issue has ended.

        Raises:
            StoreError: the log cannot be reached: the claims run out as they stand.
        """
        ...

    async def holder(self, component: str) -> Holder | None:
        """Who carries the component's open issue; None where none is open."""
        ...

    async def read(self, *, after: int = 0, limit: int = 500) -> list[Recorded]:
        """Facts in log order, from the first position behind `after`."""
        ...

    def recall(
        self, topics: Collection[str], *, refused: Callable[[StoreError], None]
    ) -> AsyncGenerator[Sequence[Any]]:
        """The facts of few `topics` among all that the log holds, in log order and in batches, at
        the speed of looking for them. They have the attributes of the facts, `TOPIC` among them,
        and need not be of their classes. Those that cannot be read are passed over, where the log
        can tell; `refused` is told of each.

        Raises:
            StoreError: the log cannot be read.
        """
        ...

    async def stream(self, stream_id: str) -> list[Fact]:
        """All facts of one stream, in order; empty when there is no such stream."""
        ...

    async def open_issues(self) -> dict[str, str]:
        """Component name → id of its open issue."""
        ...

    async def head(self) -> int:
        """The position of the last fact; 0 in an empty log."""
        ...

    def follow(self, *, after: int) -> AsyncGenerator[Recorded]:
        """Facts behind `after`, for ever: those that are there, then each new one as it lands."""
        ...

    def listen(self, callback: Callable[[Sequence[Recorded]], None]) -> Callable[[], None]:
        """Call `callback` on the event loop after each commit; returns how to stop that."""
        ...
