"""The healer that is to die: `build()` and its engine, as they are, in a process that can be told
to kill itself at a chosen moment, and that says what it was acknowledged.

It is forked by the harness (importing all anew for each death would cost more than the healing),
and it is told what to do through a pipe: `die KIND NUMBER now|issue`. From then on (`now`), or from
the append that opens an issue on (`issue`), moments of that kind are counted, and the `NUMBER`-th
is its last. What it says, a line each:

    ready                                  orders have been taken
    rest | busy                            all components are healthy and no issue is open, or not
    ack POSITION STREAM VERSION DIGEST     this event was acknowledged
    spawn LAUNCH_ID COMPONENT ALIVE,...    it starts a component, of which these pids are alive
    signal PID TICKS NUMBER                it sends a signal
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from healer.bootstrap import Healer, build
from healer.config import Config, parse
from healer.domain.events import Event, IssueDetected
from healer.domain.health import Health
from healer.domain.playbook import Settlement, StepResult
from healer.domain.process import OwnerProof
from healer.engine import step as step_module
from healer.host.launcher import command as command_module
from healer.host.process import PidfdProcess
from healer.playbooks import ACTIONS
from healer.playbooks import instance as instance_module
from healer.store import open_log
from healer.store.codec import Codec
from tests.soak.world import components

__all__ = ["APPENDS", "MOMENTS", "PLANTS", "SYNCS", "live", "sync_shim"]

APPENDS: Final = ("before_append", "after_append", "acknowledged")
"""Before an append, after it and before anybody knows, and after its caller could have known."""

SYNCS: Final = ("before_sync", "after_sync")
"""Around each fsync and fdatasync; needs the preloaded shim."""

MOMENTS: Final = (*APPENDS, "after_effect", "spawned", "signalled", *SYNCS)
"""Where a healer can be told to die: besides the above after the effect of a step and before its
outcome, right after a component was spawned, right after a signal was sent."""

PLANTS: Final = ("early_ack", "blind_start", "kill_foreign")
"""Defects that the harness must find: events acknowledged before they are written; a start that is
done again without a look; a stranger that is taken for the component."""

_LOOK: Final = 0.005
_LINE: Final = 4096


def sync_shim() -> Any | None:
    """The preloaded library that counts syncs; None when it is not there."""
    return getattr(ctypes.CDLL(None), "soak_die_at_sync", None)


class Death:
    """When to die."""

    def __init__(self) -> None:
        self._kind = ""
        self._left = 0
        self._armed = False

    def order(self, kind: str, number: int, *, armed: bool) -> None:
        self._kind, self._left, self._armed = kind, number, False
        shim = sync_shim()
        if shim is not None:
            shim(0, 0)
        if armed:
            self.arm()

    def arm(self) -> None:
        if self._armed or not self._left:
            return
        self._armed = True
        shim = sync_shim()
        if self._kind in SYNCS and shim is not None:
            shim(self._left, int(self._kind == "after_sync"))

    def at(self, kind: str) -> None:
        if self._armed and kind == self._kind:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


class Report:
    """What the harness is told; a pipe keeps it when the teller dies."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def say(self, *lines: str) -> None:
        os.write(self._descriptor, "".join(f"{line}\n" for line in lines).encode())


class ReportingLog:
    """The log, with what it acknowledged told to the harness before the engine can go on."""

    def __init__(self, log: Any, death: Death, report: Report, *, early: bool) -> None:
        self._log = log
        self._death = death
        self._report = report
        self._codec = Codec()
        self._early = early

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def append(self, events: Sequence[Event]) -> int:
        if any(isinstance(event, IssueDetected) for event in events):
            self._death.arm()
        if self._early:
            self._acknowledge(await self._log.head() + len(events), events)
        self._death.at("before_append")
        position: int = await self._log.append(events)
        self._death.at("after_append")
        if not self._early:
            self._acknowledge(position, events)
        self._death.at("acknowledged")
        return position

    def _acknowledge(self, position: int, events: Sequence[Event]) -> None:
        lines = []
        for place, event in enumerate(events, position - len(events) + 1):
            stored = self._codec.encode(event)
            digest = sha256(stored.body).hexdigest()
            lines.append(f"ack {place} {stored.stream} {stored.version} {digest}")
        self._report.say(*lines)


class MortalAction:
    """An action whose healer can die between its effect and its outcome."""

    def __init__(self, action: Any, death: Death) -> None:
        self._action = action
        self._death = death

    def __getattr__(self, name: str) -> Any:
        return getattr(self._action, name)

    async def perform(self, *arguments: Any) -> StepResult:
        try:
            result: StepResult = await self._action.perform(*arguments)
        finally:
            self._death.at("after_effect")
        return result


class BlindStart(MortalAction):
    """A planted defect: never looks whether the start has been done."""

    async def settle(self, *_: Any) -> tuple[Settlement, StepResult]:
        return Settlement.ABSENT, StepResult()


def _make_mortal(death: Death, report: Report, plant: str | None) -> None:
    """Only in the forked process: the effects of this healer are seen and can be its last."""
    spawn, send = command_module.spawn, PidfdProcess.signal

    def mortal_spawn(program: str, argv: Any, environment: Any, **options: Any) -> int:
        launch_id, name = environment["HEALER_LAUNCH_ID"], environment["HEALER_COMPONENT"]
        alive = ",".join(str(found.pid) for found in components() if found.name == name)
        report.say(f"spawn {launch_id} {name} {alive}")
        pid = spawn(program, argv, environment, **options)
        death.at("spawned")
        return pid

    def mortal_signal(self: PidfdProcess, number: int) -> bool:
        if number == 0:
            return send(self, number)
        report.say(f"signal {self.identity.pid} {self.identity.start_ticks} {int(number)}")
        sent = send(self, number)
        death.at("signalled")
        return sent

    actions = {name: MortalAction(action, death) for name, action in ACTIONS.items()}
    if plant == "blind_start":
        actions["start"] = BlindStart(ACTIONS["start"], death)
    if plant == "kill_foreign":
        instance_module.prove_owner = lambda *_: OwnerProof.LAUNCHED
    command_module.spawn = mortal_spawn
    PidfdProcess.signal = mortal_signal  # type: ignore[method-assign]
    step_module.ACTIONS = actions  # type: ignore[misc]


def _take_orders(descriptor: int, death: Death, report: Report) -> None:
    for line in os.read(descriptor, _LINE).decode().splitlines():
        _, kind, number, when = line.split()
        death.order(kind, int(number), armed=when == "now")
        report.say("ready")


async def _live(
    config: Config, orders: int, death: Death, report: Report, plant: str | None
) -> None:
    loop = asyncio.get_running_loop()
    log = open_log(config.store, new_log_id=lambda: os.urandom(16).hex())
    mortal: Any = ReportingLog(log, death, report, early=plant == "early_ack")
    async with build(config, log=mortal) as healer:
        await healer.engine.start()
        _take_orders(orders, death, report)
        loop.add_reader(orders, _take_orders, orders, death, report)
        await _tell_rest(healer, report)


async def _tell_rest(healer: Healer, report: Report) -> None:
    failed = asyncio.create_task(healer.engine.failed())
    before = None
    while not failed.done():
        rest = all(_is_at_rest(healer, name) for name in healer.engine.names)
        if rest is not before:
            report.say("rest" if rest else "busy")
            before = rest
        await asyncio.sleep(_LOOK)
    raise failed.result()


def _is_at_rest(healer: Healer, name: str) -> bool:
    status = healer.engine.status(name)
    well = status.health.health is Health.HEALTHY
    return well and status.issue is None and status.process is not None


def live(config: str, directory: Path, orders: int, report: int, plant: str | None) -> None:
    """Be a healer until death. Never returns: this is the whole life of a forked process."""
    status = 1
    with suppress(BaseException):
        output = os.open(
            directory / "healer.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        )
        for descriptor in (1, 2):
            os.dup2(output, descriptor)
        os.setsid()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            death, said = Death(), Report(report)
            _make_mortal(death, said, plant)
            parsed = parse(config, source="soak", environ={}, hostname="soak", directory=directory)
            asyncio.run(_live(parsed, orders, death, said, plant))
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
            sys.stderr.flush()
    os._exit(status)
