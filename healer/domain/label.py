"""How long ago a fact was, by clocks that may have been set meanwhile."""

from __future__ import annotations

from datetime import datetime

__all__ = ["Label"]


class Label:
    """When a fact was, by the wall clock of who wrote it: when that healer is gone, all there is.

    A label from the future is of a clock that was set back since, and says nothing. The order of
    the log does: the fact is no younger than what stands behind it.
    """

    __slots__ = ("_behind", "_time")

    def __init__(self, time: datetime) -> None:
        self._time = self._behind = time

    def precede(self, time: datetime) -> None:
        """A fact with this label stands behind it."""
        self._behind = min(self._behind, time)

    def age(self, now: datetime) -> float:
        """Seconds since then, as far as that can be told; none where nothing is known."""
        known = self._time if self._time <= now else self._behind
        return max(0.0, (now - known).total_seconds())
