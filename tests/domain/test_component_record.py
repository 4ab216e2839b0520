"""Component: each command records what it was told, and what the component remembers of it."""

from __future__ import annotations

from typing import Any

import pytest

from healer.domain import events as fact
from healer.domain.aggregate import Stamp
from healer.domain.component import Component, component_of, component_stream
from healer.domain.events import ComponentEvent
from healer.domain.health import Health
from healer.domain.process import Launch, OwnerProof
from healer.domain.spec import ComponentSpec, Criticality, Mode
from healer.errors import IllegalCommandError
from tests import factory
from tests.domain.walk import stamp

SPEC = ComponentSpec(
    name="chat_api",
    port=8220,
    host="127.0.0.2",
    criticality=Criticality.HIGH,
    mode=Mode.SUGGEST,
    depends_on=("bus",),
)
REGISTERED = {
    "host": "127.0.0.2",
    "port": 8220,
    "criticality": Criticality.HIGH,
    "mode": Mode.SUGGEST,
    "launcher": "systemd",
    "depends_on": ("bus",),
}
ADOPTED = {
    "process": factory.process(7),
    "proof": OwnerProof.UNIT,
    "port": 8220,
    "epoch": 3,
    "launch_id": "l1",
}


def component() -> Component:
    known = Component(component_stream("chat_api"))
    known.register(SPEC, launcher="systemd", stamp=stamp())
    known.start_maintenance(60, "upgrade", stamp=stamp(1))
    known.collect_events()
    return known


TOLD: dict[str, tuple[str, dict[str, Any], type[ComponentEvent], dict[str, Any]]] = {
    "register": (
        "register",
        {"spec": SPEC.model_copy(update={"port": 8221}), "launcher": "systemd"},
        fact.ComponentRegistered,
        REGISTERED | {"port": 8221},
    ),
    "register without a launcher": (
        "register",
        {"spec": SPEC, "launcher": None},
        fact.ComponentRegistered,
        REGISTERED | {"launcher": None},
    ),
    "change_health": (
        "change_health",
        {"after": Health.HEALTHY, "epoch": 4, "probe": factory.probe()},
        fact.HealthChanged,
        {"before": Health.UNKNOWN, "after": Health.HEALTHY, "epoch": 4, "probe": factory.probe()},
    ),
    "adopt": ("adopt", ADOPTED, fact.ProcessAdopted, ADOPTED),
    "rebind": (
        "rebind",
        {"new_port": 8229},
        fact.PortRebound,
        {"old_port": 8220, "new_port": 8229},
    ),
    "start_maintenance": (
        "start_maintenance",
        {"duration": 90.0, "reason": "again"},
        fact.MaintenanceStarted,
        {"duration": 90.0, "reason": "again"},
    ),
    "end_maintenance": (
        "end_maintenance",
        {"reason": "done"},
        fact.MaintenanceEnded,
        {"reason": "done"},
    ),
    "change_mode": (
        "change_mode",
        {"after": Mode.OBSERVE, "reason": "hands off"},
        fact.ModeChanged,
        {"before": Mode.SUGGEST, "after": Mode.OBSERVE, "reason": "hands off"},
    ),
    "reset_budget": (
        "reset_budget",
        {"attempts": 5, "reason": "repaired"},
        fact.BudgetReset,
        {"attempts": 5, "reason": "repaired"},
    ),
    "remove": ("remove", {}, fact.ComponentRemoved, {}),
}


@pytest.mark.parametrize(("command", "told", "kind", "facts"), TOLD.values(), ids=TOLD.keys())
@pytest.mark.parametrize("cause", [None, "request-1"])
def test_a_command_records_what_it_was_told_and_what_it_belongs_to(
    command: str,
    told: dict[str, Any],
    kind: type[ComponentEvent],
    facts: dict[str, Any],
    cause: str | None,
) -> None:
    known = component()
    at = Stamp(now=stamp(9).now, actor="ops", node="edge-7", causation_id=cause)
    getattr(known, command)(**told, stamp=at)
    assert known.pending_events == (
        kind(
            originator_id="component:chat_api",
            originator_version=3,
            timestamp=at.now,
            actor="ops",
            node="edge-7",
            correlation_id=cause or "component:chat_api",
            causation_id=cause or "component:chat_api/2",
            component="chat_api",
            **facts,
        ),
    )


def test_a_stream_names_its_component_and_no_other_does() -> None:
    assert component_stream("a:b") == "component:a:b"
    assert component_of("component:a:b") == "a:b"
    assert component_of(factory.ISSUE) is None
    assert component_of("a component:a") is None
    assert Component("component:a:b").name == "a:b"


def test_of_a_component_that_nobody_registered_nothing_is_known() -> None:
    new = Component(component_stream("chat_api"))
    assert (new.host, new.configured_port, new.port, new.registered) == (None, None, None, None)
    assert (new.process, new.launches, new.maintenance) == (None, (), None)
    assert (new.mode, new.health, new.epoch) == (Mode.ACT, Health.UNKNOWN, 0)
    assert (new.version, new.modified_on) == (0, None)
    new.register(SPEC, launcher=None, stamp=stamp())
    (first,) = new.pending_events
    assert first.causation_id is None


def test_what_was_registered_is_remembered() -> None:
    known = component()
    assert (known.host, known.port, known.configured_port) == ("127.0.0.2", 8220, 8220)
    assert known.mode is Mode.SUGGEST
    assert known.registered is not None
    assert known.registered.launcher == "systemd"


def test_a_rebinding_moves_the_component_and_not_its_configuration() -> None:
    known = component()
    known.rebind(8229, stamp=stamp(2))
    assert (known.port, known.configured_port) == (8229, 8220)


def test_a_refused_rebinding_says_where_it_lives() -> None:
    with pytest.raises(IllegalCommandError) as refused:
        component().rebind(8220, stamp=stamp(2))
    assert str(refused.value) == "cannot rebind: chat_api lives on port 8220 already"


def test_what_lives_nowhere_is_not_rebound() -> None:
    new = Component(component_stream("chat_api"))
    with pytest.raises(IllegalCommandError, match="cannot rebind: chat_api lives on port None"):
        new.rebind(8220, stamp=stamp())
    assert new.pending_events == ()


def test_maintenance_holds_until_it_is_ended_and_is_ended_once() -> None:
    known = component()
    assert known.maintenance is not None
    assert (known.maintenance.duration, known.maintenance.reason) == (60, "upgrade")
    known.end_maintenance("done", stamp=stamp(2))
    assert known.maintenance is None
    with pytest.raises(
        IllegalCommandError, match=r"^cannot end the maintenance: chat_api is in none$"
    ):
        known.end_maintenance("again", stamp=stamp(3))


def test_an_epoch_never_goes_back() -> None:
    known = component()
    known.change_health(Health.HEALTHY, epoch=5, probe=None, stamp=stamp(2))
    assert (known.health, known.epoch) == (Health.HEALTHY, 5)
    known.change_health(Health.SUSPECT, epoch=4, probe=None, stamp=stamp(3))
    assert (known.health, known.epoch) == (Health.SUSPECT, 5)
    known.adopt(**ADOPTED, stamp=stamp(4))  # type: ignore[arg-type]
    assert known.epoch == 5
    later = ADOPTED | {"process": factory.process(8), "epoch": 6}
    known.adopt(**later, stamp=stamp(5))  # type: ignore[arg-type]
    assert known.epoch == 6


def test_a_launch_is_remembered_with_its_last_leader_and_a_process_without_one_adds_none() -> None:
    known = component()
    for pid, launch_id in ((7, "l1"), (8, "l2"), (9, "l1"), (10, None)):
        told = ADOPTED | {"process": factory.process(pid), "launch_id": launch_id}
        known.adopt(**told, stamp=stamp(pid))  # type: ignore[arg-type]
    assert known.process == factory.process(10)
    assert known.launches == (
        Launch(launch_id="l2", leader=factory.process(8)),
        Launch(launch_id="l1", leader=factory.process(9)),
    )


def test_a_component_that_is_named_again_is_a_new_one() -> None:
    known = component()
    known.rebind(8229, stamp=stamp(2))
    known.change_mode(Mode.OBSERVE, "hands off", stamp=stamp(3))
    known.remove(stamp=stamp(4))
    assert (known.registered, known.configured_port, known.maintenance) == (None, None, None)
    known.register(SPEC, launcher="systemd", stamp=stamp(5))
    assert (known.port, known.mode) == (8220, Mode.SUGGEST)
