"""The story of one issue: each fact with the milliseconds since the detection.

The offsets are differences of timestamps: labels, as the log has them. They are for reading; the
measured durations stand in the facts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from healer.domain.events import Event, Fact, FleetEvent, IssueDetected, IssueEvent
from healer.domain.lifecycle import State
from projections.record import instant
from replay.line import Level, describe
from replay.transition import TRANSITIONS

__all__ = ["Entry", "Timeline", "timeline"]

_MILLISECOND: Final = timedelta(milliseconds=1)
_COMMON: Final = frozenset(Event.model_fields)


@dataclass(frozen=True, slots=True)
class Entry:
    """A fact as part of a story.

    `offset_ms` counts from the detection, None before it is known; `state` is the issue's after
    this fact, `component` for a fact about the component. `facts` is the event's payload.
    """

    offset_ms: float | None
    state: str
    text: str
    level: Level
    topic: str
    event_id: str
    timestamp: datetime
    actor: str
    facts: dict[str, Any]

    def __str__(self) -> str:
        return f"{_offset(self.offset_ms):>10}  {self.state:<11}  {self.text}"

    def view(self) -> dict[str, Any]:
        """The entry for a program, as JSON."""
        return {
            "offset_ms": self.offset_ms,
            "state": self.state,
            "text": self.text,
            "level": self.level.value,
            "type": self.topic,
            "event_id": self.event_id,
            "timestamp": instant(self.timestamp),
            "actor": self.actor,
            "facts": self.facts,
        }


class Timeline:
    """Tells one issue as its facts come; facts about its component may be told in between."""

    def __init__(self) -> None:
        self._began: datetime | None = None
        self._state = State.DETECTED.value

    def tell(self, event: Fact) -> Entry:
        """The entry of the next fact. `str(entry)` is its line."""
        if isinstance(event, IssueDetected):
            self._began = event.timestamp
            self._state = State.DETECTED.value
        moved = TRANSITIONS.get(type(event))
        if moved is not None:
            self._state = moved[1].value
        line = describe(event)
        return Entry(
            offset_ms=None
            if self._began is None
            else (event.timestamp - self._began) / _MILLISECOND,
            state=self._state_of(event),
            text=line.text,
            level=line.level,
            topic=event.TOPIC,
            event_id=event.event_id,
            timestamp=event.timestamp,
            actor=event.actor,
            facts=event.model_dump(mode="json", exclude=set(_COMMON)),
        )

    def _state_of(self, event: Fact) -> str:
        if isinstance(event, FleetEvent):
            return "fleet"
        return self._state if isinstance(event, IssueEvent) else "component"


def timeline(events: Iterable[Fact]) -> list[Entry]:
    """The story of one issue, from its facts in order."""
    story = Timeline()
    return [story.tell(event) for event in events]


def _offset(milliseconds: float | None) -> str:
    if milliseconds is None:
        return ""
    sign = "-" if milliseconds < 0 else "+"
    size = abs(milliseconds)
    if size < 10_000:
        return f"{sign}{size:.0f} ms"
    if size < 600_000:
        return f"{sign}{size / 1000:.1f} s"
    return f"{sign}{size / 60_000:.0f} min"
