"""Rows as Parquet, by pyarrow, which is imported when the first file is begun."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

from projections.column import Kind
from replay.export.error import MissingExtraError
from replay.export.file import NewFile
from replay.export.table import Row, Table

__all__ = ["EXTRA", "ParquetFile", "require"]

EXTRA: Final = "export"
"""The extra of the distribution that brings pyarrow."""

_LEVEL: Final = 1


@cache
def require() -> tuple[Any, Any]:
    """The modules `pyarrow` and `pyarrow.parquet`.

    Raises:
        MissingExtraError: they are not installed.
    """
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise MissingExtraError("pyarrow", EXTRA) from error


@cache
def _types() -> Mapping[Kind, Any]:
    arrow, _ = require()
    return {
        Kind.STRING: arrow.string(),
        Kind.INT: arrow.int64(),
        Kind.FLOAT: arrow.float64(),
        Kind.BOOL: arrow.bool_(),
        Kind.TIME: arrow.timestamp("us", tz="UTC"),
        Kind.STRINGS: arrow.list_(arrow.string()),
        Kind.FLOATS: arrow.list_(arrow.float64()),
        Kind.JSON: arrow.string(),
    }


class ParquetFile:
    """One file; each `write` is a row group."""

    def __init__(self, file: NewFile, table: Table, metadata: Mapping[str, str]) -> None:
        arrow, parquet = require()
        types = _types()
        self._arrow = arrow
        self._fields = [types[column.kind] for column in table.columns]
        self._schema = arrow.schema(
            [
                arrow.field(column.name, kind, nullable=bool(column.null))
                for column, kind in zip(table.columns, self._fields, strict=True)
            ],
            metadata=dict(metadata),
        )
        # A document is like no other: a dictionary of them would be written in vain.
        plain = {Kind.JSON, Kind.TIME, Kind.STRINGS, Kind.FLOATS}
        self._writer = parquet.ParquetWriter(
            file,
            self._schema,
            compression="zstd",
            compression_level=_LEVEL,
            use_dictionary=[column.name for column in table.columns if column.kind not in plain],
        )

    def write(self, rows: Sequence[Row]) -> None:
        arrays = [
            self._arrow.array(values, type=kind)
            for values, kind in zip(zip(*rows, strict=True), self._fields, strict=True)
        ]
        self._writer.write_table(
            self._arrow.Table.from_arrays(arrays, schema=self._schema), row_group_size=len(rows)
        )

    def finish(self, metadata: Mapping[str, str]) -> None:
        self._writer.add_key_value_metadata(dict(metadata))
        self._writer.close()

    def abandon(self) -> None:
        # Otherwise it would write its footer when it is collected.
        self._writer.is_open = False
