"""An event loop whose time is virtual: it never waits, it goes on to the next timer."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

__all__ = ["SimLoop", "simulate"]

_T = TypeVar("_T")

_PATIENCE: Final = 5.0
"""Real seconds to wait for a thread or a socket when no timer is left."""


_NOW_AND_THEN: Final = 256
"""Turns after which a selector that watches nothing is asked."""

_TURN: Final = 1e-6
"""Virtual seconds that a turn of the loop takes: without them, who asks again and again until a
deadline that is a rounding error away would ask for ever."""


class _Selector(selectors.DefaultSelector):
    """Asks at once, and lets the time that it was to wait pass.

    Where nothing is open but what the loop wakes itself with, it asks now and then: whatever
    threads hand over is found at the next turn all the same, and signals can wait for so long.
    """

    now = 0.0
    turns = 0
    interrupt: tuple[int, Callable[[], None]] | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += _TURN
        self.turns += 1
        if self.interrupt is not None and self.turns == self.interrupt[0]:
            self.interrupt[1]()
        idle = len(self.get_map()) == 1 and self.turns % _NOW_AND_THEN
        if timeout is None or not idle:
            return self._ask(timeout)
        self.now += max(timeout, 0.0)
        return []

    def _ask(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready:
            return ready
        if timeout is None:
            ready = super().select(_PATIENCE)
            if not ready:
                raise RuntimeError("cannot go on: everybody waits and no timer is set")
        else:
            self.now += max(timeout, 0.0)
        return ready


class SimLoop(asyncio.SelectorEventLoop):
    """Virtual time, from 0. Not for work in threads: timers would not wait for it."""

    def __init__(self) -> None:
        self._selector_with_time = _Selector()
        super().__init__(self._selector_with_time)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._selector_with_time.now

    @property
    def turns(self) -> int:
        """How often it has turned: between two turns everybody waits, and anything may happen."""
        return self._selector_with_time.turns

    @property
    def timers(self) -> int:
        """How many timers are set."""
        return sum(not handle.cancelled() for handle in self._scheduled)  # type: ignore[attr-defined]

    def suspend(self, seconds: float) -> None:
        """Let time pass in which nobody gets to do anything, as when the machine is frozen: all
        timers that would have ended in it end behind it."""
        self._selector_with_time.now += seconds

    def interrupt(self, turn: int, callback: Callable[[], None]) -> None:
        """Call `callback` right before the turn of that number, wherever everybody is then."""
        self._selector_with_time.interrupt = (turn, callback)


def simulate(main: Coroutine[Any, Any, _T]) -> _T:
    """The result of `main`, run in virtual time.

    Raises:
        RuntimeError: everybody waits for somebody else, for ever.
    """
    with asyncio.Runner(loop_factory=SimLoop) as runner:
        return runner.run(main)
