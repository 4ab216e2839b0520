"""All projections, folded together: each fact is looked up once and reaches those that want it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, cast

from healer.domain.events import EVENT_TYPES
from healer.errors import UnknownNameError
from healer.ports import Recorded
from healer.store.compiled import LIGHT, Unreadable
from projections.projection import (
    Case,
    Json,
    Projection,
    ProjectionStoppedError,
    UnreadableEventError,
    canonical,
)

__all__ = ["Fold", "Snapshot"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The views at a position, as canonical JSON; stopped projections are absent."""

    position: int
    views: Mapping[str, bytes]


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
        self._routes = self._route()

    def _route(self) -> dict[type[Any], list[tuple[str, Case[Any], Any]]]:
        routes: dict[type[Any], list[tuple[str, Case[Any], Any]]] = {
            kind: [] for kind in EVENT_TYPES.values()
        }
        for name, projection in self._projections.items():
            if name in self.stopped:
                continue
            for kind, case in projection.cases.table().items():
                if case is not None:
                    routes[kind].append((name, case, self._states[name]))
        # A light event goes the way of the real one.
        return routes | {LIGHT[kind.TOPIC]: cases for kind, cases in routes.items()}

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
            for name, case, state in cases:
                try:
                    case(state, position, event)
                except Exception as error:
                    self._stop(name, position, error)

    def _stop_interested(self, position: int, event: Any) -> None:
        """Stop those that would have to know what `event` says: all, where its type is unknown."""
        kind, cause = None, cast(Exception, UnreadableEventError(type(event).__name__))
        if isinstance(event, Unreadable):
            kind, cause = EVENT_TYPES.get(event.topic), event.error
        for name, projection in self._projections.items():
            if kind is None or projection.cases.table()[kind] is not None:
                self._stop(name, position, cause)

    def _stop(self, name: str, position: int, cause: Exception) -> None:
        if name not in self.stopped:
            stopped = ProjectionStoppedError(name, position, cause)
            stopped.__cause__ = cause
            self.stopped[name] = stopped
            self._routes = self._route()

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
        self._routes = self._route()

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

    def snapshot(self) -> Snapshot:
        """All views that are to be had, as bytes to compare."""
        views = {
            name: canonical(self.view(name)) for name in self.names if name not in self.stopped
        }
        return Snapshot(self.position, MappingProxyType(views))
