"""The commands that read a log, on one in PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from healer.store import open_log
from tests.conftest import ROOT
from tests.replay.on_disk import a_day

Check = Callable[[Any], bool]

READING: dict[tuple[str, ...], Check] = {
    ("events",): lambda shown: len(shown) > 0,
    ("issues",): lambda shown: len(shown) > 0,
    ("history",): lambda shown: len(shown["records"]) == 3,
    ("stats",): lambda shown: shown["total_healings"] == 1,
    ("playbooks",): lambda shown: len(shown) > 0,
    ("replay", "rebuild"): lambda shown: shown["equal"] is True,
    ("replay", "at", "5"): lambda shown: len(shown) > 0,
    ("replay", "issue", "issue-0001"): lambda shown: shown["issue_id"] == "issue-0001",
    ("replay", "diff", "1", "20"): lambda shown: len(shown) > 0,
    ("replay", "export", "--format", "jsonl", "--out", "exported"): lambda shown: len(shown) > 0,
}


async def _write(url: str) -> None:
    async with open_log(url, new_log_id=lambda: "log-1") as log:
        await log.append([recorded.event for recorded in a_day().facts])


# A process each, and a test each: together they take longer than a test may on a loaded machine.
@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_a_command_that_reads_takes_a_log_in_postgresql(
    database: str, tmp_path: Path, command: tuple[str, ...]
) -> None:
    asyncio.run(_write(database))
    ran = subprocess.run(
        [sys.executable, "-m", "healer", *command, "--store", database],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    shown = ran.stdout.splitlines() if command == ("events",) else json.loads(ran.stdout)
    assert READING[command](shown)
    assert (tmp_path / "exported").is_dir() is ("export" in command)
