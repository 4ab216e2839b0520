"""A log as it is stored: raw rows, raw checkpoints, in one state of the file, and only read."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Generic, Protocol, Self, TypeVar

from healer.errors import StoreError
from healer.store import schema
from healer.store.cold import Cold, Row, Segment, digest_of, segments_of
from healer.store.connection import check_directory, check_file, connect, refusals

if TYPE_CHECKING:
    from replay.database import DatabaseArchive

__all__ = ["LAST", "Archive", "FileArchive", "Row", "StoredArchive", "open_database"]

LAST: Final = (1 << 63) - 1
"""The highest position that there can be."""

_BATCH: Final = 1000


class Archive(Protocol):
    """What a verifier needs of a store. All of it is one state of the log."""

    log_id: str
    """The name that the log gives itself."""

    head: int
    """The position of the last event."""

    given: int
    """The highest position that the store remembers to have given; `head` where it does not."""

    segments: Sequence[Segment]
    """What stands in archives, in order, by the store's own account."""

    absent: int
    """Events up to this position stand in archives that are not here: `rows` begins behind it."""

    streams: Mapping[str, int]
    """Streams that go on → the version that they had reached in the archives."""

    carried: Mapping[str, str]
    """Issues that were open where the archives end → their component."""

    def again(self) -> Callable[[], AbstractContextManager[Archive]]:
        """How another process opens it; can be pickled."""

    def seam(self, middle: int) -> tuple[int, bytes] | None:
        """Where rows can be read in two parts: the position and the stored hash of the last event
        up to `middle`, or of the last one in an archive; None where there is none. Raises as
        `rows`."""

    def rows(self, *, after: int = 0, until: int | None = None) -> Iterator[Sequence[Row]]:
        """All events in order of position, in batches; with `after` and `until`, a `seam` or the
        end, those in between. Raises StoreError where the store is damaged."""

    def notes(self) -> Iterator[str]:
        """The texts of all checkpoints, in the order of their signing; raises as `rows`."""

    def claims(self) -> dict[str, str]:
        """Component → its open issue, as the store has it; raises as `rows`."""


class Closable(Protocol):
    """A connection."""

    def close(self) -> None:
        """Let go of it."""


_C = TypeVar("_C", bound=Closable)


class StoredArchive(Generic[_C]):
    """What the archives of both stores have in common. A context manager."""

    log_id: str
    head: int
    given: int
    segments: Sequence[Segment]
    streams: Mapping[str, int]
    carried: Mapping[str, str]

    def __init__(self, connection: _C) -> None:
        self._connection = connection
        try:
            self._begin()
        except BaseException:
            connection.close()
            raise
        self.absent = max((each.last for each in self.segments if not each.here), default=0)

    def _begin(self) -> None:
        """Read what the log says of itself, in the state that all is read from."""
        raise NotImplementedError

    @property
    def _archived_end(self) -> int:
        return self.segments[-1].last if self.segments else 0

    def _archived_seam(self, middle: int) -> tuple[int, bytes] | None:
        """The end of the archives, where `middle` stands in them; see `Archive.seam`."""
        if middle > self._archived_end or not self.segments:
            return None
        return self.segments[-1].last, self.segments[-1].head

    def _archived(self, after: int, until: int) -> Iterator[Sequence[Row]]:
        """The archived events that are here, behind `after` up to `until`, each file compared with
        what was signed of it."""
        after = max(after, self.absent)
        with closing(Cold(self.segments)) as cold:
            for segment in self.segments:
                if segment.last <= after or segment.first > until:
                    continue
                with refusals(f"read the archive {segment.path}"):
                    if digest_of(segment.path) != segment.digest:
                        raise StoreError(
                            f"the archive {segment.path} does not hold what was signed"
                        )
                for batch in cold.batches(segment.path):
                    # Who opened the log later may find here what was in the table before.
                    if rows := [row for row in batch if after < row[0] <= until]:
                        yield rows

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()


class FileArchive(StoredArchive[sqlite3.Connection]):
    """The archive in a SQLite file, whether or not a healer has it open. A context manager.

    Raises:
        StoreError: it is not there, cannot be read, or is not a log of this schema.
    """

    def __init__(self, file: Path) -> None:
        self._file = file = file.resolve()
        check_directory(file)
        check_file(file, writing=False)
        with refusals(f"read {file}"):
            super().__init__(connect(file, writing=False))

    def again(self) -> Callable[[], AbstractContextManager[Archive]]:
        """See `Archive.again`."""
        return partial(FileArchive, self._file)

    def _begin(self) -> None:
        self._connection.execute("BEGIN")
        if not schema.require_schema(self._connection, self._file):
            raise StoreError(f"cannot read {self._file}: it is empty")
        self.log_id = schema.log_id(self._connection)
        self.segments = segments_of(self._connection, self._file)
        self.streams = schema.archived_streams(self._connection)
        self.carried = schema.archived_claims(self._connection)
        self.head = max(self._archived_end, self._number("SELECT max(position) FROM event"))
        query = "SELECT max(seq) FROM sqlite_sequence WHERE name = 'event'"
        self.given = max(self.head, self._number(query))

    def _number(self, query: str) -> int:
        (number,) = self._connection.execute(query).fetchone()
        return int(number or 0)

    def seam(self, middle: int) -> tuple[int, bytes] | None:
        """See `Archive.seam`."""
        if (end := self._archived_seam(middle)) is not None:
            return end
        with refusals(f"read {self._file}"):
            query = "SELECT position, hash FROM event WHERE position <= ? ORDER BY position DESC"
            found = self._connection.execute(f"{query} LIMIT 1", (middle,)).fetchone()
        return None if found is None else (found[0], found[1])

    def rows(self, *, after: int = 0, until: int | None = None) -> Iterator[Sequence[Row]]:
        """See `Archive.rows`."""
        last = LAST if until is None else until
        yield from self._archived(after, last)
        with refusals(f"read {self._file}"):
            cursor = self._connection.execute(
                "SELECT position, stream, version, topic, time, body, hash FROM event "
                "WHERE position > ? AND position <= ? ORDER BY position",
                (after, last),
            )
            while batch := cursor.fetchmany(_BATCH):
                yield batch

    def notes(self) -> Iterator[str]:
        """See `Archive.notes`."""
        with refusals(f"read {self._file}"):
            if schema.has_checkpoints(self._connection):
                for (note,) in self._connection.execute(
                    "SELECT note FROM checkpoint ORDER BY number"
                ):
                    yield note if isinstance(note, str) else repr(note)

    def claims(self) -> dict[str, str]:
        """See `Archive.claims`."""
        with refusals(f"read {self._file}"):
            return dict(self._connection.execute("SELECT component, issue FROM open_issue"))


def open_database(url: str) -> DatabaseArchive:
    """The archive in the PostgreSQL database that `url` names; a context manager.

    Raises:
        StoreError: psycopg is missing, or see `DatabaseArchive`.
    """
    from healer.store.url import postgres_log  # noqa: PLC0415 - opens logs of every kind

    postgres_log(url)
    from replay.database import DatabaseArchive  # noqa: PLC0415 - psycopg is an extra

    return DatabaseArchive(url)
