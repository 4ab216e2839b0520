"""From what pydantic found to what a person can act on."""

from __future__ import annotations

import difflib
import json
import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from healer.config.document import Document, Path, dotted, plain_value

__all__ = ["Problems", "as_list", "suggestion", "unknown_key", "validated"]

_SHOWN: Final = 80
_NO_NUMBER: Final = frozenset({"int_parsing", "int_type"})
_SHELL: Final = re.compile(r"[|&;<>`]|\$\(")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_./=+@%-]([A-Za-z0-9_./=+@%:-]*[A-Za-z0-9_./=+@%-])?")
Model = TypeVar("Model", bound=BaseModel)


class Problems:
    """All that is wrong with one file, in the file's own order."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self._found: list[tuple[int, str]] = []
        self._spoiled: set[Path] = set()

    def add(self, path: Path, what: str) -> None:
        """Note that `what` is wrong with the value at `path`; nothing more of a spoiled one."""
        if path in self._spoiled:
            return
        line = self.document.line(path)
        sentence = f"{dotted(path)}: {what}" if path else what
        entry = (line or 0, f"line {line}: {sentence}" if line else sentence)
        if entry not in self._found:
            self._found.append(entry)

    def spoil(self, path: Path, what: str) -> None:
        """As `add`, for a value of which nothing is left that could be judged."""
        self.add(path, what)
        self._spoiled.add(path)

    def sentences(self) -> tuple[str, ...]:
        """One sentence for each problem, by line."""
        return tuple(sentence for _, sentence in sorted(self._found, key=lambda entry: entry[0]))


def suggestion(name: str, known: Collection[str]) -> str:
    """`; did you mean 'x'?` when there is something close, else nothing."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def unknown_key(name: str, known: Collection[str]) -> str:
    """What is wrong with a key that is not one of `known`."""
    hint = suggestion(name, known) or ";"
    return f"unknown key{hint} allowed: {', '.join(sorted(known))}"


def validated(model: type[Model], fields: Any, path: Path, problems: Problems) -> Model | None:
    """`fields` as a `model`; None when it has problems, which were added then.

    A plain scalar has two readings, and the field decides: `[--port, 8220]` wants the text, a
    duration from a variable the number.
    """
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        reread = _reread(fields, error.errors(include_url=False), path, problems.document)
    try:
        return model.model_validate(reread)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            where = _where(reread, detail)
            problems.add((*path, *where), _sentence(model, (*path, *where), where, detail))
    return None


def _where(fields: Any, detail: ErrorDetails) -> Path:
    """The path in `fields` that an error is about, without pydantic's names for its own parts."""
    here: Any = fields
    path: list[str] = []
    for part in detail["loc"]:
        entries = dict(enumerate(here)) if isinstance(here, list) else here
        if isinstance(entries, dict) and part in entries:
            here = entries[part]
            path.append(str(part))
    if detail["type"] == "missing":
        path.append(str(detail["loc"][-1]))
    return tuple(path)


def _reread(fields: Any, details: Sequence[ErrorDetails], path: Path, document: Document) -> Any:
    changes: dict[Path, Any] = {}
    for detail in details:
        where, value = _where(fields, detail), detail["input"]
        if detail["type"] == "string_type" and isinstance(value, int | float):
            changes[where] = document.texts.get((*path, *where), value)
        elif detail["type"] == "value_error" and isinstance(value, str):
            changes[where] = plain_value(value)
    return _changed(fields, changes, ()) if changes else fields


def _changed(value: Any, changes: dict[Path, Any], path: Path) -> Any:
    if isinstance(value, dict):
        return {key: _changed(entry, changes, (*path, str(key))) for key, entry in value.items()}
    if isinstance(value, list):
        return [_changed(entry, changes, (*path, str(n))) for n, entry in enumerate(value)]
    return changes.get(path, value)


def _sentence(model: type[BaseModel], path: Path, where: Path, detail: ErrorDetails) -> str:
    context = detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden":
            # A component's name is the key that it stands under.
            unwritten = {"name"} if path[0] == "components" else set()
            return unknown_key(path[-1], _fields_at(model, where[:-1]).keys() - unwritten)
        case "missing":
            return "is required"
        case "value_error":
            return str(context["error"])
        case "enum":
            hint = suggestion(str(detail["input"]), _options(context["expected"])) or ";"
            return (
                f"{_shown(path, detail['input'])} is unknown{hint} allowed: {context['expected']}"
            )
        case "tuple_type" if isinstance(detail["input"], str):
            shown = "a list" if _secret(path) else as_list(detail["input"])
            return f"is one text; allowed: {shown}"
        case "string_type" if isinstance(braced := detail["input"], dict) and not _secret(path):
            if [*braced.values()] == [None]:
                text = f"{{{next(iter(braced))}}}"
                return f'{text} without quotes is a mapping; allowed: "{text}"'
    message = _whole_number(_fields_at(model, where[:-1]).get(where[-1]) if where else None)
    if message and detail["type"] in _NO_NUMBER:
        return f"{_shown(path, detail['input'])} is text; allowed: {message}"
    message = message or re.sub(r"^\w+ should (be |have )?", "", detail["msg"])
    return f"{_shown(path, detail['input'])} cannot be used; allowed: {message}"


def _whole_number(field: FieldInfo | None) -> str | None:
    """What is allowed of a field that takes a whole number between two others."""
    if field is None or field.annotation is not int:
        return None
    low = next((each.ge for each in field.metadata if hasattr(each, "ge")), None)
    high = next((each.le for each in field.metadata if hasattr(each, "le")), None)
    return None if low is None or high is None else f"a whole number from {low} to {high}"


def as_list(text: str) -> str:
    """The command line `text` as the list, in YAML, that it has to be: no shell splits it here."""
    try:
        # What only a shell understands is left to one.
        words = ["sh", "-c", text] if _SHELL.search(text) else shlex.split(text)
    except ValueError:  # a quotation that does not end
        words = ["PROGRAM", "ARGUMENT"]
    shown = (w if _PLAIN.fullmatch(w) else json.dumps(w, ensure_ascii=False) for w in words)
    return f"[{', '.join(shown)}]"


def _options(expected: str) -> list[str]:
    return re.findall(r"'([^']*)'", expected)


def _secret(path: Path) -> bool:
    return "env" in path or path[:1] in {("store",), ("guardian",)}


def _shown(path: Path, value: Any) -> str:
    if _secret(path):
        return "the value (not shown)"
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _fields_at(model: type[BaseModel], path: Path) -> Mapping[str, FieldInfo]:
    fields = model.model_fields
    for part in path:
        inner = next(_models(fields[part].annotation), None) if part in fields else None
        if inner is None:
            return {}
        fields = inner.model_fields
    return fields


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
