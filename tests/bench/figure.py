"""Figures of a benchmark: what was measured, how often, how far apart, and whether it is enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

__all__ = ["Figure", "paired", "table"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One row: measured values in `unit`, compared with `floor` if there is one.

    `target` is the most that the median, or its ratio to the median of the floor, may be.
    """

    name: str
    values: Sequence[float]
    unit: str = "ms"
    floor: Sequence[float] = field(default=())
    target: float | None = None

    @property
    def ratio(self) -> float | None:
        """The median in units of the floor's median."""
        return median(self.values) / median(self.floor) if self.floor else None

    @property
    def verdict(self) -> str:
        """Whether the target is met; empty where there is none."""
        if self.target is None:
            return ""
        reached = median(self.values) if self.ratio is None else self.ratio
        return "met" if reached <= self.target else "missed"

    def cells(self) -> tuple[str, ...]:
        """The row as text."""
        target = "" if self.target is None else f"<= {self.target:g}"
        if target and self.ratio is None:
            target += f" {self.unit}"
        return (
            self.name,
            str(len(self.values)),
            f"{median(self.values):,.1f} {self.unit}",
            f"{min(self.values):,.1f}..{max(self.values):,.1f}",
            "" if self.ratio is None else f"{self.ratio:.2f}",
            target,
            self.verdict,
        )


def table(figures: Sequence[Figure]) -> str:
    """All figures below each other, in Markdown."""
    head = ("measured", "n", "median", "min..max", "x floor", "target", "")
    rows = [head, *(figure.cells() for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in (rows[0], rule, *rows[1:])
    )


def paired(figure: Figure) -> str:
    """What a figure that was measured in turn with its floor takes more than that in the same
    round: the median difference, and how probable so one-sided differences are where there is none.

    Wilcoxon's signed-rank test, two-sided, normal approximation (for more than 20 rounds): F.
    Wilcoxon, "Individual comparisons by ranking methods", Biometrics Bulletin 1 (1945) 80-83.
    """
    differences = [value - floor for value, floor in zip(figure.values, figure.floor, strict=True)]
    ranked = sorted(filter(None, differences), key=abs)
    n = len(ranked)
    ranks = sum(rank for rank, difference in enumerate(ranked, 1) if difference > 0)
    spread = math.sqrt(n * (n + 1) * (2 * n + 1) / 24)
    p = math.erfc(abs(ranks - n * (n + 1) / 4) / spread / math.sqrt(2)) if n else 1.0
    return (
        f"{figure.name}: in the same round {median(differences):+.2f} {figure.unit} (median); "
        f"by chance alone with p = {p:.3f} (Wilcoxon's signed-rank test)"
    )
