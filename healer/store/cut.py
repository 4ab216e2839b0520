"""Where a log may be cut: what stands in front of it is finished."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from healer.store.schema import BEGINS, LIFE

__all__ = ["Cut", "Select", "cut_of"]

Select = Callable[[str], Iterable[Any]]
"""Asks either store, in one state of it, where its tables are found under their bare names."""


class Cut(NamedTuple):
    """Events `first` to `last` may go; `held_by` is the issue that keeps younger ones, if one does.
    `streams` are those that go on: name → version at the cut, and the component of an issue that
    is open there."""

    first: int
    last: int
    held_by: str | None
    streams: dict[str, tuple[int, str | None]]


def cut_of(select: Select, before: int, carried: Mapping[str, str], *, by: str = "") -> Cut:
    """The longest beginning of the log that is older than `before` (microseconds since 1970) and
    that no issue lies across, but for those that are still open: they may stay so for months.

    `carried` are issues that were open where the archives end → their component; `by` names the
    index of lifetimes where the store has to be told.

    Raises whatever the store does when it cannot be read.
    """
    ((first,),) = select("SELECT coalesce(min(position), 1) FROM event")
    ((last,),) = select("SELECT coalesce(max(position), 0) FROM event")
    young = f"SELECT position FROM event WHERE time >= {before} ORDER BY position LIMIT 1"  # noqa: S608
    cut = next((position - 1 for (position,) in select(young)), last)
    newest = dict(select("SELECT stream, max(position) FROM event GROUP BY stream"))
    begun: dict[str, int] = {}
    ended: dict[str, int] = {}
    for position, begins, stream in select(
        f"SELECT position, {BEGINS}, stream FROM event "  # noqa: S608 - constants
        f"{by} WHERE {LIFE} ORDER BY position"
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
    claims = {issue: name for name, issue in select("SELECT component, issue FROM open_issue")}
    claims |= carried
    reached = f"SELECT stream, max(version) FROM event WHERE position <= {cut} GROUP BY stream"  # noqa: S608
    going_on = {
        stream: (version, claims.get(stream) if ended.get(stream, cut + 1) > cut else None)
        for stream, version in select(reached)
        if stream not in begun or stream not in ended
    }
    return Cut(first, cut, held_by, going_on)
