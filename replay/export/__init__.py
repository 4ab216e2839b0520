"""The log and what is made of it, as files for other programs: Parquet, JSON Lines or CSV.

`docs/export.md` shows what stands where, and how DuckDB, polars and pandas read it.
"""

from replay.export.error import ExportError, MissingExtraError
from replay.export.format import FORMATS
from replay.export.run import ExportReport, TableReport, export
from replay.export.table import TABLES, Table

__all__ = [
    "FORMATS",
    "TABLES",
    "ExportError",
    "ExportReport",
    "MissingExtraError",
    "Table",
    "TableReport",
    "export",
]
