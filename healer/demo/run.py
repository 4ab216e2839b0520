"""`healer demo`: starts a small stack, breaks it for real, and judges how each fault ended.

Everything is real: processes, sockets, signals, the log on disk. It all happens on loopback and in
a scratch directory, and nothing that was started is left behind.
"""

from __future__ import annotations

import asyncio
import io
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import orjson
import structlog
from rich.console import Console

from healer.bootstrap import Healer, build
from healer.config import load
from healer.demo.fault import CRASH_LOOP, FAULTS, Fault, Scene
from healer.demo.observation import Observation
from healer.demo.show import Show, save_picture
from healer.demo.stack import Member, write_config
from healer.domain.events import ProcessAdopted
from healer.domain.health import Health
from healer.domain.process import Launch
from healer.host.linux import LinuxHost
from healer.ports import EventLog, Recorded

__all__ = ["demo", "end_components", "member_of", "until_up"]

_PIPE_WIDTH: Final = 140
"""Columns where there is no terminal that has its own."""

_DOCUMENTED: Final = (
    "total_healings",
    "successful_healings",
    "failed_healings",
    "success_rate",
    "active_healings",
    "playbook_stats",
)
"""The statistics that a person is shown: those of the user's document. `--json` has them all."""

_UP_WITHIN: Final = 20.0
_FAULT_WITHIN: Final = 25.0
"""Seconds after which the stack is not up, and after which a fault has not ended as it should."""

_LOOK_EACH: Final = 0.01


def demo(
    *,
    json_output: bool,
    store: str | None = None,
    keep: bool = False,
    picture: Path | None = None,
) -> int:
    """Run the demo; 0 when every fault ended as it should, else 1.

    With `json_output` one object is printed and nothing else. `store` is where the log goes (a
    store URL); without it the log lies in the scratch directory, which `keep` leaves behind.
    `picture` is an SVG file that what was shown is drawn into.
    """
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    drawn = Console(width=_PIPE_WIDTH, record=True, file=io.StringIO())
    show = Show(None if json_output else _console(), drawn)
    directory = Path(tempfile.mkdtemp(prefix="healer-demo-"))
    try:
        report, ended_well = asyncio.run(_run(directory, store, show))
    finally:
        if keep:
            show.say(f"the scratch directory is kept: {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)
    if picture is not None:
        save_picture(drawn, picture)
    if json_output:
        sys.stdout.write(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode() + "\n")
    return 0 if ended_well else 1


async def _run(directory: Path, store: str | None, show: Show) -> tuple[dict[str, Any], bool]:
    crash_loop = directory / "crash-loop"
    members = tuple(member_of(fault, crash_loop) for fault in FAULTS)
    stack = write_config(directory, members, store=store)
    program = find_spec("healer.demo.component")
    assert program is not None
    assert program.origin is not None
    config = load(stack.config_file, environ={}, hostname="demo")
    host = LinuxHost()
    healer = build(config, host=host)
    before = await healer.log.head()
    scene = Scene(healer, host, directory, Path(program.origin), crash_loop)
    observations: list[Observation] = []
    stop = asyncio.Event()
    with _signals(stop):
        async with healer:
            try:
                show.say(f"starting {len(members) - 1} components in {directory}")
                await healer.engine.start()
                await until_up(healer, stop)
                for number, fault in enumerate(FAULTS, start=1):
                    if stop.is_set():
                        break
                    observations.append(
                        await _break(scene, fault, number, show, since=before, stop=stop)
                    )
                await healer.views.caught_up()
                stats = healer.views.view("stats")
            finally:
                await healer.engine.stop()
                await scene.send_strangers_away()
                await end_components(healer.log, host, since=before)
    show.table(observations)
    assert isinstance(stats, dict)
    show.json(orjson.dumps({key: stats[key] for key in _DOCUMENTED}).decode())
    ended_well = len(observations) == len(FAULTS) and all(
        observation.problem is None for observation in observations
    )
    return {"faults": [seen.view() for seen in observations], "stats": stats}, ended_well


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=_PIPE_WIDTH)


def member_of(fault: Fault, crash_loop: Path) -> Member:
    options = tuple(
        option.replace("{crash_loop}", str(crash_loop)) for option in fault.member.options
    )
    return Member(fault.member.name, fault.member.host, options, fault.member.rebinds)


async def until_up(healer: Healer, stop: asyncio.Event) -> None:
    """Wait until every component that can be is healthy.

    Raises:
        TimeoutError: they are not, within a generous time.
    """
    local = [name for name, spec in healer.config.components.items() if spec.launch is not None]
    async with asyncio.timeout(_UP_WITHIN):
        while not stop.is_set():
            states = [healer.engine.status(name).health.health for name in local]
            if all(state is Health.HEALTHY for state in states):
                return
            await asyncio.sleep(0.02)


async def _break(
    scene: Scene, fault: Fault, number: int, show: Show, *, since: int, stop: asyncio.Event
) -> Observation:
    """Make one fault, watch what is recorded of it, and judge the end."""
    healer, name = scene.healer, fault.member.name
    looping = name == CRASH_LOOP
    observation = Observation(fault, datetime.now(UTC), wants_rearm=looping)
    show.begin(number, len(FAULTS), observation, healer.engine.status(name).port)
    # The fault that is there from the start was recorded before anybody asked.
    after = since if fault.member.host != "127.0.0.1" else await healer.log.head()
    following = asyncio.create_task(_follow(healer, observation, show, after))
    try:
        observation.began = datetime.now(UTC)
        await fault.inject(scene, name)
        if looping:
            await _until_escalated(observation, stop)
            # Whoever was called has mended it; the healer is to find that out by itself.
            scene.crash_loop.unlink()
        await _first(observation.ended.wait(), stop.wait(), within=_FAULT_WITHIN)
        await _until_told(healer, following, observation)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    if fault.member.host != "127.0.0.1":
        observation.began = await _registered_at(healer, name, since)
    await observation.judge(scene)
    show.end(observation)
    return observation


async def _follow(healer: Healer, observation: Observation, show: Show, after: int) -> None:
    async for recorded in healer.log.follow(after=after):
        if observation.concerns(recorded.event):
            done = observation.ended.is_set()
            observation.note(recorded)
            if not done:
                show.event(recorded.event)


async def _until_told(
    healer: Healer, following: asyncio.Task[None], observation: Observation
) -> None:
    """Let the health that follows the verdict be recorded, so that the next fault finds it."""
    name = observation.fault.member.name
    if observation.healthy is None:
        return
    for _ in range(round(_FAULT_WITHIN / _LOOK_EACH)):
        if healer.engine.status(name).health.health is Health.HEALTHY:
            return
        await asyncio.sleep(_LOOK_EACH)
    observation.problem = f"{name} is verified, and not healthy after {_FAULT_WITHIN:g} s"


async def _until_escalated(observation: Observation, stop: asyncio.Event) -> None:
    await _first(observation.spent.wait(), stop.wait(), within=_FAULT_WITHIN)


async def _first(*waits: Any, within: float) -> None:
    """Wait until one of `waits` is over, or the time is."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, timeout=within, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _registered_at(healer: Healer, name: str, since: int) -> datetime:
    """When the healer first heard of a component: the begin of a fault that was always there."""
    for recorded in await _facts(healer.log, since):
        if getattr(recorded.event, "component", None) == name:
            return recorded.event.timestamp
    return datetime.now(UTC)


async def end_components(log: EventLog, host: LinuxHost, *, since: int) -> None:
    """End every process that was launched since `since`, by its launch."""
    launches: dict[str, Launch] = {}
    for recorded in await _facts(log, since):
        event = recorded.event
        if isinstance(event, ProcessAdopted) and event.launch_id is not None:
            launches[event.launch_id] = Launch(launch_id=event.launch_id, leader=event.process)
    for launch in launches.values():
        members = await host.members(launch)
        if members:
            await host.stop(members, grace=1.0)
        for member in members:
            member.close()


async def _facts(log: EventLog, since: int) -> Sequence[Recorded]:
    found: list[Recorded] = []
    after = since
    while batch := await log.read(after=after):
        found += batch
        after = batch[-1].position
    return found


class _signals:  # noqa: N801 - reads as a verb where it is used
    """While it lasts, SIGINT and SIGTERM set `stop` instead of ending the process at once."""

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop

    def __enter__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)

    def __exit__(self, *_: object) -> None:
        with suppress(RuntimeError):
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().remove_signal_handler(number)
