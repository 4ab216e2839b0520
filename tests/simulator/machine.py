"""The small machine of a case: it knows whose every process is, and tells what happens on it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Any, Final

from healer.domain.events import Event
from healer.domain.probe import Outcome, ProbeResult, Reason
from healer.domain.spec import ComponentSpec
from healer.errors import HostError, LaunchError, StoreError
from healer.ports import Launched, Recorded
from healer.testing import (
    FakeHost,
    FakeLauncher,
    FakeProber,
    MemoryLog,
    Program,
    World,
    WorldProcess,
)

__all__ = ["Machine", "SimHost", "SimLauncher", "SimLog", "SimProber", "Triggers"]

_FIRST_PID: Final = 1000
_PIDS: Final = 40
"""So few pids that they come round again within minutes."""
_ANSWERS: Final = (0.0005, 0.001, 0.001, 0.002, 0.004, 0.016)
"""Seconds that an answer takes, usually: few figures, so that results need not be made anew."""
_LAUNCH: Final = (0.001, 0.03)
"""Seconds that a start takes, usually."""
_TRUTHS: Final = 512
"""So many last looks are kept: more than all that anybody asks of."""

Triggers = Callable[[str], Awaitable[None]]
"""Told of each state that a fault may wait for, before what it names is done."""


class Machine(World):
    """A world whose pids wrap, that knows the component of every process (None: a stranger's)."""

    def __init__(self, *, pidfd_inodes: bool) -> None:
        # The process is kept with it: a number that meant one must never mean another.
        self.owners: dict[int, tuple[WorldProcess, str | None]] = {}
        self.on_signal: Callable[[WorldProcess, int], None] = lambda _process, _number: None
        self.on_end: Callable[[WorldProcess], None] = lambda _process: None
        self.last: dict[str, WorldProcess] = {}
        self._next = 0
        super().__init__(pidfd_inodes=pidfd_inodes)

    def spawn(
        self, name: str = "service", *, pid: int | None = None, **fields: Any
    ) -> WorldProcess:
        """See `World.spawn`; without a pid, the next one that is free of a small circle."""
        while pid is None:
            candidate = _FIRST_PID + self._next % _PIDS
            self._next += 1
            pid = None if candidate in self.processes else candidate
        return super().spawn(name, pid=pid, **fields)

    def fork(self, parent: WorldProcess) -> WorldProcess:
        child = super().fork(parent)
        self.own(child, self.owner(parent))
        return child

    def own(self, process: WorldProcess, component: str | None) -> None:
        """Say whose a process is."""
        self.owners[id(process)] = (process, component)
        if component is not None:
            self.last[component] = process

    def owner(self, process: WorldProcess) -> str | None:
        _, component = self.owners.get(id(process), (process, None))
        return component

    def owned(self, component: str) -> list[WorldProcess]:
        """The living processes of a component."""
        return [each for each in self.processes.values() if self.owner(each) == component]

    def send(self, process: WorldProcess, number: int) -> None:
        self.on_signal(process, number)
        super().send(process, number)

    def end(
        self, process: WorldProcess, *, code: int | None = None, signal: int | None = None
    ) -> None:
        if process.alive:
            self.on_end(process)
        super().end(process, code=code, signal=signal)

    def serving(self, component: str, port: int) -> WorldProcess | None:
        """The component's own process that listens on `port`, if there is one."""
        for socket in self.on_port(port):
            for holder in socket.holders:
                if self.owner(holder) == component:
                    return holder
        return None

    def well(self, component: str, port: int) -> bool:
        """Whether the component itself truly answers on `port`."""
        process = self.serving(component, port)
        return process is not None and process.state == "S" and process.answers is Reason.OK


class SimHost(FakeHost):
    """A host on whose calls faults may wait, and which can be out of order for a while."""

    def __init__(self, world: Machine, triggers: Triggers) -> None:
        super().__init__(world)
        self._triggers = triggers
        self.down = False

    async def _called(self, method: str) -> None:
        await self._triggers(f"call:{method}")
        await super()._called(method)
        if self.down and method != "stop":
            raise HostError(f"cannot {method}: out of file descriptors")

    def handles(self) -> int:
        """How many processes it holds now."""
        return len(self.holding)


class SimProber(FakeProber):
    """Looks, and keeps what was true when it did: `truths` holds (time, truth) of the last looks,
    by component. Who cannot be reached, or answers too late, is not well; a prober that is blind
    itself changes nothing. `met` is what each last look met. `slow` are the shares of their timeout
    that those take who are slow, from the least to the most."""

    def __init__(self, world: Machine, dice: Random) -> None:
        super().__init__(world)
        self._machine = world
        self._dice = dice
        self.slow: dict[str, tuple[float, float]] = {}
        self.truths: dict[str, list[tuple[float, bool]]] = {}
        self.met: dict[str, Outcome] = {}

    async def probe(self, spec: ComponentSpec, port: int) -> ProbeResult:
        self.elapsed = _ANSWERS[int(self._dice.random() * len(_ANSWERS))]
        shares = self.slow.get(spec.name)
        # To a millisecond: what is seen again and again is one and the same.
        lag = round(self._dice.uniform(*shares) * spec.timeout, 3) if shares else 0.0
        self.lags[spec.name] = lag
        result = await super().probe(spec, port)
        self.met[spec.name] = result.outcome
        reached = self.says.get(spec.name) is not Reason.UNREACHABLE and lag < spec.timeout
        seen = (asyncio.get_running_loop().time(), reached and self._machine.well(spec.name, port))
        truths = self.truths.setdefault(spec.name, [])
        truths.append(seen)
        if len(truths) > 2 * _TRUTHS:
            del truths[:_TRUTHS]
        return result


class SimLauncher(FakeLauncher):
    """Starts a component; can be made to refuse, to hang, or to start what never listens.

    `hangs` says until when its starts hang.
    """

    def __init__(
        self,
        host: SimHost,
        component: str,
        program: Program,
        *,
        triggers: Triggers,
        started: Callable[[str, str, list[WorldProcess]], None],
        launched: Callable[[str], None],
        kind: str,
        stops: bool,
        conditions: dict[tuple[str, str], bool],
        hangs: dict[str, float],
        dice: Random,
    ) -> None:
        super().__init__(host, lambda _port: self._present_program(), kind=kind, stops=stops)
        self._machine: Machine = host.world  # type: ignore[assignment]
        self._component = component
        self._normal = program
        self._triggers = triggers
        self._started = started
        self._launched = launched
        self._conditions = conditions
        self._hangs = hangs
        self._dice = dice

    def _present_program(self) -> Program:
        said = self._conditions
        if said.get((self._component, "mute_launch")):
            return Program(name=self._component, address=None)
        if said.get((self._component, "crash_loop")):
            return Program(name=self._component, exits_after=0.2)
        return self._normal

    async def start(self, port: int, launch_id: str) -> Launched:
        await self._triggers("start")
        hangs_for = self._hangs.get(self._component, 0.0) - asyncio.get_running_loop().time()
        self.takes = max(hangs_for, self._dice.uniform(*_LAUNCH))
        launched = await super().start(port, launch_id)
        self._launched(launch_id)
        return launched

    def launch(self, port: int, launch_id: str) -> WorldProcess:
        if self._conditions.get((self._component, "bad_launch")):
            raise LaunchError("cannot start: no such program", exit_code=127)
        living = self._machine.owned(self._component)
        process = super().launch(port, launch_id)
        for each in self._machine.processes.values():
            if each.sid == process.sid:
                self._machine.own(each, self._component)
        self._machine.own(process, self._component)
        self._started(self._component, launch_id, living)
        return process


class SimLog(MemoryLog):
    """A log that can be away, that can write and say that it did not, and at which healers die."""

    def __init__(self, triggers: Triggers, appended: Callable[[Sequence[Recorded]], None]) -> None:
        super().__init__()
        self._triggers = triggers
        self._appended = appended
        self.down = False
        self.loses_answer = False
        self.alive: Callable[[], bool] = lambda: True

    async def append(self, events: Sequence[Event]) -> int:
        for event in events:
            await self._triggers(f"append:{type(event).__name__}")
        await asyncio.sleep(0)
        if not self.alive():
            await asyncio.Event().wait()
        if self.down:
            raise StoreError("cannot append: the disk is full")
        before = await self.head()
        position = await super().append(events)
        self._appended(await self.read(after=before, limit=len(events)))
        if self.loses_answer:
            self.loses_answer = False
            raise StoreError("cannot say whether it was written: input/output error")
        return position
