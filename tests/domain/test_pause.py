"""Pause: whether anything may be healed at all."""

from __future__ import annotations

from healer.domain.aggregate import Stamp
from healer.domain.events import FleetPaused, FleetResumed
from healer.domain.pause import FLEET_STREAM, Pause
from tests import factory
from tests.domain.walk import shown, stamp


def test_a_pause_holds_until_it_is_ended_and_names_who_and_why() -> None:
    pause = Pause()
    assert (pause.id, pause.since) == (FLEET_STREAM, None)
    pause.begin("deploy", stamp=stamp())
    (paused,) = pause.collect_events()
    assert isinstance(paused, FleetPaused)
    assert (paused.originator_id, paused.originator_version) == (FLEET_STREAM, 1)
    assert (paused.reason, paused.actor, paused.node) == ("deploy", "test", factory.NODE)
    assert pause.since == paused
    pause.end("deployed", stamp=stamp(1))
    (resumed,) = pause.collect_events()
    assert isinstance(resumed, FleetResumed)
    assert (resumed.reason, resumed.originator_version, resumed.timestamp) == (
        "deployed",
        2,
        stamp(1).now,
    )
    assert pause.since is None


def test_a_pause_is_begun_once_and_ended_once() -> None:
    pause = Pause()
    pause.end("nothing to end", stamp=stamp())
    assert pause.pending_events == ()
    pause.begin("first", stamp=stamp())
    pause.begin("second", stamp=stamp(1))
    assert [event.reason for event in pause.collect_events()] == ["first"]


def test_what_belongs_together_is_told_by_its_cause_and_else_by_the_stream() -> None:
    pause = Pause()
    pause.begin("by hand", stamp=stamp())
    cause = Stamp(now=factory.BEGIN, actor="test", node=factory.NODE, causation_id="request-1")
    pause.end("by request", stamp=cause)
    begun, ended = pause.collect_events()
    assert begun.correlation_id == FLEET_STREAM
    assert (ended.correlation_id, ended.causation_id) == ("request-1", "request-1")


def test_a_pause_is_the_same_from_its_facts() -> None:
    pause = Pause("another")
    pause.begin("deploy", stamp=stamp())
    again = Pause.replay("another", pause.collect_events())
    assert shown(again) == shown(pause)
