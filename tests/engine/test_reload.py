"""A changed configuration comes into force without touching what did not change."""

from __future__ import annotations

import asyncio

import pytest

from healer.domain.events import (
    ApprovalDenied,
    ApprovalRequested,
    ComponentRegistered,
    ComponentRemoved,
    HealWithheld,
    IssueFailed,
    StepStarted,
)
from healer.domain.spec import Budget, Mode
from healer.errors import UnknownNameError
from tests.engine.stage import PORT, Stage, in_virtual_time, spec


@in_virtual_time
async def test_components_are_added_removed_and_changed_and_the_rest_is_left_alone() -> None:
    async with Stage(spec("same"), spec("gone", PORT + 1), spec("other", PORT + 2)) as stage:
        engine = stage.engine
        for name in engine.names:
            await stage.until(lambda name=name: engine.status(name).process)
        starts = len(stage.world.starts)
        same = engine.status("same").process
        new = {
            "fresh": spec("fresh", PORT + 3),
            "same": spec("same"),
            "other": spec("other", PORT + 2, interval=0.5),
        }
        told = await engine.reload(new, Budget(max_concurrent=1))
        assert told == {"added": ["fresh"], "removed": ["gone"], "changed": ["other"]}
        assert engine.names == ("fresh", "same", "other")
        assert engine.fleet.budget.max_concurrent == 1
        await stage.until(lambda: engine.status("fresh").process)
        assert engine.status("same").process == same
        assert len(stage.world.starts) == starts + 1  # only the new one was started
        assert stage.serving(PORT + 1) is not None  # what is removed lives on
        with pytest.raises(UnknownNameError):
            engine.status("gone")
        (removed,) = await stage.facts(ComponentRemoved)
        assert (removed.component, removed.actor) == ("gone", "config")


@in_virtual_time
async def test_a_component_under_healing_finishes_first() -> None:
    async with Stage() as stage:
        await stage.healthy()
        stage.crash()
        await stage.until(lambda: stage.engine.fleet.healing)
        changed = {"chat_api": spec(mode=Mode.OBSERVE)}
        await stage.engine.reload(changed, stage.budget)
        assert stage.answers()
        assert await stage.facts(IssueFailed) == []
        await stage.until(lambda: stage.engine.status("chat_api").mode is Mode.OBSERVE)


@in_virtual_time
async def test_an_open_issue_goes_on_under_the_new_configuration_or_ends_with_its_component() -> (
    None
):
    async with Stage(spec(mode=Mode.OBSERVE)) as stage:
        await stage.until(lambda: stage.facts(HealWithheld))
        await stage.engine.reload({"chat_api": spec(mode=Mode.ACT)}, stage.budget)
        await stage.healthy()
        assert len(await stage.issues()) == 1
        assert await stage.facts(StepStarted)
    async with Stage(spec(mode=Mode.OBSERVE)) as stage:
        await stage.until(lambda: stage.facts(HealWithheld))
        await stage.engine.reload({}, stage.budget)
        (failed,) = await stage.facts(IssueFailed)
        assert (failed.reason, failed.actor) == ("removed", "config")
        assert await stage.log.open_issues() == {}
        # Named again, it is watched again.
        await stage.engine.reload({"chat_api": spec()}, stage.budget)
        await stage.healthy()
        assert len(await stage.facts(ComponentRegistered)) == 2


@in_virtual_time
async def test_the_same_configuration_again_changes_nothing() -> None:
    async with Stage() as stage:
        await stage.healthy()
        head = await stage.log.head()
        told = await stage.engine.reload(stage.specs, stage.budget)
        assert not any(told.values())
        await asyncio.sleep(5)
        assert await stage.log.head() == head


@in_virtual_time
async def test_a_healer_that_does_not_run_watches_what_it_was_told_of_last() -> None:
    stage = Stage(spec("gone"), spec("other", PORT + 1))
    new = {"fresh": spec("fresh", PORT + 2), "other": spec("other", PORT + 1, interval=0.5)}
    told = await stage.engine.reload(new, stage.budget)
    assert told == {"added": ["fresh"], "removed": ["gone"], "changed": ["other"]}
    await asyncio.sleep(60)
    assert stage.world.starts == []
    async with stage:
        await stage.healthy("fresh", "other")
        assert stage.engine.names == ("fresh", "other")
        assert stage.serving() is None


@in_virtual_time
async def test_the_past_of_a_component_that_is_named_no_more_is_nobodys() -> None:
    suggesting = spec("former", PORT + 1, mode=Mode.SUGGEST)
    async with Stage(spec(), suggesting) as stage:
        (asked,) = await stage.until(lambda: stage.facts(ApprovalRequested))
        await stage.engine.controls.approve(asked.originator_id, "api:alice")
        await stage.healthy()
        stage.crash(PORT + 1)
        asked = await stage.until(lambda: _asked_again(stage))
        await stage.engine.controls.deny(asked.originator_id, "api:alice", "not now")
        await stage.until(lambda: stage.facts(ApprovalDenied))
    del stage.specs["former"]
    async with stage.new_healer_started():
        assert stage.engine.fleet.resting("chat_api") is None
        stage.crash()
        await stage.healthy("chat_api")


async def _asked_again(stage: Stage) -> ApprovalRequested | None:
    asked = await stage.facts(ApprovalRequested)
    return asked[1] if len(asked) > 1 else None
