"""The log as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, Final

import orjson

from healer.api import view
from healer.ports import EventLog

__all__ = ["sse"]

_BEAT: Final = 15.0
"""Seconds after which a silent stream says that it lives: proxies drop others after 30 to 60."""

_LOOK: Final = 1.0
"""Seconds after which a silent stream asks whether its reader is still allowed."""


async def sse(
    log: EventLog,
    *,
    after: int,
    stopping: asyncio.Event,
    allowed: Callable[[], bool] | None = None,
) -> AsyncIterator[bytes]:
    """Events behind `after`, then each as it lands, until the healer stops or the reader is no
    longer `allowed`. The `id` of each is its
    position, so that a client that comes back says where it stood."""
    stop = asyncio.create_task(stopping.wait())
    follow: Any = log.follow(after=after)
    async with aclosing(follow) as facts:
        following: asyncio.Task[Any] | None = None
        try:
            yield b": the log of a network healer\n\n"
            silent = 0.0
            while allowed is None or allowed():
                following = following or asyncio.ensure_future(anext(facts))
                done, _ = await asyncio.wait(
                    (following, stop), timeout=_LOOK, return_when=asyncio.FIRST_COMPLETED
                )
                if following in done:
                    try:
                        recorded = following.result()
                    except StopAsyncIteration:
                        return
                    following = None
                    silent = 0.0
                    if allowed is not None and not allowed():
                        return
                    shown = view.event(recorded)
                    head = f"id: {recorded.position}\nevent: {shown['type']}\ndata: ".encode()
                    yield head + orjson.dumps(shown) + b"\n\n"
                elif stop in done:
                    return
                elif (silent := silent + _LOOK) >= _BEAT:
                    silent = 0.0
                    yield b": alive\n\n"
        finally:
            waiting = [task for task in (following, stop) if task is not None]
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
