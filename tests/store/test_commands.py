"""The commands that read a log, on one in PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

from healer.store import open_log
from tests.conftest import ROOT
from tests.replay.on_disk import a_day

READING = (
    ("events",),
    ("issues",),
    ("history",),
    ("stats",),
    ("playbooks",),
    ("replay", "rebuild"),
    ("replay", "at", "5"),
    ("replay", "issue", "issue-0001"),
    ("replay", "diff", "1", "20"),
    ("replay", "export", "--format", "jsonl", "--out", "exported"),
)


async def _write(url: str) -> None:
    async with open_log(url, new_log_id=lambda: "log-1") as log:
        await log.append([recorded.event for recorded in a_day().facts])


def test_every_command_that_reads_takes_a_log_in_postgresql(database: str, tmp_path: Path) -> None:
    asyncio.run(_write(database))
    shown = {}
    for command in READING:
        ran = subprocess.run(
            [sys.executable, "-m", "healer", *command, "--store", database],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert ran.returncode == 0, (command, ran.stderr)
        shown[command] = ran.stdout
    assert json.loads(shown["stats",])["total_healings"] == 1
    assert json.loads(shown["replay", "rebuild"])["equal"] is True
    assert json.loads(shown["replay", "issue", "issue-0001"])["issue_id"] == "issue-0001"
    assert len(json.loads(shown["history",])["records"]) == 3
    assert (tmp_path / "exported").is_dir()
