"""Figures of a benchmark: what was measured, how often, how far apart, and whether it is enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

__all__ = ["Figure", "table"]


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
