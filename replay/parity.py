"""The same log folded another way: what equals it byte for byte was no accident of one pass."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any, Final

from healer.ports import EventLog
from projections import ALL
from projections.fold import Snapshot
from projections.projection import Projection

__all__ = ["fold_alone"]

_BATCH: Final = 331
"""Not what the other fold reads at a time: where batches end must not matter."""


async def fold_alone(
    log: EventLog,
    projections: Sequence[Projection[Any]] = ALL,
    *,
    until: int,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Snapshot:
    """The views at position `until`, from nothing: read anew, and each projection applied by
    itself, fact by fact, without the routes of `Fold`. A projection that stops has no view.

    Raises:
        StoreError: the log cannot be read.
    """
    states = {projection.name: projection.initial() for projection in projections}
    position = 0
    progress(0, until)
    while position < until and (facts := await log.read(after=position, limit=_BATCH)):
        for recorded in (fact for fact in facts if fact.position <= until):
            for projection in projections:
                if projection.name not in states:
                    continue
                state = states.pop(projection.name)
                with suppress(Exception):  # as in `Fold`: it stops here; then its view is missed
                    states[projection.name] = projection.apply(state, recorded)
        position = min(facts[-1].position, until)
        progress(position, until)
        await asyncio.sleep(0)
    views = {
        projection.name: projection.canonical(states[projection.name])
        for projection in projections
        if projection.name in states
    }
    return Snapshot(position, MappingProxyType(views))
