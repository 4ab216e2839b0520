"""A machine that has no room for another process, stands still, or is told another time."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from replay.verify import verify
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


@pytest.fixture
def set_wall(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], None]]:
    """`set_wall("+1y")`: how far the wall clock of what the house serves is from the true one."""
    faketime = shutil.which("faketime")
    if faketime is None:
        pytest.skip("needs faketime")
    argv = [faketime, "-f", "+0", "printenv", "LD_PRELOAD"]
    library = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
    offset = tmp_path / "offset"

    def set_wall(distance: str) -> None:
        new = offset.with_suffix(".new")
        new.write_text(f"{distance}\n")
        new.rename(offset)  # it is read at each look at the clock

    set_wall("+0")
    with monkeypatch.context() as served:
        for name, value in {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(offset),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }.items():
            served.setenv(name, value)
        yield set_wall


@pytest.mark.soak
def test_a_healer_whose_wall_clock_is_set_accuses_nobody_and_heals_when_it_would_have(
    house: House, set_wall: Callable[[str], None], until: Until
) -> None:
    # The pauses before the second and the third heal in a row: 3 and 300 seconds.
    backoff = "budget: {backoff: {initial: 3s, factor: 100, jitter: 0}}\n"
    house.write(house.config.read_text() + backoff)
    daemon = house.serve(until)

    def records() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = house.get("/network-healer/history").json()["records"]
        return found

    def serving(*, instead_of: int = 0) -> int:
        """The pid of the healthy process."""

        def pid() -> int:
            shown = house.healthy()
            found: int = shown["process"]["pid"] if shown else 0
            return 0 if found == instead_of else found

        return until(pid, PATIENCE)

    def set_to(*distances: str) -> None:
        """Set the clock, and let it be looked at each time."""
        for distance in distances:
            set_wall(distance)
            looks: set[float] = set()

            def looked(looks: set[float] = looks) -> bool:
                looks.add(house.shown()["last_probe"]["elapsed"])
                return len(looks) > 3

            until(looked, PATIENCE)

    first = serving()
    known = records()
    set_to("+2y", "-2y", "+2y")
    assert serving() == first
    assert records() == known
    os.kill(first, signal.SIGKILL)
    second = serving(instead_of=first)

    # Set back, it is no later.
    set_to("-2y")
    os.kill(second, signal.SIGKILL)
    set_to("-4y", "-2y")
    third = serving(instead_of=second)

    # Set forward, it is no earlier.
    set_to("+2y")
    os.kill(third, signal.SIGKILL)
    until(lambda: records()[0]["outcome"] == "open" and records()[0]["withheld"], PATIENCE)
    set_to("-2y", "+2y")
    assert house.shown()["process"] is None
    waiting, *healed = records()
    assert (waiting["outcome"], waiting["withheld"][0]["reason"]) == ("open", "backoff")
    assert all(0 < record["time_to_resolution"] < 86_400 for record in healed)
    # The clock that was set is the one that the healer looks at.
    assert len({record["timestamp"][:4] for record in healed}) == 3

    assert house.stop(daemon) == 0
    assert verify(house.directory / "healer.db").ok
