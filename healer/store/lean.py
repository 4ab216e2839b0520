"""A log read from one end to the other, as fast as it goes: no loop, no objects."""

from __future__ import annotations

import re
from collections.abc import Collection, Generator, Mapping
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
"""Position, stream, version, topic, body."""

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
    patterns = (re.sub(r"([*?[])", r"[\1]", each.decode()) for each in (mark, ESCAPE))
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
    of the topics in `marks` those whose body neither holds the mark nor an escape, behind which it
    might hide. The times of all of them are looked at when `timed`.

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
    unwanted = ",".join("?" * len(without))
    marked = f" AND (topic <> ? OR {_HOLDS} OR {_HOLDS})" * len(marks)
    select = (
        "SELECT position, stream, version, topic, body FROM event "  # noqa: S608 - only marks
        # The marked ones first: they are many, and of most one look says that nobody wants them.
        f"WHERE position > ? AND position <= ?{marked} AND topic NOT IN ({unwanted}) "
        "ORDER BY position"
    )
    latest = "SELECT max(time) FROM event WHERE position > ? AND position <= ?"
    skipped = tuple(without)
    bound = (*(each for topic, mark in marks.items() for each in _bound(topic, mark)), *skipped)
    with refusals(f"read {file}"), closing(connect(file, writing=False)) as connection:
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
                        rows, end, time = of_archive(cold, after, end, skipped, marks)
                    else:
                        rows = connection.execute(select, (after, end, *bound)).fetchall()
                        time = None
                        if timed:
                            (time,) = connection.execute(latest, (after, end)).fetchone()
                finally:
                    connection.execute("ROLLBACK")
                yield rows, end, time or 0
                after = end
        finally:
            cold.close()


def of_archive(
    cold: Cold, after: int, end: int, without: Collection[str], marks: Mapping[str, bytes]
) -> LeanBatch:
    """The archived ones of the events behind `after` up to `end`; see `lean_rows`."""
    stored = cold.rows(after, min(end, cold.last) - after)
    rows = [
        (row[0], row[1], row[2], row[3], row[5])
        for row in stored
        if row[3] not in without and (row[3] not in marks or is_marked(row[5], marks[row[3]]))
    ]
    return rows, stored[-1][0], max(row[4] for row in stored)
