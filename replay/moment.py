"""The world as it was then.

What had happened by a *position* is what stands in front of it: a state that the log was really in.

What had happened by a *time* is every fact whose label says so, in log order. Labels come from wall
clocks, and wall clocks jump. A fact that was written by a clock that stood wrong belongs to the
time that it claims, and nowhere else: a clock that was set back for an hour moves the facts of that
hour and no others, however long the log goes on. So around a jump the facts of a moment need not be
the beginning of the log; `Moment.passed_over` counts those that stand in front of its last fact and
were left out, and is 0 wherever time only went forward. Where it is not, ask for a position.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from healer.ports import EventLog, Recorded
from healer.store.compiled import Unreadable
from projections import ALL
from projections.feed import BATCH, light
from projections.fold import Fold, Snapshot
from projections.projection import Projection
from replay.point import Point, holds, require_reached

__all__ = ["Moment", "at", "moments"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Moment:
    """The views at a point.

    `position` and `label` are those of the last fact that is in, 0 and None when there is none;
    `passed_over` counts the facts in front of it that bear a later time. `fold` holds the states.
    """

    point: Point
    position: int
    label: datetime | None
    passed_over: int
    fold: Fold

    @property
    def snapshot(self) -> Snapshot:
        """All views, as bytes to compare."""
        return self.fold.snapshot()


async def at(
    log: EventLog,
    point: Point,
    projections: Sequence[Projection[Any]] = ALL,
    *,
    progress: Progress = lambda _done, _total: None,
) -> Moment:
    """The world at `point`; the whole log is read for a time, since a label may stand anywhere.

    Raises:
        PointError: a position behind the end of the log.
        StoreError: the log cannot be read.
    """
    [moment] = await moments(log, [point], projections, progress=progress)
    return moment


async def moments(
    log: EventLog,
    points: Sequence[Point],
    projections: Sequence[Projection[Any]] = ALL,
    *,
    progress: Progress = lambda _done, _total: None,
) -> list[Moment]:
    """As `at`, for several points in one reading of the log, in the order of `points`."""
    head = await log.head()
    for point in points:
        require_reached(point, head)
    end = max((point if isinstance(point, int) else head for point in points), default=0)
    growing = [_Growing(point, projections) for point in points]
    progress(0, end)
    read_on = light(log)
    read = 0
    while read < end:
        facts = await read_on(read, min(BATCH, end - read))
        if not facts:
            break
        read = facts[-1].position
        for each in growing:
            each.take(facts)
        progress(read, end)
        await asyncio.sleep(0)
    return [each.moment() for each in growing]


class _Growing:
    """A moment while the log is read."""

    def __init__(self, point: Point, projections: Sequence[Projection[Any]]) -> None:
        self._point = point
        self._fold = Fold(projections)
        self._label: datetime | None = None
        self._late = 0
        self._passed_over = 0

    def take(self, facts: Sequence[Recorded]) -> None:
        inside = []
        for recorded in facts:
            if isinstance(recorded.event, Unreadable):
                raise recorded.event.error
            if holds(self._point, recorded):
                inside.append(recorded)
                self._label = recorded.event.timestamp
                self._passed_over = self._late
            else:
                self._late += 1
        self._fold.apply(inside)

    def moment(self) -> Moment:
        return Moment(self._point, self._fold.position, self._label, self._passed_over, self._fold)
