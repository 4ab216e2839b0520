"""Time and chance that a test decides."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

__all__ = ["FakeClock", "FakeIds"]

BEGIN: Final = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


class FakeClock:
    """See `healer.ports.Clock`. Stands still until it is moved by hand.

    With `time` (a loop's own, say) it goes along with that as well.
    """

    def __init__(self, start: datetime = BEGIN, *, time: Callable[[], float] | None = None) -> None:
        self._start = start
        self._time = time or (lambda: 0.0)
        self._moved = 0.0
        self._set = 0.0

    def now(self) -> datetime:
        """The instant, aware, in UTC."""
        return self._start + timedelta(seconds=self.monotonic() + self._set)

    def monotonic(self) -> float:
        """Seconds on a clock that only goes forward."""
        return self._time() + self._moved

    def advance(self, seconds: float) -> None:
        """Let time pass.

        Raises:
            ValueError: time would run backwards.
        """
        if seconds < 0:
            raise ValueError(f"cannot advance by {seconds:g} s; allowed: 0 or more")
        self._moved += seconds

    def set_wall(self, seconds: float) -> None:
        """Set the wall clock `seconds` forward, or backward when negative; no time passes."""
        self._set += seconds


class FakeIds:
    """See `healer.ports.Ids`. The same `seed` gives the same names and the same chance."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)  # noqa: S311 - reproducible on purpose

    def new(self) -> str:
        """A name that nothing else bears (32 hexadecimal digits)."""
        return f"{self._random.getrandbits(128):032x}"

    def chance(self) -> float:
        """A number drawn evenly from [0, 1)."""
        return self._random.random()
