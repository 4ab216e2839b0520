"""`healer demo --dashboard`: a small stack that breaks by itself, and a page to watch it in."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from itertools import count, cycle
from pathlib import Path
from typing import Final

import httpx

from healer.api.listener import ListenError, listen_on
from healer.api.token import read_token, token_path
from healer.bootstrap import Healer, build
from healer.cli.serve import serve
from healer.cli.source import open_store
from healer.config import Config, load
from healer.demo.fault import CRASH_LOOP, FAULTS, Fault, Scene
from healer.demo.run import end_components, member_of, until_up
from healer.demo.stack import write_config
from healer.domain.health import Health
from healer.errors import HostError
from healer.host.linux import LinuxHost

__all__ = ["showcase"]

_FIRST_PORT: Final = 8000
_PORTS: Final = 100
_LOOPS_FOR: Final = 6.0
"""Seconds after which the crash loop is mended."""


def showcase(*, port: int | None, every: float) -> int:
    """Break one component `every` seconds, for ever; the exit status of the healer.

    `port` is where the dashboard is, by default the first free one from 8000 on. Nothing is left
    behind at the end.

    Raises:
        ListenError: the port cannot be had.
    """
    directory = Path(tempfile.mkdtemp(prefix="healer-demo-"))
    try:
        crash_loop = directory / "crash-loop"
        # One that can never be reached would make the whole picture look ill.
        faults = [fault for fault in FAULTS if fault.member.host == "127.0.0.1"]
        members = tuple(member_of(fault, crash_loop) for fault in faults)
        listen = f"127.0.0.1:{_free_port(port)}"
        stack = write_config(directory, members, store=None, listen=listen, reset_after="10s")
        tasks: list[asyncio.Task[None]] = []

        def assemble(config: Config) -> Healer:
            host = LinuxHost()
            healer = build(config, host=host)
            program = find_spec("healer.demo.component")
            assert program is not None
            assert program.origin is not None
            scene = Scene(healer, host, directory, Path(program.origin), crash_loop)
            _say(f"starting {len(members)} components in {directory}")
            tasks.append(asyncio.create_task(_break(scene, faults, every), name="faults"))
            return healer

        try:
            return serve(stack.config_file, assemble=assemble)
        finally:
            if tasks:  # else nothing was started, and there is no log
                asyncio.run(_end(load(stack.config_file, environ={}, hostname="demo")))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _free_port(port: int | None) -> int:
    if port is not None:
        return port
    for each in range(_FIRST_PORT, _FIRST_PORT + _PORTS):
        with suppress(ListenError), listen_on("127.0.0.1", each):
            return each
    raise ListenError(
        f"cannot find a free port in {_FIRST_PORT}-{_FIRST_PORT + _PORTS - 1}; "
        "allowed: a free one with --port"
    )


async def _break(scene: Scene, faults: Sequence[Fault], every: float) -> None:
    healer = scene.healer
    try:
        await until_up(healer, asyncio.Event())
        token = await asyncio.to_thread(read_token, token_path(healer.config))
        _say(f"\n  dashboard   http://{healer.config.listen}/\n  token       {token}\n")
        _say(f"Each {every:g} s something is broken. Ctrl-C ends it all.")
        for number, fault in zip(count(), cycle(faults), strict=False):
            await asyncio.sleep(every)
            if number % len(faults) == 0:
                await scene.send_strangers_away()
                scene.strangers.clear()
            await _inject(scene, fault)
    finally:
        await scene.send_strangers_away()


async def _inject(scene: Scene, fault: Fault) -> None:
    name = fault.member.name
    status = scene.healer.engine.status(name)
    if status.health.health is not Health.HEALTHY or status.issue is not None:
        return
    _say(f"{name}: {fault.title}")
    with suppress(HostError, httpx.HTTPError):
        await fault.inject(scene, name)
    if name == CRASH_LOOP:
        await asyncio.sleep(_LOOPS_FOR)
        scene.crash_loop.unlink(missing_ok=True)


async def _end(config: Config) -> None:
    """End the components: the healer lets them live on."""
    async with open_store(config.store) as log:
        await end_components(log, LinuxHost(), since=0)
