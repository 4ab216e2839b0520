"""A log that is judged by a second process is judged as by one, and never by nobody."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from replay.archive import FileArchive
from replay.judge import judging
from replay.verify import verify
from tests.replay.on_disk import a_day, write

Spoil = Callable[[sqlite3.Connection], object]


def _nothing(_connection: sqlite3.Connection) -> None:
    """A sound log."""


def _unreadable(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE event SET body = ? WHERE position = 7", (b'{"actor": 1}',))


def _of_the_future(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE event SET topic = 'issue.detected.v9' WHERE position = 6")


def _illegal(connection: sqlite3.Connection) -> None:
    """The issue ends, and goes on."""
    stream, version = connection.execute(
        "SELECT stream, version FROM event WHERE topic = 'issue.verified.v1'"
    ).fetchone()
    connection.execute(
        "UPDATE event SET stream = ?, version = ? "
        "WHERE position = (SELECT max(position) FROM event)",
        (stream, version + 1),
    )


def _no_rows(connection: sqlite3.Connection) -> None:
    """A table of the same name without its types."""
    connection.execute("CREATE TABLE other AS SELECT * FROM event")
    connection.execute("DROP TABLE event")
    connection.execute("ALTER TABLE other RENAME TO event")
    connection.execute("UPDATE event SET body = 5, version = 'x' WHERE position = 9")


@pytest.mark.parametrize("spoil", [_nothing, _unreadable, _of_the_future, _illegal, _no_rows])
async def test_two_processes_find_what_one_finds(tmp_path: Path, spoil: Spoil) -> None:
    file = tmp_path / "log.db"
    await write(file, a_day().facts)
    with closing(sqlite3.connect(file)) as connection, connection:
        for (name,) in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        spoil(connection)
    alone, beside = verify(file), verify(file, beside=1)
    assert beside == alone
    assert alone.ok is (spoil is _nothing)


class _Deadly:
    def __reduce__(self) -> tuple[Callable[[int], None], tuple[int]]:
        return os._exit, (1,)


async def test_a_process_that_dies_has_judged_nothing(tmp_path: Path) -> None:
    file = tmp_path / "log.db"
    await write(file, a_day().facts)
    with judging(partial(FileArchive, file), 5, {"issue": _Deadly()}) as judge:  # type: ignore[dict-item]
        assert judge.verdict() is None
