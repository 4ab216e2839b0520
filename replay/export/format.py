"""How rows become bytes: JSON Lines and CSV here, Parquet in its own module."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final, Protocol

import orjson

from projections.column import Column, Kind
from replay.export import parquet
from replay.export.file import NewFile
from replay.export.table import Row, Table

__all__ = ["FORMATS", "Format", "Writer"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Writer(Protocol):
    """Writes the rows of one file."""

    def write(self, rows: Sequence[Row]) -> None:
        """Append `rows`.

        Raises:
            OSError: the file refused.
        """
        ...

    def finish(self, metadata: Mapping[str, str]) -> None:
        """Write what is left, and `metadata` where the format has a place for it."""
        ...

    def abandon(self) -> None:
        """Write nothing more."""
        ...


Format = Callable[[NewFile, Table, Mapping[str, str]], Writer]
"""Begins a file: where to, of which table, with which metadata."""


def _time(value: int) -> str:
    moment = _EPOCH + timedelta(microseconds=value)
    return f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def _lines_cell(column: Column) -> Callable[[Any], Any] | None:
    if column.kind is Kind.TIME:
        return _time
    # JSON stays JSON, and is not put into a string.
    return orjson.Fragment if column.kind is Kind.JSON else None


def _csv_cell(column: Column) -> Callable[[Any], Any] | None:
    match column.kind:
        case Kind.TIME:
            return _time
        case Kind.STRINGS | Kind.FLOATS:
            return lambda value: orjson.dumps(value).decode()
        case Kind.BOOL:
            return lambda value: "true" if value else "false"
        case _:
            return None


class _Lines:
    """One JSON object a line, with a key for each column."""

    def __init__(self, file: NewFile, table: Table, _metadata: Mapping[str, str]) -> None:
        self._file = file
        self._names = table.names
        self._cells = [
            (index, cell)
            for index, column in enumerate(table.columns)
            if (cell := _lines_cell(column)) is not None
        ]

    def write(self, rows: Sequence[Row]) -> None:
        self._file.write(b"".join(map(self._line, rows)))

    def _line(self, row: Row) -> bytes:
        shown = dict(zip(self._names, _shown(row, self._cells), strict=True))
        return orjson.dumps(shown, option=orjson.OPT_APPEND_NEWLINE)

    def finish(self, metadata: Mapping[str, str]) -> None:
        """A line has no place for metadata; the manifest holds it."""

    def abandon(self) -> None:
        """Nothing waits."""


class _Csv:
    """RFC 4180 with a header; a null is empty, a list is JSON."""

    def __init__(self, file: NewFile, table: Table, _metadata: Mapping[str, str]) -> None:
        self._file = file
        self._cells = [
            (index, cell)
            for index, column in enumerate(table.columns)
            if (cell := _csv_cell(column)) is not None
        ]
        self._put([table.names])

    def write(self, rows: Sequence[Row]) -> None:
        self._put([_shown(row, self._cells) for row in rows])

    def _put(self, rows: Sequence[Row]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(rows)
        self._file.write(text.getvalue().encode())

    def finish(self, metadata: Mapping[str, str]) -> None:
        """As for lines."""

    def abandon(self) -> None:
        """Nothing waits."""


def _shown(row: Row, cells: Sequence[tuple[int, Callable[[Any], Any]]]) -> list[Any]:
    shown = list(row)
    for index, cell in cells:
        if shown[index] is not None:
            shown[index] = cell(shown[index])
    return shown


FORMATS: Final[Mapping[str, Format]] = MappingProxyType(
    {"parquet": parquet.ParquetFile, "jsonl": _Lines, "csv": _Csv}
)
"""Formats by name, which is also how their files' names end."""
