"""A projection: a name, a version, and a pure fold over the log.

`(state, fact) → state`, with nothing else going in: no clock, no chance, no order of a set, no sum
of floats. So a live view and one rebuilt from nothing are equal byte for byte (`canonical`).

The state is an accumulator that belongs to its fold: a case changes it in place, and nobody else
holds it. That is what makes a fold ten times faster than copying.

Cases stand in a table by event class and not in a `match`: a `match` over the closed union asks
`isinstance` up to 28 times for a fact, the table looks up once, and a fold of many projections
skips those that ignore a fact without calling them. What `assert_never` would prove is proved when
the module is imported: a `Projection` whose table leaves a fact out cannot be made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar

import orjson

from healer.domain.events import EVENT_TYPES, Event
from healer.errors import HealerError
from healer.ports import Recorded
from healer.store.lean import is_marked

__all__ = [
    "Case",
    "Cases",
    "Json",
    "Projection",
    "ProjectionStoppedError",
    "UnreadableEventError",
    "canonical",
    "micros",
]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

S = TypeVar("S")
E = TypeVar("E", bound=Event)

Json = Any
"""What orjson writes: dicts with string keys, lists, strings, ints, floats, bools, None."""

Case = Callable[[S, int, Any], None]
"""Evolves a state, in place, by the fact at a position."""


def micros(moment: datetime) -> int:
    """Microseconds since 1970, UTC."""
    return (moment - _EPOCH) // _MICROSECOND


class UnreadableEventError(HealerError):
    """A fact that no table knows: it comes from a newer healer. `event_type` names it."""

    def __init__(self, event_type: str) -> None:
        self.event_type = event_type
        super().__init__(f"cannot read an event of the unknown type {event_type!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.event_type,)


class ProjectionStoppedError(HealerError):
    """A projection met a fact that it cannot apply. `name`, `position` and `cause` say which."""

    def __init__(self, name: str, position: int, cause: Exception) -> None:
        self.name = name
        self.position = position
        self.cause = cause
        super().__init__(
            f"cannot show {name}: it stopped at position {position} "
            f"({type(cause).__name__}: {cause})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, self.position, self.cause)


class Cases(Generic[S]):
    """The table of a projection: event class → what the fact does to the state."""

    def __init__(self) -> None:
        self._table: dict[type[Event], Case[S] | None] = {}
        self.tick: Callable[[S, int], None] | None = None
        self.marks: dict[type[Event], bytes] = {}
        self.following: object = None
        """How it follows issues, where it does (see `book.Following`)."""

    def on(
        self, kind: type[E]
    ) -> Callable[[Callable[[S, int, E], None]], Callable[[S, int, E], None]]:
        """Decorate what facts of class `kind` do."""

        def register(case: Callable[[S, int, E], None]) -> Callable[[S, int, E], None]:
            self._set(kind, case)
            return case

        return register

    def ignore(self, *kinds: type[Event]) -> None:
        """Say that facts of these classes do nothing."""
        for kind in kinds:
            self._set(kind, None)

    def timed(self, tick: Callable[[S, int], None]) -> None:
        """Say that the latest of the times of all facts counts, of those that are ignored too:
        `tick` takes times in microseconds since 1970, in whatever order, not each of them."""
        self.tick = tick

    def marked(self, kind: type[Event], mark: bytes) -> None:
        """Say that a fact of class `kind` counts only (its time apart, see `timed`) when its body
        holds `mark`, or hides it behind an escape: of the others none is decoded."""
        self.marks[kind] = mark

    def needs(self, kind: type[Event], body: bytes) -> bool:
        """Whether more than the time of a fact with this body counts."""
        if self._table[kind] is None:
            return False
        mark = self.marks.get(kind)
        return mark is None or is_marked(body, mark)

    def _set(self, kind: type[Event], case: Case[S] | None) -> None:
        if kind in self._table:
            raise TypeError(f"cannot give {kind.__name__} a second case")
        self._table[kind] = case

    def table(self) -> Mapping[type[Event], Case[S] | None]:
        """Event class → case, None where it is ignored."""
        return MappingProxyType(self._table)


@dataclass(frozen=True)
class Projection(Generic[S]):
    """A fold with a name. `version` changes when the same log gives another view.

    `merge` joins the states of two parts of a log into the state of the whole, and consumes both;
    None where no such function exists. The parts hold different components: all streams of a
    component, its issues' and its own, stand in the same part, in log order.

    `entries` are those of a view that is a long list, one by one, so that its bytes can be had
    without the list.

    Raises:
        TypeError: the table has no case for a fact of the closed union, and does not ignore it.
    """

    name: str
    version: int
    initial: Callable[[], S]
    cases: Cases[S]
    view: Callable[[S], Json]
    merge: Callable[[S, S], S] | None = None
    entries: Callable[[S], Iterator[Json]] | None = None

    def __post_init__(self) -> None:
        table = self.cases.table()
        missing = sorted(kind.__name__ for kind in EVENT_TYPES.values() if kind not in table)
        if missing:
            raise TypeError(f"cannot make projection {self.name!r}: no case for {missing}")

    def apply(self, state: S, recorded: Recorded) -> S:
        """The state after one more fact; consumes the one before.

        Raises:
            UnreadableEventError: the fact's class is not in the closed union.
        """
        event = recorded.event
        try:
            case = self.cases.table()[type(event)]
        except KeyError:
            raise UnreadableEventError(type(event).__name__) from None
        if case is not None:
            case(state, recorded.position, event)
        if self.cases.tick is not None:
            self.cases.tick(state, micros(event.timestamp))
        return state

    def canonical(self, state: S) -> bytes:
        """The bytes of its view (see `canonical`)."""
        if self.entries is None:
            return canonical(self.view(state))
        told = BytesIO()
        before = b"["
        for entry in self.entries(state):
            told.write(before)
            told.write(canonical(entry))
            before = b","
        told.write(b"]" if before == b"," else b"[]")
        return told.getvalue()


def canonical(view: Json) -> bytes:
    """The bytes by which two views are compared: JSON with sorted keys."""
    return orjson.dumps(view, option=orjson.OPT_SORT_KEYS)
