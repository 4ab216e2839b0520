"""A start that takes long: what the real launcher does then, and its twin in memory as well."""

from __future__ import annotations

import asyncio
import errno
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from healer.domain.process import Launch
from healer.errors import HostError, LaunchError
from healer.host.launcher import build_launcher
from healer.host.linux import LinuxHost
from healer.testing import FakeHost, FakeLauncher, Program, World
from tests.engine.stage import in_virtual_time

from .conftest import component

PORT = 8220


def slow(kind: str, takes: float, *, limit: float = 100.0) -> tuple[FakeHost, FakeLauncher]:
    """A twin whose starts take so long, on a machine of its own."""
    host = FakeHost(World())
    stops = kind == "systemd"
    program = Program(name="chat_api")
    return host, FakeLauncher(host, program, kind=kind, stops=stops, takes=takes, limit=limit)


async def test_a_command_is_not_called_back_by_who_is_cancelled(tmp_path: Path) -> None:
    """The thread in which it is started is busy: so long it hangs."""
    host = LinuxHost()
    launcher = build_launcher(
        component({"command": ["sleep", "60"]}), logs=tmp_path, hold=host.hold
    )
    assert launcher is not None
    released = threading.Event()
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as threads:
        loop.set_default_executor(threads)
        loop.run_in_executor(None, released.wait)
        starting = asyncio.create_task(launcher.start(PORT, "launch-1"))
        await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        released.set()
    loop.set_default_executor(ThreadPoolExecutor())
    found = await host.members(Launch(launch_id="launch-1"))
    assert len(found) == 1
    await host.stop(found, grace=5)
    await found[0].exited()
    found[0].close()


@in_virtual_time
async def test_so_does_its_twin() -> None:
    host, launcher = slow("command", 10.0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.0):
            await launcher.start(PORT, "launch-1")
    assert host.world.starts == []
    await asyncio.gather(*(job.done for job in host.loading))
    [found] = await host.members(Launch(launch_id="launch-1"))
    assert found.identity == host.world.starts[0].identity
    assert not host.loading


@in_virtual_time
async def test_a_command_has_as_long_as_it_takes() -> None:
    host, launcher = slow("command", 1000.0)
    launched = await launcher.start(PORT, "launch-1")
    assert launched.process is not None
    assert launched.process.identity == host.world.starts[0].identity


@in_virtual_time
async def test_a_command_is_lost_with_the_healer_that_dies() -> None:
    host, launcher = slow("command", 10.0)
    starting = asyncio.create_task(launcher.start(PORT, "launch-1"))
    await asyncio.sleep(1.0)
    host.die()
    await asyncio.sleep(20.0)
    assert host.world.starts == []
    assert not starting.done()
    starting.cancel()


@in_virtual_time
async def test_a_manager_goes_on_when_its_client_gives_up_and_starts_nothing_twice() -> None:
    host, launcher = slow("systemd", 25.0, limit=10.0)
    for _ in range(2):
        with pytest.raises(LaunchError, match="not done after 10 s") as caught:
            await launcher.start(PORT, "launch-1")
        assert caught.value.errno == errno.ETIMEDOUT
    await launcher.start(PORT, "launch-3")
    await launcher.start(PORT, "launch-4")
    assert [process.launch_id for process in host.world.starts] == ["launch-1"]


@in_virtual_time
async def test_a_manager_that_is_told_to_stop_starts_nothing_any_more() -> None:
    host, launcher = slow("systemd", 25.0)
    starting = asyncio.create_task(launcher.start(PORT, "launch-1"))
    await asyncio.sleep(1.0)
    await launcher.stop(PORT)
    with pytest.raises(LaunchError, match="the job was cancelled"):
        await starting
    await asyncio.sleep(30.0)
    assert host.world.starts == []


@in_virtual_time
async def test_a_hook_that_takes_too_long_is_ended_and_starts_nothing() -> None:
    host, launcher = slow("hook", 25.0, limit=10.0)
    with pytest.raises(LaunchError) as caught:
        await launcher.start(PORT, "launch-1")
    assert caught.value.errno == errno.ETIMEDOUT
    await asyncio.sleep(30.0)
    assert host.world.starts == []


@in_virtual_time
async def test_a_command_that_cannot_be_held_is_ended_again() -> None:
    host, launcher = slow("command", 10.0)
    host.faults["hold"] = HostError("cannot hold: out of file descriptors")
    with pytest.raises(LaunchError, match="ended again: cannot hold"):
        await launcher.start(PORT, "launch-1")
    assert [process.alive for process in host.world.starts] == [False]
