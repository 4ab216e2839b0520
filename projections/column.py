"""A column of a table that is made for others to read: what its data card and its file type say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Column", "Kind", "Role", "card", "names"]


class Kind(StrEnum):
    """The type of a column's values. TIME is an instant in UTC with microseconds; JSON is a text
    that holds one JSON value; STRINGS and FLOATS are lists."""

    STRING = "string"
    INT = "int64"
    FLOAT = "float64"
    BOOL = "bool"
    TIME = "timestamp[us, UTC]"
    STRINGS = "list of string"
    FLOATS = "list of float64"
    JSON = "JSON in a string"


class Role(StrEnum):
    """What a column may be used for.

    KEY names the row. FEATURE was known when the row's decision was made (or its window began) and
    never changes. ACTION is what was decided. LABEL became known later: never an input of a model.
    FACT is a value of a table that no model is trained on.
    """

    KEY = "key"
    FEATURE = "feature"
    ACTION = "action"
    LABEL = "label"
    FACT = "fact"


@dataclass(frozen=True, slots=True)
class Column:
    """`unit` is empty where there is none; `null` says when a value is missing, empty: never."""

    name: str
    kind: Kind
    role: Role
    meaning: str
    unit: str = ""
    null: str = ""


def names(columns: Sequence[Column], *roles: Role) -> tuple[str, ...]:
    """The names of the columns with one of `roles`; of all where none is given."""
    return tuple(column.name for column in columns if not roles or column.role in roles)


def card(columns: Sequence[Column]) -> str:
    """The columns as a table in Markdown, for a data card."""
    lines = ["| column | type | unit | role | meaning | null when |", "|---|---|---|---|---|---|"]
    lines += [
        f"| `{column.name}` | {column.kind} | {column.unit or '-'} | {column.role} "
        f"| {column.meaning} | {column.null or 'never'} |"
        for column in columns
    ]
    return "\n".join(lines)
