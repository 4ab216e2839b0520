"""A point in the life of a log, as people name it: a time, a while ago, or a position."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from healer.domain.duration import parse_duration
from healer.errors import UnknownNameError
from healer.ports import Recorded
from projections.record import instant

__all__ = ["Point", "PointError", "holds", "read_point", "require_reached", "shown"]

Point = datetime | int
"""An aware instant, or a position in the log."""

_FORMS: Final = (
    "2026-03-01T12:00:00Z (ISO 8601, UTC where no offset is given)",
    "-10m (a while ago: 500ms, 5s, 1m, 1h30m, 2d)",
    "now",
    "a position in the log, from 0",
)


class PointError(UnknownNameError):
    """A text or a position that names no point of the log; `known` says what would."""

    def __init__(self, kind: str, name: str, known: Sequence[str], why: str) -> None:
        super().__init__(kind, name, known)
        self.args = (why,)


def read_point(text: str, now: datetime) -> Point:
    """The point that `text` names; `now` is where a relative one is counted from.

    Raises:
        PointError: it names none.
    """
    word = text.strip()
    if word == "now":
        return now
    if word.isascii() and word.isdigit():
        return int(word)
    try:
        if word.startswith("-"):
            return now - timedelta(seconds=parse_duration(word[1:]))
        moment = datetime.fromisoformat(word)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        allowed = "; ".join(_FORMS)
        why = f"cannot read the time {text!r}; allowed: {allowed}"
        raise PointError("time", text, _FORMS, why) from None


def require_reached(point: Point, head: int) -> None:
    """Refuse a position behind `head`, the end of the log. A time may be any.

    Raises:
        PointError: the log does not reach so far.
    """
    if isinstance(point, int) and point > head:
        why = f"cannot go to position {point}: the log ends at {head}; allowed: 0 to {head}"
        raise PointError("position", str(point), (f"0 to {head}",), why)


def holds(point: Point, recorded: Recorded) -> bool:
    """Whether a fact had happened by then: by its label for a time, by its place for a position."""
    if isinstance(point, int):
        return recorded.position <= point
    return recorded.event.timestamp <= point


def shown(point: Point) -> str | int:
    """The point as JSON: a time in UTC, or the number."""
    return point if isinstance(point, int) else instant(point) or ""
