"""How much is left of a component's maintenance window, by a clock that nobody sets."""

from __future__ import annotations

from healer.domain.component import Component
from healer.domain.events import MaintenanceStarted
from healer.ports import Clock

__all__ = ["Window"]


class Window:
    """The window of one component, in the life of one healer.

    It is measured from when this healer first hears of it. A former healer's clock is gone: its
    label says how old the window is, and one from the future never that it has yet to begin, so
    that no clock that was set makes a window longer than it was wished to be, for each life.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # One that the log refused has the id of the next one.
        self._known: MaintenanceStarted | None = None
        self._ends = 0.0

    def left(self, component: Component) -> float:
        """Seconds that are left of it; 0 when none is open."""
        window = component.maintenance
        if window is None:
            return 0.0
        if window != self._known:
            age = component.maintenance_age(self._clock.now())
            self._known = window
            self._ends = self._clock.monotonic() + window.duration - age
        return max(0.0, self._ends - self._clock.monotonic())
