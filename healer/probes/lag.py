"""How long the event loop was not running: time in which a component could not be looked at."""

from __future__ import annotations

import asyncio
from typing import Final, Self

__all__ = ["LagMeter"]

_SLICES: Final = 8


class LagMeter:
    """Adds up the lateness of a timer that is due `_SLICES` times in `period` seconds.

    A timeout alone cannot tell a component that was silent from a loop that was blocked: both end
    with nothing received. `lag` is the seconds of the period in which the loop was not running;
    what is shorter than a slice may be missed. Sees a stopped healer and a starved one as well.
    """

    def __init__(self, period: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._slice = period / _SLICES
        self._lag = 0.0
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self._arm()
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def lag(self) -> float:
        """Seconds, including a timer that is overdue now."""
        return self._lag + max(0.0, self._loop.time() - self._due)

    def _arm(self) -> None:
        self._due = self._loop.time() + self._slice
        self._timer = self._loop.call_at(self._due, self._fire)

    def _fire(self) -> None:
        self._lag = self.lag
        self._arm()
