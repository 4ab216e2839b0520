"""What a command prints: tables for people, JSON for programs."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from healer.cli.form import Output
from healer.cli.plain import plain

__all__ = ["as_table", "print_json", "print_line", "print_table", "short_ids", "to_the_second"]

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
_NOTHING: Final = "-"
_BORDERS: Final = 3
"""Characters that each column takes besides its text."""
_SHORTEST: Final = 8
_LONGEST: Final = 24
"""A word that is longer (a path) may be broken."""


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


def print_line(text: str, style: str = "", *, hang: int = 0) -> None:
    """One line; `style` is one of the words that have a colour.

    With `hang` a terminal that is too narrow for it gets it in several, broken between words, those
    behind the first indented by so much.
    """
    console = _console()
    shown = plain(text)
    if hang and sys.stdout.isatty():
        behind = " " * hang
        shown = textwrap.fill(
            shown, console.width, subsequent_indent=behind, break_on_hyphens=False,
            drop_whitespace=True, replace_whitespace=False,
        )  # fmt: skip
    console.print(Text(shown, _STYLES.get(style, "")), soft_wrap=True)


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    spare: Sequence[str] = (),
    none: str = "none",
) -> None:
    """A table. Words that tell how something is have their colour; None is shown as a dash.

    Columns that say nothing are left out, and those in `spare`, the last first, where words would
    have to be broken for them. `none` is said where there are no rows.
    """
    console = _console()
    told = [[_cell(value) for value in row] for row in rows]
    if not told:
        print_line(f"{title}: {none}")
        return
    cells = {
        name: [row[at] for row in told]
        for at, name in enumerate(columns)
        if any(row[at].plain != _NOTHING for row in told) or at == 0
    }
    dispensable = [name for name in spare if name in cells]
    while (widths := _widths(cells, console.width)) is None and dispensable:
        del cells[dispensable.pop()]
    table = Table(title=title, title_justify="left")
    for at, name in enumerate(cells):
        table.add_column(name, overflow="fold", width=widths[at] if widths else None)
    for row in zip(*cells.values(), strict=True):
        table.add_row(*row)
    console.print(table)


def _widths(cells: Mapping[str, Sequence[Text]], room: int) -> list[int] | None:
    """How wide each column is when no word is broken, but for very long ones; None where there is
    no room for that."""
    texts = [[name, *(cell.plain for cell in column)] for name, column in cells.items()]
    whole = [max(map(cell_len, column)) for column in texts]
    least = [
        max(min(cell_len(word), _LONGEST) for text in column for word in text.split())
        for column in texts
    ]
    left = room - sum(least) - _BORDERS * len(texts) - 1
    if left < 0:
        return None
    widths = []
    for wanted, needed in zip(whole, least, strict=True):
        more = min(wanted - needed, left)
        widths.append(needed + more)
        left -= more
    return widths


def short_ids(ids: Sequence[str | None]) -> list[str | None]:
    """The beginnings of `ids` by which they are told apart: all that a command has to be given."""
    size = _SHORTEST
    while len({each and each[:size] for each in ids}) < len(set(ids)):
        size += 1
    return [each and each[:size] for each in ids]


def to_the_second(instant: str) -> str:
    """A stored instant for a person: UTC, to the second."""
    return instant[:19].replace("T", " ")


def _cell(value: object) -> Text:
    if value is None:
        return Text(_NOTHING)
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    if isinstance(value, float):
        return Text(f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}")
    text = plain(value)
    return Text(text, _STYLES.get(text, ""))
