"""A stretch of one health of a component, and how long it was until the next failure."""

from __future__ import annotations

from healer.domain.events import HealthChanged
from projections.past import Past, seconds
from projections.projection import Json, micros

__all__ = ["Window"]


class Window:
    """A window and what came of it so far; instants in microseconds."""

    __slots__ = ("began", "failed", "known", "left")

    def __init__(self, position: int, event: HealthChanged, past: Past) -> None:
        self.began = micros(event.timestamp)
        self.left: int | None = None
        self.failed: int | None = None
        self.known: dict[str, Json] = {
            "window_id": event.event_id,
            "position": position,
            "time": self.began,
            "component": event.component,
            "node": event.node,
            "health": str(event.after),
            "health_before": str(event.before),
            "epoch": event.epoch,
            "probe_reason": None if event.probe is None else str(event.probe.reason),
            **past.features(self.began, total=past.total, failed=past.failed, mine=None),
        }

    @property
    def final(self) -> bool:
        """Whether nothing that is appended can change its row."""
        return self.left is not None and self.failed is not None

    def row(self, latest: int) -> dict[str, Json]:
        """The whole row; `latest` is the end of the log."""
        censored = self.failed is None
        end = latest if self.failed is None else self.failed
        return {
            **self.known,
            "length": None if self.left is None else seconds(self.began, self.left),
            "time_to_failure": None if censored else seconds(self.began, end),
            "censored": censored,
            "observed": seconds(self.began, end),
        }
