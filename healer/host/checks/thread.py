"""Calls that may hang for ever, each in a daemon thread of its own.

The default executor is not for these: a resolver without an answer or a dead network file system
would fill it, starve everybody else and hold up the end of the program.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

__all__ = ["Threads"]

T = TypeVar("T")


class Threads:
    """Runs blocking calls, at most one at a time for each key: whoever comes later shares it."""

    def __init__(self) -> None:
        self._pending: dict[str, asyncio.Future[Any]] = {}

    async def run(self, key: str, function: Callable[[], T], timeout: float) -> T:
        """The result of `function`, which runs (or runs already) under `key`.

        Raises:
            TimeoutError: there was none within `timeout` seconds; the call itself goes on.
        """
        loop = asyncio.get_running_loop()
        pending = self._pending.get(key)
        if pending is None or pending.get_loop() is not loop:
            pending = self._start(loop, key, function)
        async with asyncio.timeout(timeout):
            result: T = await asyncio.shield(pending)
        return result

    def _start(
        self, loop: asyncio.AbstractEventLoop, key: str, function: Callable[[], T]
    ) -> asyncio.Future[T]:
        future: asyncio.Future[T] = loop.create_future()
        self._pending[key] = future

        def settle(result: T | None, error: BaseException | None) -> None:
            if self._pending.get(key) is future:
                del self._pending[key]
            if error is None:
                future.set_result(result)  # type: ignore[arg-type]  # None only beside an error
            else:
                future.set_exception(error)
                future.exception()  # marks it as seen: the one who asked may have given up

        def work() -> None:
            result: T | None = None
            error: BaseException | None = None
            try:
                result = function()
            except BaseException as raised:  # handed to whoever waits
                error = raised
            with suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
                loop.call_soon_threadsafe(settle, result, error)

        threading.Thread(target=work, name=f"check {key}", daemon=True).start()
        return future
