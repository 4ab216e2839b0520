"""Whether healing is paused, from the log alone."""

from __future__ import annotations

from healer.ports import Recorded
from projections.components import COMPONENTS
from projections.pause import PAUSE
from tests import factory
from tests.projections.build import view_of


def test_a_pause_is_shown_until_it_ends() -> None:
    facts = [Recorded(1, factory.fleet_paused())]
    assert view_of(PAUSE, []) is None
    assert view_of(PAUSE, facts) == {
        "since": "2026-01-01T12:00:01.000000Z",
        "reason": "data centre",
        "actor": "api:ops",
        "node": factory.NODE,
    }
    assert view_of(PAUSE, [*facts, Recorded(2, factory.fleet_resumed())]) is None


def test_the_pause_of_either_part_of_a_log_is_the_pause_of_the_whole() -> None:
    paused, empty = PAUSE.initial(), PAUSE.initial()
    PAUSE.apply(paused, Recorded(1, factory.fleet_paused()))
    assert PAUSE.merge is not None
    assert PAUSE.view(PAUSE.merge(empty, paused)) is not None


def test_a_component_that_was_removed_is_not_in_the_inventory() -> None:
    facts = [Recorded(1, factory.component_registered())]
    assert len(view_of(COMPONENTS, facts)) == 1
    assert view_of(COMPONENTS, [*facts, Recorded(2, factory.component_removed())]) == []
