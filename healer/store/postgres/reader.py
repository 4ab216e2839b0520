"""Reading the log, beside the connection that appends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import psycopg

from healer.domain.events import Fact
from healer.errors import StoreError
from healer.ports import Holder, Recorded
from healer.store.codec import Codec
from healer.store.cold import Row
from healer.store.postgres import inspection
from healer.store.postgres.archived import Stored
from healer.store.postgres.connection import Connection, UnreachableError, connect, refusals
from healer.store.postgres.place import Place

__all__ = ["Reader", "select"]

_T = TypeVar("_T")
_THREADS: Final = 2


def select(
    connection: Connection,
    stored: Stored,
    codec: Codec,
    *,
    after: int,
    limit: int,
    unreadable: Callable[[StoreError], None] | None = None,
) -> list[Recorded]:
    """At most `limit` facts behind `after`, in log order. One that cannot be decoded is left out
    where `unreadable` hears of it.

    Raises:
        StoreError: one of them cannot be decoded, and nobody else is told; or an archive cannot
            be read.
        psycopg.Error: the database does not answer.
    """
    facts = []
    for position, stream, version, topic, _, body, _ in stored.rows(connection, after, limit):
        try:
            event = codec.decode(stream, version, topic, body, place=f"event {position}")
        except StoreError as error:
            if unreadable is None:
                raise
            unreadable(error)
        else:
            facts.append(Recorded(position, event))
    return facts


class Reader:
    """Read-only connections, one for each thread of a small pool of their own."""

    def __init__(self, place: Place, codec: Codec) -> None:
        self._place = place
        self._codec = codec
        self._local = threading.local()
        self._connections: list[Connection] = []
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="healer-log-reader")
        self._closed = False
        self._stored = Stored()

    async def read(self, after: int, limit: int) -> list[Recorded]:
        """At most `limit` facts behind `after`, in log order."""
        return await self._run(
            lambda connection: select(
                connection, self._stored, self._codec, after=after, limit=limit
            )
        )

    async def rows(self, after: int, limit: int) -> list[Row]:
        """At most `limit` events behind `after` as they are stored, in log order."""
        return await self._run(lambda connection: self._stored.rows(connection, after, limit))

    async def require_past(self) -> None:
        """See `StoredEvents.require_past`."""
        await self._run(lambda connection: self._stored.cold(connection).require())

    async def news(self, after: int, limit: int) -> list[Recorded]:
        """As `read`; nothing while the database does not answer, because it will later."""
        try:
            return await self.read(after, limit)
        except UnreachableError:
            return []

    async def stream(self, stream_id: str) -> list[Fact]:
        """All facts of one stream, in order."""

        def select(connection: Connection) -> list[Fact]:
            decode = self._codec.decode
            return [
                decode(stream_id, version, topic, body, place=f"event {position}")
                for position, _, version, topic, _, body, _ in self._stored.stream(
                    connection, stream_id
                )
            ]

        return [] if "\0" in stream_id else await self._run(select)

    async def open_issues(self) -> dict[str, str]:
        """Component → its open issue."""
        return await self._run(inspection.open_issues)

    async def holder(self, component: str) -> Holder | None:
        """Who carries the component's open issue."""

        def ask(connection: Connection) -> Holder | None:
            row = connection.execute(
                "SELECT issue, node, coalesce(extract(epoch FROM expires - clock_timestamp()), 0) "
                "FROM healer.open_issue WHERE component = %s",
                (component,),
            ).fetchone()
            return None if row is None else Holder(row[0], row[1], float(row[2]))

        return None if "\0" in component else await self._run(ask)

    async def head(self) -> int:
        """The position of the last fact; 0 in an empty log."""
        return await self._run(self._stored.head)

    def now(self, query: Callable[[Connection], _T]) -> _T:
        """Run `query` in the pool and wait for it, blocking: for the opening only."""
        return self._pool.submit(self._ask, query, "open").result()

    async def _run(self, query: Callable[[Connection], _T]) -> _T:
        if self._closed:
            raise StoreError(f"cannot read {self._place}: the log is closed")
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._ask, query)

    def _ask(self, query: Callable[[Connection], _T], doing: str = "read") -> _T:
        with refusals(f"{doing} {self._place}"):
            connection, fresh = self._connection()
            try:
                return query(connection)
            except psycopg.Error:
                if not connection.broken:
                    raise
                self._drop(connection)
                if fresh:
                    raise
            # It was lost while nobody used it: only a new one can tell how the database is.
            connection, _ = self._connection()
            return query(connection)

    def _connection(self) -> tuple[Connection, bool]:
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is not None and not connection.broken:
            return connection, False
        if connection is not None:
            self._drop(connection)
        connection = connect(self._place, writing=False)
        self._local.connection = connection
        self._connections.append(connection)
        return connection, True

    def _drop(self, connection: Connection) -> None:
        self._local.connection = None
        self._connections.remove(connection)
        connection.close()

    def refuse(self) -> None:
        """Take no more reads; those that run go on."""
        self._closed = True

    def close(self) -> None:
        """Wait for the reads that run, then close the connections; blocking."""
        self._closed = True
        self._pool.shutdown(wait=True)
        while self._connections:
            self._connections.pop().close()
        self._stored.close()
