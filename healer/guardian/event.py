"""A fact as a CloudEvent 1.0."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from healer.domain.events import Fact, IssueDetected
from healer.ports import EventLog, Recorded

__all__ = ["BATCH_TYPE", "MEDIA_TYPE", "Subjects", "as_batch", "as_json", "cloud_event", "identity"]

MEDIA_TYPE: Final = "application/cloudevents+json"
BATCH_TYPE: Final = "application/cloudevents-batch+json"
_PREFIX: Final = "io.networkhealer."
_REMEMBERED: Final = 1024
"""Issues whose component is kept in mind; that of others is looked up."""


class Subjects:
    """Which component a fact is about: of an issue's facts, only the first one says it."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._known: OrderedDict[str, str] = OrderedDict()

    async def of(self, fact: Fact) -> str | None:
        """The component; None for a fact about all of them.

        Raises:
            StoreError: the log cannot be read.
        """
        stream = fact.originator_id
        if stream.startswith("component:"):
            return stream.removeprefix("component:")
        if isinstance(fact, IssueDetected):
            self._remember(stream, fact.component)
        elif stream not in self._known:
            first = next(iter(await self._log.stream(stream)), None)
            if isinstance(first, IssueDetected):
                self._remember(stream, first.component)
        return self._known.get(stream)

    def _remember(self, stream: str, component: str) -> None:
        self._known[stream] = component
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)


def cloud_event(recorded: Recorded, component: str | None) -> CloudEvent:
    """The fact as a CloudEvent; `source` and `id` together name it for ever."""
    fact = recorded.event
    attributes = {
        "specversion": "1.0",
        "type": f"{_PREFIX}{fact.TOPIC}",
        "id": fact.event_id,
        "source": f"/network-healer/{fact.node}",
        "time": fact.timestamp,
        "datacontenttype": "application/json",
        "sequence": f"{recorded.position:020d}",
        "correlationid": fact.correlation_id,
        "causationid": fact.causation_id,
        "actor": fact.actor,
        "subject": component,
    }
    given = {name: value for name, value in attributes.items() if value is not None}
    return CloudEvent(given, fact.model_dump(mode="json"))


def identity(event: CloudEvent) -> str:
    """What names the event among those of all healers: its `source` and its `id` together."""
    return f"{event.get_source()}/{event.get_id()}"


def as_json(event: CloudEvent) -> bytes:
    """The event in the structured mode."""
    return JSONFormat().write(event)


def as_batch(events: Sequence[CloudEvent]) -> bytes:
    """The events in the batched mode."""
    return b"[" + b",".join(as_json(event) for event in events) + b"]"
