"""Events that were archived: Parquet files that hold what their rows held, byte for byte.

An archive has two files for the same stretch of the log. `events-FIRST-LAST.parquet` has every
event in order of position, and is what is verified. `streams-FIRST-LAST.parquet` has those of
streams that go on (components) once more, in order of stream and version: a component is loaded
from a few thousand rows instead of from all.
"""

from __future__ import annotations

import importlib
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

from healer.errors import StoreError
from healer.store.schema import archived_end

__all__ = [
    "COLUMNS",
    "GROUP",
    "Cold",
    "Row",
    "Segment",
    "digest_of",
    "parquet",
    "segments_of",
    "streams_of",
]

Row = tuple[int, str, int, str, int, bytes, bytes]
"""Position, stream, version, topic, time (microseconds since 1970), body, hash."""

COLUMNS: Final = ("position", "stream", "version", "topic", "time", "body", "hash")

GROUP: Final = 4096
"""Rows of a row group: what is decoded to reach one row."""

_KEPT: Final = 4
_CHUNK: Final = 1 << 20


class Segment(NamedTuple):
    """Events `first` to `last`; `head` is the hash of the last, `digest` the SHA-256 of both files.
    `path` is that of the events."""

    first: int
    last: int
    head: bytes
    digest: bytes
    path: Path

    @property
    def streams(self) -> Path:
        """The file of the streams that go on."""
        return streams_of(self.path)

    @property
    def here(self) -> bool:
        """Whether both files are where they should be."""
        return self.path.exists() and self.streams.exists()


def streams_of(path: Path) -> Path:
    """The file of the streams that go on, beside that of the events in `path`."""
    return path.with_name(path.name.replace("events-", "streams-", 1))


def segments_of(connection: sqlite3.Connection, file: Path) -> tuple[Segment, ...]:
    """The archives of the log in `file`, in order; a file that was moved is looked for beside it.

    Raises:
        sqlite3.Error: the log cannot be read.
    """
    if archived_end(connection) is None:
        return ()
    found = []
    for first, last, head, digest, path in connection.execute(
        "SELECT first, last, head, digest, path FROM archive ORDER BY last"
    ):
        stored = file.parent / path
        beside = file.with_name(f"{file.name}.archive") / stored.name
        place = stored if stored.exists() else beside if beside.exists() else stored
        found.append(Segment(first, last, head, digest, place))
    return tuple(found)


def parquet() -> tuple[Any, Any]:
    """The modules `pyarrow` and `pyarrow.parquet`.

    Raises:
        StoreError: they are not installed.
    """
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise StoreError(
            f"cannot use an archive: pyarrow is missing ({error}); "
            "install it with: pip install 'network-healer[export]'"
        ) from error


def digest_of(events: Path) -> bytes:
    """SHA-256 of the bytes of both files of an archive, whose events are in `events`.

    Raises:
        OSError: one of them cannot be read.
    """
    digest = sha256()
    for path in (events, streams_of(events)):
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.digest()


class Cold:
    """The archived part of a log, read at random; safe for threads."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        self.segments = tuple(segments)
        self._lock = threading.Lock()
        self._files: dict[Path, Any] = {}
        self._groups: OrderedDict[tuple[Path, int], list[Row]] = OrderedDict()

    @property
    def last(self) -> int:
        """The position of the last archived event; 0 when there is none."""
        return self.segments[-1].last if self.segments else 0

    def rows(self, after: int, limit: int) -> list[Row]:
        """At most `limit` archived events behind `after`, in order of position.

        Raises:
            StoreError: a file is missing or damaged.
        """
        found: list[Row] = []
        after = max(after, 0)
        for segment in self.segments:
            while after < segment.last and len(found) < limit:
                group, offset = divmod(after + 1 - segment.first, GROUP)
                rows = self._group(segment.path, group)[offset : offset + limit - len(found)]
                if not rows or rows[0][0] != after + 1:
                    raise _refused(segment.path, f"event {after + 1} is missing")
                found += rows
                after += len(rows)
        return found

    def require(self) -> None:
        """Look that every archive is there and can be read; raises as `rows`."""
        for segment in self.segments:
            self.rows(segment.first - 1, 1)
            if not segment.here:
                raise _refused(segment.streams, FileNotFoundError())

    def joined(self, after: int, limit: int, warm: list[Row]) -> list[Row]:
        """At most `limit` events behind `after`, of which the database gave `warm`: what stands in
        front of those, and as many of them as follow on. Raises as `rows`.

        Positions have no gaps: where `warm` does not follow `after`, what comes first was archived.
        """
        if limit <= 0 or (warm and warm[0][0] <= max(after, 0) + 1):
            return warm
        cold = self.rows(after, limit)
        meet = cold and warm and warm[0][0] == cold[-1][0] + 1
        return [*cold, *warm][:limit] if meet else cold or warm

    def batches(self, events: Path) -> Iterator[list[Row]]:
        """All events in one file, in order of position; raises as `rows`."""
        for group in range(self._count(events)):
            yield self._group(events, group)

    def stream(self, stream: str) -> list[Row]:
        """The archived events of a stream that goes on, in order of version; of an issue, which
        has ended, by looking through all events.

        Raises:
            StoreError: a file is missing or damaged.
        """
        found: list[Row] = []
        for segment in self.segments:
            found += self._of_stream(segment.streams, stream)
        for segment in self.segments if not found else ():
            found += self._of_stream(segment.path, stream)
        return found

    def _of_stream(self, path: Path, stream: str) -> list[Row]:
        _, reading = parquet()
        try:
            table = reading.read_table(
                path, columns=list(COLUMNS), filters=[("stream", "==", stream)], partitioning=None
            )
        except (OSError, ValueError) as error:
            raise _refused(path, error) from error
        return _rows_of(table)

    def _group(self, path: Path, number: int) -> list[Row]:
        with self._lock:
            key = (path, number)
            rows = self._groups.get(key)
            if rows is None:
                try:
                    rows = _rows_of(self._open(path).read_row_group(number, columns=list(COLUMNS)))
                except (OSError, ValueError) as error:
                    raise _refused(path, error) from error
                self._groups[key] = rows
                while len(self._groups) > _KEPT:
                    self._groups.popitem(last=False)
            return rows

    def _count(self, path: Path) -> int:
        with self._lock:
            try:
                return int(self._open(path).num_row_groups)
            except (OSError, ValueError) as error:
                raise _refused(path, error) from error

    def _open(self, path: Path) -> Any:
        found = self._files.get(path)
        if found is None:
            _, reading = parquet()
            found = self._files[path] = reading.ParquetFile(path)
        return found

    def close(self) -> None:
        """Let go of the files."""
        with self._lock:
            for file in self._files.values():
                file.close(force=True)
            self._files.clear()
            self._groups.clear()


def _rows_of(table: Any) -> list[Row]:
    columns = [table.column(name).to_pylist() for name in COLUMNS]
    return list(zip(*columns, strict=True))


def _refused(path: Path, why: object) -> StoreError:
    if isinstance(why, FileNotFoundError):
        why = "the file is not there; put it back, or where it is looked for (docs/archive.md)"
    return StoreError(f"cannot read the archive {path}: {why}")
