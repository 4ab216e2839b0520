"""What is known of a component at a point of the log: the features of its past."""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field
from typing import Final

from healer.domain.playbook import Check
from projections.projection import Json, micros
from projections.training_column import FAILURE_WINDOWS, RESOURCES

__all__ = ["Past", "micros", "seconds"]

_MICRO: Final = 1_000_000
_WINDOWS: Final = tuple(width * _MICRO for width in FAILURE_WINDOWS.values())
_LONGEST: Final = max(_WINDOWS)
_NUMBERS: Final = (int, float)
_HOUR: Final = 3_600 * _MICRO
_DAY: Final = 24 * _HOUR
_THURSDAY: Final = 3
"""The weekday of the first of January 1970, from Monday as 0."""
_RESOURCES: Final = tuple(RESOURCES)
_NO_RESOURCES: Final = (None,) * len(_RESOURCES)


def _figure(value: object) -> float | None:
    return float(value) if isinstance(value, _NUMBERS) else None


def seconds(since: int | None, now: int) -> float | None:
    """From `since` to `now`, both in microseconds; 0 where the clock was set back in between."""
    return None if since is None else max(0, now - since) / _MICRO


@dataclass(slots=True)
class Past:
    """One component. Instants in microseconds since 1970.

    `failures` are the detections of the longest window, sorted; `reading` is the last one of the
    machine that was made for this component, in the order of `RESOURCES`.
    """

    criticality: str | None = None
    mode: str | None = None
    failures: list[int] = field(default_factory=list)
    failed: int | None = None
    total: int = 0
    healed: int | None = None
    adopted: int | None = None
    outcome: str | None = None
    issue_type: str | None = None
    healed_by: str | None = None
    reading: tuple[float | None, ...] = _NO_RESOURCES
    read: int | None = None

    def fail(self, now: int) -> None:
        """The component failed at `now`."""
        insort(self.failures, now)
        # Of a clock that is set far forward and back again the longest count remembers less.
        del self.failures[: bisect_left(self.failures, now - _LONGEST)]
        self.failed = now
        self.total += 1

    def note(self, check: Check, now: int) -> None:
        """The machine was read at `now`; a reading that failed leaves the one before."""
        read = check.facts.get
        # Most are floats: without a call for each it takes half the time.
        figures = tuple(
            [value if type(value := read(name)) is float else _figure(value) for name in _RESOURCES]
        )
        if figures != _NO_RESOURCES:
            self.reading, self.read = figures, now

    def features(self, now: int, *, total: int, failed: int | None, mine: int | None) -> list[Json]:
        """The columns of the past as they stand at `now`, in microseconds since 1970, the
        criticality first.

        Of an issue under way only the failures in front of it count: `total` of them, the last at
        `failed`; its own detection, which is among `failures`, was at `mine`.
        """
        failures = self.failures
        end = len(failures)
        return [
            self.criticality,
            self.mode,
            *[
                end
                - bisect_left(failures, now - width)
                - (mine is not None and mine >= now - width)
                for width in _WINDOWS
            ],
            total,
            seconds(failed, now),
            seconds(self.healed, now),
            seconds(self.adopted, now),
            self.outcome,
            self.issue_type,
            self.healed_by,
            *self.reading,
            seconds(self.read, now),
            now // _HOUR % 24,
            (now // _DAY + _THURSDAY) % 7,
        ]
