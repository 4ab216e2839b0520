"""Reading few kinds of facts from a long log: what a healer that starts has to know of the past."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Final

from healer.domain.events import EVENT_TYPES
from healer.errors import StoreError
from healer.ports import Recorded
from healer.store.compiled import CompiledReader, Unreadable
from healer.store.lean import lean_rows

__all__ = ["recall_by_reading", "recall_from"]

_BATCHES: Final = 16
"""Batches of rows between two turns of the loop's own."""

_reader: Final = CompiledReader()


async def recall_from(
    source: Path | str,
    topics: Collection[str],
    *,
    until: int,
    refused: Callable[[StoreError], None],
) -> AsyncGenerator[Sequence[Any], None]:
    """See `healer.ports.EventLog.recall`; of the log in `source`, a file or the URL of a database,
    up to the position `until`. What is not asked for is not even read out of the database.

    Raises:
        StoreError: the log cannot be read.
    """
    without = [topic for topic in EVENT_TYPES if topic not in topics]
    batches = lean_rows(source, until=until, without=without, timed=False)

    def some() -> list[Any]:
        found = list(islice(batches, _BATCHES))
        rows = [(*row[:4], 0, row[4], b"") for batch, _, _ in found for row in batch]
        # None says that nothing was of interest, an empty list that the log ends.
        return [each.event for each in _reader.facts(rows)] or [None][: len(found)]

    loop = asyncio.get_running_loop()
    # One thread, because the generator lives in it and must end in it.
    with ThreadPoolExecutor(1, thread_name_prefix="healer-recall") as thread:
        try:
            while found := await loop.run_in_executor(thread, some):
                yield _readable(found, topics, refused)
        finally:
            thread.submit(batches.close)


async def recall_by_reading(
    read: Callable[..., Awaitable[list[Recorded]]], topics: Collection[str]
) -> AsyncGenerator[Sequence[Any], None]:
    """As `recall_from`, of a log that has to be read for it.

    Raises:
        StoreError: as `read`.
    """
    after = 0
    while batch := await read(after=after):
        yield [each.event for each in batch if each.event.TOPIC in topics]
        after = batch[-1].position


def _readable(
    events: Sequence[Any], topics: Collection[str], refused: Callable[[StoreError], None]
) -> list[Any]:
    kept = []
    for event in events:
        if isinstance(event, Unreadable):
            refused(event.error)
        elif event is not None and event.TOPIC in topics:
            kept.append(event)
    return kept
