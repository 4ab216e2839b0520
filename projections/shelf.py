"""Where the records of ended issues go: out of memory, to be found again by page.

A shelf is a pair of temporary files, gone with its last user: what stands on it is folded from the
log, and at the next start it is folded again. So there is no second copy that could disagree with
the log, be of another version, or be left broken by a power cut.

What an issue is found by stands in a database, its body one behind the other in a plain file, which
takes a third of the time that a table takes. A database of SQLite's temporary kind would not do:
what was committed to it may still be in memory, so that a full disk takes it away later. With a
write-ahead log a refused write changes nothing; a body that no row knows is written over.

What is asked for stands in a narrow table with indexes that cover every condition but time. Times
need no index: positions and times grow together but where a clock jumped, so a span of time is a
span of blocks of positions, and the few records of the outer blocks are compared one by one.
"""

from __future__ import annotations

import errno
import heapq
import os
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from healer.errors import StoreError

__all__ = ["Shelf", "Shelved", "Wanted"]

_WAITING: Final = 512
"""Records that are written at once: one turn of some milliseconds."""
_BLOCK: Final = 10_000
"""Positions whose times are known together."""

_PLACE: Final = "/var/tmp"  # noqa: S108 - of a name that nobody knows
"""Where the file is unless TMPDIR says: /tmp may be memory, which this is to spare."""

_TABLES: Final = """
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = OFF;
CREATE TABLE record (
    position INTEGER PRIMARY KEY,
    issue TEXT NOT NULL,
    component TEXT NOT NULL,
    issue_type TEXT NOT NULL,
    outcome TEXT NOT NULL,
    time INTEGER NOT NULL,
    place INTEGER NOT NULL,
    size INTEGER NOT NULL
) STRICT;
"""

_INDEXES: Final = """
BEGIN;
CREATE INDEX record_issue ON record (issue);
CREATE INDEX record_component ON record (component, position, issue_type, outcome, time);
CREATE INDEX record_issue_type ON record (issue_type, position, outcome, time);
CREATE INDEX record_outcome ON record (outcome, position, time);
COMMIT;
"""


class Shelved(NamedTuple):
    """An ended issue: the position and time (microseconds since 1970) of its detection, what it is
    found by, and `body`, its whole record in MessagePack (see `history.shown`)."""

    position: int
    issue: str
    component: str
    issue_type: str
    outcome: str
    time: int
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which records; all given conditions hold together. `below` is a position that is not
    included; of the times `since` is included and `until` is not."""

    component: str | None = None
    issue_type: str | None = None
    outcome: str | None = None
    since: int | None = None
    until: int | None = None
    below: int | None = None

    def fits(self, record: Shelved) -> bool:
        """Whether it is one of them."""
        return (
            (self.component is None or record.component == self.component)
            and (self.issue_type is None or record.issue_type == self.issue_type)
            and (self.outcome is None or record.outcome == self.outcome)
            and (self.since is None or record.time >= self.since)
            and (self.until is None or record.time < self.until)
            and (self.below is None or record.position < self.below)
        )


class Shelf:
    """Ended issues, by position. `trouble` says why records wait in memory: the disk refused them;
    they are found as well, and it is tried again with those that follow.

    It belongs to its fold and is used by one thread at a time.
    """

    def __init__(self) -> None:
        self._connection: sqlite3.Connection | None = None
        self._bodies = -1
        self._end = 0
        self._waiting: list[Shelved] = []
        self._indexed = False
        self._spans: dict[int, tuple[int, int]] = {}
        self.trouble: str | None = None

    def add(self, record: Shelved) -> None:
        """Put an issue on the shelf."""
        block, time = record.position // _BLOCK, record.time
        first, last = self._spans.get(block) or (time, time)
        if not first < time <= last:
            self._spans[block] = min(first, time), max(last, time)
        self._waiting.append(record)
        if len(self._waiting) % _WAITING == 0:
            self._write()

    def newest(self, wanted: Wanted) -> Iterator[Shelved]:
        """The records that are `wanted`, the newest detection first.

        Raises:
            StoreError: the file cannot be read.
        """
        self._write()
        waiting = sorted(filter(wanted.fits, self._waiting), reverse=True)
        return heapq.merge(waiting, self._stored(wanted), key=_newest_first)

    def get(self, issue: str) -> Shelved | None:
        """The record of an issue; raises as `newest` does."""
        self.prepare()
        found = next((each for each in self._waiting if each.issue == issue), None)
        if found is not None:
            return found
        return next(self._select(f"{self._by('issue')} WHERE issue = ?", [issue]), None)

    def merge(self, other: Shelf) -> None:
        """Take in all of `other`."""
        for record in other.newest(Wanted()):
            self.add(record)

    def close(self) -> None:
        """Forget everything; harmless when done twice."""
        if self._connection is not None:
            self._connection.close()
            os.close(self._bodies)
            self._connection = None

    def __del__(self) -> None:
        self.close()

    def _write(self) -> None:
        if not self._waiting:
            return
        try:
            connection = self._opened()
            end, rows = self._end, []
            for record in self._waiting:
                size = len(record.body)
                rows.append((*record[:6], end, size))
                end += size
            bodies = b"".join([record.body for record in self._waiting])
            _write_at(self._bodies, bodies, self._end)
            with connection:
                connection.executemany("INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        except (sqlite3.OperationalError, OSError) as error:
            self.trouble = f"ended issues stay in memory: cannot write a temporary file ({error})"
        else:
            self.trouble = None
            self._end = end
            self._waiting.clear()

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            # Nobody else opens it, and nothing is left of it when its last user is gone: the names
            # are gone as soon as the files are open.
            with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", _PLACE)) as place:
                # The fold may run in a thread, and is asked on the loop's when it has ended.
                connection = sqlite3.connect(Path(place) / "shelf", check_same_thread=False)
                try:
                    connection.executescript(_TABLES)
                    bodies = os.open(Path(place) / "bodies", os.O_RDWR | os.O_CREAT, 0o600)
                except (sqlite3.OperationalError, OSError):
                    connection.close()
                    raise
                self._bodies = bodies
            self._connection = connection
        return self._connection

    def prepare(self) -> None:
        """Make the indexes, if they are not there: a tenth of a second for 50,000 issues. Who only
        puts away or looks through all needs none; who asks makes them at the first question, or
        goes without them while the disk refuses."""
        self._write()
        if self._connection is None or self._indexed:
            return
        try:
            self._connection.executescript(_INDEXES)
        except sqlite3.OperationalError as error:
            self._connection.rollback()
            self.trouble = f"the history is slow: cannot index a temporary file ({error})"
        else:
            self._indexed = True

    def _by(self, column: str) -> str:
        return f"record INDEXED BY record_{column}" if self._indexed else "record NOT INDEXED"

    def _stored(self, wanted: Wanted) -> Iterator[Shelved]:
        span = self._positions(wanted)
        if span is None:
            return
        first, last = span
        if wanted.below is not None:
            last = min(last, wanted.below - 1)
        table = "record NOT INDEXED"
        where = "position BETWEEN ? AND ?"
        values: list[str | int] = [first, last]
        # The planner knows nothing of how the values are spread: the last one here is the best in
        # every case.
        for name in ("outcome", "issue_type", "component"):
            value = getattr(wanted, name)
            if value is not None:
                self.prepare()
                table = self._by(name)
                where += f" AND {name} = ?"
                values.append(value)
        for bound, condition in ((wanted.since, "time >= ?"), (wanted.until, "time < ?")):
            if bound is not None:
                where += f" AND {condition}"
                values.append(bound)
        yield from self._select(f"{table} WHERE {where}", values)

    def _positions(self, wanted: Wanted) -> tuple[int, int] | None:
        """Between which positions all records stand whose times are wanted; None: there is none."""
        since, until = wanted.since, wanted.until
        blocks = [
            block
            for block, (first, last) in self._spans.items()
            if (since is None or last >= since) and (until is None or first < until)
        ]
        return (min(blocks) * _BLOCK, (max(blocks) + 1) * _BLOCK - 1) if blocks else None

    def _select(self, source: str, values: Sequence[str | int]) -> Iterator[Shelved]:
        if self._connection is None:
            return
        query = (
            "SELECT position, issue, component, issue_type, outcome, time, place, size "  # noqa: S608 - ours
            f"FROM {source} ORDER BY position DESC"
        )
        try:
            for row in self._connection.execute(query, values):
                yield Shelved._make((*row[:6], os.pread(self._bodies, row[7], row[6])))
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"cannot read the shelf of ended issues: {error}") from error


def _write_at(file: int, content: bytes, place: int) -> None:
    if os.pwrite(file, content, place) < len(content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _newest_first(record: Shelved) -> int:
    return -record.position
