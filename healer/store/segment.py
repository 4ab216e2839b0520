"""Writing the files of an archive, and removing what a run that died has left of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from healer.errors import StoreError
from healer.store.chain import Link, first_break, genesis
from healer.store.cold import COLUMNS, GROUP, Cold, Row, Segment, digest_of, parquet, streams_of
from healer.store.cut import Cut

__all__ = ["Progress", "Warm", "tidy", "write"]

Progress = Callable[[int, int], None]

_LEVEL: Final = 6


class Warm(Protocol):
    """The events that a database still has, in one state of it. Raises what its store does."""

    log_id: str

    def hash_at(self, position: int) -> bytes | None:
        """The hash of the event at `position`; None: it is not there."""

    def rows(self, last: int) -> Iterator[list[Row]]:
        """All events up to `last`, in order of position, so many at once as make a row group."""

    def stream(self, stream: str, version: int) -> Sequence[Row]:
        """The events of a stream up to `version`, in order of it."""


def tidy(warm: Warm, place: Path, known: Sequence[Segment]) -> None:
    """Remove what a run that died has left. A finished file that no signature names goes only when
    the log still has its last event: a log that came back from a backup may have lost it."""
    for path in place.glob(".new-*.parquet"):
        path.unlink()
    named = {segment.path for segment in known}
    for path in place.glob("events-*.parquet"):
        last = path.stem.rpartition("-")[2]
        if path in named or not last.isdigit():
            continue
        stored = warm.hash_at(int(last))
        if stored is not None and stored == _last_hash(path):
            path.unlink()
            streams_of(path).unlink(missing_ok=True)


def _last_hash(events: Path) -> bytes | None:
    cold = Cold(())
    last: bytes | None = None
    try:
        for batch in cold.batches(events):
            last = batch[-1][-1]
    except (StoreError, LookupError):
        return None
    finally:
        cold.close()
    return last


def write(
    warm: Warm,
    place: Path,
    cut: Cut,
    known: Sequence[Segment],
    on_progress: Progress,
) -> Segment:
    """Write the two files of an archive into `place`: whole, durable, and proved to hold what the
    log holds.

    Raises:
        StoreError: the log is damaged, or there is a file of that name.
        OSError: a file was refused.
    """
    name = f"events-{cut.first:012}-{cut.last:012}.parquet"
    head = warm.hash_at(cut.last) or b""
    events = place / f".new-{name}"
    streams = streams_of(events)
    total = cut.last - cut.first + 1
    try:
        _fill(events, warm.rows(cut.last), lambda done: on_progress(done, total))
        _fill(streams, _going_on(warm, cut), lambda _done: None)
        cold = Cold(())
        try:
            previous = known[-1].head if known else genesis(warm.log_id)
            links = (
                Link(position, stream, version, topic, body, stored)
                for batch in cold.batches(events)
                for position, stream, version, topic, _, body, stored in batch
            )
            broken = first_break(links, after=cut.first - 1, previous=previous)
        finally:
            cold.close()
        _require(broken is None, cut, broken)
        segment = Segment(cut.first, cut.last, head, digest_of(events), place / name)
        known_name = segment.path.exists() or segment.streams.exists()
        _require(not known_name, cut, f"{segment.path} is there and is not of this log")
        events.replace(segment.path)
        streams.replace(segment.streams)
        _sync(place)
        _sync(place.parent)
    except BaseException:
        for path in (events, streams):
            path.unlink(missing_ok=True)
        raise
    return segment


def _require(fine: bool, cut: Cut, why: str | None) -> None:
    if not fine:
        raise StoreError(f"cannot archive up to event {cut.last}: {why}")


def _going_on(warm: Warm, cut: Cut) -> Iterator[list[Row]]:
    waiting: list[Row] = []
    for stream in sorted(cut.streams):
        waiting += warm.stream(stream, cut.streams[stream][0])
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
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
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
                writer.write_table(table)
                done += len(batch)
                on_progress(done)
            writer.close()
        except BaseException:
            writer.is_open = False
            raise
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
