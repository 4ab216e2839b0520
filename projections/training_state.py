"""What the training set's fold keeps: the past of each component, and the rows that wait."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from projections.decision_row import Decision, OpenIssue
from projections.dependency import Dependencies
from projections.digest import Digest
from projections.health_window import Window
from projections.past import Past
from projections.projection import Json
from projections.training_column import DECISION_COLUMNS, DEPENDENCY_COLUMNS, WINDOW_COLUMNS

__all__ = ["DECISIONS", "RECURRENCE_WINDOW", "WINDOWS", "Life", "Row", "Sink", "Training"]

RECURRENCE_WINDOW: Final = 30 * 60.0
"""Seconds within which another issue of the component is a recurrence."""

DECISIONS: Final = "training"
WINDOWS: Final = "health"
"""The names of the two tables."""

_MICRO: Final = 1_000_000

_NAMES: Final = {
    table: tuple(column.name for column in columns if column not in DEPENDENCY_COLUMNS)
    for table, columns in ((DECISIONS, DECISION_COLUMNS), (WINDOWS, WINDOW_COLUMNS))
}
"""What the values of a row are, without its dependency columns."""

Row = dict[str, Json]
Sink = Callable[[str, Row], None]
"""Takes a final row of the table of that name; instants are microseconds since 1970."""


@dataclass(slots=True)
class Life:
    """A component: its past, and its rows that wait.

    `ended` are the decisions of its last issue, whose recurrence is not known yet; `windows` those
    that have not seen a failure, or the one under way.
    """

    past: Past = field(default_factory=Past)
    ended: list[Decision] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    current: Window | None = None


@dataclass(slots=True)
class Training:
    """The state. `latest` is the log's latest instant, in microseconds; digests leave the
    dependency columns out, whose answers have one of their own."""

    sink: Sink | None = None
    recurrence_window: int = round(RECURRENCE_WINDOW * _MICRO)
    latest: int = 0
    open: dict[str, OpenIssue] = field(default_factory=dict)
    lives: dict[str, Life] = field(default_factory=dict)
    dependencies: Dependencies = field(default_factory=Dependencies)
    digests: dict[str, Digest] = field(
        default_factory=lambda: {DECISIONS: Digest(), WINDOWS: Digest()}
    )
    outcomes: Counter[str] = field(default_factory=Counter)
    asked: dict[int, Json] = field(default_factory=dict)

    def life(self, name: str) -> Life:
        found = self.lives.get(name)
        if found is None:
            found = self.lives[name] = Life()
        return found

    def ask(self, component: str, position: int) -> None:
        """Take down the dependency columns of the row that begins at `position`."""
        answer = self.dependencies.ask(component, position)
        if self.sink is not None:
            self.asked[position] = answer

    def emit(self, table: str, values: list[Json]) -> None:
        """A row is final."""
        self.digests[table].add(values)
        if self.sink is not None:
            row = _named(table, values)
            self.sink(table, row | self.asked.pop(row["position"]))

    def decided(self, decision: Decision, *, recurred: bool | None, again: int | None) -> None:
        """The row of a decision is final."""
        self.outcomes[decision.outcome or "open"] += 1
        self.emit(DECISIONS, decision.row(recurred=recurred, again=again))

    def settle(self, life: Life, now: int, *, again: bool) -> None:
        """The component's next fact came at `now`; it is a new issue when `again`."""
        if not life.ended:
            return
        gap = now - (life.ended[0].ended or 0)
        if again or gap > self.recurrence_window:
            recurred = again and gap <= self.recurrence_window
            for decision in life.ended:
                self.decided(decision, recurred=recurred, again=now if recurred else None)
            life.ended = []

    def leave(self, life: Life) -> None:
        """Give away the windows of `life` that are final."""
        for window in life.windows:
            if window.final:
                self.emit(WINDOWS, window.row(self.latest))
        life.windows = [window for window in life.windows if not window.final]

    def waiting(self) -> Iterator[tuple[str, Row]]:
        """The rows that are not final, without their dependency columns."""
        for table, values in self._waiting():
            yield table, _named(table, values)

    def _waiting(self) -> Iterator[tuple[str, list[Json]]]:
        for life in self.lives.values():
            for decision in life.ended:
                seen = self.latest - (decision.ended or 0)
                over = seen > self.recurrence_window
                yield DECISIONS, decision.row(recurred=False if over else None)
            for window in life.windows:
                yield WINDOWS, window.row(self.latest)
        for issue in self.open.values():
            if issue.decision is not None:
                yield DECISIONS, issue.decision.row(recurred=None)

    def merge(self, right: Training) -> None:
        """Join the state of a part that holds other components."""
        self.latest = max(self.latest, right.latest)
        self.open.update(right.open)
        self.lives.update(right.lives)
        self.asked.update(right.asked)
        self.dependencies.merge(right.dependencies)
        for table, digest in right.digests.items():
            self.digests[table].merge(digest)
        self.outcomes.update(right.outcomes)


def _named(table: str, values: list[Json]) -> Row:
    return dict(zip(_NAMES[table], values, strict=True))
