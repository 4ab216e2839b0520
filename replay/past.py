"""Any moment of a long log, quickly: for a time slider, which asks for a dozen moments a second.

`replay.moment` reads the whole log for each moment. Here it is read once, as it grows: what is
small (components, open issues, figures) is kept as copies at up to `kept` places, so that a moment
costs the fold from the nearest copy before it. What is large, the finished issues, is not copied:
they do not change any more, and are taken from the live history. What had happened by a moment is
defined as in `replay.moment`, and a test says that both answer the same.
"""

from __future__ import annotations

import asyncio
import pickle
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from healer.errors import StoreError
from healer.ports import EventLog, Recorded
from projections.active import ACTIVE
from projections.components import COMPONENTS
from projections.feed import BATCH
from projections.history import History, Issues
from projections.pause import PAUSE
from projections.playbook_stats import PLAYBOOK_STATS
from projections.projection import Json, Projection, ProjectionStoppedError
from projections.stats import STATS
from replay.past_issue import PAST_ISSUES, IssuesThen, PastIssues
from replay.point import Point, require_reached

__all__ = ["Past", "Span", "Then"]

_SHOWN: Final[tuple[Projection[Any], ...]] = (COMPONENTS, ACTIVE, STATS, PLAYBOOK_STATS, PAUSE)
_FOLDED: Final = (*_SHOWN, PAST_ISSUES)
_VIEWS: Final = {projection.name: projection.view for projection in _SHOWN}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

States = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Span:
    """What there is to go back to: the labels of the first and the last fact, None in an empty log,
    and the positions that were read, of all there are."""

    first: datetime | None
    last: datetime | None
    read: int
    head: int


@dataclass(frozen=True, slots=True)
class Then:
    """The world at a point; `position`, `label` and `passed_over` as in `replay.moment.Moment`.

    To be read at once and not kept: the next question may change it.
    """

    point: Point
    position: int
    label: datetime | None
    passed_over: int
    states: States
    history: Issues

    def view(self, name: str) -> Json:
        """What a projection shows."""
        return _VIEWS[name](self.states[name])

    def state(self, name: str) -> Any:
        """The state behind a view; the history as well."""
        return self.history if name == "history" else self.states[name]

    def version(self, issue_id: str) -> int | None:
        """The last version in the stream of an issue that had happened; None where all had."""
        issues: PastIssues = self.states[PAST_ISSUES.name]
        return issues.versions.get(issue_id)


class Past:
    """The past of `log`. `history` gives the live history, which must know the whole log; `settled`
    is told of each copy that was made.

    Facts are applied on the event loop, in batches of a few milliseconds: a thread would hold the
    interpreter for as long, and be waited for on top.
    """

    def __init__(
        self,
        log: EventLog,
        history: Callable[[], History],
        *,
        spacing: int = 2000,
        kept: int = 64,
        settled: Callable[[], None] = lambda: None,
    ) -> None:
        self._log = log
        self._history = history
        self._spacing = spacing
        self._kept = kept
        self._settled = settled
        self._positions = array("q")
        self._labels = array("q")
        self._latest = array("q")  # the latest label so far
        self._late: list[int] = []  # indices of facts whose label is earlier than one before them
        self._copies: list[tuple[int, bytes]] = [(0, pickle.dumps(_fresh()))]
        self._states = _fresh()
        self._cursor: tuple[int, States] | None = None

    @property
    def position(self) -> int:
        """The last position that was read."""
        return self._positions[-1] if self._positions else 0

    async def span(self) -> Span:
        """How far the past reaches."""
        head = await self._log.head()
        first, last = (
            (_instant(self._labels[0]), _instant(self._labels[-1])) if self._labels else (None,) * 2
        )
        return Span(first, last, self.position, head)

    async def catch_up(self) -> None:
        """Read what the log holds behind what was read; may be cancelled and goes on from there.

        Raises:
            StoreError: the log cannot be read.
            ProjectionStoppedError: there is a fact that cannot be applied.
        """
        while facts := await self._log.read(after=self.position, limit=BATCH):
            for recorded in facts:
                _apply(self._states, recorded)
                self._note(recorded)
            await asyncio.sleep(0)

    def _note(self, recorded: Recorded) -> None:
        label = (recorded.event.timestamp - _EPOCH) // _MICROSECOND
        latest = self._latest[-1] if self._latest else label
        if label < latest:
            self._late.append(len(self._labels))
        self._positions.append(recorded.position)
        self._labels.append(label)
        self._latest.append(max(label, latest))
        if len(self._labels) % self._spacing == 0:
            self._states[PAST_ISSUES.name].settle()
            self._copies.append((len(self._labels), pickle.dumps(self._states)))
            if len(self._copies) > self._kept:
                self._spacing *= 2
                self._copies = [each for each in self._copies if each[0] % self._spacing == 0]
            self._settled()

    async def at(self, point: Point) -> Then:
        """The world at `point`, of what was read. One question at a time.

        Raises:
            PointError: a position behind what was read.
            StoreError: the log cannot be read.
        """
        require_reached(point, self.position)
        count, extra = self._held(point)
        states = await self._folded(count)
        last = count - 1
        if extra:
            # These are folded on top of what goes on being used.
            states = pickle.loads(pickle.dumps(states))  # noqa: S301 - our own, of a line ago
            last = extra[-1]
            await self._fold(states, count, last + 1, frozenset(extra))
        passed_over = last + 1 - count - len(extra)
        begun = self._positions[count - 1] if count else 0
        return Then(
            point,
            self._positions[last] if last >= 0 else 0,
            _instant(self._labels[last]) if last >= 0 else None,
            passed_over,
            states,
            IssuesThen(self._history(), begun, states[PAST_ISSUES.name]),
        )

    def _held(self, point: Point) -> tuple[int, list[int]]:
        """How many facts of the beginning had happened, and which of those behind them."""
        if isinstance(point, int):
            return bisect_right(self._positions, point), []
        time = (point - _EPOCH) // _MICROSECOND
        count = bisect_right(self._latest, time)
        later = self._late[bisect_left(self._late, count) :]
        return count, [index for index in later if self._labels[index] <= time]

    async def _folded(self, count: int) -> States:
        """The states after the first `count` facts."""
        if count == len(self._positions):
            return self._states
        begun, copy = self._copies[bisect_right(self._copies, count, key=lambda each: each[0]) - 1]
        cursor, self._cursor = self._cursor, None
        if cursor is not None and begun <= cursor[0] <= count:
            begun, states = cursor
        else:
            states = await asyncio.to_thread(pickle.loads, copy)
        await self._fold(states, begun, count)
        self._cursor = (count, states)
        return states

    async def _fold(
        self, states: States, begin: int, end: int, only: frozenset[int] | None = None
    ) -> None:
        index = begin
        while index < end:
            after = self._positions[index] - 1
            facts = await self._log.read(after=after, limit=min(BATCH, end - index))
            if not facts:
                raise StoreError(f"cannot read the log behind {after} again: it is shorter now")
            for recorded in facts:
                if only is None or index in only:
                    _apply(states, recorded)
                index += 1
            await asyncio.sleep(0)


def _fresh() -> States:
    return {projection.name: projection.initial() for projection in _FOLDED}


def _apply(states: States, recorded: Recorded) -> None:
    for projection in _FOLDED:
        try:
            states[projection.name] = projection.apply(states[projection.name], recorded)
        except Exception as error:
            raise ProjectionStoppedError(projection.name, recorded.position, error) from error


def _instant(microseconds: int) -> datetime:
    return _EPOCH + microseconds * _MICROSECOND
