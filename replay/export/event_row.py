"""An event as a row: what every event has as columns, the rest as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from healer.domain.component import component_of
from healer.domain.events import (
    EVENT_TYPES,
    ComponentEvent,
    FleetEvent,
    IssueDetected,
    IssueEvent,
    IssueFailed,
    IssueVerified,
)
from healer.errors import StoreError
from healer.ports import EventLog, Recorded
from healer.store.codec import Codec
from healer.store.cold import Row
from projections.column import Column, Kind, Role

__all__ = ["EVENT_COLUMNS", "EventRows"]

_K, _FACT = Kind, Role.FACT

EVENT_COLUMNS: Final = (
    Column("position", _K.INT, Role.KEY, "place in the log, from 1"),
    Column("stream", _K.STRING, Role.KEY, "an issue's id, or `component:<name>`"),
    Column("version", _K.INT, Role.KEY, "place in the stream, from 1"),
    Column("topic", _K.STRING, _FACT, "type and schema version of the event"),
    Column("time", _K.TIME, _FACT, "when it was recorded"),
    Column("component", _K.STRING, _FACT, "whom it concerns", null="its issue was never detected"),
    Column("issue_id", _K.STRING, _FACT, "the issue", null="it is a fact about a component"),
    Column("actor", _K.STRING, _FACT, "who did it"),
    Column("node", _K.STRING, _FACT, "where"),
    Column("correlation_id", _K.STRING, _FACT, "the issue that it belongs to"),
    Column("causation_id", _K.STRING, _FACT, "the event or alert that led to it", null="none did"),
    Column("payload", _K.JSON, _FACT, "all fields but stream and version, as they are stored"),
)


class _Head(msgspec.Struct, gc=False):
    """What the columns need of a body."""

    actor: str
    node: str
    correlation_id: str
    causation_id: str | None = None
    component: Any = None


_ISSUE: Final = {kind.TOPIC for kind in EVENT_TYPES.values() if issubclass(kind, IssueEvent)}
_COMPONENT: Final = {
    kind.TOPIC for kind in EVENT_TYPES.values() if issubclass(kind, ComponentEvent)
}
_DETECTED: Final = IssueDetected.TOPIC
_ENDS: Final = (IssueVerified.TOPIC, IssueFailed.TOPIC)


class EventRows:
    """Makes rows of events. Remembers whose each open issue is, and nothing else."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._codec = Codec()
        self._owners: dict[str, str | None] = {}
        self._head = msgspec.json.Decoder(_Head).decode

    async def prepare(self, facts: Sequence[Recorded]) -> None:
        """Look up whose the issues are that were detected before the first of `facts`.

        Raises:
            StoreError: the log cannot be read.
        """
        detected = {
            fact.event.originator_id for fact in facts if isinstance(fact.event, IssueDetected)
        }
        for fact in facts:
            event = fact.event
            issue = event.originator_id
            if isinstance(event, IssueEvent) and issue not in detected:
                await self._look_up(issue)

    async def prepare_stored(self, rows: Sequence[Row]) -> None:
        """As `prepare`."""
        known = {row[1] for row in rows if row[3] == _DETECTED} | self._owners.keys()
        # A topic that is not of today may be an old version of an issue's.
        issues = {row[1] for row in rows if row[3] in _ISSUE or row[3] not in EVENT_TYPES}
        for stream in issues - known:
            if component_of(stream) is None:
                await self._look_up(stream)

    async def _look_up(self, issue: str) -> None:
        if issue not in self._owners:
            stream = await self._log.stream(issue)
            first = stream[0] if stream else None
            self._owners[issue] = first.component if isinstance(first, IssueDetected) else None

    def stored(self, rows: Sequence[Row]) -> list[tuple[Any, ...]]:
        """The rows of events as they are stored; call it in log order. Only those of old versions
        are decoded wholly.

        Raises:
            StoreError: an event cannot be read.
        """
        made = []
        owners, head_of = self._owners, self._head
        for position, stream, version, topic, time, body, _ in rows:
            if topic in _ISSUE:
                issue: str | None = stream
            elif topic in _COMPONENT:
                issue = None
            else:
                place = f"event {position}"
                event = self._codec.decode(stream, version, topic, body, place=place)
                made.append(self.row(Recorded(position, event)))
                continue
            try:
                head = head_of(body)
                payload = body.decode()
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise StoreError(f"cannot read event {position}: topic {topic}: {error}") from error
            if issue is None:
                component = head.component
            else:
                if topic == _DETECTED:
                    owners[stream] = head.component
                component = owners.pop(stream, None) if topic in _ENDS else owners.get(stream)
            made.append(
                (position, stream, version, topic, time, component, issue, head.actor, head.node,
                 head.correlation_id, head.causation_id, payload)
            )  # fmt: skip
        return made

    def row(self, recorded: Recorded) -> tuple[Any, ...]:
        """The row of one event; call it in log order.

        Raises:
            StoreError: the event cannot be encoded.
        """
        event = recorded.event
        _, stream, version, topic, time, body = self._codec.encode(event)
        issue: str | None = None
        if isinstance(event, ComponentEvent):
            component: str | None = event.component
        elif isinstance(event, FleetEvent):
            component = None
        else:
            issue = stream
            if isinstance(event, IssueDetected):
                self._owners[issue] = event.component
            component = self._owners.get(issue)
            if isinstance(event, IssueVerified | IssueFailed):
                self._owners.pop(issue, None)
        return (
            recorded.position,
            stream,
            version,
            topic,
            time,
            component,
            issue,
            event.actor,
            event.node,
            event.correlation_id,
            event.causation_id,
            body.decode(),
        )
