"""A projection folded beside the running views, to take a place among them: blue/green.

Where views stand is a position, and a state exists only together with its position, in memory. So
a fact is never folded twice and never left out, whatever ends the process; there is no stored
position that could disagree with a stored state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from healer.errors import HealerError
from healer.ports import EventLog
from healer.store import SqliteLog
from projections.beside import fold_file
from projections.feed import BATCH, light
from projections.fold import Fold
from projections.projection import Projection

__all__ = ["ParityError", "fold_beside"]

_LONG: Final = 10_000
"""Events from which on the loop would be busy for long."""


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
    fold, again = [await _fresh(log, projection, reached()) for _ in range(2)]
    await _catch_up(log, (fold, again), reached)
    # In a thread: a large view takes a while. Nobody else has these states.
    ours, theirs = await asyncio.to_thread(lambda: (_bytes(fold), _bytes(again)))
    if ours != theirs:
        raise ParityError(projection.name, fold.position)
    await _catch_up(log, (fold,), reached)
    fold.state(projection.name)
    return fold


async def _fresh(log: EventLog, projection: Projection[Any], until: int) -> Fold:
    """A fold on its way: that of a long log in a file has gone most of it, beside the loop."""
    if isinstance(log, SqliteLog) and until >= _LONG:
        return await fold_file(log.file, [projection], until=until)
    return Fold([projection])


def _bytes(fold: Fold) -> bytes:
    [name] = fold.names
    return fold.canonical(name)


async def _catch_up(log: EventLog, folds: tuple[Fold, ...], reached: Callable[[], int]) -> None:
    read = light(log)
    while (position := folds[0].position) < (end := reached()):
        facts = await read(position, BATCH)
        for fold in folds:
            fold.apply(each for each in facts if each.position <= end)
        if reached() > folds[0].position:
            await asyncio.sleep(0)
