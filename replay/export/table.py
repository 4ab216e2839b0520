"""What can be exported: the tables, their columns and the versions of their schemas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from projections.column import Column
from projections.training_column import DECISION_COLUMNS, WINDOW_COLUMNS
from replay.export.bandit import BANDIT_COLUMNS
from replay.export.event_row import EVENT_COLUMNS
from replay.export.history_row import HISTORY_COLUMNS

__all__ = ["TABLES", "Row", "Table"]

Row = Sequence[Any]
"""Values in the order of the table's columns; instants are microseconds since 1970."""


@dataclass(frozen=True, slots=True)
class Table:
    """`version` changes when a column changes its name, type or meaning, or goes.

    `position` names the column that holds a row's place in the log, `time` the one whose day (UTC)
    says in which partition it stands. `folded`: its rows are made by folding the log from its
    beginning; those that are not final yet stand apart, in `<name>_open`.
    """

    name: str
    version: int
    columns: tuple[Column, ...]
    position: str = "position"
    time: str = "time"
    folded: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)


TABLES: Final[Mapping[str, Table]] = MappingProxyType(
    {
        table.name: table
        for table in (
            Table("events", 1, EVENT_COLUMNS, folded=False),
            Table("history", 2, HISTORY_COLUMNS, time="timestamp"),
            Table("training", 1, DECISION_COLUMNS),
            Table("health", 1, WINDOW_COLUMNS),
            Table("bandit", 1, BANDIT_COLUMNS, position="log_position"),
        )
    }
)
