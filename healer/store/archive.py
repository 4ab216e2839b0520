"""Moving the oldest events of a log into an archive, which stays a part of it.

What is moved is a whole prefix: all events up to a position that no finished issue lies across. The
files are written, read back and verified first; then one transaction signs for them and deletes the
rows. Killed before it, nothing has changed, and what lies around is removed by the next run; killed
behind it, all is done.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from healer.errors import StoreError
from healer.store.codec import Codec
from healer.store.cold import GROUP, Row, parquet, segments_of
from healer.store.connection import check_directory, check_file, refusals
from healer.store.cut import cut_of
from healer.store.ledger import Ledger, require_log
from healer.store.lock import Lock
from healer.store.notary import Sealing
from healer.store.schema import archived_claims, log_id
from healer.store.segment import Progress, tidy, write
from healer.store.witness import FileWitness

__all__ = ["Archived", "archive", "microseconds"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_ALL: Final = "SELECT position, stream, version, topic, time, body, hash FROM event "


@dataclass(frozen=True, slots=True)
class Archived:
    """What was moved: `events` of them (0: nothing), up to position `last`, into `path`.

    `size` is what its files take, `freed` by how much the log's file shrank, in bytes. `held_by` is
    the issue that kept younger events in the log, None where the date alone did. `unreturned` says
    why the space of what was moved could not be given back; the next run does it.
    """

    events: int
    last: int
    path: Path | None
    size: int
    freed: int
    held_by: str | None
    unreturned: str | None


def archive(
    path: Path,
    before: datetime,
    *,
    directory: Path | None = None,
    codec: Codec | None = None,
    witness: Path | None = None,
    on_progress: Progress = lambda _done, _total: None,
) -> Archived:
    """Move the events of the log in `path` that are older than `before`, as far as all issues among
    them have ended, into `directory` (`<path>.archive` where none is given). Blocks.

    Raises:
        StoreBusyError: a healer has the log open.
        StoreError: the log is broken, or something could not be written; then nothing has changed.
    """
    parquet()
    file = path.resolve()
    check_directory(file)
    check_file(file, writing=True)
    require_log(file, new=False)
    place = (directory or file.with_name(f"{file.name}.archive")).resolve()
    key = file.with_name(f"{file.name}.key")
    sealing = Sealing(key, witness=FileWitness(witness) if witness else None)
    lock = Lock(file)
    try:
        ledger = Ledger(file, codec or Codec(), sealing=sealing)
        try:
            return _archive(file, ledger, place, before, on_progress)
        except StoreError as error:
            raise StoreError(f"{error}; nothing was moved") from error
        finally:
            ledger.close()
    finally:
        lock.release()


def _archive(
    file: Path, ledger: Ledger, place: Path, before: datetime, on_progress: Progress
) -> Archived:
    if ledger.broken is not None:
        raise StoreError(f"cannot archive {file}: {ledger.broken}")
    connection = ledger.connection
    with refusals(f"archive {file}"):
        known = segments_of(connection, file)
        warm = _Rows(connection)
        tidy(warm, place, known)
        cut = cut_of(
            connection.execute,
            microseconds(before),
            archived_claims(connection),
            by="INDEXED BY event_lifetime",
        )
        size_before = file.stat().st_size
        size, kept = 0, None
        if cut.last >= cut.first:
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
            segment = write(warm, place, cut, known, on_progress)
            relative = segment.path
            with suppress(ValueError):
                relative = segment.path.relative_to(file.parent)
            ledger.archive(segment, relative, cut.streams)
            size = segment.path.stat().st_size + segment.streams.stat().st_size
            kept = segment.path
        unreturned = _return_space(ledger)
    return Archived(
        events=cut.last - cut.first + 1,
        last=cut.last,
        path=kept,
        size=size,
        freed=max(0, size_before - file.stat().st_size),
        held_by=cut.held_by,
        unreturned=unreturned,
    )


def microseconds(moment: datetime) -> int:
    """A time as logs store it: since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


class _Rows:
    """The events in a file; nobody else writes it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.log_id = log_id(connection)

    def hash_at(self, position: int) -> bytes | None:
        """See `Warm.hash_at`."""
        query = "SELECT hash FROM event WHERE position = ?"
        row = self._connection.execute(query, (position,)).fetchone()
        return None if row is None else bytes(row[0])

    def rows(self, last: int) -> Iterator[list[Row]]:
        """See `Warm.rows`."""
        found = self._connection.execute(f"{_ALL} WHERE position <= ? ORDER BY position", (last,))
        while batch := found.fetchmany(GROUP):
            yield batch

    def stream(self, stream: str, version: int) -> Sequence[Row]:
        """See `Warm.stream`."""
        query = f"{_ALL} WHERE stream = ? AND version <= ? ORDER BY version"
        return self._connection.execute(query, (stream, version)).fetchall()


def _return_space(ledger: Ledger) -> str | None:
    """Give the pages of deleted rows back to the file system; why that could not be done."""
    try:
        (free,) = ledger.connection.execute("PRAGMA freelist_count").fetchone()
        if free:
            # Positions are an explicit key: unlike bare rowids they survive it.
            ledger.connection.execute("VACUUM")
        ledger.checkpoint()
    except sqlite3.Error as error:
        return str(error)
    return None
