"""Waiting for what somebody else has to tell."""

from __future__ import annotations

import asyncio
from typing import TypeVar

__all__ = ["told"]

T = TypeVar("T")


async def told(answer: asyncio.Future[T]) -> T:
    """What `answer` comes to. Who no longer waits takes nothing back, and an error is nobody's to
    hear then."""
    answer.add_done_callback(_heard)
    return await asyncio.shield(answer)


def _heard(answer: asyncio.Future[T]) -> None:
    if not answer.cancelled():
        answer.exception()
