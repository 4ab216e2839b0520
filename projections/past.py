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
_WINDOWS: Final = tuple(
    (f"failures_{name}", width * _MICRO) for name, width in FAILURE_WINDOWS.items()
)
_LONGEST: Final = max(width for _, width in _WINDOWS)
_RESOURCES: Final = tuple((name, f"resource_{name}") for name in RESOURCES)
_NUMBERS: Final = (int, float)
_HOUR: Final = 3_600 * _MICRO
_DAY: Final = 24 * _HOUR
_THURSDAY: Final = 3
"""The weekday of the first of January 1970, from Monday as 0."""
_NO_RESOURCES: Final[Json] = {column: None for _, column in _RESOURCES}


def seconds(since: int | None, now: int) -> float | None:
    """From `since` to `now`, both in microseconds; 0 where the clock was set back in between."""
    return None if since is None else max(0, now - since) / _MICRO


@dataclass(slots=True)
class Past:
    """One component. Instants in microseconds since 1970.

    `failures` are the detections of the longest window, sorted; `reading` is the last one of the
    machine that was made for this component.
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
    reading: Json = None
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
        facts = check.facts
        figures = {
            column: float(value)
            for name, column in _RESOURCES
            if name in facts and isinstance(value := facts[name], _NUMBERS)
        }
        if figures:
            self.reading, self.read = _NO_RESOURCES | figures, now

    def features(
        self, now: int, *, total: int, failed: int | None, mine: int | None
    ) -> dict[str, Json]:
        """The columns of the past as they stand at `now`, in microseconds since 1970.

        Of an issue under way only the failures in front of it count: `total` of them, the last at
        `failed`; its own detection, which is among `failures`, was at `mine`.
        """
        row: dict[str, Json] = {"criticality": self.criticality, "mode": self.mode}
        failures = self.failures
        end = len(failures)
        for name, width in _WINDOWS:
            begun = now - width
            own = mine is not None and mine >= begun
            row[name] = end - bisect_left(failures, begun) - own
        row["failures_total"] = total
        row["since_last_failure"] = seconds(failed, now)
        row["since_last_heal"] = seconds(self.healed, now)
        row["process_age"] = seconds(self.adopted, now)
        row["previous_outcome"] = self.outcome
        row["previous_issue_type"] = self.issue_type
        row["previous_healed_by"] = self.healed_by
        row |= _NO_RESOURCES if self.reading is None else self.reading
        row["resource_age"] = seconds(self.read, now)
        row["hour"] = now // _HOUR % 24
        row["weekday"] = (now // _DAY + _THURSDAY) % 7
        return row
