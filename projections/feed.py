"""The log in batches, for ever: what is there, then what lands, without holding up the loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Final

from healer.errors import StoreError
from healer.ports import EventLog, Recorded
from healer.store.compiled import CompiledReader, StoredEvents

__all__ = ["BATCH", "LINGER", "Read", "batches", "light"]

BATCH: Final = 500
"""Facts that are handled between two turns of the event loop, at most."""
_KEPT: Final = 20 * BATCH
"""New facts that are kept for a slow reader; of more than these, it reads the log instead."""

LINGER: Final = 0.05
"""Seconds that a new fact waits for those that follow it: a heal writes its first ten within some
hundredths, and whoever tells of them one by one takes the loop and the disk from who heals."""


Read = Callable[[int, int], Awaitable[Sequence[Recorded]]]
"""Facts behind a position, so many at most."""

_reader: Final = CompiledReader()


def light(log: EventLog) -> Read:
    """How the facts of `log` are read for a fold: light where it gives its rows, and then with
    `Unreadable` in the place of those that cannot be read."""
    if isinstance(log, StoredEvents):
        stored = log

        async def read(after: int, limit: int) -> Sequence[Recorded]:
            rows = await stored.rows(after=after, limit=limit)
            # More than a few take a thread, so that the loop gets its turns.
            if len(rows) <= BATCH:
                return _reader.facts(rows)
            return await asyncio.to_thread(_reader.facts, rows)

        return read
    return lambda after, limit: log.read(after=after, limit=limit)


async def batches(
    log: EventLog,
    *,
    after: int = 0,
    retry: float = 1.0,
    trouble: Callable[[StoreError | None], None] = lambda _error: None,
    read: Read | None = None,
    linger: float = LINGER,
    hurry: asyncio.Event | None = None,
) -> AsyncGenerator[Sequence[Recorded], None]:
    """Facts behind `after`, in log order, none twice and none left out, in batches of `BATCH`.

    Facts that land are taken from the store's notice when they follow on; the log is read where
    they do not, and at the start. The first to land waits `linger` seconds for those that follow,
    unless somebody is in a `hurry`. While the log cannot be read it is tried again every `retry`
    seconds, and `trouble` is told of the error, then of None. A log that is open for reading only
    tells of nothing that lands; it is looked at every `retry` seconds. Facts are read light (see
    `light`) unless `read` says how.
    """
    read = read or light(log)
    hurry = hurry or asyncio.Event()
    fresh: list[Recorded] = []
    wake = asyncio.Event()
    wake.set()
    position = after
    behind = True

    def landed(facts: Sequence[Recorded]) -> None:
        nonlocal behind
        if len(fresh) < _KEPT:
            fresh.extend(facts)
        else:
            fresh.clear()
            behind = True
        wake.set()

    try:
        unlisten, pause = log.listen(landed), None
    except StoreError:
        unlisten, pause = _nothing, retry
    try:
        while True:
            if not await _set_within(wake, pause):
                behind = True
            if not behind and 0 < len(fresh) < BATCH:
                await _set_within(hurry, linger)
            wake.clear()
            while behind or fresh:
                if behind:
                    behind = False  # before the look: what is dropped during it sets it again
                    try:
                        facts = await read(position, BATCH)
                    except StoreError as error:
                        behind = True
                        trouble(error)
                        await asyncio.sleep(retry)
                        continue
                    trouble(None)
                    behind = behind or len(facts) == BATCH
                else:
                    facts = [each for each in fresh[:BATCH] if each.position > position]
                    del fresh[:BATCH]
                    if facts and facts[-1].position != position + len(facts):
                        behind = True
                        continue
                if facts:
                    position = facts[-1].position
                    yield facts
                await asyncio.sleep(0)
    finally:
        unlisten()


def _nothing() -> None:
    """There is nothing to stop."""


async def _set_within(event: asyncio.Event, timeout: float | None) -> bool:
    """Whether `event` was set before `timeout` seconds had passed; None waits for ever."""
    try:
        async with asyncio.timeout(timeout):
            return await event.wait()
    except TimeoutError:
        return False
