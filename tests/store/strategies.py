"""Any event at all, built from the fields that its pydantic model declares."""

from __future__ import annotations

import types
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Union, get_args, get_origin

from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from healer.domain.events import EVENT_TYPES, Event

__all__ = ["events", "facts_of"]

_PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(max_size=20),
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    type(None): st.none(),
    datetime: st.datetimes(timezones=st.just(UTC)),
}


def _any(annotation: Any) -> st.SearchStrategy[Any]:
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in {Union, types.UnionType}:
        return st.one_of(*map(_any, arguments))
    if origin is tuple:
        return st.lists(_any(arguments[0]), max_size=3).map(tuple)
    if origin is list:
        return st.lists(_any(arguments[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(_any(arguments[0]), _any(arguments[1]), max_size=3)
    if issubclass(annotation, Enum):
        return st.sampled_from(list(annotation))
    if issubclass(annotation, BaseModel):
        return facts_of(annotation)
    raise NotImplementedError(f"no strategy for {annotation}")


def _field(field: FieldInfo) -> st.SearchStrategy[Any]:
    least = next((rule.ge for rule in field.metadata if hasattr(rule, "ge")), None)
    if field.annotation is int and least is not None:
        return st.integers(least, 2**63 - 1)
    return _any(field.annotation)


def facts_of(model: type[BaseModel]) -> st.SearchStrategy[Any]:
    """Instances of `model` with any value in each field."""
    fields = {name: _field(field) for name, field in model.model_fields.items()}
    return st.builds(model, **fields)


def events() -> st.SearchStrategy[Event]:
    """An event of any type."""
    return st.sampled_from(list(EVENT_TYPES.values())).flatmap(facts_of)
