"""Who is told when the log grows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Final

from healer.ports import Recorded

__all__ = ["Feed", "Listener"]

Listener = Callable[[Sequence[Recorded]], None]

# How often a reader of a file that another process writes looks for more, in seconds. It asks for
# what is behind its position: that costs no more than `PRAGMA data_version`, which would have to be
# asked on one and the same connection and only says that something changed.
_POLL: Final = 1.0


class Feed:
    """Listeners and followers of one log, all on the event loop that appends to it."""

    def __init__(self, read: Callable[[int], Awaitable[list[Recorded]]], *, poll: bool) -> None:
        """`read` gives the facts behind a position. With `poll` it is asked once a second, because
        nobody in this process would say that there are more."""
        self._read = read
        self._timeout = _POLL if poll else None
        self._listeners: dict[object, Listener] = {}
        self._followers: set[asyncio.Event] = set()
        self._closed = False

    @property
    def heard(self) -> bool:
        """Whether anybody listens (followers read for themselves)."""
        return bool(self._listeners)

    def listen(self, callback: Listener) -> Callable[[], None]:
        """Call `callback` with each commit; returns how to stop that."""
        token = object()
        self._listeners[token] = callback

        def stop() -> None:
            self._listeners.pop(token, None)

        return stop

    async def follow(self, after: int) -> AsyncGenerator[Recorded, None]:
        """Facts behind `after`, then new ones as they land, until the log is closed."""
        grown = asyncio.Event()
        self._followers.add(grown)
        try:
            while not self._closed:
                grown.clear()
                batch = await self._read(after)
                for recorded in batch:
                    yield recorded
                    after = recorded.position
                if not batch:
                    await self._wait(grown)
        finally:
            self._followers.discard(grown)

    async def _wait(self, grown: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await grown.wait()
        except TimeoutError:
            return

    def publish(self, recorded: Sequence[Recorded]) -> None:
        """Tell everybody of what was committed. A listener that fails does not stop the others; the
        event loop's exception handler hears of it."""
        for token, callback in list(self._listeners.items()) if recorded else ():
            if token not in self._listeners:  # stopped by one before it
                continue
            try:
                callback(recorded)
            except Exception as error:
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "a listener of the log failed", "exception": error}
                )
        for grown in self._followers:
            grown.set()

    def close(self) -> None:
        """End every follower after what it has already read."""
        self._closed = True
        for grown in self._followers:
            grown.set()
