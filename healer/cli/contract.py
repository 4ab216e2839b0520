"""The published contract as JSON Schema (2020-12): events, configuration, exported lines.

An event's schema says what may stand in a log under its topic, for as long as there are logs: a
field that was added with a default is not required, because older events are without it. Names are
URNs: a schema is a file to be had, not a host to be asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson
from pydantic import BaseModel

from healer.config import config_schema
from healer.domain.events import EVENT_TYPES
from projections.column import Column, Kind
from replay.export import TABLES, Table
from replay.shape import HealingLine, HistoryRecord

__all__ = ["documents", "drift", "write"]

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_URN: Final = "urn:network-healer:schema"
_EXPORTS: Final[Mapping[str, type[BaseModel]]] = {
    "healing-line.v1": HealingLine,
    "history-record.v1": HistoryRecord,
}
_KINDS: Final[Mapping[Kind, dict[str, Any]]] = {
    Kind.STRING: {"type": "string"},
    Kind.INT: {"type": "integer"},
    Kind.FLOAT: {"type": "number"},
    Kind.BOOL: {"type": "boolean"},
    Kind.TIME: {"type": "string", "format": "date-time"},
    Kind.STRINGS: {"type": "array", "items": {"type": "string"}},
    Kind.FLOATS: {"type": "array", "items": {"type": "number"}},
    Kind.JSON: {},
}


def documents() -> dict[str, bytes]:
    """File name, with slashes → content, of every schema."""
    found = {f"events/{topic}.json": _schema(topic, kind) for topic, kind in EVENT_TYPES.items()}
    found |= {f"exports/{name}.json": _schema(name, kind) for name, kind in _EXPORTS.items()}
    rows = [(f"{table.name}-row.v{table.version}", table) for table in TABLES.values()]
    found |= {f"exports/{name}.json": _row_schema(name, table) for name, table in rows}
    found["config.json"] = {"$id": f"{_URN}:config", **config_schema()}
    return {name: _written(schema) for name, schema in sorted(found.items())}


def _schema(name: str, model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema()
    return {"$schema": _DIALECT, "$id": f"{_URN}:{name}", **schema, "title": name}


def _row_schema(name: str, table: Table) -> dict[str, Any]:
    """The schema of a line of `table` in an export as JSON Lines."""
    return {
        "$schema": _DIALECT,
        "$id": f"{_URN}:{name}",
        "title": name,
        "description": f"One line of the table {table.name}, exported as JSON Lines.",
        "type": "object",
        "properties": {column.name: _cell_schema(column) for column in table.columns},
        "required": list(table.names),
        "additionalProperties": False,
    }


def _cell_schema(column: Column) -> dict[str, Any]:
    unit = f", in {column.unit}" if column.unit else ""
    null = f"; null when {column.null}" if column.null else ""
    value = _KINDS[column.kind]
    described = {"description": f"{column.meaning}{unit}{null}"}
    if not column.null or not value:
        return {**described, **value}
    return {**described, **value, "type": [value["type"], "null"]}


def _written(schema: dict[str, Any]) -> bytes:
    first = {key: schema[key] for key in ("$schema", "$id", "title") if key in schema}
    rest = {key: schema[key] for key in sorted(schema.keys() - first.keys())}
    return orjson.dumps(first | rest, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def drift(directory: Path) -> list[str]:
    """What in `directory` is not as it would be written, one sentence each; blocks on the disk.

    Raises:
        OSError: it cannot be read.
    """
    wanted = documents()
    there = {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*.json"))
    }
    missing = [f"{name} is missing" for name in wanted if name not in there]
    changed = [
        f"{name} is not the schema of today"
        for name, content in wanted.items()
        if there.get(name, content) != content
    ]
    return missing + changed


def write(directory: Path) -> list[str]:
    """Write all schemas below `directory`, each whole or not at all; the names of those written.

    A file that is the schema of nothing is left alone: old versions stay published.

    Raises:
        OSError: one cannot be written.
    """
    written = []
    for name, content in documents().items():
        path = directory / name
        if path.exists() and path.read_bytes() == content:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        try:
            part.write_bytes(content)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        written.append(name)
    return written
