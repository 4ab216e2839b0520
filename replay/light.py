"""Events checked against their schemas without being made: several times as fast as the codec.

Each schema is compiled to a decoder that is never laxer than the model it comes from. Where it
refuses, or is not sure, the codec decides and finds the words: `read` then says None.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from enum import Enum
from functools import reduce
from types import NoneType, UnionType
from typing import Any, Final, Union, get_args, get_origin

import msgspec
from pydantic_core import PydanticUndefined

from healer.domain.events import CheckRecorded, Event
from healer.domain.value import Value

__all__ = ["Light"]

_COLUMNS: Final = frozenset({"originator_id", "originator_version"})
_PLAIN: Final = frozenset({str, int, float, bool, NoneType})


class Light:
    """Decoders of the bodies of `types`, by topic; what has the same attributes as the event except
    those that are columns."""

    def __init__(self, types: Mapping[str, type[Event]]) -> None:
        made: dict[type, Any] = {}
        self._decoders: dict[str, tuple[type[Event], Callable[[bytes], Any]]] = {}
        for topic, event in types.items():
            try:
                struct = _struct(event, made, _COLUMNS)
            except TypeError:
                # Its schema says what cannot be compiled: the codec has it.
                continue
            self._decoders[topic] = event, msgspec.json.Decoder(struct).decode

    def read(self, topic: str, body: bytes) -> tuple[type[Event], Any] | None:
        """The type of the event and its fields; None: ask the codec."""
        found = self._decoders.get(topic)
        # Half a surrogate pair can only be written so.
        if found is None or b"\\u" in body:
            return None
        kind, decode = found
        try:
            event = decode(body)
        except (msgspec.MsgspecError, ValueError):
            return None
        if kind is CheckRecorded and not _is_uniform(event.check.facts):
            return None
        return kind, event


def _is_uniform(facts: Mapping[str, Any]) -> bool:
    # A list holds texts or numbers: the one union that the decoder does not know.
    return not any(
        type(value) is list and len({type(each) for each in value}) > 1 for value in facts.values()
    )


def _struct(model: type[Value], made: dict[type, Any], without: frozenset[str]) -> Any:
    if model in made:
        return made[model]
    decorators = model.__pydantic_decorators__
    if decorators.validators or decorators.field_validators or decorators.model_validators:
        raise TypeError(f"{model} is validated by code")
    fields: list[Any] = []
    for name, field in model.model_fields.items():
        if name in without:
            continue
        if field.metadata or field.alias:
            raise TypeError(f"{model}.{name} has rules of its own")
        kind = _kind(field.annotation, made)
        if field.is_required():
            fields.append((name, kind))
        elif field.default is not PydanticUndefined:
            fields.append((name, kind, field.default))
        else:
            make: Any = field.default_factory
            fields.append((name, kind, msgspec.field(default_factory=make)))
    made[model] = struct = msgspec.defstruct(
        model.__name__, fields, kw_only=True, forbid_unknown_fields=True, gc=False
    )
    return struct


def _kind(annotation: Any, made: dict[type, Any]) -> Any:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in {Union, UnionType}:
        lists = [each for each in arguments if get_origin(each) is list]
        kinds = [_kind(each, made) for each in arguments if len(lists) < 2 or each not in lists]
        if len(lists) > 1:
            entry: Any = reduce(operator.or_, (get_args(each)[0] for each in lists))
            kinds.append(list[entry])
        return reduce(operator.or_, kinds)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple[_kind(arguments[0], made), ...]  # type: ignore[misc]
    if origin in {list, dict}:
        return origin[tuple(_kind(each, made) for each in arguments)]
    if annotation in _PLAIN or annotation.__name__ == "datetime":
        return annotation
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return annotation
    if isinstance(annotation, type) and issubclass(annotation, Value):
        return _struct(annotation, made, frozenset())
    raise TypeError(f"{annotation} cannot be compiled")
