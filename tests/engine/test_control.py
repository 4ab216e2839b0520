"""What operators change while the healer runs: durable, with their name in it, and at once."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence

import pytest

from healer.domain.events import (
    ApprovalDenied,
    ApprovalGranted,
    ApprovalRequested,
    BudgetReset,
    Event,
    FleetPaused,
    FleetResumed,
    HealWithheld,
    IssueVerified,
    MaintenanceEnded,
    MaintenanceStarted,
    ModeChanged,
    StepStarted,
)
from healer.domain.lifecycle import State
from healer.domain.spec import Budget, Mode
from healer.engine import HealRequest
from healer.errors import (
    HealWithheldError,
    IllegalCommandError,
    IssueConflictError,
    StoreError,
    UnknownNameError,
)
from tests.engine.stage import Stage, in_virtual_time, spec

ALICE = "api:alice"
ASK = HealRequest(actor=ALICE)


# The pause


@in_virtual_time
async def test_a_pause_outlives_the_healer_that_was_told_of_it() -> None:
    async with Stage() as stage:
        await stage.healthy()
        pause = await stage.engine.controls.begin_pause(ALICE, "storm")
        assert (pause.actor, pause.reason) == (ALICE, "storm")
    async with stage.new_healer_started() as stage:
        assert stage.engine.controls.pause == pause
        stage.crash()
        (withheld,) = await stage.until(lambda: stage.facts(HealWithheld))
        assert withheld.reason == "paused"
        with pytest.raises(HealWithheldError):
            await stage.engine.heal("chat_api", ASK)
        ended = await stage.engine.controls.end_pause("api:bob", "calm")
        assert ended == pause
        await stage.healthy()
    (resumed,) = await stage.facts(FleetResumed)
    assert (resumed.actor, resumed.reason) == ("api:bob", "calm")
    async with stage.new_healer_started() as stage:
        assert stage.engine.controls.pause is None


@in_virtual_time
async def test_a_second_pause_and_a_second_end_are_no_facts() -> None:
    async with Stage() as stage:
        first = await stage.engine.controls.begin_pause(ALICE, "storm")
        assert await stage.engine.controls.begin_pause("api:bob", "as well") == first
        assert await stage.engine.controls.end_pause(ALICE, "calm") == first
        assert await stage.engine.controls.end_pause(ALICE, "calm") is None
        assert len(await stage.facts(FleetPaused)) == len(await stage.facts(FleetResumed)) == 1


@in_virtual_time
async def test_a_pause_that_another_node_was_told_of_holds_here_too() -> None:
    async with Stage() as stage:
        await stage.healthy()
        here = stage.engine
        there = stage.new_healer()  # another node on the same log, that watches nothing yet
        await there.controls.start(stage.log)
        await there.controls.begin_pause(ALICE, "storm")
        assert here.controls.pause is not None
        await here.controls.end_pause("api:bob", "calm")
        assert there.controls.pause is None
        there.controls.stop()
        await here.stop()


@in_virtual_time
async def test_a_pause_that_cannot_be_written_does_not_hold() -> None:
    async with Stage() as stage:
        await stage.healthy()
        stage.log.refuses = lambda _: True
        with pytest.raises(StoreError):
            await stage.engine.controls.begin_pause(ALICE, "storm")
        assert stage.engine.controls.pause is None
        assert not stage.engine.fleet.paused


# Modes


@in_virtual_time
async def test_a_mode_changes_what_happens_to_the_next_fault_and_outlives_a_restart() -> None:
    async with Stage() as stage:
        await stage.healthy()
        before = await stage.engine.controls.change_mode("chat_api", Mode.OBSERVE, ALICE, "release")
        assert before is Mode.ACT
        assert stage.engine.status("chat_api").mode is Mode.OBSERVE
    async with stage.new_healer_started() as stage:
        stage.crash()
        (withheld,) = await stage.until(lambda: stage.facts(HealWithheld))
        assert withheld.reason == "observe"
        await asyncio.sleep(600)
        assert stage.serving() is None
        await stage.engine.controls.change_mode("chat_api", Mode.ACT, ALICE, "done")
        await stage.healthy()
    changes = await stage.facts(ModeChanged)
    assert [(each.before, each.after, each.actor) for each in changes] == [
        (Mode.ACT, Mode.OBSERVE, ALICE),
        (Mode.OBSERVE, Mode.ACT, ALICE),
    ]


@in_virtual_time
async def test_the_same_mode_again_is_no_fact() -> None:
    async with Stage() as stage:
        await stage.healthy()
        await stage.engine.controls.change_mode("chat_api", Mode.ACT, ALICE, "")
        assert await stage.facts(ModeChanged) == []


@in_virtual_time
async def test_a_withheld_heal_becomes_a_suggestion_when_the_mode_does() -> None:
    async with Stage(spec(mode=Mode.OBSERVE)) as stage:
        await stage.until(lambda: stage.facts(HealWithheld))
        await stage.engine.controls.change_mode("chat_api", Mode.SUGGEST, ALICE, "")
        (asked,) = await stage.until(lambda: stage.facts(ApprovalRequested))
        await asyncio.sleep(60)
        assert await stage.facts(StepStarted) == []
        await stage.engine.controls.approve(asked.originator_id, ALICE)
        await stage.healthy()


@pytest.mark.parametrize("lost", [False, True])
@in_virtual_time
async def test_an_answer_counts_though_who_gave_it_went_away(
    caplog: pytest.LogCaptureFixture, *, lost: bool
) -> None:
    async with Stage(spec(mode=Mode.SUGGEST)) as stage:
        (asked,) = await stage.until(lambda: stage.facts(ApprovalRequested))
        answer = asyncio.create_task(stage.engine.controls.approve(asked.originator_id, ALICE))
        await asyncio.sleep(0)
        answer.cancel()
        if lost:
            stage.log.refuses = lambda _: True
            await asyncio.sleep(30)
            stage.log.refuses = lambda _: False
            await stage.engine.controls.approve(asked.originator_id, ALICE)
        await stage.healthy()
    (granted,) = await stage.facts(ApprovalGranted)
    assert granted.actor == ALICE
    gc.collect()
    assert "never retrieved" not in caplog.text


@in_virtual_time
async def test_a_suggestion_is_not_waited_for_when_the_mode_becomes_act() -> None:
    async with Stage(spec(mode=Mode.SUGGEST)) as stage:
        await stage.until(lambda: stage.facts(ApprovalRequested))
        await stage.engine.controls.change_mode("chat_api", Mode.ACT, ALICE, "")
        await stage.healthy()
        assert await stage.facts(ApprovalDenied) == []


@in_virtual_time
async def test_modes_of_all_components_change_at_once() -> None:
    async with Stage(spec(), spec("other", 8221, mode=Mode.SUGGEST)) as stage:
        before = await stage.engine.controls.change_modes(Mode.OBSERVE, ALICE, "storm")
        assert before == {"chat_api": Mode.ACT, "other": Mode.SUGGEST}
        assert {stage.engine.status(name).mode for name in stage.engine.names} == {Mode.OBSERVE}


@in_virtual_time
async def test_a_mode_that_cannot_be_written_does_not_hold() -> None:
    async with Stage() as stage:
        await stage.healthy()
        stage.log.refuses = lambda _: True
        with pytest.raises(StoreError):
            await stage.engine.controls.change_mode("chat_api", Mode.OBSERVE, ALICE, "")
        stage.log.refuses = lambda _: False
        await stage.until(lambda: stage.engine.status("chat_api").mode is Mode.ACT)
        stage.crash()
        await stage.healthy()
        # And the next one is not taken for a repetition of the one that failed.
        await stage.engine.controls.change_mode("chat_api", Mode.OBSERVE, ALICE, "")
        assert len(await stage.facts(ModeChanged)) == 1


@in_virtual_time
async def test_an_open_issue_is_read_again_when_a_mode_could_not_be_written() -> None:
    async with Stage(spec(mode=Mode.OBSERVE)) as stage:
        await stage.until(lambda: stage.facts(HealWithheld))
        stage.log.refuses = lambda _: True
        with pytest.raises(StoreError):
            await stage.engine.controls.change_mode("chat_api", Mode.ACT, ALICE, "")
        await asyncio.sleep(60)
        stage.log.refuses = lambda _: False
        await asyncio.sleep(600)
        assert await stage.facts(StepStarted) == []
        await stage.engine.controls.change_mode("chat_api", Mode.ACT, ALICE, "")
        await stage.healthy()
        assert len(await stage.issues()) == 1


# Maintenance


@in_virtual_time
async def test_heals_in_a_window_are_recorded_as_withheld_and_come_when_it_is_ended() -> None:
    async with Stage() as stage:
        await stage.healthy()
        window = await stage.engine.controls.begin_maintenance("chat_api", 600, ALICE, "deploy")
        assert stage.engine.status("chat_api").maintenance == window
        stage.crash()
        (withheld,) = await stage.until(lambda: stage.facts(HealWithheld))
        assert (withheld.reason, withheld.retry_in) == ("maintenance", pytest.approx(600, abs=10))
        await asyncio.sleep(60)
        assert stage.serving() is None
        await stage.engine.controls.end_maintenance("chat_api", ALICE, "deployed")
        await stage.healthy(within=60)
    (started,) = await stage.facts(MaintenanceStarted)
    (ended,) = await stage.facts(MaintenanceEnded)
    assert (started.actor, started.duration, started.reason) == (ALICE, 600, "deploy")
    assert (ended.actor, ended.reason) == (ALICE, "deployed")
    assert stage.engine.status("chat_api").maintenance is None


@in_virtual_time
async def test_a_window_that_is_not_open_cannot_be_ended() -> None:
    async with Stage() as stage:
        await stage.healthy()
        with pytest.raises(IllegalCommandError, match="is in none"):
            await stage.engine.controls.end_maintenance("chat_api", ALICE, "")
        await stage.engine.controls.begin_maintenance("chat_api", 60, ALICE, "deploy")
        await asyncio.sleep(61)
        assert stage.engine.status("chat_api").maintenance is None
        with pytest.raises(IllegalCommandError, match="is in none"):
            await stage.engine.controls.end_maintenance("chat_api", ALICE, "")


# Budgets


@in_virtual_time
async def test_a_spent_budget_that_is_reset_heals_again_and_stays_reset_after_a_restart() -> None:
    budget = Budget(attempts=2, rearm_after=86_400)
    async with Stage(budget=budget) as stage:
        await stage.healthy()
        while not await stage.facts(HealWithheld):
            stage.crash()
            await asyncio.sleep(30)
        await stage.until(lambda: stage.engine.withheld("chat_api"))
        assert await stage.engine.controls.rearm("chat_api", ALICE, "the disk was full") == 2
        await stage.healthy()
    (reset,) = await stage.facts(BudgetReset)
    assert (reset.actor, reset.attempts, reset.reason) == (ALICE, 2, "the disk was full")
    async with stage.new_healer_started() as stage:
        assert stage.engine.fleet.ledger("chat_api").attempts <= 1


# Approvals


@in_virtual_time
async def test_an_issue_that_has_ended_or_suggests_nothing_cannot_be_approved() -> None:
    async with Stage() as stage:
        await stage.healthy()
        stage.crash()
        await stage.healthy()
        issue = (await stage.facts(IssueVerified))[0].originator_id
        with pytest.raises(IllegalCommandError, match="not open"):
            await stage.engine.controls.approve(issue, ALICE)
        for nothing in ("nothing", "component:chat_api", "fleet"):
            with pytest.raises(UnknownNameError):
                await stage.engine.controls.deny(nothing, ALICE, "")
        await stage.engine.controls.change_mode("chat_api", Mode.OBSERVE, ALICE, "")
        stage.crash()
        (withheld,) = await stage.until(lambda: stage.facts(HealWithheld))
        with pytest.raises(IllegalCommandError):
            await stage.engine.controls.approve(withheld.originator_id, ALICE)


@in_virtual_time
async def test_a_suggestion_expires_when_it_was_to_although_the_healer_was_restarted() -> None:
    async with Stage(spec(mode=Mode.SUGGEST), budget=Budget(approval_expires=600)) as stage:
        (asked,) = await stage.until(lambda: stage.facts(ApprovalRequested))
        await asyncio.sleep(400)
    async with stage.new_healer_started() as stage:
        denied = (await stage.until(lambda: stage.facts(ApprovalDenied)))[0]
        (issue, *_) = await stage.ended()
    assert (denied.timestamp - asked.timestamp).total_seconds() == pytest.approx(600, abs=5)
    assert issue.state is State.FAILED


async def denied(stage: Stage) -> str:
    """The issue whose suggestion alice has refused, once it has ended."""
    (asked, *_) = await stage.until(lambda: stage.facts(ApprovalRequested))
    await stage.engine.controls.deny(asked.originator_id, ALICE, "not now")
    await stage.ended()
    return asked.originator_id


@in_virtual_time
async def test_what_was_denied_is_not_suggested_again_before_it_has_rested() -> None:
    async with Stage(spec(mode=Mode.SUGGEST), budget=Budget(denial_rests=600)) as stage:
        await denied(stage)
        (withheld,) = await stage.until(lambda: stage.facts(HealWithheld))
        assert withheld.reason == "denied"
        assert withheld.retry_in == pytest.approx(600, abs=60)
        assert withheld.arithmetic["denial_rests"] == 600
        shown = stage.engine.withheld("chat_api")
        assert shown is not None
        assert shown.reason == "denied"
        await asyncio.sleep(400)
        assert len(await stage.facts(ApprovalRequested)) == 1
        await asyncio.sleep(300)
        first, second = await stage.facts(ApprovalRequested)
        assert (second.timestamp - first.timestamp).total_seconds() == pytest.approx(600, abs=60)
        await stage.engine.controls.approve(second.originator_id, ALICE)
        await stage.healthy()


@in_virtual_time
async def test_a_denial_rests_across_a_restart() -> None:
    budget = Budget(denial_rests=600)
    async with Stage(spec(mode=Mode.SUGGEST), budget=budget) as stage:
        await denied(stage)
        await stage.until(lambda: stage.facts(HealWithheld))
        await asyncio.sleep(200)
    async with stage.new_healer_started() as stage:
        await asyncio.sleep(200)
        assert len(await stage.facts(ApprovalRequested)) == 1
        await asyncio.sleep(300)
        assert len(await stage.facts(ApprovalRequested)) == 2


@in_virtual_time
async def test_another_failure_is_suggested_at_once_and_a_reset_ends_the_rest() -> None:
    async with Stage(spec(mode=Mode.SUGGEST)) as stage:
        await denied(stage)
        await stage.until(lambda: stage.facts(HealWithheld))
        await stage.engine.heal("chat_api", ASK)  # by hand all the same
        await stage.healthy()
        stage.crash()
        await stage.until(lambda: _asked(stage, 2))
        issue = (await stage.facts(ApprovalRequested))[-1].originator_id
        await stage.engine.controls.deny(issue, ALICE, "not now")
        await stage.until(lambda: _withheld(stage, 2))
        await stage.engine.controls.rearm("chat_api", ALICE, "well, now")
        await stage.until(lambda: _asked(stage, 3))


async def _asked(stage: Stage, count: int) -> bool:
    return len(await stage.facts(ApprovalRequested)) == count


async def _withheld(stage: Stage, count: int) -> bool:
    return [each.reason for each in await stage.facts(HealWithheld)] == ["denied"] * count


@in_virtual_time
async def test_a_suggestion_that_nobody_answered_is_made_again() -> None:
    async with Stage(spec(mode=Mode.SUGGEST), budget=Budget(approval_expires=60)) as stage:
        await stage.until(lambda: _asked(stage, 2))
        assert [each.reason for each in await stage.facts(ApprovalDenied)] == ["expired"]
        assert await stage.facts(HealWithheld) == []


@in_virtual_time
async def test_what_nobody_watches_cannot_be_changed() -> None:
    stage = Stage()
    with pytest.raises(IllegalCommandError, match="initialize"):
        await stage.engine.controls.change_mode("chat_api", Mode.OBSERVE, ALICE, "")
    with pytest.raises(UnknownNameError):
        await stage.engine.controls.rearm("nobody", ALICE, "")


@in_virtual_time
async def test_an_answer_that_cannot_be_written_does_not_count_and_may_be_given_again() -> None:
    async with Stage(spec(mode=Mode.SUGGEST)) as stage:
        (asked,) = await stage.until(lambda: stage.facts(ApprovalRequested))
        issue, controls = asked.originator_id, stage.engine.controls
        stage.log.refuses = lambda events: any(isinstance(each, ApprovalGranted) for each in events)
        first = asyncio.create_task(controls.approve(issue, ALICE))
        second = asyncio.create_task(controls.deny(issue, "api:bob", "not now"))
        with pytest.raises(StoreError, match="disk is full"):
            await first
        with pytest.raises(IllegalCommandError, match="nothing is suggested any more"):
            await second
        stage.log.refuses = lambda _: False
        await stage.until(lambda: stage.engine.status("chat_api").issue)
        assert await stage.facts(StepStarted) == []
        assert await stage.facts(ApprovalDenied) == []
        await controls.approve(issue, ALICE)
        await stage.healthy()
    assert len(await stage.facts(ApprovalGranted)) == 1


@in_virtual_time
async def test_of_two_answers_the_first_counts_although_the_second_is_not_waited_for() -> None:
    async with Stage(spec(mode=Mode.SUGGEST)) as stage:
        (asked,) = await stage.until(lambda: stage.facts(ApprovalRequested))
        issue, controls = asked.originator_id, stage.engine.controls
        first = asyncio.create_task(controls.approve(issue, ALICE))
        second = asyncio.create_task(controls.deny(issue, "api:bob", "not now"))
        await asyncio.sleep(0)
        second.cancel()
        assert await first == "chat_api"
        await stage.healthy()
    assert await stage.facts(ApprovalDenied) == []


@in_virtual_time
async def test_who_approves_is_told_when_the_healer_ends_before_the_log_has_it() -> None:
    stage = Stage(spec(mode=Mode.SUGGEST))
    async with stage:
        (asked,) = await stage.until(lambda: stage.facts(ApprovalRequested))
        append = stage.log.append

        async def hangs(events: Sequence[Event]) -> int:
            if any(isinstance(each, ApprovalGranted) for each in events):
                await asyncio.Event().wait()
            return await append(events)

        stage.log.append = hangs  # type: ignore[method-assign]
        approved = asyncio.create_task(stage.engine.controls.approve(asked.originator_id, ALICE))
        await asyncio.sleep(1)
        await stage.engine.stop()
        with pytest.raises(StoreError, match="cannot record: stopped"):
            await approved
    assert await stage.facts(ApprovalGranted) == []
    assert stage.world.starts == []
    assert (await stage.log.open_issues())["chat_api"] == asked.originator_id


# Races


@in_virtual_time
async def test_of_two_nodes_that_pause_at_once_one_is_heard_and_both_hold() -> None:
    async with Stage() as stage:
        await stage.healthy()
        here = stage.engine.controls
        there = stage.new_healer().controls  # another node on the same log
        await there.start(stage.log)
        first, second = await asyncio.gather(
            here.begin_pause(ALICE, "storm"), there.begin_pause("api:bob", "as well")
        )
        (paused,) = await stage.facts(FleetPaused)
        assert first == second == paused == here.pause == there.pause
        there.stop()


@in_virtual_time
async def test_a_pause_that_loses_every_race_is_given_up_and_does_not_hold() -> None:
    async with Stage() as stage:
        await stage.healthy()
        tried = 0

        def moved(events: Sequence[Event]) -> bool:
            nonlocal tried
            if any(isinstance(each, FleetPaused) for each in events):
                tried += 1
                raise IssueConflictError("cannot append: the stream moved")
            return False

        stage.log.refuses = moved
        with pytest.raises(IssueConflictError):
            await stage.engine.controls.begin_pause(ALICE, "storm")
        assert tried == 5
        assert stage.engine.controls.pause is None
        stage.crash()
        await stage.healthy()
