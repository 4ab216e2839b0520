"""Component: what the log remembers of a service."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from healer.domain.component import Component, component_stream
from healer.domain.events import (
    BudgetReset,
    ComponentRegistered,
    ComponentRemoved,
    Event,
    HealthChanged,
    PortRebound,
)
from healer.domain.health import Health
from healer.domain.process import OwnerProof
from healer.domain.spec import ComponentSpec, Mode
from healer.errors import IllegalCommandError
from tests import factory
from tests.domain.walk import shown, stamp


def spec(port: int = 8220, **fields: object) -> ComponentSpec:
    return ComponentSpec(name="chat_api", port=port, **fields)  # type: ignore[arg-type]


def registered(port: int = 8220) -> Component:
    component = Component(component_stream("chat_api"))
    component.register(spec(port), launcher="command", stamp=stamp())
    component.collect_events()
    return component


def facts(component: Component) -> list[type[Event]]:
    return [type(event) for event in component.collect_events()]


def test_a_configuration_that_says_the_same_is_no_fact() -> None:
    component = registered()
    component.register(spec(), launcher="command", stamp=stamp())
    component.register(spec(interval=9.0), launcher="command", stamp=stamp())
    assert component.pending_events == ()
    component.register(spec(mode=Mode.OBSERVE), launcher="command", stamp=stamp())
    assert facts(component) == [ComponentRegistered]


def test_a_changed_port_overrules_a_rebinding_and_an_unchanged_one_does_not() -> None:
    component = registered()
    component.rebind(8221, stamp=stamp())
    component.register(spec(criticality="high"), launcher="command", stamp=stamp())
    assert component.port == 8221
    component.register(spec(9000), launcher="command", stamp=stamp())
    assert component.port == 9000


def test_a_mode_set_by_hand_outlives_a_restart_with_the_same_configuration() -> None:
    component = registered()
    component.change_mode(Mode.OBSERVE, "hands off", stamp=stamp())
    component.register(spec(criticality="high"), launcher="command", stamp=stamp())
    assert component.mode is Mode.OBSERVE


def test_what_changes_nothing_is_no_fact() -> None:
    component = registered()
    component.change_health(Health.UNKNOWN, epoch=0, probe=None, stamp=stamp())
    component.change_mode(Mode.ACT, "", stamp=stamp())
    assert component.pending_events == ()
    component.change_health(Health.HEALTHY, epoch=1, probe=None, stamp=stamp())
    assert facts(component) == [HealthChanged]


def test_a_process_is_adopted_once_and_again_when_nobody_can_tell() -> None:
    component = registered()
    for process in (factory.process(), factory.process(), factory.process(pidfd_inode=None)):
        component.adopt(
            process, proof=OwnerProof.LAUNCHED, port=8220, epoch=1, launch_id="l1", stamp=stamp()
        )
    assert len(component.collect_events()) == 2


def test_only_the_last_launches_prove_ownership() -> None:
    component = registered()
    for number in range(12):
        component.adopt(
            factory.process(100 + number),
            proof=OwnerProof.LAUNCHED,
            port=8220,
            epoch=1,
            launch_id=f"l{number}",
            stamp=stamp(),
        )
    assert [launch.launch_id for launch in component.launches] == [f"l{n}" for n in range(4, 12)]


def test_a_rebinding_to_where_it_lives_is_refused() -> None:
    component = registered()
    with pytest.raises(IllegalCommandError, match="8220"):
        component.rebind(8220, stamp=stamp())
    with pytest.raises(IllegalCommandError):
        component.end_maintenance("", stamp=stamp())
    assert component.pending_events == ()
    component.rebind(8221, stamp=stamp())
    assert facts(component) == [PortRebound]


class Life(RuleBasedStateMachine):
    """Whatever is said of a component, its history alone tells the same."""

    @initialize()
    def begin(self) -> None:
        self.component = Component(component_stream("chat_api"))
        self.history: list[Event] = []
        self.now = 0
        self.give(0, 8220, Mode.ACT, Health.HEALTHY)

    @rule(
        kind=st.integers(0, 6),
        port=st.integers(8220, 8222),
        mode=st.sampled_from(Mode),
        health=st.sampled_from(Health),
    )
    def give(self, kind: int, port: int, mode: Mode, health: Health) -> None:
        self.now += 1
        at, component, before = stamp(self.now), self.component, shown(self.component)
        try:
            match kind:
                case 0:
                    component.register(spec(port, mode=mode), launcher=None, stamp=at)
                case 1:
                    component.change_health(health, epoch=self.now, probe=None, stamp=at)
                case 2:
                    component.rebind(port, stamp=at)
                case 3:
                    component.start_maintenance(float(port), "x", stamp=at)
                case 4:
                    component.end_maintenance("x", stamp=at)
                case 5:
                    component.change_mode(mode, "x", stamp=at)
                case _:
                    component.adopt(
                        factory.process(port),
                        proof=OwnerProof.CMDLINE,
                        port=port,
                        epoch=self.now,
                        launch_id=f"l{port}",
                        stamp=at,
                    )
        except IllegalCommandError:
            assert component.pending_events == ()
        events = component.collect_events()
        if not events:
            assert shown(component) == before
        self.history += events

    @invariant()
    def history_is_all_there_is(self) -> None:
        if hasattr(self, "history"):
            replayed = Component.replay(self.component.id, self.history)
            assert shown(replayed) == shown(self.component)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def test_an_operator_s_reset_of_the_budget_says_how_much_was_spent() -> None:
    component = registered()
    component.reset_budget(5, "repaired", stamp=stamp(3))
    (reset,) = component.collect_events()
    assert isinstance(reset, BudgetReset)
    assert (reset.attempts, reset.reason) == (5, "repaired")
    assert (reset.timestamp, reset.actor, reset.node) == (stamp(3).now, "test", factory.NODE)


def test_what_was_registered_is_removed_once() -> None:
    component = Component(component_stream("chat_api"))
    component.remove(stamp=stamp())
    assert component.pending_events == ()
    component = registered()
    component.remove(stamp=stamp(3))
    (removed,) = component.pending_events
    assert isinstance(removed, ComponentRemoved)
    assert (removed.timestamp, removed.actor) == (stamp(3).now, "test")
    component.remove(stamp=stamp(4))
    assert facts(component) == [ComponentRemoved]
