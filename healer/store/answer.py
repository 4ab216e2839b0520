"""How a thread answers a coroutine that waits for it, even one whose loop is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from healer.errors import StoreError

__all__ = ["copy_of", "resolve", "tell"]

_T = TypeVar("_T")


def tell(
    loop: asyncio.AbstractEventLoop, callback: Callable[..., None], *arguments: object
) -> None:
    """Have `loop` call `callback`; nothing where it was closed."""
    try:
        loop.call_soon_threadsafe(callback, *arguments)
    except RuntimeError:
        # The loop was closed: nobody waits any more, and what was committed stays committed.
        if not loop.is_closed():
            raise


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
