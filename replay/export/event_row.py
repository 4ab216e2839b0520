"""An event as a row: what every event has as columns, the rest as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from healer.domain.events import (
    ComponentEvent,
    FleetEvent,
    IssueDetected,
    IssueEvent,
    IssueFailed,
    IssueVerified,
)
from healer.ports import EventLog, Recorded
from healer.store.codec import Codec
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
    Column("causation_id", _K.STRING, _FACT, "the event that led to it", null="none did"),
    Column("payload", _K.JSON, _FACT, "all fields but stream and version, as they are stored"),
)


class EventRows:
    """Makes rows of events. Remembers whose each open issue is, and nothing else."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._codec = Codec()
        self._owners: dict[str, str | None] = {}

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
            if isinstance(event, IssueEvent) and issue not in self._owners:
                if issue in detected:
                    continue
                stream = await self._log.stream(issue)
                first = stream[0] if stream else None
                self._owners[issue] = first.component if isinstance(first, IssueDetected) else None

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
