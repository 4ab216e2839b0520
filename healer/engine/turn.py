"""Whose turn it is: wakes the withheld heals that may go now, and lets the others sleep.

Waking all of them at each change would be simpler, and quadratic when hundreds fail at once. What a
heal waits for says who has to be woken: a place is offered to whoever waits longest for one, a
dependency's recovery concerns those that lean on it, and all else concerns one component alone.
Being woken is no leave: whoever is woken asks again.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from healer.domain.policy import Go, Verdict, Withhold

__all__ = ["Turns"]

_PLACE: Final = ("concurrency", "quorum")
"""Reasons to withhold that end when a place is free."""

Ask = Callable[[], Verdict]
"""Asks the policy, for one component, as things are now."""


class Turns:
    """The withheld heals of a node. Of those that wait for a place the first to come is the first
    to go; it keeps its number while it waits for other things."""

    def __init__(self) -> None:
        self._bells: dict[str, asyncio.Event] = {}
        self._numbers: dict[str, int] = {}
        self._given = 0
        self._lines: dict[str, list[tuple[int, str]]] = {reason: [] for reason in _PLACE}
        self._asks: dict[str, Ask] = {}
        self._leaning: dict[str, set[str]] = {}
        self.offered: set[str] = set()

    def bell(self, name: str) -> asyncio.Event:
        """Is set at the next change that concerns this component."""
        return self._bells.setdefault(name, asyncio.Event())

    def ring(self, name: str) -> None:
        """Something has changed that concerns this component."""
        bell = self._bells.pop(name, None)
        if bell is not None:
            bell.set()

    def ring_all(self) -> None:
        """Something has changed that concerns everybody."""
        for name in list(self._bells):
            self.ring(name)

    def recovered(self, cause: str) -> None:
        """Nobody has to wait for `cause` any more."""
        for name in sorted(self._leaning.get(cause, ()), key=self._numbers.__getitem__):
            self.ring(name)

    @contextmanager
    def waiting(self, name: str, verdict: Withhold, ask: Ask) -> Iterator[asyncio.Event]:
        """While the heal of `name` waits, from the verdict on: the bell that tells it to ask again.
        No change is missed that comes before the wait has begun."""
        if name not in self._numbers:
            self._given += 1
            self._numbers[name] = self._given
        place = (self._numbers[name], name)
        line = self._lines.get(verdict.reason, [])
        leaning: set[str] = set()
        if verdict.reason in self._lines:
            insort(line, place)
            self._asks[name] = ask
        elif verdict.cause is not None:
            leaning = self._leaning.setdefault(verdict.cause, leaning)
            leaning.add(name)
        bell = self.bell(name)
        if name in self.offered:
            # It could not use the place that it was woken for: somebody else may.
            self.offered.discard(name)
            self.offer()
        try:
            yield bell
        finally:
            index = bisect_left(line, place)
            if line[index : index + 1] == [place]:
                del line[index]
            leaning.discard(name)
            if verdict.cause is not None and not leaning:
                self._leaning.pop(verdict.cause, None)

    def leave(self, name: str) -> None:
        """The heal of `name` waits no more: it goes, or something else is to be decided."""
        self.offered.discard(name)
        self._numbers.pop(name, None)
        self._asks.pop(name, None)
        self.offer()

    def offer(self) -> None:
        """A place may be free: wake whoever is first in line, as long as the first may go."""
        while self._wake_first():
            pass

    def _wake_first(self) -> bool:
        for reason, line in sorted(
            ((reason, line) for reason, line in self._lines.items() if line),
            key=lambda each: each[1][0],
        ):
            name = line[0][1]
            verdict = self._asks[name]()
            if isinstance(verdict, Go):
                self.offered.add(name)
            elif verdict.reason == reason:
                continue
            # Whose reason has become another one is woken too, and stands in nobody's way.
            del line[0]
            self.ring(name)
            return True
        return False
