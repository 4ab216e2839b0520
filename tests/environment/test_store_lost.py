"""While its log cannot be written a healer acts on nothing, says so, and goes on by itself."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from healer.errors import StoreError
from healer.store import SqliteLog
from replay.verify import verify
from tests import factory
from tests.cli.conftest import House
from tests.conftest import Until

PATIENCE = 60.0
pytestmark = pytest.mark.timeout(300)


def fill(place: Path) -> Path:
    """Leave no byte free; the file that does."""
    ballast = place / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for _ in range(os.statvfs(place).f_blocks):
            if file.write(bytes(4096)) < 4096 or not os.statvfs(place).f_bavail:
                break
    return ballast


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            return True
    except OSError:
        return False


def holds(house: House, until: Until, why: str) -> None:
    """Its component dies, and it says that it can do nothing, and does nothing."""
    os.kill(house.shown()["process"]["pid"], signal.SIGKILL)
    until(lambda: house.get("/readyz").status_code == 503, PATIENCE)

    # It has tried again and again, and not only not yet.
    until(lambda: house.log.read_text().count("log_unavailable") >= 3, PATIENCE)
    assert house.get("/livez").status_code == 200
    said = house.get("/readyz")
    assert said.status_code == 503
    assert why in said.text
    assert "healer_log_writable 0.0" in house.get("/metrics").text
    assert not answers(house.port)


def goes_on(house: House, until: Until) -> None:
    until(house.ready, PATIENCE)
    until(house.healthy, PATIENCE)
    assert "healer_log_writable 1.0" in house.get("/metrics").text
    assert answers(house.port)


@pytest.fixture
def log(house: House, small_disk: Path) -> Iterator[Path]:
    """The log of that healer, on a small disk of its own."""
    file = small_disk / "healer.db"
    (house.directory / "healer.db").symlink_to(file)
    yield file
    # Before the disk goes.
    house.end()
    (house.directory / "healer.db").unlink()


def test_on_a_full_disk_nothing_is_done_unrecorded_until_there_is_space(
    house: House, log: Path, until: Until
) -> None:
    daemon = house.serve(until)
    until(house.healthy, PATIENCE)
    ballast = fill(log.parent)
    holds(house, until, "SQLITE_FULL")
    ballast.unlink()
    goes_on(house, until)
    assert house.stop(daemon) == 0
    assert verify(log).ok


def test_without_its_log_file_nothing_is_done_until_it_is_brought_back(
    house: House, until: Until
) -> None:
    daemon = house.serve(until)
    until(house.healthy, PATIENCE)
    file = house.directory / "healer.db"
    file.rename(house.directory / "away.db")
    holds(house, until, "was taken away while it was open")
    (house.directory / "away.db").rename(file)
    goes_on(house, until)
    assert house.stop(daemon) == 0
    assert verify(file).ok


def test_on_an_edited_log_nothing_is_done_and_no_byte_of_it_is_changed(
    house: House, until: Until
) -> None:
    daemon = house.serve(until)
    until(house.healthy, PATIENCE)
    assert house.stop(daemon) == 0
    file = house.directory / "healer.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as forger:
        forger.execute("DROP TRIGGER event_is_never_updated")
        forger.execute(
            "UPDATE event SET body = CAST(replace(body, 'n1', 'n2') AS BLOB) WHERE position = 1"
        )
    edited = file.read_bytes()

    daemon = house.start()
    until(lambda: answers(house.listen), PATIENCE)
    until(house.healthy, PATIENCE)
    broken = "event 1 does not match its hash"
    holds(house, until, f"the log is broken: {broken}")
    assert house.stop(daemon) == 0
    assert file.read_bytes() == edited
    assert not file.with_name("healer.db-wal").exists()
    lines = [json.loads(line) for line in house.log.read_text().splitlines()]
    assert [
        (line["level"], line["problem"]) for line in lines if line["event"] == "log_broken"
    ] == [("critical", broken)]


async def test_a_log_that_another_program_locks_is_given_up_and_taken_up_again(
    tmp_path: Path, until: Until
) -> None:
    file = tmp_path / "log.db"
    async with SqliteLog.open(file, new_log_id=lambda: "log-1") as log:
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError, match=r"locked .SQLITE_BUSY"):
                await log.append([factory.playbook_started(stream="i1", version=1)])
            assert log.unavailable is not None
            assert await log.head() == 0
            other.execute("ROLLBACK")
            await until.soon(lambda: log.unavailable is None, PATIENCE)
        assert await log.append([factory.playbook_started(stream="i1", version=1)]) == 1
