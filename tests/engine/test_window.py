"""Maintenance windows are so long as they were wished to be, whatever is done to the wall clock."""

from __future__ import annotations

import asyncio

import pytest
from freezegun import freeze_time

from healer.bootstrap import SystemClock
from healer.domain.aggregate import Stamp
from healer.domain.component import Component, component_stream
from healer.domain.events import POLICY, MaintenanceEnded
from healer.domain.health import Health
from healer.engine.window import Window
from healer.testing import FakeClock
from projections import ALL
from projections.fold import Fold
from tests.engine.nodes import Nodes
from tests.engine.stage import Stage, in_virtual_time


def opened(clock: FakeClock | SystemClock, duration: float) -> Component:
    component = Component(component_stream("chat_api"))
    stamp = Stamp(now=clock.now(), actor="cli", node="edge-1")
    component.start_maintenance(duration, "upgrade", stamp=stamp)
    return component


def test_a_window_ends_when_its_time_is_over() -> None:
    with freeze_time("2026-03-01 12:00:00") as frozen:
        clock = SystemClock()
        window = Window(clock)
        assert window.left(Component(component_stream("chat_api"))) == 0
        component = opened(clock, 600)
        assert window.left(component) == 600
        frozen.tick(599.5)
        assert window.left(component) == 0.5
        frozen.tick(0.5)
        assert window.left(component) == 0


@pytest.mark.parametrize("jump", [-86_400.0, -1.0, 1.0, 86_400.0])
def test_a_window_is_not_moved_by_a_clock_that_is_set(jump: float) -> None:
    clock = FakeClock()
    window, component = Window(clock), opened(clock, 600)
    assert window.left(component) == 600
    clock.set_wall(jump)
    clock.advance(100)
    assert window.left(component) == 500


@pytest.mark.parametrize(("jump", "left"), [(-86_400.0, 600), (-1.0, 600), (50.0, 550), (601.0, 0)])
def test_another_healer_goes_by_its_label_and_never_beyond_its_length(
    jump: float, left: float
) -> None:
    clock = FakeClock()
    component = opened(clock, 600)
    clock.set_wall(jump)
    window = Window(clock)
    assert window.left(component) == left
    clock.advance(10)
    assert window.left(component) == max(0, left - 10)


def test_another_healer_goes_by_what_came_behind_a_label_from_the_future() -> None:
    clock = FakeClock()
    component = opened(clock, 600)
    clock.set_wall(-3600)
    stamp = Stamp(now=clock.now(), actor="watchdog", node="edge-1")
    component.change_health(Health.HEALTHY, epoch=0, probe=None, stamp=stamp)
    clock.advance(100)
    window = Window(clock)
    assert window.left(component) == 500


def test_a_window_that_the_log_refused_shortens_no_later_one() -> None:
    clock = FakeClock()
    window, refused = Window(clock), opened(clock, 5)
    window.left(refused)
    clock.advance(600)
    later = opened(clock, 300)
    assert later.maintenance is not None
    assert refused.maintenance is not None
    assert later.maintenance.event_id == refused.maintenance.event_id
    assert window.left(later) == 300


def test_a_window_that_replaces_another_is_measured_anew() -> None:
    clock = FakeClock()
    window, component = Window(clock), opened(clock, 600)
    window.left(component)
    clock.advance(100)
    stamp = Stamp(now=clock.now(), actor="cli", node="edge-1")
    component.start_maintenance(50, "upgrade", stamp=stamp)
    assert window.left(component) == 50
    component.end_maintenance("done", stamp=stamp)
    assert window.left(component) == 0


@in_virtual_time
async def test_a_clock_set_back_does_not_keep_a_component_down() -> None:
    async with Stage() as stage:
        await stage.healthy()
        await stage.engine.controls.begin_maintenance("chat_api", 60, "cli", "deploy")
        stage.clock.set_wall(-7200)
        stage.crash()
        begun = asyncio.get_running_loop().time()
        await stage.healthy(within=120)
    assert asyncio.get_running_loop().time() - begun >= 50


async def _said(stage: Stage) -> list[tuple[str, str]]:
    """Who ended a window, and why, each time."""
    return [(each.actor, each.reason) for each in await stage.facts(MaintenanceEnded)]


@in_virtual_time
async def test_a_clock_set_back_before_a_restart_opens_no_window_that_was_over() -> None:
    async with Stage() as stage:
        await stage.healthy()
        await stage.engine.controls.begin_maintenance("chat_api", 60, "cli", "deploy")
        await asyncio.sleep(61)
        assert await _said(stage) == [(POLICY, "elapsed")]
    stage.clock.set_wall(-7200)
    async with stage.new_healer_started():
        await stage.healthy()
        assert stage.engine.status("chat_api").maintenance is None
        stage.crash()
        begun = asyncio.get_running_loop().time()
        await stage.healthy()
        assert asyncio.get_running_loop().time() - begun < 60
    assert await _said(stage) == [(POLICY, "elapsed")]
    fold = Fold(ALL)
    fold.apply(await stage.log.read(limit=1000))
    [shown] = fold.view("components")
    assert (shown["in_maintenance"], shown["maintenance"]) == (False, None)


@in_virtual_time
async def test_the_end_of_a_window_is_said_while_a_heal_waits_for_it() -> None:
    async with Stage() as stage:
        await stage.healthy()
        await stage.engine.controls.begin_maintenance("chat_api", 60, "cli", "deploy")
        stage.crash()
        await stage.healthy(within=120)
        assert await _said(stage) == [(POLICY, "elapsed")]


@in_virtual_time
async def test_what_ran_out_while_no_healer_lived_is_said_by_the_next() -> None:
    async with Stage() as stage:
        await stage.healthy()
        await stage.engine.controls.begin_maintenance("chat_api", 60, "cli", "deploy")
    await asyncio.sleep(3600)
    assert await _said(stage) == []
    async with stage.new_healer_started():
        await stage.until(lambda: _said(stage), within=1)


@in_virtual_time
async def test_a_window_that_replaces_another_is_not_ended_with_it() -> None:
    async with Stage() as stage:
        await stage.healthy()
        controls = stage.engine.controls
        await controls.begin_maintenance("chat_api", 60, "cli", "deploy")
        await asyncio.sleep(30)
        await controls.begin_maintenance("chat_api", 60, "cli", "deploy again")
        await asyncio.sleep(59)
        assert stage.engine.status("chat_api").maintenance is not None
        assert await _said(stage) == []
        await asyncio.sleep(2)
        assert await _said(stage) == [(POLICY, "elapsed")]
        # The next one is measured as well, and so is the end that somebody else says.
        await controls.begin_maintenance("chat_api", 60, "cli", "deploy")
        await asyncio.sleep(10)
        await controls.end_maintenance("chat_api", "cli", "done")
        await asyncio.sleep(120)
        assert await _said(stage) == [(POLICY, "elapsed"), ("cli", "done")]


@in_virtual_time
async def test_an_end_that_cannot_be_written_is_said_later() -> None:
    async with Stage() as stage:
        await stage.healthy()
        await stage.engine.controls.begin_maintenance("chat_api", 60, "cli", "deploy")
        tries: list[float] = []

        def refuse(_: object) -> bool:
            tries.append(stage.clock.monotonic())
            return True

        stage.log.refuses = refuse
        await asyncio.sleep(600)
        assert stage.engine.status("chat_api").maintenance is None
        assert len(tries) < 15  # it is not tried again at once
        stage.log.refuses = lambda _: False
        await stage.until(lambda: _said(stage))
        await stage.healthy()


@in_virtual_time
async def test_nodes_that_share_a_log_say_once_that_a_window_is_over() -> None:
    async with Nodes() as stage:
        await stage.healthy()
        await stage.nodes["a"].engine.controls.begin_maintenance("chat_api", 60, "cli", "deploy")
        await asyncio.sleep(300)
        assert await _said(stage) == [(POLICY, "elapsed")]
        for node in stage.nodes.values():
            assert node.engine.status("chat_api").maintenance is None
        stage.crash()
        await stage.healthy()
