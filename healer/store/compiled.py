"""Reading events for what they say, faster than as the objects that the domain works with.

For each event type a `msgspec` struct is derived from its pydantic model: the same fields, the same
types, unknown fields refused. A body that fits is decoded in about a microsecond, to a *light*
event with the attributes of the real one (words are members of the same enumerations). Folds read
light events; whoever decides on the strength of a fact reads the real ones (`Codec.decode`).

The two readers accept the same bodies. What the struct refuses is decided by the codec: pydantic is
more forgiving (it takes "5" for 5), and its message is the one that people see.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import cache, reduce
from operator import attrgetter, or_
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    ClassVar,
    Final,
    Protocol,
    Union,
    cast,
    get_args,
    get_origin,
    runtime_checkable,
)

import msgspec
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from healer.domain.events import EVENT_TYPES, Event, Fact
from healer.domain.playbook import Check
from healer.errors import StoreError
from healer.ports import Recorded
from healer.store.codec import Codec
from healer.store.cold import Row
from healer.store.lean import BACKSLASH, ESCAPE

__all__ = [
    "LIGHT",
    "REFUSALS",
    "CompiledReader",
    "LightEvent",
    "LightValue",
    "StoredEvents",
    "Unreadable",
    "light_types",
    "plain",
    "sparse",
]

_PREFIX: Final = "Light"
_COLUMNS: Final = ("originator_id", "originator_version")
_NOTHING: Final = Annotated[int, msgspec.Meta(gt=0, lt=0)]
REFUSALS: Final = (msgspec.MsgspecError, ValueError)
"""What a struct's decoder raises for a body that does not fit."""

_ATOMS: Final = frozenset({str, int, float, bool, NoneType})
_PLAIN: Final = frozenset({str, int, float, bool, datetime, NoneType})


@runtime_checkable
class StoredEvents(Protocol):
    """A log that gives its events as they are stored."""

    async def rows(self, *, after: int = 0, limit: int = 500) -> list[Row]:
        """At most `limit` rows behind `after`, in log order; none where the log ends."""
        ...

    async def require_past(self) -> None:
        """Look that what was archived can be read.

        Raises:
            StoreError: a file is missing or damaged, or the log cannot be read.
        """


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands in the place of an event that cannot be read; `error` says why. `time` is its row's,
    in microseconds since 1970."""

    topic: str
    error: StoreError
    time: int
    body: bytes


class LightValue(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A value inside an event."""


class LightEvent(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """An event with the attributes of the real one; `TOPIC` and `REAL` say which that is."""

    TOPIC: ClassVar[str]
    REAL: ClassVar[type[Event]]

    @property
    def event_id(self) -> str:
        """As `Event.event_id`."""
        return f"{self.originator_id}/{self.originator_version}"  # type: ignore[attr-defined]


class _Compiler:
    """Makes one struct for each model that it meets."""

    def __init__(self) -> None:
        self._made: dict[type[BaseModel], type[msgspec.Struct]] = {}

    @property
    def values(self) -> list[type[msgspec.Struct]]:
        """The structs of values that were made."""
        return list(self._made.values())

    def event(self, topic: str, model: type[Event]) -> type[LightEvent]:
        """The struct of an event; its columns are set after decoding."""
        fields = self._fields(model)
        namespace = {"TOPIC": topic, "REAL": model}
        made = msgspec.defstruct(
            _PREFIX + model.__name__,
            fields,
            bases=(LightEvent,),
            namespace=namespace,
            kw_only=True,
        )
        return cast(type[LightEvent], made)

    def value(self, model: type[BaseModel]) -> type[msgspec.Struct]:
        """The struct of a value inside an event."""
        made = self._made.get(model)
        if made is None:
            decorators = model.__pydantic_decorators__
            if decorators.validators or decorators.field_validators or decorators.model_validators:
                raise TypeError(f"cannot compile {model.__name__}: it is validated by code")
            fields = self._fields(model)
            namespace = {
                name: member
                for name, member in vars(model).items()
                # What is said about a value (`str`, `same_as`, `outcome`) is said of a light one.
                if name == "__str__" or not name.startswith("_")
                if isinstance(member, property) or callable(member)
            }
            made = msgspec.defstruct(
                _PREFIX + model.__name__,
                fields,
                bases=(LightValue,),
                namespace=namespace,
                kw_only=True,
            )
            self._made[model] = made
        return made

    def _fields(self, model: type[BaseModel]) -> list[Any]:
        # In the order in which a body names them: a decoder that finds the next field where it
        # looks first needs a tenth less.
        return [self._field(name, info) for name, info in sorted(model.model_fields.items())]

    def _field(self, name: str, info: FieldInfo) -> Any:
        if name in _COLUMNS:
            # Set after decoding. No body holds a number of this kind, so that none can name them.
            return (name, _NOTHING, msgspec.field(default=0, name=f" {name}"))
        kind = self._type(info.annotation)
        if info.metadata:
            raise TypeError(f"cannot compile {name}: {info.metadata[0]!r} has no form in a struct")
        if info.is_required():
            return (name, kind)
        if info.default_factory is not None:
            return (name, kind, msgspec.field(default_factory=cast(Any, info.default_factory)))
        return (name, kind, msgspec.field(default=info.default))

    def _type(self, annotation: Any) -> Any:
        if annotation in _PLAIN:
            return annotation
        if isinstance(annotation, type):
            if issubclass(annotation, Enum):
                return annotation
            if issubclass(annotation, BaseModel):
                return self.value(annotation)
        origin, arguments = get_origin(annotation), get_args(annotation)
        if origin in {Union, UnionType}:
            lists = [each for each in arguments if get_origin(each) is list]
            others = [self._type(each) for each in arguments if get_origin(each) is not list]
            if lists:
                # A struct knows one kind of list; what is mixed is told apart by `_is_mixed`.
                entries = _union([self._type(get_args(each)[0]) for each in lists])
                others.append(list.__class_getitem__(entries))
            return _union(others)
        if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
            entry = self._type(arguments[0])
            return tuple[entry, ...]  # type: ignore[valid-type]
        if origin is dict:
            return dict.__class_getitem__(tuple(map(self._type, arguments)))
        raise TypeError(f"cannot compile {annotation!r}: it has no form in a struct")


def _union(kinds: Sequence[Any]) -> Any:
    return reduce(or_, kinds)


def light_types(types: Mapping[str, type[Event]] = EVENT_TYPES) -> dict[str, type[LightEvent]]:
    """Topic → the struct of its events.

    Raises:
        TypeError: a model says something that a struct cannot say.
    """
    return _light_types(_Compiler(), types)


def _light_types(
    compiler: _Compiler, types: Mapping[str, type[Event]]
) -> dict[str, type[LightEvent]]:
    return {topic: compiler.event(topic, model) for topic, model in types.items()}


_today: Final = _Compiler()
LIGHT: Final = _light_types(_today, EVENT_TYPES)
"""The structs of all events of today."""

_BY_NAME: Final = {kind.__name__: kind for kind in [*LIGHT.values(), *_today.values]}


def __getattr__(name: str) -> Any:
    """The structs of today under their names: so a pickle finds them."""
    try:
        return _BY_NAME[name]
    except KeyError:
        raise AttributeError(name) from None


_BRACKET: Final = ord("[")
_CHECK_RECORDED: Final = next(
    topic for topic, model in EVENT_TYPES.items() if "check" in model.model_fields
)
assert EVENT_TYPES[_CHECK_RECORDED].model_fields["check"].annotation is Check


class CompiledReader:
    """Decodes stored rows to light events.

    Raises:
        TypeError: see `light_types`.
    """

    def __init__(self, codec: Codec | None = None, types: Mapping[str, type[LightEvent]] = LIGHT):
        self._codec = codec or Codec()
        self._types = types
        self._decoders = {topic: _decoder(topic, kind) for topic, kind in types.items()}

    def decoder(self, topic: str) -> Callable[[bytes], Any]:
        """What `read` does with bodies of one topic of today that have no escape; it raises one of
        `REFUSALS` where the codec has to be asked."""
        return self._decoders[topic]

    def read(self, topic: str, body: bytes) -> LightEvent | None:
        """What a body says, its columns left out; None: ask the codec."""
        decode = self._decoders.get(topic)
        # Half a surrogate pair can only be written so.
        if decode is None or (BACKSLASH in body and ESCAPE in body):
            return None
        try:
            event: LightEvent = decode(body)
        except REFUSALS:
            return None
        return event

    def decode(self, stream: str, version: int, topic: str, body: bytes, place: str | int) -> Any:
        """The light event that was stored; `place` names it in an error (a position, or words).

        Raises:
            StoreError: as `Codec.decode`, for the same bodies, in the same words.
        """
        event: Any = self.read(topic, body)
        if event is None or version < 1:
            return self._slowly(stream, version, topic, body, place)
        event.originator_id = stream
        event.originator_version = version
        return event

    def facts(self, rows: Sequence[Row]) -> list[Recorded]:
        """Rows with their light events; `Unreadable` stands for one that cannot be read."""
        decode = self.decode
        found = []
        for position, stream, version, topic, time, body, _hash in rows:
            try:
                event = decode(stream, version, topic, body, position)
            except StoreError as error:
                event = Unreadable(topic, error, time, body)
            found.append(Recorded(position, event))
        return found

    def _slowly(self, stream: str, version: int, topic: str, body: bytes, place: str | int) -> Any:
        words = place if isinstance(place, str) else f"event {place}"
        fact: Fact = self._codec.decode(stream, version, topic, body, place=words)
        kind = self._types.get(fact.TOPIC)
        if kind is None:
            raise StoreError(f"cannot read {words}: topic {fact.TOPIC} is not compiled")
        event: Any = msgspec.json.decode(self._codec.encode(fact).body, type=kind)
        event.originator_id = stream
        event.originator_version = version
        return event


def _decoder(topic: str, kind: type[LightEvent]) -> Callable[[bytes], Any]:
    decode = msgspec.json.Decoder(kind).decode
    if topic != _CHECK_RECORDED:
        return decode

    def unmixed(body: bytes) -> Any:
        event = decode(body)
        # One character is found at the speed of memory, and most facts are no lists.
        if _BRACKET in body and _is_mixed(event):
            raise ValueError("a list mixes texts and numbers")
        return event

    return unmixed


def _is_mixed(event: Any) -> bool:
    """Whether a list among a check's facts mixes texts and numbers: the model has no such list."""
    for value in event.check.facts.values():
        if type(value) is list and len(value) > 1 and len({*map(type, value)}) > 1:
            return True
    return False


def plain(value: Any) -> Any:
    """A value or a light value as JSON has it."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return msgspec.to_builtins(value)


@cache
def _shape(kind: type[msgspec.Struct]) -> tuple[Callable[[Any], Any], tuple[tuple[str, Any], ...]]:
    """What takes the values of all fields at once; their names and defaults (NODEFAULT equals
    nothing)."""
    fields = msgspec.structs.fields(kind)
    names = [field.name for field in fields]
    take = attrgetter(*names) if len(names) > 1 else lambda value: (getattr(value, names[0]),)
    return take, tuple((field.name, field.default) for field in fields)


def sparse(value: Any) -> Any:
    """As `plain`, without the fields that say no more than their defaults."""
    if isinstance(value, msgspec.Struct):
        take, fields = _shape(type(value))
        # Most are: without the call it takes half the time.
        return {
            name: kept if type(kept) in _ATOMS else sparse(kept)
            for (name, default), kept in zip(fields, take(value), strict=True)
            if kept is not default and kept != default
        }
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_defaults=True)
    if isinstance(value, tuple | list):
        return [sparse(each) for each in value]
    return value._value_ if isinstance(value, Enum) else value
