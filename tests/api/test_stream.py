"""Readers of the log over real connections: fast, slow, dead, revoked, and too many of them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import httpx
import orjson
import pytest
from starlette.types import Receive, Scope, Send

from healer.api.ring import Ring
from healer.api.server import Server
from healer.api.stream import EventStreams
from healer.ports import EventLog
from healer.store import MemoryLog, SqliteLog
from healer.store.archive import archive
from tests import factory
from tests.conftest import Until
from tests.projections.build import random_log

ROOM = 4096
"""Bytes that a socket of these tests buffers, about: a reader that stops is noticed soon."""
PATIENCE = 30.0


class Served:
    """The event streams of a log (in memory, where none is given), served on a socket by the real
    server."""

    def __init__(self, port: int, log: EventLog | None = None, **options: Any) -> None:
        self.log = log or MemoryLog()
        self.stopping = asyncio.Event()
        self.allowed = True
        self.streams = EventStreams(self.log, stopping=self.stopping, **options)
        self.port = port
        self.url = f"http://127.0.0.1:{port}/"
        self.server = Server(self._answer)
        self.readers: list[Reader] = []

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        stood = dict(scope["headers"]).get(b"last-event-id")
        after = None if stood is None else int(stood)
        stream = await self.streams.stream(after, allowed=lambda: self.allowed)
        await stream(scope, receive, send)

    async def reader(self, after: int | None = None) -> Reader:
        """A reader that stood at the position `after`; it is closed in the end."""
        reader = await Reader.open(self.port, after)
        self.readers.append(reader)
        return reader

    async def add(self, count: int) -> None:
        """Append so many facts, of 600 bytes or so each as they are told."""
        first = await self.log.head() + 1
        await self.log.append(
            [
                factory.mode_changed(stream="component:c", version=version, reason="r" * 300)
                for version in range(first, first + count)
            ]
        )


class Reader:
    """A client that reads only when it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int, after: int | None = None) -> Reader:
        end = socket.socket()
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)
        end.setblocking(False)
        await asyncio.get_running_loop().sock_connect(end, ("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(sock=end, limit=2**12)
        stood = "" if after is None else f"Last-Event-ID: {after}\r\n"
        writer.write(f"GET / HTTP/1.1\r\nHost: t\r\n{stood}\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        return cls(reader, writer)

    async def ids(self, count: int) -> list[int]:
        """The positions of so many more events; what they hold is as it should be."""
        found: list[int] = []
        told = 0
        async with asyncio.timeout(PATIENCE):
            while len(found) < count:
                line = await self._reader.readline()
                assert line, "the stream ended"
                if line.startswith(b"id: "):
                    told = int(line.removeprefix(b"id: "))
                elif line.startswith(b"data: "):
                    found.append(orjson.loads(line.removeprefix(b"data: "))["position"])
                    assert found[-1] == told
        return found

    async def answered(self) -> None:
        """Wait for the proper end of the answer."""
        async with asyncio.timeout(PATIENCE):
            await self._reader.readuntil(b"\r\n0\r\n\r\n")

    async def ended(self) -> bytes:
        """What comes until the other side has ended it."""
        found = bytearray()
        async with asyncio.timeout(PATIENCE):
            with suppress(ConnectionError):
                while piece := await self._reader.read(65536):
                    found += piece
        return bytes(found)

    async def close(self) -> None:
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()


@pytest.fixture
def serve(free_port: int) -> Callable[..., AbstractAsyncContextManager[Served]]:
    """`async with serve(limit=2) as served`: options are those of Served and of EventStreams."""

    @asynccontextmanager
    async def serve(**options: Any) -> AsyncIterator[Served]:
        served = Served(free_port, **options)
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ROOM)
        listener.bind(("127.0.0.1", free_port))
        listener.listen()
        listener.setblocking(False)
        running = asyncio.create_task(served.server.serve(sockets=[listener]))
        try:
            yield served
        finally:
            served.stopping.set()
            served.server.should_exit = True
            await running
            for reader in served.readers:
                await reader.close()

    return serve


async def grow_until(served: Served, until: Until, condition: Callable[[], bool]) -> None:
    async def grown() -> bool:
        await served.add(100)
        await asyncio.sleep(0.02)
        return condition()

    await until.soon(grown, PATIENCE)


async def blocked_reader(served: Served, until: Until) -> Reader:
    """One that has stopped reading, so that the server cannot send it more."""
    dead = await served.reader(after=0)
    [line] = served.server.server_state.connections
    await grow_until(served, until, lambda: line.flow.write_paused)
    return dead


async def test_who_never_reads_is_dropped_and_finds_the_rest_when_it_comes_again(
    serve: Any, until: Until
) -> None:
    async with serve(events=200) as served:
        dead = await served.reader()
        await served.add(1)
        assert await dead.ids(1) == [1]
        await grow_until(served, until, lambda: served.streams.dropped["slow"] == 1)
        await dead.ended()
        head = await served.log.head()
        again = await served.reader(after=1)
        assert await again.ids(head - 1) == [*range(2, head + 1)]


async def test_who_reads_misses_nothing_beside_one_who_does_not(serve: Any, until: Until) -> None:
    async with serve(events=200) as served:
        await served.reader()
        alive = await served.reader()
        await until.soon(lambda: served.streams.open == 2, PATIENCE)
        for part in range(40):
            await served.add(50)
            assert await alive.ids(50) == [*range(part * 50 + 1, part * 50 + 51)]
        assert served.streams.dropped["slow"] == 1


async def test_a_reader_that_stops_reading_is_ended_when_its_token_is(
    serve: Any, until: Until
) -> None:
    async with serve() as served:
        dead = await blocked_reader(served, until)
        served.allowed = False
        await until.soon(lambda: served.streams.open == 0, PATIENCE)
        assert served.streams.dropped == {"revoked": 1, "slow": 0, "refused": 0}
        await dead.ended()


async def test_a_reader_that_stops_reading_does_not_hold_up_the_stop(
    serve: Any, until: Until
) -> None:
    async with serve() as served:
        await blocked_reader(served, until)
        connections = served.server.server_state.connections
    assert not connections  # none had to be given up on


async def test_one_who_reads_along_is_told_of_the_end(serve: Any) -> None:
    async with serve() as served:
        reader = await served.reader()
        served.stopping.set()
        await reader.answered()


async def test_a_late_reader_is_served_from_the_log_and_goes_on_with_what_lands(
    serve: Any,
) -> None:
    async with serve(events=10) as served:
        await served.add(700)
        first = await served.reader(after=690)
        assert await first.ids(10) == [*range(691, 701)]
        late = await served.reader(after=0)
        await served.add(30)
        assert await late.ids(730) == [*range(1, 731)]
        assert await first.ids(30) == [*range(701, 731)]


async def test_who_left_before_the_oldest_were_archived_goes_on_where_it_stood(
    serve: Any, tmp_path: Path
) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: the extra `export`")
    path = tmp_path / "healer.db"
    told = [each.event for each in random_log(Random(11), issues=20)]
    told.sort(key=lambda event: event.timestamp)
    async with SqliteLog.open(path, new_log_id=lambda: "log") as log:
        await log.append(told)
        async with serve(log=log) as served:
            reader = await served.reader(after=0)
            assert await reader.ids(10) == [*range(1, 11)]
    cut = archive(path, told[len(told) // 2].timestamp).last
    assert 10 < cut < len(told)
    places = (10, cut - 1, cut, cut + 1)
    async with (
        SqliteLog.open(path, new_log_id=lambda: "another") as log,
        serve(log=log, events=10) as served,
    ):
        readers = [await served.reader(after=place) for place in places]
        for place, reader in zip(places, readers, strict=True):
            assert await reader.ids(len(told) - place) == [*range(place + 1, len(told) + 1)]
        await log.append([factory.mode_changed(stream="component:new", version=1)])
        for reader in readers:
            assert await reader.ids(1) == [len(told) + 1]


async def test_a_position_of_another_log_is_read_from_its_end(serve: Any, until: Until) -> None:
    async with serve() as served:
        await served.add(3)
        reader = await served.reader(after=1000)
        await until.soon(lambda: served.streams.open == 1, PATIENCE)
        await served.add(1)
        assert await reader.ids(1) == [4]


async def test_only_so_many_read_at_once(serve: Any, until: Until) -> None:
    async with serve(limit=1) as served, httpx.AsyncClient(trust_env=False) as client:
        reader = await served.reader()
        refused = await client.get(served.url, timeout=PATIENCE)
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "5"
        assert refused.json()["title"] == "Too many streams"
        assert served.streams.dropped["refused"] == 1
        await reader.close()
        await until.soon(lambda: served.streams.open == 0, PATIENCE)
        await served.reader()


def test_a_ring_holds_the_newest_by_number_and_by_size() -> None:
    ring = Ring(10, events=3, size=100)
    for position in range(11, 16):
        ring.add(position, b"%d;" % position)
    ring.trim()
    assert (ring.after, ring.last) == (12, 15)
    assert ring.behind(12) == (b"13;14;15;", 15)
    assert ring.behind(14) == (b"15;", 15)
    assert ring.behind(15) == (b"", 15)
    ring.add(16, b"x" * 99)
    ring.trim()
    assert (ring.after, ring.behind(15)) == (15, (b"x" * 99, 16))
    ring.add(17, b"y" * 101)
    ring.trim()
    assert (ring.after, ring.last, ring.behind(17)) == (17, 17, (b"", 17))


def test_a_chunk_is_bounded() -> None:
    ring = Ring(0, events=10, size=10**6)
    for position in range(1, 4):
        ring.add(position, b"z" * 40_000)
    assert ring.behind(0) == (b"z" * 80_000, 2)
    assert ring.behind(2) == (b"z" * 40_000, 3)
