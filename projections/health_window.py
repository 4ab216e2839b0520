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
        self.known: list[Json] = [
            event.event_id,
            position,
            self.began,
            event.component,
            event.node,
            str(event.after),
            str(event.before),
            event.epoch,
            None if event.probe is None else str(event.probe.reason),
            *past.features(self.began, total=past.total, failed=past.failed, mine=None),
        ]

    @property
    def final(self) -> bool:
        """Whether nothing that is appended can change its row."""
        return self.left is not None and self.failed is not None

    def row(self, latest: int) -> list[Json]:
        """The values of the whole row; `latest` is the end of the log."""
        censored = self.failed is None
        end = latest if self.failed is None else self.failed
        return [
            *self.known,
            None if self.left is None else seconds(self.began, self.left),
            None if censored else seconds(self.began, end),
            censored,
            seconds(self.began, end),
        ]
