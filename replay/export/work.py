"""From facts to rows: what is folded, and who gets the rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from healer.ports import Recorded
from projections.fold import Fold
from projections.history import FullRecord
from projections.projection import Projection
from projections.training import training, unfinished
from projections.training_state import DECISIONS
from replay.export.bandit import Rounds
from replay.export.event_row import EventRows
from replay.export.history_row import history_row, issues
from replay.export.manifest import Manifest
from replay.export.staging import Staging
from replay.export.table import TABLES, Row, Table

__all__ = ["Work"]


class Work:
    """Makes the rows of `tables`; of each those that are final behind its position in `begin`."""

    def __init__(
        self, tables: Sequence[Table], begin: Mapping[str, int], manifest: Manifest
    ) -> None:
        self._wanted = frozenset(table.name for table in tables)
        self._begin = begin
        self._staging: Staging | None = None
        self.rounds = Rounds(manifest.actions)
        projections: list[Projection[Any]] = []
        self._trains = bool(self._wanted & {"training", "health", "bandit"})
        if self._trains:
            projections.append(
                training(self._trained, recurrence_window=manifest.recurrence_window)
            )
        if "history" in self._wanted:
            projections.append(issues(self._ended))
        self._fold = Fold(projections)

    def take(self, facts: Sequence[Recorded], events: EventRows | None, staging: Staging) -> None:
        """Make the rows of `facts`, in log order, and give them to `staging`.

        Raises:
            ProjectionStoppedError: a fact that cannot be folded.
            StoreError: a fact that cannot be encoded.
            OSError: a file was refused.
        """
        self._staging = staging
        if events is not None:
            table, begin = TABLES["events"], self._begin["events"]
            for fact in facts:
                if fact.position > begin:
                    staging.add(table, events.row(fact))
        self._fold.apply(facts)
        for stopped in self._fold.stopped.values():
            if isinstance(stopped.cause, OSError):
                raise stopped.cause
            raise stopped

    def _add(self, name: str, row: Row) -> None:
        if self._fold.position > self._begin[name] and self._staging is not None:
            self._staging.add(TABLES[name], row)

    def _ended(self, record: FullRecord) -> None:
        self._add("history", history_row(record))

    def _trained(self, name: str, row: Mapping[str, Any]) -> None:
        if name in self._wanted:
            self._add(name, _in_order(TABLES[name], row))
        if (
            name == DECISIONS
            and "bandit" in self._wanted
            and self._fold.position > self._begin["bandit"]
        ):
            made = self.rounds.row(row)
            if made is not None:
                self._add("bandit", made)

    def unfinished(self, staging: Staging) -> dict[str, str]:
        """Write the rows that are not final; the file of each table that can have such."""
        names = {}
        if "history" in self._wanted:
            opened = self._fold.state("issues").open.values()
            rows: Iterable[Row] = (history_row(record) for record in opened)
            names["history"] = staging.replace(TABLES["history"], rows)
        for name in ("training", "health"):
            if name in self._wanted:
                table = TABLES[name]
                rows = (
                    _in_order(table, row)
                    for made, row in unfinished(self._fold.state("training"))
                    if made == name
                )
                names[name] = staging.replace(table, rows)
        return names


def _in_order(table: Table, row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in table.names)
