"""The log as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final

import orjson

from healer.api import view
from healer.ports import EventLog

__all__ = ["sse"]

_BEAT: Final = 15.0
"""Seconds after which a silent stream says that it lives: proxies drop others after 30 to 60."""


async def sse(log: EventLog, *, after: int, stopping: asyncio.Event) -> AsyncIterator[bytes]:
    """Events behind `after`, then each as it lands, until the healer stops. The `id` of each is its
    position, so that a client that comes back says where it stood."""
    stop = asyncio.create_task(stopping.wait())
    follow: Any = log.follow(after=after)
    async with aclosing(follow) as facts:
        following: asyncio.Task[Any] | None = None
        try:
            yield b": the log of a network healer\n\n"
            while True:
                following = following or asyncio.ensure_future(anext(facts))
                done, _ = await asyncio.wait(
                    (following, stop), timeout=_BEAT, return_when=asyncio.FIRST_COMPLETED
                )
                if following in done:
                    try:
                        recorded = following.result()
                    except StopAsyncIteration:
                        return
                    following = None
                    shown = view.event(recorded)
                    head = f"id: {recorded.position}\nevent: {shown['type']}\ndata: ".encode()
                    yield head + orjson.dumps(shown) + b"\n\n"
                elif stop in done:
                    return
                else:
                    yield b": alive\n\n"
        finally:
            waiting = [task for task in (following, stop) if task is not None]
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
