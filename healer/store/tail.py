"""The end of the log, looked at before anything is trusted to it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from itertools import starmap
from typing import Final

from healer.errors import StoreError
from healer.store import checkpoint
from healer.store.chain import Link, first_break, genesis
from healer.store.schema import archived_end, has_checkpoints, log_id

__all__ = ["TAIL", "Tail", "contradiction", "inspect"]

TAIL: Final = 1000
"""Events that are verified at each opening; the whole log is the audit's business."""

# The check reads every page: this much takes 10 ms from memory and 0.4 s from a cold disk. A larger
# file is left to the chain, which covers what matters of it.
_QUICK_CHECK_LIMIT: Final = 16 * 1024 * 1024
_PRIMARY_CODE: Final = 0xFF


@dataclass(frozen=True, slots=True)
class Tail:
    """Where the log ends: the position and hash of its last event, and the first thing that is
    wrong with it, in words."""

    position: int
    hash: bytes
    broken: str | None


def inspect(connection: sqlite3.Connection) -> Tail:
    """Verify the last events against the chain, and that none behind them was taken away.

    The caller holds a transaction, so that all is read from one state of the file. A file that
    SQLite itself finds damaged has a tail that is broken from its beginning.

    Raises:
        sqlite3.Error: the file cannot be read.
    """
    try:
        damage = _damage(connection)
        return Tail(0, b"", damage) if damage else _verify(connection)
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & _PRIMARY_CODE != sqlite3.SQLITE_CORRUPT:
            raise
        return Tail(0, b"", f"the file is damaged: {error}")


def _verify(connection: sqlite3.Connection) -> Tail:
    base, start = _base(connection)
    (last,) = connection.execute("SELECT coalesce(max(position), ?) FROM event", (base,)).fetchone()
    # AUTOINCREMENT remembers the highest position ever given.
    given = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'event'").fetchone()
    after = max(last - TAIL - 1, base)
    links = list(
        starmap(
            Link,
            connection.execute(
                "SELECT position, stream, version, topic, body, hash FROM event "
                "WHERE position > ? ORDER BY position",
                (after,),
            ),
        )
    )
    end = links[-1].hash if links else start
    if after > base:
        first, *links = links
        after, start = first.position, first.hash
    broken = first_break(links, after=after, previous=start)
    if broken is None and given is not None and given[0] != last:
        broken = f"event {last + 1} is missing"
    return Tail(last, end, broken or _contradiction(connection, last))


def _base(connection: sqlite3.Connection) -> tuple[int, bytes]:
    """Where the events in the file begin: what stands in front of the first of them."""
    return archived_end(connection) or (0, genesis(log_id(connection)))


def _contradiction(connection: sqlite3.Connection, last: int) -> str | None:
    if not has_checkpoints(connection):
        return None
    row = connection.execute("SELECT note FROM checkpoint ORDER BY number DESC LIMIT 1").fetchone()
    if row is None:
        return None
    base, start = _base(connection)

    def hash_at(position: int) -> bytes | None:
        if position == base:
            return start
        query = "SELECT hash FROM event WHERE position = ?"
        stored = connection.execute(query, (position,)).fetchone()
        return bytes(stored[0]) if stored else None

    return contradiction(row[0], log_id(connection), last, hash_at)


def contradiction(
    note: str, log_id: str, last: int, hash_at: Callable[[int], bytes | None]
) -> str | None:
    """What the newest checkpoint says against the log of this name, which ends with event `last`,
    in words; None: nothing. Its signature is the audit's business."""
    try:
        newest = checkpoint.read(note)
    except StoreError as error:
        return str(error)
    if newest.log_id != log_id:
        return f"its last checkpoint is of another log, {newest.log_id!r}"
    if newest.size > last:
        return f"event {last + 1} is missing: a checkpoint was signed of {newest.size}"
    if newest.head != hash_at(newest.size):
        return f"event {newest.size} is not the one that a checkpoint was signed of"
    return None


def _damage(connection: sqlite3.Connection) -> str | None:
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    if pages * page_size > _QUICK_CHECK_LIMIT:
        return None
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    return None if verdict == "ok" else f"the file is damaged: {verdict}"
