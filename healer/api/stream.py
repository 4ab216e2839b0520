"""The log as server-sent events, to many readers, each at its own pace.

Nobody holds up anybody. The events are encoded once, into a ring that all readers share; who takes
nothing while the ring goes round is dropped, and may come back with the position it stood at
(Last-Event-ID). Who is behind the ring is served from the log itself, as fast as it reads.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol

from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from healer.api.guard import refuse
from healer.api.problem import Problem
from healer.api.ring import Ring, encoded
from healer.errors import StoreError
from healer.ports import EventLog, Recorded
from projections.feed import batches

__all__ = ["LINE_KEY", "EventStream", "EventStreams", "Line"]

LINE_KEY: Final = "healer.line"
"""In the scope: the `Line` that the request came by; absent where there is no connection."""

_STREAMS: Final = 200
"""Readers at once; they are counted apart from requests."""
_EVENTS: Final = 2048
_SIZE: Final = 2 * 1024 * 1024
"""How far behind a reader may be that takes nothing: so many events, and so many bytes."""
_BEAT: Final = 15.0
"""Seconds after which a silent stream says that it lives: proxies drop others after 30 to 60."""
_LOOK: Final = 1.0
"""Seconds after which it is asked whether each reader is still allowed."""
_PAGE: Final = 100
"""Facts that are read from the log at once for those who are behind the ring."""
_PAGES: Final = 32
"""Pages that are kept, of 60 KB each or so: who is behind is seldom alone at its place."""
_RETRY: Final = 1.0
"""Seconds after which a log that could not be read is tried again."""
_TURN: Final = 8
"""Readers that are woken in one turn of the event loop: heals need their turns as well."""
_SHARE: Final = 0.0005
"""Seconds between two rounds, for each reader: many readers hear of more at once, less often."""


class Line(Protocol):
    """A connection, as far as a stream has to know it."""

    def waiting(self) -> int:
        """Bytes that were sent and that the other side has not taken."""
        ...

    def cut(self) -> None:
        """End it at once; what waits is lost."""
        ...


class EventStreams:
    """All readers of `log`, which is followed while there are any.

    They end when `stopping` is set. `dropped` counts those that were ended or turned away, by why:
    slow, revoked, refused (more than `limit` at once).
    """

    def __init__(
        self,
        log: EventLog,
        *,
        stopping: asyncio.Event,
        limit: int = _STREAMS,
        events: int = _EVENTS,
        size: int = _SIZE,
    ) -> None:
        self.limit = limit
        self.dropped = Counter(slow=0, revoked=0, refused=0)
        self.log = log
        self._stopping = stopping
        self._bounds = (events, size)
        self._readers: set[EventStream] = set()
        self._work: list[asyncio.Task[None]] = []
        self._ring = Ring(0, events=events, size=size)
        self._pages: OrderedDict[int, Ring] = OrderedDict()
        self._reading = asyncio.Lock()

    @property
    def open(self) -> int:
        """How many readers there are."""
        return len(self._readers)

    async def stream(
        self, after: int | None, *, allowed: Callable[[], bool] = lambda: True
    ) -> EventStream:
        """The answer to one reader: all events behind `after`, then each as it lands. None, or a
        position that the log has not reached (it is of another log), is: from now on.

        Raises:
            StoreError: the log cannot be read.
        """
        head = await self.log.head()
        return EventStream(self, head if after is None else min(after, head), head, allowed)

    def enter(self, reader: EventStream, head: int) -> Ring | None:
        """What `reader` reads when it has caught up; None: there is no place for it."""
        if len(self._readers) >= self.limit or self._stopping.is_set():
            self.dropped["refused"] += 1
            return None
        if not self._readers:
            events, size = self._bounds
            self._ring = Ring(head, events=events, size=size)
            self._work = [
                asyncio.create_task(self._follow(self._ring), name="streams"),
                asyncio.create_task(self._watch(), name="streams:watch"),
            ]
        self._readers.add(reader)
        return self._ring

    async def leave(self, reader: EventStream, why: str | None) -> None:
        """`reader` has gone, or was dropped. With the last one the following ends."""
        if why is not None and why in self.dropped:
            self.dropped[why] += 1
        self._readers.discard(reader)
        if not self._readers:
            self._pages.clear()
            work, self._work = self._work, []
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)

    async def page(self, position: int) -> tuple[bytes, int]:
        """What the log has behind `position`, a page at most, and the position that it ends at.

        Raises:
            StoreError: the log cannot be read.
        """
        start = position // _PAGE * _PAGE
        async with self._reading:  # whoever wants the same page waits for the one who reads it
            page = self._pages.get(start)
            if page is None or page.last <= position:
                page = Ring(start, events=_PAGE, size=self._bounds[1])
                for recorded in await self.log.read(after=start, limit=_PAGE):
                    page.add(recorded.position, encoded(recorded))
                self._pages[start] = page
            self._pages.move_to_end(start)
            if len(self._pages) > _PAGES:
                self._pages.popitem(last=False)
        return page.behind(position)

    async def _follow(self, ring: Ring) -> None:
        async for facts in batches(self.log, after=ring.last, read=self._read):
            for recorded in facts:
                ring.add(recorded.position, encoded(recorded))
            ring.trim()
            for number, reader in enumerate(tuple(self._readers), start=1):
                reader.wake()
                if number % _TURN == 0:
                    await asyncio.sleep(0)
            await asyncio.sleep(_SHARE * len(self._readers))

    async def _read(self, after: int, limit: int) -> Sequence[Recorded]:
        return await self.log.read(after=after, limit=limit)

    async def _watch(self) -> None:
        stopped = False
        while not stopped:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    await self._stopping.wait()
            stopped = self._stopping.is_set()
            for reader in tuple(self._readers):
                if stopped:
                    reader.end("stopped")
                elif not reader.allowed():
                    reader.end("revoked")


class EventStream(Response):
    """One reader: an answer without an end."""

    media_type = "text/event-stream"

    def __init__(
        self, streams: EventStreams, after: int, head: int, allowed: Callable[[], bool]
    ) -> None:
        super().__init__()
        del self.headers["content-length"]
        self.allowed = allowed
        self._streams = streams
        self._position = after
        self._head = head
        self._ring: Ring | None = None
        self._live = False
        self._sending = False
        self._woken = asyncio.Event()
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def wake(self) -> None:
        """The ring has moved. Who still has to take what has now left it is dropped."""
        if self._live and self._sending and self._ring and self._position < self._ring.after:
            self.end("slow")
        self._woken.set()

    def end(self, why: str) -> None:
        """Send no more."""
        if not self._ended.done():
            self._ended.set_result(why)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._ring = self._streams.enter(self, self._head)
        if self._ring is None:
            detail = (
                f"cannot open another event stream; allowed: {self._streams.limit} at once, "
                "again when one of them ends"
            )
            problem = Problem(503, "Too many streams", detail, scope["path"], more=_LATER)
            await refuse(problem, send)
            return
        telling = asyncio.ensure_future(self._tell(self._ring, send))
        leaving = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait((telling, leaving, self._ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            why = self._ended.result() if self._ended.done() else None
            telling.cancel()
            leaving.cancel()
            told, _ = await asyncio.gather(telling, leaving, return_exceptions=True)
            await self._streams.leave(self, why)
        if why is not None:
            await self._farewell(scope.get(LINE_KEY), receive, send)
        if isinstance(told, Exception):
            raise told

    async def _farewell(self, line: Line | None, receive: Receive, send: Send) -> None:
        """A reader that takes what it is sent gets a proper end; another one holds up nothing."""
        if line is not None and (line.waiting() or self._sending):
            line.cut()
            await _left(receive)
        else:
            await send({"type": "http.response.body", "body": b""})

    async def _tell(self, ring: Ring, send: Send) -> None:
        self._sending = True
        await send(
            {"type": "http.response.start", "status": 200, "headers": self.raw_headers},
        )
        await self._send(send, b": the log of a network healer\n\n")
        while True:
            self._woken.clear()
            if self._position < ring.after:
                self._live = False
                await self._catch_up(send)
                continue
            self._live = True
            chunk, position = ring.behind(self._position)
            if chunk:
                await self._send(send, chunk)
                self._position = position
            elif not await self._moved():
                await self._send(send, b": alive\n\n")

    async def _catch_up(self, send: Send) -> None:
        try:
            chunk, position = await self._streams.page(self._position)
        except StoreError:
            await asyncio.sleep(_RETRY)
            return
        if chunk:
            await self._send(send, chunk)
            self._position = position
        await asyncio.sleep(0)  # a page that is kept is no reason to keep the loop

    async def _send(self, send: Send, body: bytes) -> None:
        self._sending = True
        await send({"type": "http.response.body", "body": body, "more_body": True})
        self._sending = False

    async def _moved(self) -> bool:
        try:
            async with asyncio.timeout(_BEAT):
                return await self._woken.wait()
        except TimeoutError:
            return False


_LATER: Final = {"retry_after": 5}


async def _left(receive: Receive) -> None:
    """Wait until the reader has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
