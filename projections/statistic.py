"""Counts of successes and figures of durations, in integers, so that they merge exactly."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from projections.projection import Json

__all__ = ["Sample", "Tally", "microseconds", "rounded", "wilson"]

_Z_95: Final = 1.959963984540054
"""The 97.5% quantile of the standard normal distribution."""
_MICRO: Final = 1_000_000
_DIGITS: Final = 3
_WHOLE: Final = 10**_DIGITS
"""What is below has no more digits than are kept."""


def microseconds(seconds: float) -> int:
    """`seconds` as the integer that is stored and summed."""
    return round(seconds * _MICRO)


def wilson(successes: int, n: int, *, z: float = _Z_95) -> tuple[float, float]:
    """The interval that holds the true success rate, 95% of the time; (0, 1) when nothing is known.

    Wilson's score interval without continuity correction: with p = successes/n,
    (p + z²/2n ± z·sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n). E. B. Wilson, "Probable inference, the law
    of succession, and statistical inference", J. Am. Stat. Assoc. 22 (1927) 209-212. It stays
    honest where the usual p ± 1.96·s does not: few trials, rates near 0 or 1.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"cannot judge {successes} successes of {n}; allowed: 0 to {n}")
    if n == 0:
        return 0.0, 1.0
    rate = successes / n
    centre = rate + z * z / (2 * n)
    spread = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if successes == 0 else (centre - spread) / scale
    high = 1.0 if successes == n else (centre + spread) / scale
    return low, high


@dataclass(slots=True)
class Tally:
    """Successes and failures."""

    successes: int = 0
    failures: int = 0

    @property
    def n(self) -> int:
        return self.successes + self.failures

    @property
    def rate(self) -> float:
        """Successes in percent, with one decimal; 0.0 of none."""
        return round(100 * self.successes / self.n, 1) if self.n else 0.0

    @property
    def interval(self) -> list[float]:
        """The 95% interval of the rate, in percent with one decimal."""
        return [round(100 * bound, 1) for bound in wilson(self.successes, self.n)]

    def add(self, *, success: bool) -> None:
        if success:
            self.successes += 1
        else:
            self.failures += 1

    def merge(self, other: Tally) -> None:
        self.successes += other.successes
        self.failures += other.failures

    def view(self) -> Json:
        return {
            "n": self.n,
            "successes": self.successes,
            "failures": self.failures,
            "success_rate": self.rate,
            "success_interval": self.interval,
        }


def rounded(duration: int) -> int:
    """`duration` to three significant digits."""
    if duration < _WHOLE:
        return duration
    step: int = 10 ** (len(str(duration)) - _DIGITS)
    return (duration + step // 2) // step * step


@dataclass(slots=True)
class Sample:
    """Durations, counted by three significant digits: so that a sample of however many takes no
    more room than 900 numbers for each power of ten, and merging is adding.

    How many there are, their sum, the least and the greatest are exact. Percentiles are
    nearest-rank (the smallest duration that at least q% do not exceed), to three digits: rounding
    keeps the order, so it is the exact one rounded.
    """

    counts: dict[int, int] = field(default_factory=dict)
    total: int = 0
    least: int | None = None
    most: int | None = None
    _shown: tuple[tuple[int, int], Json] | None = field(default=None, compare=False, repr=False)

    def __len__(self) -> int:
        return sum(self.counts.values())

    def add(self, duration: int) -> None:
        """Add a duration in microseconds."""
        self.count(duration, rounded(duration))

    def count(self, duration: int, place: int) -> None:
        """As `add`, where `place` is `rounded(duration)` already."""
        counts = self.counts
        counts[place] = counts.get(place, 0) + 1
        self.total += duration
        if self.least is None or duration < self.least:
            self.least = duration
        if self.most is None or duration > self.most:
            self.most = duration

    def merge(self, other: Sample) -> None:
        counts = self.counts
        for place, count in other.counts.items():
            counts[place] = counts.get(place, 0) + count
        self.total += other.total
        if other.least is not None and (self.least is None or other.least < self.least):
            self.least = other.least
        if other.most is not None and (self.most is None or other.most > self.most):
            self.most = other.most

    def percentile(self, percent: int) -> int | None:
        """The duration that `percent`% do not exceed, in microseconds; None of none."""
        rank = max(1, -(-percent * len(self) // 100))
        for place in sorted(self.counts):
            rank -= self.counts[place]
            if rank <= 0:
                return place
        return None

    def view(self) -> Json:
        """Figures in seconds; None where there are no durations. Made once for each content."""
        content = (self.total, self.counts.get(0, 0))  # which any further duration changes
        if self._shown is None or self._shown[0] != content:
            self._shown = (content, self._view())
        return self._shown[1]

    def _view(self) -> Json:
        n = len(self)
        if not n:
            return {"n": 0, **dict.fromkeys(("mean", "p50", "p95", "min", "max"))}
        figures: Iterable[tuple[str, int | None]] = (
            ("mean", (2 * self.total + n) // (2 * n)),
            ("p50", self.percentile(50)),
            ("p95", self.percentile(95)),
            ("min", self.least),
            ("max", self.most),
        )
        return {"n": n, **{name: (value or 0) / _MICRO for name, value in figures}}
