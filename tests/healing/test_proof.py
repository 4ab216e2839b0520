"""The log of a real healing, proved by its own signature and by a witness outside."""

from __future__ import annotations

import signal
import sqlite3
from pathlib import Path

from replay.verify import verify
from tests.healing.conftest import OpenLab, command


async def test_a_healing_is_signed_witnessed_and_verified(
    lab: OpenLab, free_port: int, tmp_path: Path
) -> None:
    witness = tmp_path / "witness"
    components = {"chat_api": {"port": free_port, "launch": command()}}
    async with lab(components, witness=str(witness)) as it:
        it.signal(await it.healthy(), signal.SIGKILL)
        await it.end_of_issue(2)
    report = verify(tmp_path / "healer.db", witness=witness)
    assert (report.ok, report.first_problem) == (True, None)
    assert report.witnessed is not None
    assert report.witnessed > 0

    # What a thief of the file does: cut the end off, and the checkpoints that would tell.
    with sqlite3.connect(tmp_path / "healer.db") as log:
        for (name,) in log.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'"):
            log.execute(f"DROP TRIGGER {name}")
        log.execute("DELETE FROM event WHERE position > 20")
        log.execute("DELETE FROM checkpoint WHERE size > 20")
    log.close()
    cut = verify(tmp_path / "healer.db", witness=witness)
    assert not cut.ok
