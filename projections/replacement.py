"""A projection folded beside the running views, to take a place among them: blue/green.

Where views stand is a position, and a state exists only together with its position, in memory. So
a fact is never folded twice and never left out, whatever ends the process; there is no stored
position that could disagree with a stored state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from healer.errors import HealerError
from healer.ports import EventLog
from projections.feed import BATCH
from projections.fold import Fold
from projections.projection import Projection, canonical

__all__ = ["ParityError", "fold_beside"]


class ParityError(HealerError):
    """Two folds of the same facts show other bytes: the projection is no pure fold. `name` and
    `position` say which, and where."""

    def __init__(self, name: str, position: int) -> None:
        self.name = name
        self.position = position
        super().__init__(
            f"cannot take {name}: folded twice up to position {position} it shows two views; "
            "allowed: a pure fold of the facts"
        )


async def fold_beside(
    log: EventLog, projection: Projection[Any], *, reached: Callable[[], int]
) -> Fold:
    """A fold of `projection` that is where `reached` says the running views are, and stays there
    until the caller waits for something.

    It is folded twice on the way there, and both folds are compared byte for byte.

    Raises:
        ParityError: they differ.
        ProjectionStoppedError: it cannot apply a fact.
        StoreError: the log cannot be read.
    """
    fold, again = Fold([projection]), Fold([projection])
    await _catch_up(log, (fold, again), reached)
    # In a thread: a large view takes a while. Nobody else has these states.
    ours, theirs = await asyncio.to_thread(lambda: (_bytes(fold), _bytes(again)))
    if ours != theirs:
        raise ParityError(projection.name, fold.position)
    await _catch_up(log, (fold,), reached)
    fold.state(projection.name)
    return fold


def _bytes(fold: Fold) -> bytes:
    [name] = fold.names
    return canonical(fold.view(name))


async def _catch_up(log: EventLog, folds: tuple[Fold, ...], reached: Callable[[], int]) -> None:
    while (position := folds[0].position) < (end := reached()):
        facts = await log.read(after=position, limit=BATCH)
        for fold in folds:
            fold.apply(each for each in facts if each.position <= end)
        if reached() > folds[0].position:
            await asyncio.sleep(0)
