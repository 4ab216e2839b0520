"""All projections, folded together: each fact is looked up once and reaches those that want it."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, cast

from healer.domain.events import EVENT_TYPES, IssueEvent
from healer.errors import UnknownNameError
from healer.ports import Recorded
from healer.store.compiled import LIGHT, REFUSALS, CompiledReader, Unreadable
from healer.store.lean import BACKSLASH, ESCAPE, LeanRow
from projections.book import Evolved, Follower, Following, Shared, share
from projections.fingerprint import Fingerprint, Fingerprints
from projections.projection import (
    Case,
    Json,
    Projection,
    ProjectionStoppedError,
    UnreadableEventError,
    micros,
)

__all__ = ["Fold", "Snapshot"]


_Applied = tuple[tuple[str, ...], Case[Any], Any]
"""Whose it is, the case, and the state that it evolves."""

_Evolving = tuple[dict[str, Any], Callable[..., None], bool]
"""What is kept of open issues, and what an `Evolved` does to it."""

_Way = tuple[bytes | None, Callable[[bytes], Any], _Evolving | None, list[_Applied]]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The views at a position, as canonical JSON; stopped projections are absent."""

    position: int
    views: Mapping[str, bytes]

    def fingerprints(self) -> Fingerprints:
        """What they are compared by."""
        found = {name: Fingerprint.of(view) for name, view in self.views.items()}
        return Fingerprints(self.position, MappingProxyType(found))


class Fold:
    """The states of `projections` after the facts that were applied.

    A projection that meets a fact which it cannot apply stops there, for good, and says which
    (`stopped`); the others go on.
    """

    def __init__(self, projections: Sequence[Projection[Any]]) -> None:
        self.position = 0
        self.stopped: dict[str, ProjectionStoppedError] = {}
        self._projections = {projection.name: projection for projection in projections}
        self._states: dict[str, Any] = {
            projection.name: projection.initial() for projection in projections
        }
        followed = [(self._states[each.name], each.cases.following) for each in projections]
        share([(state, each) for state, each in followed if isinstance(each, Following)])
        self._reader = CompiledReader()
        self._route()

    def _route(self) -> None:
        """Find the ways of facts: by class, and by topic with the mark without which they do
        nothing; of those by topic the ones that do nothing at all are left out."""
        routes: dict[type[Any], list[_Applied]] = {kind: [] for kind in EVENT_TYPES.values()}
        ticks: list[tuple[Callable[[Any, int], None], Any]] = []
        shared = self._shared()
        for issues in shared:
            for fact, case in issues.cases().items():
                if case is not None:
                    routes[fact].append((issues.names, case, issues))
        elsewhere = frozenset(name for issues in shared for name in issues.names)
        for name, projection in self._projections.items():
            if name in self.stopped:
                continue
            if projection.cases.tick is not None:
                ticks.append((projection.cases.tick, self._states[name]))
            for kind, case in projection.cases.table().items():
                if case is not None and not (name in elsewhere and issubclass(kind, IssueEvent)):
                    routes[kind].append(((name,), case, self._states[name]))
        # A light event goes the way of the real one.
        self._routes = routes | {LIGHT[kind.TOPIC]: cases for kind, cases in routes.items()}
        self._ticks = ticks
        self._ways: dict[str, _Way] = {}
        for kind, cases in routes.items():
            names = [name for those, _, _ in cases for name in those]
            marks = {self._projections[name].cases.marks.get(kind) for name in names}
            if cases:
                mark = marks.pop() if len(marks) == 1 else None
                decode = self._reader.decoder(kind.TOPIC)
                self._ways[kind.TOPIC] = mark, decode, _evolving(cases), cases

    def _shared(self) -> list[Shared]:
        """The issues that several projections follow together."""
        followers: dict[int, list[Follower]] = {}
        for name, projection in self._projections.items():
            following, state = projection.cases.following, self._states[name]
            if isinstance(following, Following) and name not in self.stopped:
                followers.setdefault(id(state.open), []).append((name, state, following))
        return [Shared(those, self._stop) for those in followers.values() if len(those) > 1]

    @property
    def projections(self) -> tuple[Projection[Any], ...]:
        return tuple(self._projections.values())

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._projections)

    def apply(self, facts: Iterable[Recorded]) -> None:
        """Apply `facts`, in log order; those that were applied before are passed over."""
        for recorded in facts:
            position, event = recorded.position, recorded.event
            if position <= self.position:
                continue
            self.position = position
            try:
                cases = self._routes[type(event)]
            except KeyError:
                self._stop_interested(position, event)
                continue
            for names, case, state in cases:
                try:
                    case(state, position, event)
                except Exception as error:
                    self._stop_all(names, position, error)
            for tick, state in self._ticks:
                tick(state, micros(event.timestamp))

    @property
    def timed(self) -> bool:
        """Whether a projection wants the times of all events."""
        return bool(self._ticks)

    @property
    def skipped(self) -> frozenset[str]:
        """The topics of which nothing but the time is needed (see `consume`)."""
        return frozenset(EVENT_TYPES.keys() - self._ways.keys())

    @property
    def marks(self) -> dict[str, bytes]:
        """Topics of whose events none but those that hold this mark is needed (see `consume`)."""
        return {topic: mark for topic, (mark, *_) in self._ways.items() if mark is not None}

    def consume(self, rows: Sequence[LeanRow], end: int, latest: int) -> None:
        """As `apply`, with all events up to position `end` as they are stored, those of topics in
        `skipped` and those without their mark left out; `latest` is the latest time of all of them.
        The states are the same."""
        ways = self._ways
        at = self.position
        if rows and rows[0][0] <= at:
            rows = [row for row in rows if row[0] > at]
        for position, stream, version, topic, body in rows:
            way = ways.get(topic)
            if way is None:
                if topic not in EVENT_TYPES:
                    self._one(position, stream, version, topic, latest, body)
                continue
            mark, decode, evolving, cases = way
            # One character is found at the speed of memory, and it is in few bodies.
            escaped = BACKSLASH in body and ESCAPE in body
            if mark is not None and not escaped and mark not in body:
                continue
            try:
                event = None if escaped or version < 1 else decode(body)
            except REFUSALS:  # the codec decides
                event = None
            if event is None:
                self._one(position, stream, version, topic, latest, body)
                ways = self._ways
                continue
            if evolving is not None:
                # Most are of this kind: without a call in between they take a tenth less.
                kept, method, dated = evolving
                record = kept.get(stream)
                if record is None:
                    continue
                try:
                    if dated:
                        record.updated = event.timestamp
                    method(record, event)
                except Exception as error:
                    self._stop_all(cases[0][0], position, error)
                    ways = self._ways
                continue
            event.originator_id = stream
            event.originator_version = version
            for names, case, state in cases:
                try:
                    case(state, position, event)
                except Exception as error:
                    self._stop_all(names, position, error)
                    ways = self._ways
        self.position = max(end, at)
        for tick, state in self._ticks:
            tick(state, latest)

    def _one(self, *row: Any) -> None:
        [fact] = self._reader.facts([(*row, b"")])
        self.apply([fact])

    def _stop_interested(self, position: int, event: Any) -> None:
        """Stop those that would have to know what `event` says: all, where its type is unknown."""
        kind, cause = None, cast(Exception, UnreadableEventError(type(event).__name__))
        if isinstance(event, Unreadable):
            kind, cause = EVENT_TYPES.get(event.topic), event.error
        for name, projection in self._projections.items():
            if kind is None or projection.cases.needs(kind, event.body):
                self._stop(name, position, cause)
        if kind is not None:
            for tick, state in self._ticks:
                tick(state, event.time)

    def _stop_all(self, names: Iterable[str], position: int, cause: Exception) -> None:
        for name in names:
            self._stop(name, position, cause)

    def _stop(self, name: str, position: int, cause: Exception) -> None:
        if name not in self.stopped:
            stopped = ProjectionStoppedError(name, position, cause)
            stopped.__cause__ = cause
            self.stopped[name] = stopped
            self._route()

    def part(self, names: Collection[str]) -> bytes:
        """The states of the projections of `names`, for another process (see `of`)."""
        states = {name: state for name, state in self._states.items() if name in names}
        stopped = {name: error for name, error in self.stopped.items() if name in names}
        kept = (self.position, states, stopped)
        return pickle.dumps(kept, protocol=pickle.HIGHEST_PROTOCOL)

    @classmethod
    def of(cls, projections: Sequence[Projection[Any]], part: bytes) -> Fold:
        """The fold of `projections` that another process of ours gave as a `part`."""
        fold = cls(projections)
        fold.position, fold._states, fold.stopped = pickle.loads(part)  # noqa: S301 - ours
        fold._route()
        return fold

    def leave(self, names: Collection[str]) -> None:
        """Fold the projections of `names` no further: they are gone."""
        for name in names:
            del self._projections[name], self._states[name]
            self.stopped.pop(name, None)
        self._route()

    @classmethod
    def joined(
        cls, projections: Sequence[Projection[Any]], mine: Fold, names: Sequence[str], theirs: bytes
    ) -> Fold:
        """The fold of `projections`: those of `mine`, and those of `names` from the `part` of a
        fold of another process of ours; both are used up.

        Raises:
            ValueError: they stand at different positions.
        """
        other = cls.of([each for each in projections if each.name in names], theirs)
        whole = cls(projections)
        whole.position = mine.position
        whole.adopt(mine)
        whole.adopt(other)
        return whole

    def adopt(self, other: Fold) -> None:
        """Take the projections of `other`, with their states, in the place of those of the same
        names; `other` is used up.

        Raises:
            ValueError: it stands at another position.
        """
        if other.position != self.position:
            raise ValueError(
                f"cannot adopt a fold at position {other.position}; allowed: {self.position}"
            )
        self._projections |= other._projections
        self._states |= other._states
        for name in other.names:
            self.stopped.pop(name, None)
        self.stopped |= other.stopped
        self._route()

    def state(self, name: str) -> Any:
        """The state of a projection, to be read and not changed.

        Raises:
            UnknownNameError: there is no such projection.
            ProjectionStoppedError: it stopped; its state is that of no position.
        """
        if name not in self._projections:
            raise UnknownNameError("projection", name, self.names)
        if name in self.stopped:
            raise self.stopped[name]
        return self._states[name]

    def view(self, name: str) -> Json:
        """What a projection shows; raises as `state` does."""
        state = self.state(name)
        return self._projections[name].view(state)

    def canonical(self, name: str) -> bytes:
        """The bytes of what a projection shows; raises as `state` does."""
        state = self.state(name)
        return self._projections[name].canonical(state)

    def fingerprints(self) -> Fingerprints:
        """As those of the `snapshot`, of which no more than one view is in memory at a time."""
        names = [name for name in self.names if name not in self.stopped]
        found = {name: Fingerprint.of(self.canonical(name)) for name in names}
        return Fingerprints(self.position, MappingProxyType(found))

    def snapshot(self) -> Snapshot:
        """All views that are to be had, as bytes to compare."""
        views = {name: self.canonical(name) for name in self.names if name not in self.stopped}
        return Snapshot(self.position, MappingProxyType(views))


def _evolving(cases: Sequence[_Applied]) -> _Evolving | None:
    """What the only case does, where it is an `Evolved`."""
    match cases:
        case [(_, Evolved() as case, state)]:
            return state.open, case.method, case.dated
        case _:
            return None
