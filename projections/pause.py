"""Whether all healing is paused, since when, by whom and what for."""

from __future__ import annotations

from dataclasses import dataclass

from healer.domain.events import EVENT_TYPES, FleetPaused, FleetResumed
from projections.projection import Cases, Json, Projection
from projections.record import instant

__all__ = ["PAUSE", "PauseState", "pause_view"]


@dataclass(slots=True)
class PauseState:
    """The pause that holds; None when none does."""

    paused: FleetPaused | None = None


_cases: Cases[PauseState] = Cases()


@_cases.on(FleetPaused)
def _paused(state: PauseState, _position: int, event: FleetPaused) -> None:
    state.paused = event


@_cases.on(FleetResumed)
def _resumed(state: PauseState, _position: int, _event: FleetResumed) -> None:
    state.paused = None


_cases.ignore(*(kind for kind in EVENT_TYPES.values() if kind not in {FleetPaused, FleetResumed}))


def pause_view(paused: FleetPaused | None) -> Json:
    """A pause, as it is shown; None when there is none."""
    if paused is None:
        return None
    return {
        "since": instant(paused.timestamp),
        "reason": paused.reason,
        "actor": paused.actor,
        "node": paused.node,
    }


def _view(state: PauseState) -> Json:
    return pause_view(state.paused)


def _merge(left: PauseState, right: PauseState) -> PauseState:
    # The one stream of the fleet stands in one of the parts.
    left.paused = left.paused or right.paused
    return left


PAUSE = Projection("pause", 1, PauseState, _cases, _view, _merge)
