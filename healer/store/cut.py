"""Where a log may be cut: what stands in front of it is finished."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from healer.domain.events import IssueDetected
from healer.store.schema import LIFE_TOPICS

__all__ = ["Cut", "cut_of"]


class Cut(NamedTuple):
    """Events `first` to `last` may go; `held_by` is the issue that keeps younger ones, if one does.
    `streams` are those that go on: name → version at the cut."""

    first: int
    last: int
    held_by: str | None
    streams: dict[str, int]


def cut_of(connection: sqlite3.Connection, before: int) -> Cut:
    """The longest beginning of the log that is older than `before` (microseconds since 1970) and
    that no issue lies across.

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
    ends = dict(execute("SELECT stream, max(position) FROM event GROUP BY stream"))
    begun: list[tuple[int, str]] = []
    over: set[str] = set()
    for position, topic, stream in execute(
        "SELECT position, topic, stream FROM event INDEXED BY event_life "  # noqa: S608 - constants
        f"WHERE topic IN ({LIFE_TOPICS}) ORDER BY position"
    ):
        if topic == IssueDetected.TOPIC:
            begun.append((position, stream))
        else:
            over.add(stream)
    held_by = None
    # From the youngest: each issue that lies across the cut moves it in front of its beginning.
    for position, stream in reversed(begun):
        if position <= cut and (stream not in over or ends[stream] > cut):
            cut, held_by = position - 1, stream
    issues = {stream for _, stream in begun}
    going_on = {
        stream: version
        for stream, version in execute(
            "SELECT stream, max(version) FROM event WHERE position <= ? GROUP BY stream", (cut,)
        )
        if stream not in issues
    }
    return Cut(first, cut, held_by, going_on)
