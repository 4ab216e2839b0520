"""How a thread answers a coroutine that waits for it, even one whose loop is gone."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import TypeVar

from healer.errors import StoreError

__all__ = ["Bell", "copy_of", "resolve"]

_T = TypeVar("_T")


class Bell:
    """Has an event loop call what a thread asks for, in the order of asking.

    As `call_soon_threadsafe` does, for half of its price: whoever waits for an append waits for
    this too. Made and closed in its loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: deque[tuple[Callable[..., None], tuple[object, ...]]] = deque()
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        # Not in the context of whoever happens to append first: it would be in all that is called.
        Context().run(self._loop.add_reader, self._descriptor, self._answer)

    def ring(self, callback: Callable[..., None], *arguments: object) -> None:
        """Have the loop call `callback`; nothing where it was closed: nobody waits any more."""
        self._calls.append((callback, arguments))
        os.eventfd_write(self._descriptor, 1)

    def _answer(self) -> None:
        os.eventfd_read(self._descriptor)
        while self._calls:
            callback, arguments = self._calls.popleft()
            try:
                callback(*arguments)
            except Exception as error:
                # Who rang later is still answered.
                self._loop.call_exception_handler(
                    {"message": "an answer of the log failed", "exception": error}
                )

    def close(self) -> None:
        """The last call was made: nobody rings any more."""
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)


def resolve(future: asyncio.Future[_T], result: _T, problem: Exception | None) -> None:
    """In the loop: end the wait for `future`, unless it was cancelled."""
    if future.done():
        return
    if problem is None:
        future.set_result(result)
    else:
        future.set_exception(problem)


def copy_of(error: StoreError) -> StoreError:
    """Each waiter raises its own: one object raised in several tasks would gather their
    tracebacks."""
    copy = type(error)(*error.args)
    copy.__cause__ = error.__cause__
    return copy
