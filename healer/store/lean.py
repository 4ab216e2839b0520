"""A log read from one end to the other, as fast as it goes: no loop, no objects."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import Final, Protocol, runtime_checkable

from healer.store.cold import Cold, segments_of
from healer.store.connection import connect, refusals

__all__ = [
    "BACKSLASH",
    "ESCAPE",
    "Lean",
    "LeanBatch",
    "LeanRow",
    "is_marked",
    "lean_rows",
    "of_archive",
]

LeanRow = tuple[int, str, int, str, bytes]
"""Position, stream, version, topic, body: each column that is read costs a fiftieth of a fold."""

LeanBatch = tuple[list[LeanRow], int, int]
"""Rows, the position that they reach to, and the latest time up to there that was seen."""

BACKSLASH: Final = 0x5C
"""As a number: of bytes that are looked for Python tries first whether they are one, and makes an
exception each time."""
ESCAPE: Final = b"\\u"
"""What any text in a body may hide behind."""

_HOLDS: Final = "CAST(body AS TEXT) GLOB ?"
"""Three times as fast as `instr`, which goes through a body byte by byte."""

_BATCH: Final = 1024
"""Positions that are read at once: what stays in the processor's own memory."""

_FEW: Final = 16
"""Rows of a batch that may be read in vain."""

_FREQUENT: Final = "etaoinsrhldcum"
"""What a pattern had better not begin with: SQLite tries it wherever its first letter stands, and
in between it goes at the speed of memory."""


@runtime_checkable
class Lean(Protocol):
    """A log that can be read lean, by this process or another one."""

    @property
    def source(self) -> Path | str:
        """Its file, or the URL of its database."""
        ...


def is_marked(body: bytes, mark: bytes) -> bool:
    """Whether a body holds `mark`, or an escape behind which it might hide. No text has a zero byte
    in it, and what stands behind one is not looked at."""
    text = body.partition(b"\0")[0]
    return mark in text or ESCAPE in text


def _bound(topic: str, mark: bytes) -> tuple[str, ...]:
    text = mark.decode()
    ends = (text.lstrip(_FREQUENT) or text, ESCAPE.decode())
    patterns = (re.sub(r"([*?[])", r"[\1]", each) for each in ends)
    return (topic, *(f"*{pattern}*" for pattern in patterns))


def lean_rows(
    source: Path | str,
    *,
    until: int,
    without: Collection[str] = (),
    marks: Mapping[str, bytes] = MappingProxyType({}),
    timed: bool = True,
    after: int = 0,
) -> Generator[LeanBatch, None, None]:
    """The events of the log in `source`, a file or the URL of a database, behind `after` up to
    position `until`, archived ones too, in log order; those of the topics `without` left out, and
    of the topics in `marks` nearly all whose body neither holds the mark nor an escape, behind
    which it might hide. The times of all of them are looked at when `timed`.

    Blocks. Each batch is read in a transaction of its own, so that whoever writes the log is not
    held up by who reads it.

    Raises:
        StoreError: the log, or an archive of it, cannot be read.
    """
    if isinstance(source, str):
        from healer.store.postgres.lean import lean_rows as of_database  # noqa: PLC0415 - an extra

        return of_database(
            source, until=until, without=without, marks=marks, timed=timed, after=after
        )
    return _of_file(source, until=until, without=without, marks=marks, timed=timed, after=after)


def _of_file(
    file: Path,
    *,
    until: int,
    without: Collection[str],
    marks: Mapping[str, bytes],
    timed: bool,
    after: int,
) -> Generator[LeanBatch, None, None]:
    left_out = frozenset(without)
    often: tuple[str, ...] = ()
    marked = tuple([each for topic, mark in marks.items() for each in _bound(topic, mark)])
    select = _select(len(marks), 0, timed=timed)
    time = 0
    with refusals(f"read {file}"), closing(connect(file, writing=False)) as connection:
        gathered = _Gathered()
        found = gathered.rows
        connection.create_aggregate("gather", 5, lambda: gathered)
        cold = Cold(())
        try:
            while after < until:
                end = min(after + _BATCH, until)
                connection.execute("BEGIN")
                try:
                    segments = segments_of(connection, file)
                    if segments != cold.segments:
                        cold.close()
                        cold = Cold(segments)
                    if after < cold.last:
                        rows, end, time = of_archive(cold, after, end, left_out, marks)
                    else:
                        bound = (*marked, *often, after, end)
                        found.clear()
                        (_, reached) = connection.execute(select, bound).fetchone()
                        time = max(time, reached or 0)
                        found.sort()  # by position: an aggregate is promised no order
                        rows = [row for row in found if row[3] not in left_out]
                        if len(found) - len(rows) > _FEW:
                            often = tuple(dict.fromkeys((*often, *_many(found, left_out))))
                            select = _select(len(marks), len(often), timed=timed)
                finally:
                    connection.execute("ROLLBACK")
                yield rows, end, time
                after = end
        finally:
            cold.close()


class _Gathered:
    """Takes rows as an aggregate of SQL: for each of them SQLite calls once, where Python asks
    twice for the next one and thrice for each column, with a lock each time."""

    def __init__(self) -> None:
        self.rows: list[LeanRow] = []
        append = self.rows.append
        # One more row. Of a method SQLite would have a new object made for each call.
        self.step: Callable[..., None] = lambda *row: append(row)

    def finalize(self) -> int:
        """All are there: so many."""
        return len(self.rows)


def _select(marks: int, often: int, *, timed: bool) -> str:
    """What gathers rows, and says the latest time of all: compared with a few topics they are left
    out at half the cost of looking them up in a list of many."""
    cases = f"WHEN ? THEN {_HOLDS} OR {_HOLDS} " * marks + "WHEN ? THEN 0 " * often
    wanted = f"CASE topic {cases}ELSE 1 END" if cases else "1"
    return (
        f"SELECT gather(position, stream, version, topic, body) FILTER (WHERE {wanted}), "  # noqa: S608 - only marks
        f"{'max(time)' if timed else 0} FROM event WHERE position > ? AND position <= ?"
    )


def _many(rows: list[LeanRow], topics: Collection[str]) -> tuple[str, ...]:
    """Those of `topics` that many of the rows have, the most frequent first."""
    counts = Counter([row[3] for row in rows if row[3] in topics])
    return tuple([topic for topic, count in counts.most_common() if count > _FEW])


def of_archive(
    cold: Cold, after: int, end: int, without: Collection[str], marks: Mapping[str, bytes]
) -> LeanBatch:
    """The archived ones of the events behind `after` up to `end`; see `lean_rows`."""
    stored = cold.rows(after, min(end, cold.last) - after)
    rows = [
        (*row[:4], row[5])
        for row in stored
        if row[3] not in without and (row[3] not in marks or is_marked(row[5], marks[row[3]]))
    ]
    return rows, stored[-1][0], max(row[4] for row in stored)
