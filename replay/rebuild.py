"""All projections from nothing, and whether they equal the live ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from healer.ports import EventLog
from healer.store.lean import Lean
from projections import ALL
from projections.beside import fold_file
from projections.feed import light
from projections.fingerprint import Fingerprint, Fingerprints
from projections.fold import Fold
from projections.projection import Projection

__all__ = ["Difference", "differences", "rebuild"]

_BATCH: Final = 4000
"""Facts that are folded between two turns of the loop's own."""

Progress = Callable[[int, int], None]
"""Told how many positions of how many are done."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A projection whose views are not the same bytes; None where there is no view."""

    name: str
    rebuilt: Fingerprint | None
    live: Fingerprint | None


async def rebuild(
    log: EventLog,
    projections: Sequence[Projection[Any]] = ALL,
    *,
    until: int | None = None,
    progress: Progress = lambda _done, _total: None,
) -> Fold:
    """Fold the log from its beginning up to position `until` (included), or up to its present end.

    The state of the world at a past position is the same with an earlier `until`. The event loop
    gets a turn after each batch.

    Raises:
        StoreError: the log cannot be read.
    """
    head = await log.head()
    end = head if until is None else min(until, head)
    progress(0, end)
    if isinstance(log, Lean):
        return await fold_file(
            log.source, projections, until=end, progress=lambda done: progress(done, end)
        )
    fold = Fold(projections)
    read = 0
    read_on = light(log)
    while read < end:
        facts = await read_on(read, min(_BATCH, end - read))
        if not facts:
            break
        # In a thread, so that whoever else lives on this loop gets turns.
        await asyncio.to_thread(fold.apply, facts)
        read = facts[-1].position
        progress(min(read, end), end)
        await asyncio.sleep(0)
    return fold


def differences(rebuilt: Fingerprints, live: Fingerprints) -> list[Difference]:
    """Projections that are not equal byte for byte, in order of name.

    Raises:
        ValueError: they are of different positions, so that nothing follows.
    """
    if rebuilt.position != live.position:
        raise ValueError(
            f"cannot compare views of position {rebuilt.position} with those of {live.position}; "
            "allowed: the same position"
        )
    names = sorted({*rebuilt.views, *live.views})
    pairs = ((name, rebuilt.views.get(name), live.views.get(name)) for name in names)
    return [Difference(name, ours, theirs) for name, ours, theirs in pairs if ours != theirs]
