"""Runs a case: the real engine, watchdog and playbooks on a small machine in virtual time."""

from __future__ import annotations

import asyncio
import hashlib
import traceback
from collections.abc import Callable, Coroutine, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from random import Random
from typing import Any, Final

import structlog

from healer.domain.events import Event, IssueDetected, MaintenanceEnded
from healer.domain.probe import Reason
from healer.domain.spec import (
    Backoff,
    Budget,
    CommandLaunch,
    ComponentSpec,
    HookLaunch,
    IssueType,
    Mode,
    OwnerSpec,
    PortRange,
    SystemdLaunch,
)
from healer.engine import Engine, HealRequest
from healer.errors import HealerError
from healer.ports import Launcher, Recorded
from healer.testing import (
    FakeClock,
    FakeIds,
    FakeLauncher,
    Program,
    SimLoop,
    WorldProcess,
    simulate,
)
from healer.testing.clock import BEGIN
from projections import ALL
from projections.fold import Fold
from replay.audit import legality
from replay.case import course_of
from tests.simulator.bounds import Bounds
from tests.simulator.case import Case, Fault, Incident
from tests.simulator.machine import Machine, SimHost, SimLauncher, SimLog, SimProber
from tests.simulator.watcher import BrokenError, Watcher

__all__ = ["Result", "run"]

_AFTERMATH: Final = 180.0
"""Virtual seconds that people and senders go on for after what they were asked to do is over."""
_FLAPS: Final = 10
"""How often an alert that comes and goes takes its time."""
_FIRST_PORT: Final = 8200
_REFUSED: Final = -0.5
"""By the `value` of their fault, a quarter of the starts that hang is refused in the end."""

_life: ContextVar[int] = ContextVar("life", default=0)
"""Which healer a task belongs to; 0 is the simulation itself."""


@dataclass(frozen=True, slots=True)
class Result:
    """`broken` is the first invariant that did not hold, None when all did. `digest` is over all
    that was written; `story` tells it. `faults` are those that came about. `course` is the
    one that the incident of the case took."""

    broken: BrokenError | None
    digest: str
    events: int
    issues: int
    signals: int
    starts: int
    virtual: float
    faults: int
    probes: int
    story: tuple[str, ...]
    course: tuple[str, ...] | None = None


def run(case: Case, *, story: bool = False, facts: list[Event] | None = None) -> Result:
    """Run a case to its end, or to the first invariant that does not hold.

    All that was written is added to `facts`.
    """
    structlog.configure(
        processors=[_drop],
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=False,
    )
    try:
        return simulate(_Simulation(case).play(story=story, kept=facts))
    finally:
        structlog.reset_defaults()


def _drop(_logger: Any, _method: str, _event: Any) -> Any:
    raise structlog.DropEvent


class _Simulation:
    def __init__(self, case: Case) -> None:
        self.case = case
        pace = self.pace = case.pace
        self.budget = Budget(
            max_concurrent=case.max_concurrent,
            backoff=Backoff(initial=2.0, max=pace.max_backoff, reset_after=pace.reset_after),
            rearm_after=pace.rearm_after,
            escalate_after=pace.escalate_after,
            approval_expires=pace.approval_expires,
            attempts=4,
        )
        self.specs, self.programs = _components(case)
        self.names = tuple(self.specs)
        self.world = Machine(pidfd_inodes=case.pidfd_inodes)
        self.ids = FakeIds(case.seed)
        self.conditions: dict[tuple[str, str], bool] = {}
        self.hangs: dict[str, float] = {}
        self.dice = Random(f"latencies of {case.seed}")
        self.armed: list[Fault] = []
        self.jumped: float | None = None
        self.disturbed = 0.0
        self.faults = 0
        self.bounds = Bounds()
        self.lives = 0
        self.tasks: dict[int, set[asyncio.Task[Any]]] = {}
        self.helpers: set[asyncio.Task[Any]] = set()

    # The play

    async def play(self, *, story: bool, kept: list[Event] | None) -> Result:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        self.loop = loop
        loop.set_task_factory(self._new_task)
        self.now: Callable[[], float] = loop.time
        self.clock = FakeClock(time=loop.time)
        self.prober = SimProber(self.world, self.dice)
        self.log = SimLog(self._met, self._appended)
        self.watcher = Watcher(
            self.specs,
            self.budget,
            self.world,
            self.prober,
            now=loop.time,
        )
        self.world.on_signal = self.watcher.signalled
        self.world.on_end = self.watcher.ended
        self.reborn = asyncio.Event()
        self.broken = asyncio.Event()
        try:
            await self._born()
            if self.pace.long:
                self._await_fault(0)
                await self._pass_months()
            else:
                for fault in self.case.faults:
                    loop.call_later(fault.at, self._strike, fault)
                await self._pass(self.pace.lasting)
            self.armed.clear()
            if not self.broken.is_set():
                await self._settle()
        except Exception as error:
            text = "".join(traceback.format_exception(error)[-6:])
            self.watcher.found(BrokenError("defect", f"{type(error).__name__}: {error}\n{text}"))
        facts = await self.log.read(limit=1_000_000)
        if kept is not None:
            kept += [recorded.event for recorded in facts]
        digest = hashlib.sha256()
        for recorded in facts:
            digest.update(recorded.event.model_dump_json().encode())
        for life in list(self.tasks):
            await self._bury(life)
        return Result(
            broken=self.watcher.first,
            digest=digest.hexdigest(),
            events=len(facts),
            issues=sum(1 for each in facts if each.event.TOPIC == "issue.detected.v1"),
            signals=len(self.world.signals),
            starts=len(self.world.starts),
            virtual=loop.time(),
            faults=self.faults,
            probes=sum(self.prober.looks.values()),
            story=tuple(_line(each) for each in facts) if story else (),
            course=_course(self.case.incident, facts),
        )

    async def _pass(self, seconds: float) -> None:
        """Let time pass, unless something is broken."""
        try:
            async with asyncio.timeout(seconds):
                await self.broken.wait()
        except TimeoutError:
            self.watcher.require_noise()
            self._look_for_broken()

    async def _pass_months(self) -> None:
        """Let faults come; whenever they leave the time for it, all must be well, small and quiet:
        until the next one, though it be a week."""
        lasting, times = self.pace.lasting, [fault.at for fault in self.case.faults]
        while self.now() < lasting and not self.broken.is_set():
            rests_at = self.disturbed + self.pace.liveness
            if rests_at > self.now():
                await self._pass(min(rests_at, lasting) - self.now())
                continue
            if self._doubts_a_window():
                self.disturbed = self.now()
                continue
            comes = next((time for time in times if time > self.now()), lasting)
            if comes - self.now() > self.pace.quiet:
                await self._rest(comes - self.now() - 1.0)
            if not self.broken.is_set():
                await self._pass(comes - self.now())
        await self._pass(max(0.0, self.disturbed - self.now()))
        while self._doubts_a_window() and not self.broken.is_set():
            await self._pass(self.pace.liveness)

    def _doubts_a_window(self) -> bool:
        """Whether a healer holds a window open whose age it knows by a label of a clock that was
        set: for each of its lives that may be once more for as long as was wished."""
        said = {name for name in self.names if self.engine.status(name).maintenance is not None}
        return not said <= self.watcher.windows

    def _await_fault(self, index: int) -> None:
        """Of hundreds of faults only the next one has a timer: the others would cost each look."""
        if index < len(self.case.faults):
            fault = self.case.faults[index]
            self.loop.call_at(fault.at, self._strike_and_await, fault, index + 1)

    def _strike_and_await(self, fault: Fault, following: int) -> None:
        self._await_fault(following)
        self._strike(fault)

    async def _rest(self, seconds: float) -> None:
        """So long no fault comes, and the last ones are long over."""
        if not self._calm():
            self._found("not_alive", f"{self.pace.liveness:.0f} s after a fault: {self._state()}")
            return
        for name in self.names:
            self.watcher.require_window(name, self.engine.status(name).maintenance)
        undisturbed, disturbed = self._undisturbed(), self.disturbed
        if undisturbed:
            to_come = any(fault.at > self.now() for fault in self.case.faults)
            windows = sum(self.engine.status(name).maintenance is not None for name in self.names)
            timers = self.loop.timers - to_come - windows
            tasks = len(self.tasks.get(self.life, ()))
            grown = self.bounds.exceeded(self.engine, tasks=tasks, timers=timers)
            if grown is not None:
                self._found("grows", grown)
        head = await self.log.head()
        await self._pass(seconds)
        written = await self._written(after=head)
        if written and undisturbed and self.disturbed == disturbed and not self.broken.is_set():
            self._found("noise", f"a quiet time wrote {_line(written[0])}")

    def _found(self, code: str, detail: str) -> None:
        self.watcher.found(BrokenError(code, f"{detail} (at {self.now():.3f} s)"))
        self._look_for_broken()

    def _undisturbed(self) -> bool:
        """Whether nobody has anything to do, the people that have to be asked included."""
        return not self.watcher.open and all(
            self.world.well(name, self._port(name)) for name in self.names
        )

    async def _settle(self) -> None:
        """No fault is left: all must become well, then quiet, then be as the log says."""
        self.conditions.clear()
        self.prober.says.clear()
        self.prober.slow.clear()
        self.hangs.clear()
        deadline = self.now() + self.pace.liveness
        while not self._calm() and self.now() < deadline and not self.broken.is_set():
            await self._pass(5.0)
        if self.broken.is_set():
            return
        if not self._calm():
            self.watcher.found(
                BrokenError("not_alive", f"after {self.pace.liveness:.0f} s: {self._state()}")
            )
            return
        await self._pass(60.0)
        for name in self.names:
            self.watcher.require_window(name, self.engine.status(name).maintenance)
        head = await self.log.head()
        await self._pass(self.pace.quiet)
        grown = await self._written(after=head)
        undisturbed = all(self.world.well(name, self._port(name)) for name in self.names)
        if grown and undisturbed and not self.broken.is_set():
            self.watcher.found(BrokenError("noise", f"a quiet time wrote {_line(grown[0])}"))
        await self.engine.stop()
        await self._judge()

    async def _written(self, *, after: int) -> list[Recorded]:
        """What was written since, but for the end of windows, which comes when it comes."""
        written = await self.log.read(after=after)
        return [each for each in written if not isinstance(each.event, MaintenanceEnded)]

    async def _judge(self) -> None:
        facts = await self.log.read(limit=1_000_000)
        for problem in legality(facts):
            self.watcher.found(BrokenError("illegal", problem.message))
        if self.host.holding:
            self.watcher.found(BrokenError("leak", f"still held: {self.host.holding}"))
        if self.world.reserved:
            self.watcher.found(BrokenError("leak", f"still reserved: {self.world.reserved}"))
        fold = Fold(ALL)
        fold.apply(facts)
        for name, stopped in fold.stopped.items():
            self.watcher.found(BrokenError("projection", f"{name}: {stopped}"))

    def _port(self, name: str) -> int:
        return self.watcher.ports[name]

    def _calm(self) -> bool:
        if self.life == 0 or not self.engine.running:
            return False
        waiting = self.watcher.open.values()
        for name in self.names:
            spec = self.specs[name]
            healable = self._healable(name)
            if name in waiting and healable:
                return False
            if healable and not self.world.well(name, self._port(name)):
                return False
            # Where nobody may act it is enough that it is known.
            known = name in waiting or spec.mode is not Mode.OBSERVE
            if not (healable or known or self.world.well(name, self._port(name))):
                return False
        return True

    def _healable(self, name: str) -> bool:
        """Whether the healer may heal it without being told to."""
        blocked = any(
            not self._healable(each) and not self.world.well(each, self._port(each))
            for each in self.specs[name].depends_on
        )
        return self.specs[name].mode is Mode.ACT and not blocked

    def _state(self) -> dict[str, Any]:
        return {
            name: (
                self.world.well(name, self._port(name)),
                str(self.engine.status(name).health.health),
            )
            for name in self.names
        } | {"open": self.watcher.open, "life": self.life}

    def _look_for_broken(self) -> None:
        if self.watcher.first is not None:
            self.broken.set()

    # The healer's lives

    def _new_task(
        self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
    ) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
        kept = self.tasks.setdefault(_life.get(), set()) if _life.get() else self.helpers
        kept.add(task)
        task.add_done_callback(kept.discard)
        return task

    async def _born(self) -> None:
        self.lives += 1
        life = self.life = self.lives
        self.host = SimHost(self.world, self._met)
        self.world.own(self.world.processes[self.host.pid], None)
        self.log.alive = lambda: self.life == life
        self.engine = Engine(
            self.specs,
            self.budget,
            log=self.log,
            host=self.host,
            prober=self.prober,
            clock=self.clock,
            ids=self.ids,
            node="node-1",
            launchers=self._launcher,
        )
        engine = self.engine

        async def live() -> None:
            await engine.start()
            raise await engine.failed()

        token = _life.set(life)
        try:
            task = asyncio.create_task(live())
        finally:
            _life.reset(token)
        task.add_done_callback(self._life_ended)
        self.reborn.set()
        if self.jumped is not None:
            self.watcher.doubt_labels(before=self.jumped)
        self.watcher.reborn()

    def _life_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            error = task.exception()
            text = "".join(traceback.format_exception(error)[-8:])
            self.watcher.found(BrokenError("defect", f"a healer died of {error!r}\n{text}"))
            self.broken.set()

    def _die(self, after: float) -> None:
        """The healer is killed where it stands; another comes `after` seconds later."""
        life, self.life = self.life, 0
        if life == 0:
            return
        self.host.die()

        async def next_life() -> None:
            await self._bury(life)
            await asyncio.sleep(after)
            await self._born()

        self._spawn(next_life())

    async def _bury(self, life: int) -> None:
        tasks = [task for task in self.tasks.pop(life, ()) if not task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """A task of the simulation's own, whoever asks for it."""
        token = _life.set(0)
        try:
            asyncio.get_running_loop().create_task(work)
        finally:
            _life.reset(token)

    def _launcher(self, spec: ComponentSpec) -> Launcher | None:
        if isinstance(spec.launch, HookLaunch):
            return FakeLauncher(
                self.host,
                lambda _port: Program(name="announce", address=None, exits_after=0.1),
                kind="hook",
            )
        managed = isinstance(spec.launch, SystemdLaunch)
        return SimLauncher(
            self.host,
            spec.name,
            self.programs[spec.name],
            triggers=self._met,
            started=self.watcher.started,
            launched=self.watcher.launched,
            kind="systemd" if managed else "command",
            stops=managed,
            conditions=self.conditions,
            hangs=self.hangs,
            dice=self.dice,
        )

    # Events and faults

    def _appended(self, facts: Any) -> None:
        self.watcher.appended(facts)
        self._look_for_broken()

    async def _met(self, state: str) -> None:
        """A state that faults may wait for; those that do happen now."""
        if _life.get() != self.life or self.life == 0:
            await asyncio.Event().wait()  # a healer that was killed goes no further
        self._look_for_broken()
        due = [fault for fault in self.armed if fault.trigger == state]
        for fault in due:
            self.armed.remove(fault)
            self._do(fault)
        if self.life == 0:
            await asyncio.Event().wait()

    def _strike(self, fault: Fault) -> None:
        self.disturbed = max(self.disturbed, self.now())
        if fault.trigger is not None:
            self.armed.append(fault)
        else:
            self._do(fault)

    def _do(self, fault: Fault) -> None:
        if not self.broken.is_set():
            name = self.names[fault.component % len(self.names)]
            self.faults += 1
            lasts = fault.lasts * (_FLAPS if fault.kind == "alert" else 1) + _AFTERMATH
            self.disturbed = max(self.disturbed, self.now() + lasts)
            getattr(self, f"_do_{fault.kind}")(fault, name)

    def _for_a_while(self, fault: Fault, name: str) -> None:
        key = (name, fault.kind)
        self.conditions[key] = True
        asyncio.get_running_loop().call_later(fault.lasts, lambda: self.conditions.pop(key, None))

    def _own(self, name: str) -> WorldProcess | None:
        return self.world.serving(name, self._port(name))

    def _end_all(self, name: str) -> WorldProcess | None:
        process = self._own(name)
        for each in self.world.owned(name):
            if not each.unkillable:
                self.world.end(each, signal=9)
        return process

    def _do_crash(self, fault: Fault, name: str) -> None:
        self._end_all(name)

    def _do_crash_loop(self, fault: Fault, name: str) -> None:
        self._for_a_while(fault, name)
        self._end_all(name)

    def _do_bad_launch(self, fault: Fault, name: str) -> None:
        self._for_a_while(fault, name)
        self._end_all(name)

    def _do_mute_launch(self, fault: Fault, name: str) -> None:
        self._for_a_while(fault, name)
        self._end_all(name)

    def _do_slow_launch(self, fault: Fault, name: str) -> None:
        """What is started hangs for so long, and may then be refused."""
        self.hangs[name] = self.now() + fault.lasts
        if fault.value < _REFUSED:
            refused = replace(fault, kind="bad_launch", lasts=1.0)
            self.loop.call_later(fault.lasts, self._for_a_while, refused, name)
        self._end_all(name)

    def _do_slow_probe(self, fault: Fault, name: str) -> None:
        """It answers late: now and then too late, or always."""
        self.prober.slow[name] = (0.3, 1.3) if fault.value > 0 else (1.0, 1.5)
        self.loop.call_later(fault.lasts, lambda: self.prober.slow.pop(name, None))

    def _do_hang(self, fault: Fault, name: str) -> None:
        process = self._own(name)
        if process is not None:
            process.state = "T"

    def _do_sicken(self, fault: Fault, name: str) -> None:
        process = self._own(name)
        if process is not None:
            process.answers = Reason.BAD_STATUS if fault.value > 0 else Reason.TIMEOUT

    def _do_deafen(self, fault: Fault, name: str) -> None:
        for socket in list(self.world.sockets):
            if any(self.world.owner(holder) == name for holder in socket.holders):
                self.world.sockets.remove(socket)

    def _do_unkillable(self, fault: Fault, name: str) -> None:
        process = self._own(name)
        if process is None:
            return
        process.state, process.unkillable = "D", True

        def thaw() -> None:
            if process.alive:
                self.world.end(process, signal=9)

        asyncio.get_running_loop().call_later(fault.lasts, thaw)

    def _do_orphan(self, fault: Fault, name: str) -> None:
        process = self._own(name)
        if process is None or process.unkillable:
            return
        child = self.world.fork(process)
        child.answers = Reason.TIMEOUT
        self.world.end(process, signal=9)

    def _do_rob(self, fault: Fault, name: str, answers: Reason = Reason.TIMEOUT) -> None:
        port = self._port(name)
        self._end_all(name)
        if self.world.in_use("127.0.0.1", port) or port in self.world.reserved:
            return
        thief = self.world.spawn("thief", answers=answers)
        self.world.own(thief, None)
        self.world.listen(thief, port)

        def leave() -> None:
            self.world.end(thief, code=0)

        asyncio.get_running_loop().call_later(fault.lasts, leave)

    def _do_impersonate(self, fault: Fault, name: str) -> None:
        self._do_rob(fault, name, Reason.OK)

    def _do_reuse(self, fault: Fault, name: str) -> None:
        """Every process of the component ends, and innocents are given their pids at once."""
        dead = [each for each in self.world.owned(name) if not each.unkillable]
        for each in dead:
            self.world.end(each, signal=9)
        for each in dead:
            ticks = each.identity.start_ticks
            innocent = self.world.spawn(
                "innocent",
                pid=each.pid,
                # The tick is 10 ms: two processes can share it. Without the inode of the pidfd
                # they could not be told apart by anybody.
                start_ticks=ticks if self.case.pidfd_inodes else ticks + 1,
            )
            self.world.own(innocent, None)
            asyncio.get_running_loop().call_later(
                max(fault.lasts, 1.0), lambda each=innocent: self.world.end(each, code=0)
            )

    def _do_unreachable(self, fault: Fault, name: str) -> None:
        self._say(fault, name, Reason.UNREACHABLE)

    def _do_blind(self, fault: Fault, name: str) -> None:
        self._say(fault, name, Reason.PROBER_FAILED if fault.value > 0 else Reason.VANTAGE_LOST)

    def _say(self, fault: Fault, name: str, reason: Reason) -> None:
        self.prober.says[name] = reason
        asyncio.get_running_loop().call_later(fault.lasts, lambda: self.prober.says.pop(name, None))

    def _do_kill(self, fault: Fault, name: str) -> None:
        self._die(min(fault.lasts, 60.0))

    def _do_restart(self, fault: Fault, name: str) -> None:
        life = self.life
        if life == 0:
            return

        async def again() -> None:
            await self.engine.stop()
            # Its process does not end before its threads do.
            await asyncio.gather(*(job.done for job in self.host.loading), return_exceptions=True)
            if self.life == life:
                self._die(min(fault.lasts, 60.0))

        self._spawn_as(life, again())

    def _do_store_down(self, fault: Fault, name: str) -> None:
        self.log.down = True
        self._spawn(self._ask_what_is_open(until=self.now() + fault.lasts))
        self.watcher.doubt_health(fault.lasts)
        asyncio.get_running_loop().call_later(fault.lasts, lambda: setattr(self.log, "down", False))

    async def _ask_what_is_open(self, until: float) -> None:
        while self.now() < until:
            for issue in (self.engine.status(name).issue for name in self.names if self.life):
                if issue is not None:
                    self.watcher.shown(issue.id)
            await asyncio.sleep(0.5)

    def _do_lost_answer(self, fault: Fault, name: str) -> None:
        self.log.loses_answer = True
        self.watcher.doubt_health(fault.lasts)

    def _do_host_down(self, fault: Fault, name: str) -> None:
        host = self.host
        host.down = True
        self.watcher.doubt_health(fault.lasts)
        asyncio.get_running_loop().call_later(fault.lasts, lambda: setattr(host, "down", False))

    def _do_wall(self, fault: Fault, name: str) -> None:
        self._set_wall(fault.value * 7200)

    def _set_wall(self, seconds: float) -> None:
        self.clock.set_wall(seconds)
        self.jumped = self.now()

    def _do_suspend(self, fault: Fault, name: str) -> None:
        """The machine stands still, the healer and all else: what was due meanwhile is due at once.
        Or it slept, and only the wall clock has gone on."""
        if fault.value > 0:
            self.watcher.stands_still(fault.lasts)
            self.loop.suspend(fault.lasts)
        else:
            self._set_wall(fault.lasts)

    # People

    def _ask(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        async def asked() -> None:
            try:
                await work()
            except HealerError:
                return  # refused, which is an answer

        if self.life:
            self._spawn_as(self.life, asked())

    def _spawn_as(self, life: int, work: Coroutine[Any, Any, Any]) -> None:
        token = _life.set(life)
        try:
            asyncio.get_running_loop().create_task(work)
        finally:
            _life.reset(token)

    def _do_heal(self, fault: Fault, name: str) -> None:
        named = IssueType.PROCESS_CRASHED if fault.value > 0 else None
        self.watcher.asked(name)

        async def ask() -> None:
            request = HealRequest("api:sim", issue_type=named)
            self.watcher.promised(await self.engine.heal(name, request))

        for _ in range(2):  # two people, at once
            self._ask(ask)

    def _do_alert(self, fault: Fault, name: str) -> None:
        """Another system says that something is wrong and then that it is over, again and again."""
        kind = IssueType.PROCESS_CRASHED if fault.value > 0 else None

        async def say_that_it_is_over(cause: str) -> None:
            """Senders try again until they are told that it was taken."""
            said = asyncio.Event()
            self.watcher.resolved.add(cause)

            async def say() -> None:
                await self.engine.withdraw(name, cause, "api:alerts")
                said.set()

            while not said.is_set():
                self._ask(say)
                await asyncio.sleep(10.0)

        async def flap() -> None:
            async def say(cause: str) -> None:
                request = HealRequest("api:alerts", kind, forced=False, cause=cause)
                self.watcher.shown(await self.engine.heal(name, request))

            for number in range(5):
                cause = f"alert:{name}@{fault.at}+{number}"
                self._ask(partial(say, cause))
                await asyncio.sleep(fault.lasts)
                self._spawn(say_that_it_is_over(cause))
                await asyncio.sleep(fault.lasts)

        self._spawn(flap())

    def _do_approve(self, fault: Fault, name: str) -> None:
        async def keep_saying_yes() -> None:
            for _ in range(20):
                for issue in self.watcher.open:
                    try:
                        await self.engine.controls.approve(issue, "api:sim")
                    except HealerError:
                        continue
                await asyncio.sleep(5.0)

        self._ask(keep_saying_yes)

    def _do_deny(self, fault: Fault, name: str) -> None:
        for issue, component in self.watcher.open.items():
            if component == name:
                self._ask(lambda issue=issue: self.engine.controls.deny(issue, "api:sim", "no"))

    def _do_pause(self, fault: Fault, name: str) -> None:
        self._ask(lambda: self.engine.controls.begin_pause("api:sim", "storm"))

        async def keep_resuming() -> None:
            """People try again when they are told that it was not written."""
            await asyncio.sleep(fault.lasts)
            while self.watcher.paused:
                self._ask(lambda: self.engine.controls.end_pause("api:sim", "over"))
                await asyncio.sleep(10.0)

        self._spawn(keep_resuming())

    def _do_maintenance(self, fault: Fault, name: str) -> None:
        controls = self.engine.controls
        self._ask(lambda: controls.begin_maintenance(name, fault.lasts, "api:sim", "deploy"))

    def _do_rearm(self, fault: Fault, name: str) -> None:
        self._ask(lambda: self.engine.controls.rearm(name, "api:sim", "again"))

    def _do_mode(self, fault: Fault, name: str) -> None:
        """Somebody takes a component out of the healer's hands, and gives it back later."""
        before = self.specs[name].mode
        self._ask(lambda: self.engine.controls.change_mode(name, Mode.OBSERVE, "api:sim", "look"))

        async def keep_giving_back() -> None:
            await asyncio.sleep(fault.lasts)
            while self.watcher.modes[name] is not before:
                self._ask(
                    lambda: self.engine.controls.change_mode(name, before, "api:sim", "looked")
                )
                await asyncio.sleep(10.0)

        self._spawn(keep_giving_back())


def _components(case: Case) -> tuple[dict[str, ComponentSpec], dict[str, Program]]:
    pace = case.pace
    specs: dict[str, ComponentSpec] = {}
    programs: dict[str, Program] = {}
    for index, profile in enumerate(case.components):
        name = f"c{index}"
        port = _FIRST_PORT + 10 * index
        fields: dict[str, Any] = {
            "launch": CommandLaunch(command=(name,), grace=2.0),
            "interval": pace.interval,
            "fast_interval": pace.fast_interval,
            "timeout": 1.0,
            "failure_threshold": pace.failure_threshold,
            "success_threshold": 2,
            "start_period": 10.0,
        }
        program = Program(name=name, ready_after=0.5)
        match profile:
            case "movable":
                fields |= {
                    "rebind": PortRange(first=port + 1, last=port + 3),
                    "announce": ("tell",),
                }
            case "leaning" if index:
                fields["depends_on"] = (f"c{index - 1}",)
            case "slow":
                fields["start_period"] = 30.0
                program = Program(name=name, ready_after=12.0)
            case "stubborn":
                program = Program(name=name, ready_after=0.5, ignores_sigterm=True, children=2)
            case "managed":
                fields["launch"] = SystemdLaunch(systemd=f"{name}.service")
                fields["owner"] = OwnerSpec(cmdline=name)
            case "suggest":
                fields["mode"] = Mode.SUGGEST
            case "observe":
                fields["mode"] = Mode.OBSERVE
            case _:
                pass
        specs[name] = ComponentSpec(name=name, port=port, **fields)
        programs[name] = program
    return specs, programs


def _course(incident: Incident | None, facts: Sequence[Recorded]) -> tuple[str, ...] | None:
    if incident is None:
        return None
    begins = BEGIN + timedelta(seconds=incident.begins)
    events = [recorded.event for recorded in facts]
    found = next(
        (
            event.originator_id
            for event in events
            if isinstance(event, IssueDetected)
            and event.component == incident.component
            and event.timestamp >= begins
        ),
        None,
    )
    return course_of(event for event in events if event.originator_id == found)


def _line(recorded: Recorded) -> str:
    event: Event = recorded.event
    fields = event.model_dump(
        exclude={
            "originator_id", "originator_version", "timestamp", "node", "correlation_id",
            "causation_id", "evidence", "playbooks",
        },
        exclude_defaults=True,
    )  # fmt: skip
    return (
        f"{recorded.position:5d} {event.timestamp:%H:%M:%S.%f} {event.event_id[-12:]} "
        f"{type(event).__name__} {fields}"
    )
