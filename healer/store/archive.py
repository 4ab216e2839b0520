"""Moving the oldest events of a log into an archive, which stays a part of it.

What is moved is a whole prefix: all events up to a position that no issue lies across, so that what
stays behind begins between issues. The files are written, read back and verified first; then one
transaction signs for them and deletes the rows. Killed before it, nothing has changed, and what
lies around is removed by the next run; killed behind it, all is done.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

from healer.domain.events import IssueDetected
from healer.errors import StoreError
from healer.store.chain import Link, first_break, genesis
from healer.store.codec import Codec
from healer.store.cold import COLUMNS, GROUP, Cold, Row, Segment, digest_of, parquet, segments_of
from healer.store.connection import check_directory, check_file, refusals
from healer.store.ledger import Ledger
from healer.store.lock import Lock
from healer.store.notary import Sealing
from healer.store.schema import LIFE_TOPICS, log_id
from healer.store.witness import FileWitness

__all__ = ["Archived", "archive"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_LEVEL: Final = 6
_ALL: Final = "SELECT position, stream, version, topic, time, body, hash FROM event "

Progress = Callable[[int, int], None]


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


class _Cut(NamedTuple):
    """Where to cut, and the streams that go on: name → version there."""

    first: int
    last: int
    held_by: str | None
    streams: dict[str, int]


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
    place = (directory or file.with_name(f"{file.name}.archive")).resolve()
    key = file.with_name(f"{file.name}.key")
    sealing = Sealing(key, witness=FileWitness(witness) if witness else None)
    lock = Lock(file)
    try:
        ledger = Ledger(file, codec or Codec(), sealing=sealing)
        try:
            return _archive(file, ledger, place, before, on_progress)
        finally:
            ledger.close()
    finally:
        lock.release()


def _archive(
    file: Path, ledger: Ledger, place: Path, before: datetime, on_progress: Progress
) -> Archived:
    if ledger.broken is not None:
        raise StoreError(f"cannot archive {file}: {ledger.broken}; nothing was moved")
    connection = ledger.connection
    with refusals(f"archive {file}"):
        known = segments_of(connection, file)
        _tidy(connection, place, known)
        cut = _cut(connection, (before - _EPOCH) // _MICROSECOND)
        size_before = file.stat().st_size
        size, kept = 0, None
        if cut.last >= cut.first:
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
            segment = _write(connection, place, cut, known, on_progress)
            relative = segment.path
            with suppress(ValueError):
                relative = segment.path.relative_to(file.parent)
            ledger.archive(segment, relative, cut.streams)
            size = segment.path.stat().st_size + segment.streams.stat().st_size
            kept = segment.path
        unreturned = _return_space(ledger)
        ledger.seal(closing=True)
        ledger.checkpoint()
    return Archived(
        events=max(0, cut.last - cut.first + 1),
        last=max(cut.last, cut.first - 1),
        path=kept,
        size=size,
        freed=max(0, size_before - file.stat().st_size),
        held_by=cut.held_by,
        unreturned=unreturned,
    )


def _tidy(connection: sqlite3.Connection, place: Path, known: Sequence[Segment]) -> None:
    """Remove what a run that died has left. A finished file that no signature names goes only when
    the log still has its last event: a log that came back from a backup may have lost it."""
    for path in place.glob(".new-*.parquet"):
        path.unlink()
    named = {segment.path for segment in known}
    for path in place.glob("events-*.parquet"):
        last = path.stem.rpartition("-")[2]
        if path in named or not last.isdigit():
            continue
        row = connection.execute("SELECT hash FROM event WHERE position = ?", (int(last),))
        left = Segment(0, int(last), b"", b"", path)
        if row.fetchone() == (_last_hash(left),):
            path.unlink()
            left.streams.unlink(missing_ok=True)


def _last_hash(segment: Segment) -> bytes | None:
    cold = Cold([segment])
    last: bytes | None = None
    try:
        for batch in cold.batches(segment):
            last = batch[-1][-1]
    except (StoreError, LookupError):
        return None
    finally:
        cold.close()
    return last


def _cut(connection: sqlite3.Connection, before: int) -> _Cut:
    execute = connection.execute
    (first,) = execute("SELECT coalesce(min(position), 1) FROM event").fetchone()
    (last,) = execute("SELECT coalesce(max(position), 0) FROM event").fetchone()
    young = execute(
        "SELECT position FROM event WHERE time >= ? ORDER BY position LIMIT 1", (before,)
    ).fetchone()
    cut = last if young is None else young[0] - 1
    ends = dict(execute("SELECT stream, max(position) FROM event GROUP BY stream"))
    begun: list[tuple[int, str]] = []
    over: set[str] = set()
    for position, topic, stream in execute(
        "SELECT position, topic, stream FROM event INDEXED BY event_life "  # noqa: S608 - constants
        f"WHERE topic IN ({LIFE_TOPICS}) ORDER BY position"
    ):
        if topic == IssueDetected.TOPIC:
            begun.append((position, stream))
        else:
            over.add(stream)
    held_by = None
    # From the youngest: each issue that lies across the cut moves it in front of its beginning.
    for position, stream in reversed(begun):
        if position <= cut and (stream not in over or ends[stream] > cut):
            cut, held_by = position - 1, stream
    issues = {stream for _, stream in begun}
    going_on = {
        stream: version
        for stream, version in execute(
            "SELECT stream, max(version) FROM event WHERE position <= ? GROUP BY stream", (cut,)
        )
        if stream not in issues
    }
    return _Cut(first, cut, held_by, going_on)


def _write(
    connection: sqlite3.Connection,
    place: Path,
    cut: _Cut,
    known: Sequence[Segment],
    on_progress: Progress,
) -> Segment:
    """The two files, whole, durable and proved to hold what the log holds."""
    name = f"events-{cut.first:012}-{cut.last:012}.parquet"
    (head,) = connection.execute(
        "SELECT hash FROM event WHERE position = ?", (cut.last,)
    ).fetchone()
    fresh = Segment(cut.first, cut.last, head, b"", place / f".new-{name}")
    total = cut.last - cut.first + 1
    try:
        rows = connection.execute(f"{_ALL} WHERE position <= ? ORDER BY position", (cut.last,))
        _fill(fresh.path, _batches(rows), lambda done: on_progress(done, total))
        _fill(fresh.streams, _going_on(connection, cut), lambda _done: None)
        cold = Cold([fresh])
        try:
            previous = known[-1].head if known else genesis(log_id(connection))
            links = (
                Link(position, stream, version, topic, body, stored)
                for batch in cold.batches(fresh)
                for position, stream, version, topic, _, body, stored in batch
            )
            broken = first_break(links, after=cut.first - 1, previous=previous)
        finally:
            cold.close()
        _require(broken is None, cut, broken)
        segment = Segment(cut.first, cut.last, head, digest_of(fresh), place / name)
        known_name = segment.path.exists() or segment.streams.exists()
        _require(not known_name, cut, f"{segment.path} is there and is not of this log")
        fresh.path.replace(segment.path)
        fresh.streams.replace(segment.streams)
        _sync(place)
        _sync(place.parent)
    except BaseException:
        for path in (fresh.path, fresh.streams):
            path.unlink(missing_ok=True)
        raise
    return segment


def _require(fine: bool, cut: _Cut, why: str | None) -> None:
    if not fine:
        raise StoreError(f"cannot archive up to event {cut.last}: {why}; nothing was moved")


def _batches(rows: sqlite3.Cursor) -> Iterator[list[Row]]:
    while batch := rows.fetchmany(GROUP):
        yield batch


def _going_on(connection: sqlite3.Connection, cut: _Cut) -> Iterator[list[Row]]:
    waiting: list[Row] = []
    for stream in sorted(cut.streams):
        waiting += connection.execute(
            f"{_ALL} WHERE stream = ? AND version <= ? ORDER BY version",
            (stream, cut.streams[stream]),
        )
        if len(waiting) >= GROUP:
            yield waiting
            waiting = []
    yield waiting


def _fill(path: Path, batches: Iterator[list[Row]], on_progress: Callable[[int], None]) -> None:
    arrow, writing = parquet()
    types = {
        "position": arrow.int64(),
        "stream": arrow.string(),
        "version": arrow.int64(),
        "topic": arrow.string(),
        "time": arrow.int64(),
        "body": arrow.binary(),
        "hash": arrow.binary(32),
    }
    schema = arrow.schema([arrow.field(name, types[name], nullable=False) for name in COLUMNS])
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    done = 0
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        writer: Any = writing.ParquetWriter(
            file,
            schema,
            compression="zstd",
            compression_level=_LEVEL,
            use_dictionary=["stream", "topic"],
        )
        try:
            for batch in batches:
                columns = list(zip(*batch, strict=True)) or [()] * len(COLUMNS)
                arrays = [
                    arrow.array(column, type=types[name])
                    for name, column in zip(COLUMNS, columns, strict=True)
                ]
                table = arrow.Table.from_arrays(arrays, schema=schema)
                writer.write_table(table, row_group_size=max(len(batch), 1))
                done += len(batch)
                on_progress(done)
            writer.close()
        except BaseException:
            writer.is_open = False
            raise
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _return_space(ledger: Ledger) -> str | None:
    """Give the pages of deleted rows back to the file system; why that could not be done."""
    try:
        (free,) = ledger.connection.execute("PRAGMA freelist_count").fetchone()
        if free:
            # Positions are an explicit key: unlike bare rowids they survive it.
            ledger.connection.execute("VACUUM")
    except sqlite3.Error as error:
        return str(error)
    return None
