"""Where a log may be cut: what stands in front of it is finished."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from healer.store.schema import BEGINS, LIFE, archived_claims

__all__ = ["Cut", "cut_of"]


class Cut(NamedTuple):
    """Events `first` to `last` may go; `held_by` is the issue that keeps younger ones, if one does.
    `streams` are those that go on: name → version at the cut, and the component of an issue that
    is open there."""

    first: int
    last: int
    held_by: str | None
    streams: dict[str, tuple[int, str | None]]


def cut_of(connection: sqlite3.Connection, before: int) -> Cut:
    """The longest beginning of the log that is older than `before` (microseconds since 1970) and
    that no issue lies across, but for those that are still open: they may stay so for months.

    Raises:
        sqlite3.Error: the log cannot be read.
    """
    execute = connection.execute
    (first,) = execute("SELECT coalesce(min(position), 1) FROM event").fetchone()
    (last,) = execute("SELECT coalesce(max(position), 0) FROM event").fetchone()
    young = execute(
        "SELECT position FROM event WHERE time >= ? ORDER BY position LIMIT 1", (before,)
    ).fetchone()
    cut = last if young is None else young[0] - 1
    newest = dict(execute("SELECT stream, max(position) FROM event GROUP BY stream"))
    begun: dict[str, int] = {}
    ended: dict[str, int] = {}
    for position, begins, stream in execute(
        f"SELECT position, {BEGINS}, stream FROM event "  # noqa: S608 - constants
        f"INDEXED BY event_lifetime WHERE {LIFE} ORDER BY position"
    ):
        if begins:
            begun[stream] = position
        else:
            ended.setdefault(stream, position)
    held_by = None
    # From the youngest: each issue that lies across the cut moves it in front of its beginning.
    for stream, position in reversed(begun.items()):
        if position <= cut < newest[stream] and stream in ended:
            cut, held_by = position - 1, stream
    carried = {issue: name for name, issue in execute("SELECT component, issue FROM open_issue")}
    carried |= archived_claims(connection)
    going_on = {
        stream: (version, carried.get(stream) if ended.get(stream, cut + 1) > cut else None)
        for stream, version in execute(
            "SELECT stream, max(version) FROM event WHERE position <= ? GROUP BY stream", (cut,)
        )
        if stream not in begun or stream not in ended
    }
    return Cut(first, cut, held_by, going_on)
