"""A fact as a CloudEvent 1.0, in structured JSON (github.com/cloudevents/spec, v1.0.2)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final

from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from healer.domain.events import ComponentEvent, IssueDetected
from healer.ports import EventLog, Recorded

__all__ = ["MEDIA_TYPE", "SPEC_TYPE", "Message", "Messages"]

SPEC_TYPE: Final = "io.networkhealer"
"""In front of an event's topic it is the CloudEvent's type."""

MEDIA_TYPE: Final = "application/cloudevents+json"

_KNOWN: Final = 10_000
"""Issues whose component is remembered; of others the log is asked."""

_ENVELOPE: Final = frozenset(
    {"originator_id", "originator_version", "timestamp", "correlation_id", "causation_id", "node"}
)
_FORMAT: Final = JSONFormat()


@dataclass(frozen=True, slots=True)
class Message:
    """One fact for a consumer. `id` names it for ever (`stream/version`): a consumer that has seen
    it has seen the fact. `body` is the event in structured JSON."""

    id: str
    position: int
    topic: str
    body: bytes


class Messages:
    """Makes messages of the facts of a log."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._components: OrderedDict[str, str] = OrderedDict()

    async def of(self, recorded: Recorded) -> Message:
        """The message of a fact.

        Raises:
            StoreError: the log, which knows whose issue it is, cannot be read.
        """
        fact = recorded.event
        said = fact.model_dump(mode="json")
        attributes: dict[str, Any] = {
            "id": fact.event_id,
            "source": f"/network-healer/{fact.node}",
            "type": f"{SPEC_TYPE}.{fact.TOPIC}",
            "specversion": "1.0",
            "time": fact.timestamp,
            "datacontenttype": "application/json",
            "sequence": f"{recorded.position:016d}",
            "correlationid": fact.correlation_id,
            "authid": fact.actor,
        }
        if fact.causation_id is not None:
            attributes["causationid"] = fact.causation_id
        component = await self._component(recorded)
        if component is not None:
            attributes["subject"] = component
        data = {name: value for name, value in said.items() if name not in _ENVELOPE}
        body = _FORMAT.write(CloudEvent(attributes, data))
        return Message(fact.event_id, recorded.position, fact.TOPIC, body)

    async def _component(self, recorded: Recorded) -> str | None:
        fact = recorded.event
        if isinstance(fact, IssueDetected):
            self._components[fact.originator_id] = fact.component
            if len(self._components) > _KNOWN:
                self._components.popitem(last=False)
            return fact.component
        if isinstance(fact, ComponentEvent):
            return getattr(fact, "component", None)
        known = self._components.get(fact.originator_id)
        if known is None:
            for first in (await self._log.stream(fact.originator_id))[:1]:
                known = getattr(first, "component", None)
                if known is not None:
                    self._components[fact.originator_id] = known
        return known
