"""Launchers and the real host together: who holds, learns the end, and holds again."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from healer.domain.process import ExitStatus, Launch, ProcessIdentity
from healer.host.launcher import build_launcher
from healer.host.linux import LinuxHost

from .conftest import component

ROOT = Path(__file__).parents[2]


@pytest.fixture
def host() -> LinuxHost:
    return LinuxHost()


async def test_one_that_dies_at_once_is_held_and_tells_how_it_ended(
    tmp_path: Path, host: LinuxHost
) -> None:
    launcher = build_launcher(
        component({"command": ["sh", "-c", "exit 3"]}), logs=tmp_path, hold=host.hold
    )
    assert launcher is not None
    for attempt in range(20):
        started = await launcher.start(8220, f"launch-{attempt}")
        assert started.process is not None
        assert await started.process.exited() == ExitStatus(code=3)
        started.process.close()


async def test_the_host_stops_what_a_launcher_started(tmp_path: Path, host: LinuxHost) -> None:
    launcher = build_launcher(
        component({"command": ["sleep", "60"]}), logs=tmp_path, hold=host.hold
    )
    assert launcher is not None
    started = await launcher.start(8220, "launch-1")
    assert started.process is not None
    stopped = await host.stop([started.process], grace=5)
    assert stopped.stopped == (started.process.identity,)
    assert await started.process.exited() == ExitStatus(signal=signal.SIGTERM)
    started.process.close()


HEALER = """
    import asyncio, pathlib, sys
    from healer.domain.spec import ComponentSpec
    from healer.host.launcher import build_launcher
    from healer.host.linux import LinuxHost

    async def main():
        launch = {"command": ["sh", "-c", "echo up; sleep 60; echo interrupted"]}
        spec = ComponentSpec(name="chat_api", port=8220, launch=launch)
        launcher = build_launcher(spec, logs=pathlib.Path(sys.argv[1]), hold=LinuxHost().hold)
        started = await launcher.start(8220, sys.argv[2])
        print(started.process.identity.model_dump_json(), flush=True)
        await asyncio.Event().wait()

    asyncio.run(main())
"""


async def test_a_component_outlives_a_killed_healer_and_is_held_again(
    tmp_path: Path, host: LinuxHost
) -> None:
    launch_id = f"launch-of-{os.getpid()}-{tmp_path.name}"
    program = tmp_path / "parent.py"
    program.write_text(dedent(HEALER))
    healer = await asyncio.create_subprocess_exec(
        sys.executable,
        str(program),
        str(tmp_path),
        launch_id,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert healer.stdout is not None
    try:
        line = await asyncio.wait_for(healer.stdout.readline(), 30)
    finally:
        healer.kill()
    assert await healer.wait() == -signal.SIGKILL

    identity = ProcessIdentity.model_validate_json(line)
    if identity.pidfd_inode is None:
        pytest.skip("before Linux 6.9 a process cannot be told from another one by its identity")
    held = await host.reacquire(identity)
    assert held is not None
    assert not held.gone()
    members = await host.members(Launch(launch_id=launch_id, leader=identity))
    assert identity in [member.identity for member in members]

    stopped = await host.stop(members, grace=5)
    assert {one.pid for one in stopped.stopped} >= {identity.pid}
    for process in (*members, held):
        process.close()
    assert (tmp_path / "components/chat_api.log").read_text() == "up\n"
