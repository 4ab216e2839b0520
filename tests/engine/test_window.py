"""Maintenance windows are so long as they were wished to be, whatever is done to the wall clock."""

from __future__ import annotations

import asyncio

import pytest
from freezegun import freeze_time

from healer.bootstrap import SystemClock
from healer.domain.aggregate import Stamp
from healer.domain.component import Component, component_stream
from healer.engine.window import Window
from healer.testing import FakeClock
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
