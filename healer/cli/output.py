"""What a command prints: tables for people, JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from healer.cli.form import Output
from healer.cli.plain import plain

__all__ = ["as_table", "print_json", "print_line", "print_table"]

_STYLES: Final[Mapping[str, str]] = {
    "healthy": "green",
    "verified": "green",
    "good": "green",
    "healed": "green",
    "recovered": "green",
    "starting": "cyan",
    "suspect": "yellow",
    "warn": "yellow",
    "withheld": "yellow",
    "unhealthy": "red",
    "failed": "red",
    "bad": "red",
}
_WIDTH_IN_A_PIPE: Final = 160


def as_table(output: Output | None) -> bool:
    """Whether a person reads: told so, or on a terminal."""
    return output is Output.TABLE or (output is None and sys.stdout.isatty())


def print_json(value: Any) -> None:
    """One JSON document; indented for a person."""
    option = orjson.OPT_INDENT_2 if sys.stdout.isatty() else 0
    sys.stdout.buffer.write(orjson.dumps(value, option=option | orjson.OPT_APPEND_NEWLINE))
    sys.stdout.buffer.flush()


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else _WIDTH_IN_A_PIPE)


def print_line(text: str, style: str = "") -> None:
    """One line; `style` is one of the words that have a colour."""
    _console().print(Text(plain(text), _STYLES.get(style, "")), soft_wrap=True)


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table. Words that tell how something is have their colour; None is shown as a dash."""
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    _console().print(table)


def _cell(value: object) -> Text:
    if value is None:
        return Text("-")
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    if isinstance(value, float):
        return Text(f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}")
    text = plain(value)
    return Text(text, _STYLES.get(text, ""))
