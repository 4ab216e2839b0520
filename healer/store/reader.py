"""Reading a log file, beside the connection that writes it."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from healer.domain.events import Fact
from healer.errors import StoreError
from healer.ports import Recorded
from healer.store import claim
from healer.store.codec import Codec
from healer.store.cold import Cold, Row, segments_of
from healer.store.connection import connect, refusals

__all__ = ["Reader", "select"]

_T = TypeVar("_T")
_THREADS: Final = 2


def select(
    connection: sqlite3.Connection, codec: Codec, *, after: int, limit: int
) -> list[Recorded]:
    """At most `limit` facts behind `after`, in log order.

    Raises:
        StoreError: one of them cannot be decoded.
        sqlite3.Error: the file cannot be read.
    """
    rows = connection.execute(
        "SELECT position, stream, version, topic, body FROM event "
        "WHERE position > ? ORDER BY position LIMIT ?",
        (after, limit),
    )
    decode = codec.decode
    return [
        Recorded(position, decode(stream, version, topic, body, place=f"event {position}"))
        for position, stream, version, topic, body in rows
    ]


class Reader:
    """Read-only connections, one for each thread of a small pool of their own.

    Raises:
        StoreError: the file cannot be read.
    """

    def __init__(self, file: Path, codec: Codec) -> None:
        self._file = file
        self._codec = codec
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="healer-log-reader")
        self._closed = False
        self._archive = Cold(())
        # The first connection is opened now, so that the writer's is never the last one to close:
        # after a failed write it must not try to checkpoint on its way out.
        try:
            self._pool.submit(self._connection).result()
        except StoreError:
            self._pool.shutdown()
            raise

    async def read(self, after: int, limit: int) -> list[Recorded]:
        """At most `limit` facts behind `after`, in log order."""

        def read(connection: sqlite3.Connection) -> list[Recorded]:
            decode = self._codec.decode
            return [
                Recorded(position, decode(stream, version, topic, body, place=f"event {position}"))
                for position, stream, version, topic, _, body, _ in self._stored(
                    connection, after, limit
                )
            ]

        return await self._run(read)

    async def rows(self, after: int, limit: int) -> list[Row]:
        """At most `limit` events behind `after` as they are stored, in log order."""
        return await self._run(lambda connection: self._stored(connection, after, limit))

    def _stored(self, connection: sqlite3.Connection, after: int, limit: int) -> list[Row]:
        found: list[Row] = connection.execute(
            "SELECT position, stream, version, topic, time, body, hash FROM event "
            "WHERE position > ? ORDER BY position LIMIT ?",
            (after, limit),
        ).fetchall()
        if found and found[0][0] == max(after, 0) + 1:
            return found
        return self._cold(connection).joined(after, limit, found)

    async def require_past(self) -> None:
        """See `StoredEvents.require_past`."""
        await self._run(lambda connection: self._cold(connection).require())

    def _cold(self, connection: sqlite3.Connection) -> Cold:
        segments = segments_of(connection, self._file)
        if segments != self._archive.segments:
            self._archive = Cold(segments)
        return self._archive

    async def stream(self, stream_id: str) -> list[Fact]:
        """All facts of one stream, in order."""

        def select(connection: sqlite3.Connection) -> list[Fact]:
            rows = connection.execute(
                "SELECT position, version, topic, body FROM event WHERE stream = ? "
                "ORDER BY version",
                (stream_id,),
            ).fetchall()
            if not rows or rows[0][1] > 1:
                first = rows[0][1] if rows else None
                rows = [
                    (position, version, topic, body)
                    for position, _, version, topic, _, body, _ in self._cold(connection).stream(
                        stream_id
                    )
                    if first is None or version < first
                ] + rows
            decode = self._codec.decode
            return [
                decode(stream_id, version, topic, body, place=f"event {position}")
                for position, version, topic, body in rows
            ]

        return await self._run(select)

    async def open_issues(self) -> dict[str, str]:
        """Component → its open issue."""
        return await self._run(claim.open_issues)

    async def head(self) -> int:
        """The position of the last fact; 0 in an empty log."""

        def last(connection: sqlite3.Connection) -> int:
            (position,) = connection.execute("SELECT max(position) FROM event").fetchone()
            return self._cold(connection).last if position is None else int(position)

        return await self._run(last)

    def now(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run `query` in the pool and wait for it, blocking: for the opening only."""
        return self._pool.submit(self._ask, query).result()

    async def _run(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        if self._closed:
            raise StoreError(f"cannot read {self._file}: the log is closed")
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._ask, query)

    def _ask(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        with refusals(f"read {self._file}"):
            return query(self._connection())

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            with refusals(f"read {self._file}"):
                connection = connect(self._file, writing=False)
            self._local.connection = connection
            self._connections.append(connection)
        return connection

    def refuse(self) -> None:
        """Take no more reads; those that run go on."""
        self._closed = True

    def close(self) -> None:
        """Wait for the reads that run, then close the connections; blocking."""
        self._closed = True
        self._pool.shutdown()
        while self._connections:
            self._connections.pop().close()
        self._archive.close()
