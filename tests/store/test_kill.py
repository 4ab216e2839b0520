"""A healer that is killed loses nothing that it was told was durable."""

from __future__ import annotations

import os
import random
import selectors
import subprocess
import sys
import time
from pathlib import Path

import pytest

from healer.store import SqliteLog
from tests.conftest import ROOT, Processes

ROUNDS = 30
_LONGEST = 0.15


def lines_until_killed(writer: subprocess.Popen[bytes], life: float) -> list[str]:
    """What the writer said until it was killed, `life` seconds after its first word."""
    assert writer.stdout is not None
    said = bytearray()
    deadline: float | None = None
    with selectors.DefaultSelector() as selector:
        selector.register(writer.stdout, selectors.EVENT_READ)
        while True:
            left = 20.0 if deadline is None else deadline - time.monotonic()
            if deadline is not None and left <= 0:
                writer.kill()
                deadline = time.monotonic() + 20
                continue
            assert selector.select(left) or deadline is not None, "the writer says nothing"
            if selector.select(0):
                chunk = os.read(writer.stdout.fileno(), 65536)
                if not chunk:
                    break
                said += chunk
                deadline = deadline or time.monotonic() + life
    writer.wait(20)
    # Cut in the middle by the kill: a line without its end was not said.
    return [line.decode() for line in said.split(b"\n")[:-1]]


@pytest.mark.timeout(180)
async def test_kill_9_loses_nothing_acknowledged_and_leaves_no_gap(
    processes: Processes, tmp_path: Path
) -> None:
    file = tmp_path / "log.db"
    acknowledged: dict[str, tuple[int, int]] = {}
    argv = [sys.executable, "-m", "tests.store.acknowledging_writer", f"sqlite:///{file}"]
    for number in range(ROUNDS):
        writer = processes.start(*argv, str(number), stdout=subprocess.PIPE, cwd=ROOT)
        for line in lines_until_killed(writer, random.uniform(0, _LONGEST)):
            stream, version, position = line.split()
            acknowledged[stream] = (int(version), int(position))

    async with SqliteLog.open(file, new_log_id=lambda: "log-1") as log:
        assert log.broken is None
        found: dict[str, dict[int, int]] = {}
        after = 0
        while batch := await log.read(after=after):
            for recorded in batch:
                assert recorded.position == after + 1
                after = recorded.position
                event = recorded.event
                versions = found.setdefault(event.originator_id, {})
                assert event.originator_version == len(versions) + 1
                versions[event.originator_version] = after
    assert len({stream.split("-")[0] for stream in acknowledged}) == ROUNDS
    for stream, (last, place) in acknowledged.items():
        assert found[stream][last] == place
        # Two at a time: never half of an append.
        assert len(found[stream]) % 2 == 0
