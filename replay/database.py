"""A log in PostgreSQL as it is stored. Needs psycopg: the extra `postgres`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Final

from psycopg import IsolationLevel

from healer.errors import StoreError
from healer.store.postgres import schema
from healer.store.postgres.archived import archived_claims, archived_streams, segments_of
from healer.store.postgres.connection import Connection, connect, refusals
from healer.store.postgres.place import locate
from replay.archive import LAST, Archive, Row, StoredArchive

__all__ = ["DatabaseArchive"]

_BATCH: Final = 2000


class DatabaseArchive(StoredArchive[Connection]):
    """The archive in the database that `url` names, whether or not healers append to it; a standby
    will do. A context manager.

    Raises:
        StoreError: it cannot be reached or read, or is not a log of this schema.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._place = place = locate(url)
        with refusals(f"read {place}"):
            super().__init__(connect(place, writing=False))

    def _begin(self) -> None:
        connection = self._connection
        # One state of the log for as long as it is read, whatever is appended meanwhile; and as
        # slowly as whoever reads it judges. It locks nothing that an append needs.
        connection.execute("SET idle_in_transaction_session_timeout = 0")
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.autocommit = False
        if not schema.require_schema(connection, self._place):
            raise StoreError(f"cannot read {self._place}: it is empty")
        self.log_id = schema.log_id(connection)
        self.segments = segments_of(connection)
        self.streams = archived_streams(connection)
        self.carried = archived_claims(connection)
        self.head = max(self._archived_end, self._number("SELECT max(position) FROM healer.event"))
        self.given = max(self.head, self._number("SELECT max(position) FROM healer.head"))

    def _number(self, query: str) -> int:
        row = self._connection.execute(query.encode()).fetchone()
        return int(row[0] or 0) if row else 0

    def again(self) -> Callable[[], AbstractContextManager[Archive]]:
        """See `Archive.again`."""
        return partial(DatabaseArchive, self._url)

    def seam(self, middle: int) -> tuple[int, bytes] | None:
        """See `Archive.seam`."""
        if (end := self._archived_seam(middle)) is not None:
            return end
        with refusals(f"read {self._place}"):
            found = self._connection.execute(
                "SELECT position, hash FROM healer.event WHERE position <= %s "
                "ORDER BY position DESC LIMIT 1",
                (middle,),
            ).fetchone()
        return None if found is None else (found[0], found[1])

    def rows(self, *, after: int = 0, until: int | None = None) -> Iterator[Sequence[Row]]:
        """See `Archive.rows`."""
        last = LAST if until is None else until
        yield from self._archived(after, last)
        with refusals(f"read {self._place}"), self._connection.cursor("rows") as cursor:
            cursor.execute(
                "SELECT position, stream, version, topic, time, body, hash FROM healer.event "
                "WHERE position > %s AND position <= %s ORDER BY position",
                (after, last),
                binary=True,
            )
            while batch := cursor.fetchmany(_BATCH):
                yield batch

    def notes(self) -> Iterator[str]:
        """See `Archive.notes`."""
        with refusals(f"read {self._place}"):
            if not schema.has_checkpoints(self._connection):
                return
            with self._connection.cursor("notes") as cursor:
                cursor.execute("SELECT note FROM healer.checkpoint ORDER BY number")
                for (note,) in cursor:
                    yield note

    def claims(self) -> dict[str, str]:
        """See `Archive.claims`."""
        with refusals(f"read {self._place}"):
            query = "SELECT component, issue FROM healer.open_issue"
            return dict(self._connection.execute(query).fetchall())
