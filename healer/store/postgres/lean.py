"""A log in PostgreSQL read from one end to the other, as fast as it goes."""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping
from contextlib import closing
from typing import Final

from healer.store.cold import Cold
from healer.store.lean import ESCAPE, LeanBatch, LeanRow, of_archive
from healer.store.postgres.archived import Stored
from healer.store.postgres.connection import connect, refusals
from healer.store.postgres.place import locate

__all__ = ["lean_rows"]

_BATCH: Final = 4096
"""Positions that are read at once: a journey to the server each."""


def lean_rows(
    url: str,
    *,
    until: int,
    without: Collection[str],
    marks: Mapping[str, bytes],
    timed: bool,
    after: int,
) -> Generator[LeanBatch, None, None]:
    """See `healer.store.lean.lean_rows`."""
    place = locate(url)
    marked = " AND (topic <> %s OR position(%b IN body) > 0 OR position(%b IN body) > 0)"
    select = (
        "SELECT position, stream, version, topic, body FROM healer.event "  # noqa: S608 - marks
        "WHERE position > %s AND position <= %s AND topic <> ALL(%s)"
        f"{marked * len(marks)} ORDER BY position"
    ).encode()
    latest = "SELECT max(time) FROM healer.event WHERE position > %s AND position <= %s"
    bound = (
        list(without),
        *(each for topic, mark in marks.items() for each in (topic, mark, ESCAPE)),
    )
    with (
        refusals(f"read {place}"),
        closing(connect(place, writing=False)) as connection,
        closing(Stored()) as stored,
    ):
        cold = Cold(())
        while after < until:
            end, time, rows = min(after + _BATCH, until), 0, list[LeanRow]()
            if after >= cold.last:
                rows = connection.execute(select, (after, end, *bound), binary=True).fetchall()
                row = connection.execute(latest, (after, end)).fetchone() if timed else None
                time = row[0] or 0 if row else 0
            # Behind the table: see `Stored`.
            cold = stored.cold(connection)
            if after < cold.last:
                rows, end, time = of_archive(cold, after, end, without, marks)
            yield rows, end, time
            after = end
