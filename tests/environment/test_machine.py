"""A machine that has no room for another process, stands still, or is told another time."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time

import pytest

from tests.cli.conftest import House
from tests.conftest import ROOT, Until
from tests.engine.stage import Stage, in_virtual_time

PATIENCE = 30.0
pytestmark = pytest.mark.timeout(300)


@pytest.mark.soak
def test_a_healer_that_stood_still_accuses_nobody(house: House, until: Until) -> None:
    """One missed answer is enough to be healed, but not one that the healer was asleep for."""
    text = house.config.read_text()
    text = text.replace("timeout: 500ms", "timeout: 5s").replace("threshold: 2", "threshold: 1")
    house.write(text)
    daemon = house.serve(until)
    pid = until(house.healthy, PATIENCE)["process"]["pid"]
    issues = len(house.json("history", "-o", "json"))
    for _ in range(3):
        daemon.send_signal(signal.SIGSTOP)
        time.sleep(6)  # the fault, and no wait for anything
        daemon.send_signal(signal.SIGCONT)
        time.sleep(1)
        assert until(house.healthy, PATIENCE)["process"]["pid"] == pid
    assert len(house.json("history", "-o", "json")) == issues
    assert house.stop(daemon) == 0


_NO_FORK = """
import asyncio, os, resource, sys, threading
from pathlib import Path
from healer.errors import LaunchError
from healer.host.linux import LinuxHost
from healer.host.launcher import build_launcher
from tests.launcher.conftest import component

async def main(logs, limits):
    host = LinuxHost()
    spec = component({"command": ["/bin/sleep", "60"]})
    launcher = build_launcher(spec, logs=logs, hold=host.hold)
    # As many threads as a start uses are there already.
    await asyncio.gather(*(asyncio.to_thread(threading.Event().wait, 0.1) for _ in range(8)))
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    for limit in limits:
        resource.setrlimit(resource.RLIMIT_NPROC, (limit or soft, hard))
        try:
            started = await launcher.start(8220, "launch-1")
        except LaunchError as error:
            print(error)
        else:
            await host.stop([started.process], grace=0)
            print("started and stopped")

user, directory = int(sys.argv[1]), Path(sys.argv[2])
# First as root: whatever is imported late may not be readable for another user.
asyncio.run(main(directory / "root", [None]))
os.setgroups([])
os.setresgid(user, user, user)
os.setresuid(user, user, user)
asyncio.run(main(directory / "user", [1, None]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_a_start_that_the_process_limit_forbids_is_an_error_and_works_later() -> None:
    user = 60_000 + os.getpid() % 5_000  # of whom there are no other processes
    with tempfile.TemporaryDirectory() as directory:
        os.chown(directory, user, user)
        done = subprocess.run(
            [sys.executable, "-c", _NO_FORK, str(user), directory],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    first, refused, again = done.stdout.splitlines()
    assert refused.startswith("cannot start ")
    assert "Resource temporarily unavailable" in refused
    assert first == again == "started and stopped"


@in_virtual_time
@pytest.mark.parametrize("years", [1, -1])
async def test_a_wall_clock_that_jumps_neither_delays_nor_hastens_a_heal(years: int) -> None:
    async def heal(jump: float) -> tuple[float, int]:
        async with Stage() as stage:
            await stage.healthy()
            begun = stage.clock.monotonic()
            for after in (0.0, 0.01, 0.1, 1.0):
                asyncio.get_running_loop().call_later(after, stage.clock.set_wall, jump)
            stage.crash()
            await stage.until(lambda: len(stage.world.starts) == 2)
            await stage.healthy()
            took = stage.clock.monotonic() - begun
            await asyncio.sleep(3600)
            return took, len(await stage.issues())

    took, issues = await heal(years * 365 * 86400.0)
    usually, usual = await heal(0.0)
    assert took == pytest.approx(usually)  # in virtual time
    assert issues == usual
