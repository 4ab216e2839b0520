"""Events to bytes and back.

The body is canonical JSON (sorted keys) of all that is not a column of its own: the stream, the
version in it and the topic. The bytes stored are the bytes hashed. A stored topic is looked up in
a closed registry and never imported, whatever it says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from math import isfinite
from types import MappingProxyType, NoneType
from typing import Any, Final, NamedTuple, cast

import orjson
from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import Mapper, StoredEvent, Transcoder
from pydantic import ValidationError

from healer.domain.events import EVENT_TYPES, Event, Fact
from healer.domain.value import Value
from healer.errors import StoreError

__all__ = ["UPCASTERS", "Codec", "Encoded", "EventMapper", "Upcaster"]

Upcaster = Callable[[dict[str, Any]], tuple[str, dict[str, Any]]]
"""Takes the body of an old event; gives the next newer topic and the body under it."""

UPCASTERS: Final[Mapping[str, Upcaster]] = MappingProxyType({})
"""Old topic → how to read it as a newer one. Applied until the topic is one of today's."""

_COLUMNS: Final = ("originator_id", "originator_version")
_FINITE: Final = frozenset({str, int, bool, NoneType, datetime})
_FORM: Final = orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class Encoded(NamedTuple):
    """An event with the columns that it is stored as; `time` in microseconds since 1970, UTC."""

    event: Fact
    stream: str
    version: int
    topic: str
    time: int
    body: bytes


class Codec:
    """Encodes and decodes the events of one registry."""

    def __init__(
        self,
        types: Mapping[str, type[Event]] = EVENT_TYPES,
        upcasters: Mapping[str, Upcaster] = UPCASTERS,
    ) -> None:
        self._types = types
        self._upcasters = upcasters

    def encode(self, event: Event) -> Encoded:
        """The columns of `event`.

        Raises:
            StoreError: its type is not registered, or it holds what could not be read back (a
                number that is not finite or has more than 64 bits, half a surrogate pair, a time
                without a zone).
        """
        topic = event.TOPIC
        if self._types.get(topic) is not type(event):
            raise StoreError(f"cannot store {event.event_id}: topic {topic} is not registered")
        stream, version = event.originator_id, event.originator_version
        try:
            stream.encode()
            # A naive time would be a label of an unknown zone: the subtraction refuses it.
            time = (event.timestamp - _EPOCH) // _MICROSECOND
            fields = _plain(event).copy()
            for column in _COLUMNS:
                del fields[column]
            body = orjson.dumps(fields, default=_plain, option=_FORM)
        except (TypeError, ValueError) as error:
            name = event.event_id.encode("ascii", "backslashreplace").decode()
            raise StoreError(f"cannot store {name} ({topic}): {error}") from error
        return Encoded(cast(Fact, event), stream, version, topic, time, body)

    def decode(self, stream: str, version: int, topic: str, body: bytes, *, place: str) -> Fact:
        """The event that was stored; `place` names it in an error ("event 17").

        Raises:
            StoreError: the topic is unknown to this version, or the body does not fit it.
        """
        event_type = self._types.get(topic)
        if event_type is None:
            topic, body = self._upcast(topic, body, place)
            event_type = self._types[topic]
        # The columns are spliced in as JSON: parsing and validating in one pass costs less than
        # building a dictionary in between.
        document = b'{"originator_id":%b,"originator_version":%d,%b' % (
            orjson.dumps(stream),
            version,
            body[1:],
        )
        try:
            return cast(Fact, event_type.__pydantic_validator__.validate_json(document))
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(map(str, problem["loc"])) or "body"
            raise StoreError(
                f"cannot read {place}: topic {topic}, {where}: {problem['msg']}"
            ) from error

    def _upcast(self, topic: str, body: bytes, place: str) -> tuple[str, bytes]:
        passed: list[str] = []
        fields: dict[str, Any] | None = None
        while topic not in self._types:
            upcast = self._upcasters.get(topic)
            if upcast is None or topic in passed:
                raise StoreError(f"cannot read {place}: topic {topic} is not known to this version")
            passed.append(topic)
            try:
                topic, fields = upcast(orjson.loads(body) if fields is None else fields)
            # An upcaster looks at nothing twice: what it meets in a malformed body, it raises.
            except Exception as error:
                raise StoreError(
                    f"cannot read {place}: topic {topic} does not upcast: {error!r}"
                ) from error
        try:
            return topic, orjson.dumps(fields)
        except TypeError as error:  # nested deeper than it is written, though not than it is read
            raise StoreError(f"cannot read {place}: topic {topic}: {error}") from error


def _plain(value: Any) -> dict[str, Any]:
    """The fields of a value, as they are: orjson asks for each value that it meets and writes its
    texts, times and words itself, in one pass, to the bytes that pydantic gives in two."""
    # `isinstance` asks pydantic's metaclass, which takes as long as everything else here.
    if Value not in type(value).__mro__:
        raise TypeError  # orjson says of what kind it is
    fields: dict[str, Any] = value.__dict__
    for field in fields.values():
        if type(field) not in _FINITE:
            _require_finite(field)
    return fields


def _require_finite(value: Any) -> None:
    # JSON has no NaN and no infinity: they would be written as null and refused on reading.
    kind = type(value)
    if kind is float:
        if not isfinite(value):
            raise ValueError(f"JSON has no number {value}")
    elif kind is tuple or kind is list:
        for entry in value:
            _require_finite(entry)
    elif kind is dict:
        for entry in value.values():
            _require_finite(entry)


class _Orjson(Transcoder):
    """What the library asks a mapper to hold; `EventMapper` itself does not use it."""

    def encode(self, obj: Any) -> bytes:
        return orjson.dumps(obj, option=orjson.OPT_SORT_KEYS)

    def decode(self, data: bytes) -> Any:
        return orjson.loads(data)


class EventMapper(Mapper[str]):
    """The codec as the mapper of the library's `EventStore` and `Repository`."""

    def __init__(self, codec: Codec | None = None) -> None:
        super().__init__(_Orjson())
        self._codec = codec or Codec()

    def to_stored_event(self, domain_event: DomainEventProtocol[str]) -> StoredEvent:
        """The stored form of `domain_event`.

        Raises:
            StoreError: as `Codec.encode`; also for an event that is not the healer's.
        """
        if not isinstance(domain_event, Event):
            raise StoreError(f"cannot store {domain_event!r}: it is not an event of the healer")
        encoded = self._codec.encode(domain_event)
        return StoredEvent(encoded.stream, encoded.version, encoded.topic, encoded.body)

    def to_domain_event(self, stored_event: StoredEvent) -> DomainEventProtocol[str]:
        """The event in `stored_event`.

        Raises:
            StoreError: as `Codec.decode`.
        """
        stream, version = str(stored_event.originator_id), stored_event.originator_version
        return self._codec.decode(
            stream,
            version,
            stored_event.topic,
            stored_event.state,
            place=f"event {stream}/{version}",
        )
