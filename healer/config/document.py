"""A YAML text as plain values, with the line of each, and nothing that can hurt the reader.

Built from the parser's events, because the composer recurses as deep as the text tells it to.
Scalars are read as YAML 1.2 does: `on` and `no` are words, `1:30` is no number, and nothing is a
date. Tags are refused: they choose what is constructed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

__all__ = [
    "SIZE_LIMIT",
    "Document",
    "DocumentError",
    "Path",
    "dotted",
    "plain_value",
    "read_document",
]

Path = tuple[str, ...]

SIZE_LIMIT: Final = 1024 * 1024
_DEPTH_LIMIT: Final = 16
_ALIAS_LIMIT: Final = 100
_VALUE_LIMIT: Final = 200_000
_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT: Final = re.compile(r"[-+]?([0-9]{1,18}\.[0-9]{0,18}|\.[0-9]{1,18})")
_WORDS: Final = {"true": True, "false": False, "null": None, "~": None, "": None}

_QUOTES: Final = "; a text with any of {}[],:#@%&*` in it stands in quotes"
"""What most often is wrong: `{port}` in a list."""


class DocumentError(Exception):
    """A text that cannot be read; the message is one problem."""


@dataclass
class Document:
    """Plain values (dict, list, str, int, float, bool, None), and where each stood."""

    tree: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    texts: dict[Path, str] = field(default_factory=dict)
    """Plain scalars as they were written: `0800` where the value is 800."""

    def line(self, path: Path) -> int | None:
        """The line of `path`, or of the closest thing around it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return None


def dotted(path: Path) -> str:
    """`path` for people, with whatever is not to be printed written out."""
    return ".".join(part if part.isprintable() else repr(part)[1:-1] for part in path)


def read_document(text: str) -> Document:
    """The one document in `text`.

    Raises:
        DocumentError: it is not YAML, or uses what is refused here.
    """
    if len(text.encode("utf-8", "surrogatepass")) > SIZE_LIMIT:
        raise DocumentError(f"is too large; allowed: {SIZE_LIMIT} bytes")
    reader = _Reader()
    try:
        return reader.read(yaml.parse(text, Loader=yaml.CSafeLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        why = " ".join(part for part in (error.context, error.problem) if part)
        raise DocumentError(_tab(text, mark) or f"{where}is not YAML: {why}{_QUOTES}") from error
    except (yaml.YAMLError, UnicodeError) as error:
        raise DocumentError(f"is not YAML: {' '.join(str(error).split())}") from error


def _tab(text: str, mark: yaml.Mark | None) -> str | None:
    """What is wrong where a line is indented by a tab, which most editors show as spaces."""
    if mark is None:
        return None
    line = text.split("\n")[mark.line : mark.line + 1]
    indent, tab, _ = (line[0] if line else "").partition("\t")
    if not tab or indent.strip():
        return None
    place = f"line {mark.line + 1}, column {len(indent) + 1}"
    return f"{place}: begins with a tab; YAML takes spaces, not tabs"


class _Reader:
    def __init__(self) -> None:
        self._document = Document()
        self._anchors: dict[str, tuple[Any, int, int]] = {}
        self._aliases = 0
        self._values = 0

    def read(self, events: Iterator[yaml.Event]) -> Document:
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                if self._values:
                    raise _refusal(event, "a second document", "one")
                self._document.tree = self._value(events, next(events), ())
        return self._document

    def _value(self, events: Iterator[yaml.Event], event: yaml.Event, path: Path) -> Any:
        self._document.lines.setdefault(path, _line(event))
        self._count(event, 1)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, len(path))
        if getattr(event, "tag", None):
            raise _refusal(event, f"the tag {getattr(event, 'tag', '')!r}", "no tags")
        self._descend(event, len(path))
        before = self._values
        value: Any
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event, path)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._sequence(events, path)
        else:
            value = self._mapping(events, path)
        anchor = getattr(event, "anchor", None)
        if anchor is not None:
            self._anchors[anchor] = (value, self._values - before + 1, _height(value))
        return value

    def _descend(self, event: yaml.Event, depth: int) -> None:
        if depth > _DEPTH_LIMIT:
            raise _refusal(event, "such deep nesting", f"{_DEPTH_LIMIT} levels")

    def _count(self, event: yaml.Event, values: int) -> None:
        self._values += values
        if self._values > _VALUE_LIMIT:
            raise _refusal(
                event, "one value more", f"{_VALUE_LIMIT} values, copies by alias included"
            )

    def _alias(self, event: yaml.AliasEvent, depth: int) -> Any:
        self._aliases += 1
        if self._aliases > _ALIAS_LIMIT:
            raise _refusal(event, "one alias more", f"{_ALIAS_LIMIT} aliases")
        if event.anchor not in self._anchors:
            raise _refusal(
                event, f"the alias *{event.anchor}", "an anchor on a value that ended before it"
            )
        value, size, height = self._anchors[event.anchor]
        self._descend(event, depth + height)
        self._count(event, size)
        return value

    def _scalar(self, event: yaml.ScalarEvent, path: Path) -> Any:
        if not event.implicit[0]:
            return event.value
        self._document.texts[path] = event.value
        return plain_value(event.value)

    def _sequence(self, events: Iterator[yaml.Event], path: Path) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            items.append(self._value(events, event, (*path, str(len(items)))))
        return items

    def _mapping(self, events: Iterator[yaml.Event], path: Path) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent) or event.tag is not None:
                raise _refusal(event, "a key that is not plain text", "names as keys")
            key, line = event.value, _line(event)
            if key in own:
                first = self._document.line((*path, key))
                name = dotted((*path, key))
                raise DocumentError(f"line {line}: {name}: is there twice (first in line {first})")
            self._document.lines[*path, key] = line
            value = self._value(events, next(events), (*path, key))
            if key == "<<" and event.implicit[0]:
                merged |= _mergeable(event, value)
            else:
                own[key] = value
        return {**merged, **own}


def plain_value(text: str) -> str | int | float | bool | None:
    """What the unquoted `text` stands for."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def _height(value: Any) -> int:
    if not isinstance(value, dict | list):
        return 0
    entries = value.values() if isinstance(value, dict) else value
    return 1 + max(map(_height, entries), default=0)


def _mergeable(event: yaml.Event, value: Any) -> dict[str, Any]:
    parts = value if isinstance(value, list) else [value]
    merged: dict[str, Any] = {}
    for part in reversed(parts):
        if not isinstance(part, dict):
            raise _refusal(event, "a merge (<<) of a single value", "mappings")
        merged |= part
    return merged


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def _refusal(event: yaml.Event, what: str, allowed: str) -> DocumentError:
    return DocumentError(f"line {_line(event)}: {what} is refused; allowed: {allowed}")
