"""An alert that is resolved withdraws the heal that it asked for, as long as that only waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from healer.domain.decision import ALERT_RESOLVED
from healer.domain.events import (
    ApprovalRequested,
    Event,
    HealWithheld,
    IssueEscalated,
    IssueFailed,
    IssueVerified,
    PlaybookStarted,
    RemediationStarted,
    RouteChosen,
)
from healer.domain.lifecycle import State
from healer.domain.probe import Reason
from healer.domain.spec import Backoff, Budget, IssueType, Mode
from healer.engine import HealRequest
from healer.errors import IllegalCommandError, StoreError, UnknownNameError
from healer.testing import Program
from projections import ALL
from projections.fold import Fold
from tests.engine.nodes import Nodes
from tests.engine.stage import PORT, Stage, in_virtual_time, spec

ALICE = "api:alice"
BOB = "api:bob"
SENDER = "api:alertmanager"
CAUSE = "alert:f@2026-01-01T12:00:00Z"
ALERT = HealRequest(
    SENDER, issue_type=IssueType.PROCESS_CRASHED, reason="alert", forced=False, cause=CAUSE
)
UNHURRIED = spec(success_threshold=3, fast_interval=60.0)
"""That it is well again is believed after two minutes: until then a heal of it waits."""


async def _observed(stage: Stage) -> None:
    await stage.engine.controls.change_mode("chat_api", Mode.OBSERVE, ALICE, "look")


async def _suggested(stage: Stage) -> None:
    await stage.engine.controls.change_mode("chat_api", Mode.SUGGEST, ALICE, "ask me")


async def _maintained(stage: Stage) -> None:
    await stage.engine.controls.begin_maintenance("chat_api", 3600.0, ALICE, "deploy")


async def _healed_before(stage: Stage) -> None:
    first = await stage.engine.heal("chat_api", HealRequest(ALICE, issue_type=ALERT.issue_type))
    await stage.engine.outcome("chat_api", first)


async def _waiting(stage: Stage) -> str:
    """Let the alert open an issue, and wait until its heal waits; the issue."""
    issue = await stage.engine.heal("chat_api", ALERT)

    async def waits() -> bool:
        facts = await stage.log.stream(issue)
        return any(isinstance(fact, HealWithheld | ApprovalRequested) for fact in facts)

    await stage.until(waits)
    return issue


async def _withdraw(stage: Stage, cause: str = CAUSE) -> tuple[str | None, str | None]:
    said = await stage.engine.withdraw("chat_api", cause, SENDER)
    return said.issue_id, said.kept


def _stage(**options: object) -> Stage:
    budget = Budget(backoff=Backoff(initial=3600, max=3600))
    return Stage(UNHURRIED, budget=budget, **options)  # type: ignore[arg-type]


@asynccontextmanager
async def _held(hold: Callable[[Stage], Awaitable[None]]) -> AsyncIterator[tuple[Stage, str]]:
    """A component that is well, and the issue of an alert whose heal waits for `hold`."""
    async with _stage() as stage:
        await stage.healthy()
        await hold(stage)
        yield stage, await _waiting(stage)


@pytest.mark.parametrize(
    ("hold", "reason"),
    [
        (_observed, "observe"),
        (_suggested, None),
        (_maintained, "maintenance"),
        (_healed_before, "backoff"),
    ],
)
@in_virtual_time
async def test_a_heal_that_only_waits_ends_with_its_alert(
    hold: Callable[[Stage], Awaitable[None]], reason: str | None
) -> None:
    async with _held(hold) as (stage, issue):
        assert await _withdraw(stage) == (issue, None)
        facts = await stage.log.stream(issue)
        assert facts[0].causation_id == CAUSE
        withheld = [fact.reason for fact in facts if isinstance(fact, HealWithheld)]
        assert withheld == ([reason] if reason else [])
        assert isinstance(facts[-1], IssueFailed)
        assert (facts[-1].reason, facts[-1].actor) == (ALERT_RESOLVED, SENDER)
        assert not any(isinstance(fact, PlaybookStarted) for fact in facts)
        # Nobody has to know: who sent the alert knows.
        assert not any(isinstance(fact, IssueEscalated) for fact in facts)
        assert await stage.log.open_issues() == {}
        assert stage.engine.status("chat_api").issue is None
        report = await stage.engine.outcome("chat_api", issue)
        assert (report.state, report.reason) == (State.FAILED, ALERT_RESOLVED)
        # Said again, it finds nothing.
        assert await _withdraw(stage) == (None, "no heal waits for it")


@in_virtual_time
async def test_who_cannot_look_does_not_contradict_the_sender() -> None:
    async with _stage() as stage:
        await stage.healthy()
        await _healed_before(stage)
        stage.prober.says["chat_api"] = Reason.PROBER_FAILED
        issue = await _waiting(stage)
        assert await _withdraw(stage) == (issue, None)


@in_virtual_time
async def test_what_our_own_probes_find_unhealthy_is_healed_all_the_same() -> None:
    async with _held(_maintained) as (stage, issue):
        stage.crash()
        assert await _withdraw(stage) == (issue, "our own probe says refused")
        assert (await stage.log.open_issues())["chat_api"] == issue
        await stage.engine.controls.end_maintenance("chat_api", ALICE, "done")
        report = await stage.engine.outcome("chat_api", issue)
        assert (report.state, len(report.playbooks_executed)) == (State.VERIFIED, 1)


@in_virtual_time
async def test_a_stranger_that_answers_in_its_place_is_no_reason_to_withdraw() -> None:
    async with _held(_maintained) as (stage, issue):
        stage.crash()
        stage.world.run(Program("thief", ready_after=0.0), PORT)
        await stage.until(lambda: stage.serving() is not None)
        assert await _withdraw(stage) == (issue, "a stranger answers in its place")


@in_virtual_time
async def test_a_heal_that_acts_goes_on() -> None:
    async with Stage(
        UNHURRIED, programs={"chat_api": Program("chat_api", ready_after=1.0)}
    ) as stage:
        await stage.healthy()
        issue = await stage.engine.heal("chat_api", ALERT)
        await stage.until(lambda: stage.engine.status("chat_api").healing)
        assert await _withdraw(stage) == (issue, "its remediation has begun")
        report = await stage.engine.outcome("chat_api", issue)
        assert report.success
        assert await _withdraw(stage) == (None, "no heal waits for it")


@in_virtual_time
async def test_what_a_person_has_approved_is_no_longer_the_senders() -> None:
    async with Stage(UNHURRIED, budget=Budget(max_concurrent=1)) as stage:
        await stage.healthy()
        await _suggested(stage)
        issue = await _waiting(stage)
        stage.engine.fleet.resume("somebody else")  # it takes the one place
        await stage.engine.controls.approve(issue, ALICE)
        await stage.until(lambda: stage.facts(HealWithheld))
        assert await _withdraw(stage) == (issue, "api:alice has approved it")
        stage.engine.fleet.end("somebody else")
        assert (await stage.engine.outcome("chat_api", issue)).success


@in_virtual_time
async def test_what_a_person_asks_for_as_well_is_no_longer_the_senders() -> None:
    async with _held(_maintained) as (stage, issue):
        await stage.engine.controls.begin_pause(ALICE, "storm")
        stage.engine.fleet.resume("somebody else")
        await stage.engine.controls.end_pause(ALICE, "calm")
        stage.engine.fleet.budget = Budget(max_concurrent=1)
        asked = await stage.engine.heal("chat_api", HealRequest(ALICE))
        assert asked == issue
        assert await _withdraw(stage) == (issue, "api:alice wants it as well")
        stage.engine.fleet.end("somebody else")
        assert (await stage.engine.outcome("chat_api", issue)).success


@in_virtual_time
async def test_what_a_person_asked_for_as_well_outlives_a_restart() -> None:
    async with _held(_maintained) as (stage, issue):
        stage.engine.fleet.resume("somebody else")  # it takes the one place
        stage.engine.fleet.budget = Budget(max_concurrent=1)
        assert await stage.engine.heal("chat_api", HealRequest(ALICE)) == issue

        async def routed() -> list[str]:
            return [each.actor for each in await stage.facts(RouteChosen) if each.actor == ALICE]

        await stage.until(routed)
        # Said again, it changes nothing.
        assert await stage.engine.heal("chat_api", HealRequest(BOB)) == issue
        await stage.engine.controls.begin_pause(ALICE, "storm")
    async with stage.new_healer_started():
        await stage.until(lambda: stage.engine.status("chat_api").issue)
        assert await _withdraw(stage) == (issue, "api:alice wants it as well")
        assert await routed() == [ALICE]
        # The window is still open: it is healed because a person overruled that.
        await stage.engine.controls.end_pause(ALICE, "calm")
        assert (await stage.engine.outcome("chat_api", issue)).success
        assert stage.engine.status("chat_api").maintenance is not None


@in_virtual_time
async def test_what_nobody_asked_for_still_waits_after_a_restart() -> None:
    async with _held(_maintained) as (stage, issue):
        pass
    async with stage.new_healer_started():
        await stage.until(lambda: stage.engine.status("chat_api").issue)
        assert {each.actor for each in await stage.facts(RouteChosen)} == {"policy"}
        assert await _withdraw(stage) == (issue, None)


@in_virtual_time
async def test_a_wish_from_before_the_route_is_known_is_written_with_it() -> None:
    async with Stage(UNHURRIED, budget=Budget(max_concurrent=1)) as stage:
        await stage.healthy()
        await _observed(stage)
        stage.engine.fleet.resume("somebody else")
        issue = await stage.engine.heal("chat_api", ALERT)
        assert not stage.engine.status("chat_api").issue.routed  # type: ignore[union-attr]
        assert await stage.engine.heal("chat_api", HealRequest(ALICE)) == issue
        await stage.until(lambda: stage.facts(HealWithheld))
        assert [
            each.actor for each in await stage.facts(RouteChosen) if each.originator_id == issue
        ] == [ALICE]


@in_virtual_time
async def test_an_issue_that_another_alert_or_the_watch_opened_is_left_alone() -> None:
    async with _stage() as stage:
        await stage.healthy()
        await _maintained(stage)
        stage.crash()
        issue = await stage.until(lambda: stage.engine.status("chat_api").issue)
        assert await stage.engine.heal("chat_api", ALERT) == issue.id
        kept = "the alert did not open the issue that is open"
        assert await _withdraw(stage) == (issue.id, kept)
        assert await _withdraw(stage, "alert:other@then") == (issue.id, kept)
    with pytest.raises(UnknownNameError):
        await stage.engine.withdraw("nobody", CAUSE, SENDER)


@in_virtual_time
async def test_the_next_healer_withdraws_what_the_last_one_left() -> None:
    async with _held(_observed) as (stage, issue):
        pass
    stage.new_healer()
    with pytest.raises(StoreError, match="not carried on yet"):
        await _withdraw(stage)
    async with stage:
        await stage.until(lambda: stage.engine.status("chat_api").issue)
        assert await _withdraw(stage) == (issue, None)
        assert await stage.log.open_issues() == {}


@in_virtual_time
async def test_a_withdrawal_that_cannot_be_written_does_not_hold() -> None:
    async with _held(_observed) as (stage, issue):
        stage.log.refuses = lambda _: True
        with pytest.raises(StoreError):
            await _withdraw(stage)
        assert (await stage.log.open_issues())["chat_api"] == issue
        stage.log.refuses = lambda _: False

        async def said_again() -> bool:
            try:
                return await _withdraw(stage) == (issue, None)
            except StoreError:
                return False

        await stage.until(said_again)
        assert len(await stage.facts(IssueFailed)) == 1


@in_virtual_time
async def test_a_sender_does_not_wait_for_ever() -> None:
    async with _held(_observed) as (stage, issue):
        stage.prober.elapsed = 60.0
        with pytest.raises(StoreError, match="still looked at"):
            await _withdraw(stage)
        assert (await stage.log.open_issues())["chat_api"] == issue


@in_virtual_time
async def test_a_healer_that_stops_leaves_the_decision_to_the_next() -> None:
    async with _held(_observed) as (stage, issue):
        stage.prober.elapsed = 1.0
        asked = asyncio.create_task(_withdraw(stage))
        await asyncio.sleep(0.1)
        await stage.engine.stop()
        with pytest.raises(StoreError, match="the heal was left"):
            await asked
        assert (await stage.log.open_issues())["chat_api"] == issue


@in_virtual_time
async def test_a_person_who_speaks_while_it_is_looked_at_is_heard() -> None:
    async with _held(_observed) as (stage, issue):
        stage.prober.elapsed = 1.0
        asked = asyncio.create_task(_withdraw(stage))
        await asyncio.sleep(0.1)
        assert await stage.engine.heal("chat_api", HealRequest(ALICE)) == issue
        assert await asked == (issue, "api:alice wants it as well")
        assert (await stage.engine.outcome("chat_api", issue)).success


@in_virtual_time
async def test_a_suggestion_that_is_withdrawn_cannot_be_approved() -> None:
    async with _held(_suggested) as (stage, issue):
        assert await _withdraw(stage) == (issue, None)
        with pytest.raises(IllegalCommandError, match="not open"):
            await stage.engine.controls.approve(issue, ALICE)


@in_virtual_time
async def test_what_was_withdrawn_is_no_healing_and_the_next_fault_is_healed() -> None:
    async with Stage(UNHURRIED) as stage:
        await stage.healthy()
        await _maintained(stage)
        issue = await _waiting(stage)
        assert await _withdraw(stage) == (issue, None)
        await stage.engine.controls.end_maintenance("chat_api", ALICE, "done")
        known = len(await stage.facts(IssueVerified))
        stage.crash()

        async def healed() -> bool:
            return len(await stage.facts(IssueVerified)) > known

        await stage.until(healed)
        fold = Fold(ALL)
        fold.apply(await stage.log.read(limit=1000))
        stats = fold.view("stats")
        # The first start, and what was healed after the withdrawal.
        assert (stats["issues"], stats["total_healings"], stats["failed_healings"]) == (3, 2, 0)
        assert stats["withheld_by_reason"] == {"maintenance": 1}
        [record] = [each for each in fold.view("history") if each["issue_id"] == issue]
        assert (record["outcome"], record["reason"]) == ("failed", ALERT_RESOLVED)
        assert issue not in {each.originator_id for each in await stage.facts(RemediationStarted)}


@in_virtual_time
async def test_only_the_node_that_heals_withdraws() -> None:
    async with Nodes(UNHURRIED) as stage:
        here = stage.nodes["a"].engine
        await here.controls.change_mode("chat_api", Mode.OBSERVE, ALICE, "look")
        issue = await _waiting(stage)
        there = stage.nodes["b"].engine
        await stage.until(lambda: there.status("chat_api").holder)
        said = await there.withdraw("chat_api", CAUSE, SENDER)
        assert (said.issue_id, said.kept) == (issue, "node 'a' heals it")
        assert await _withdraw(stage) == (issue, None)
        await stage.until(lambda: there.status("chat_api").holder is None)


@in_virtual_time
async def test_a_sender_that_no_longer_waits_is_heard_all_the_same() -> None:
    async with _held(_observed) as (stage, issue):
        stage.prober.elapsed = 1.0
        asked = asyncio.create_task(_withdraw(stage))
        await asyncio.sleep(0.1)
        asked.cancel()
        report = await stage.engine.outcome("chat_api", issue)
        assert (report.state, report.reason) == (State.FAILED, ALERT_RESOLVED)


@in_virtual_time
async def test_a_person_who_speaks_in_the_same_moment_is_heard() -> None:
    async with _held(_observed) as (stage, issue):
        asked = asyncio.create_task(_withdraw(stage))
        assert await stage.engine.heal("chat_api", HealRequest(ALICE)) == issue
        assert await asked == (issue, "api:alice wants it as well")
        assert (await stage.engine.outcome("chat_api", issue)).success


@in_virtual_time
async def test_a_heal_whose_end_is_being_written_has_ended() -> None:
    async with _held(_observed) as (stage, issue):
        writing, written = asyncio.Event(), asyncio.Event()
        append = stage.log.append

        async def slowly(events: Sequence[Event]) -> int:
            if any(isinstance(each, IssueVerified) for each in events):
                writing.set()
                await written.wait()
            return await append(events)

        stage.log.append = slowly  # type: ignore[method-assign]
        await writing.wait()  # it is well, and ends by itself
        asked = asyncio.create_task(_withdraw(stage))
        await asyncio.sleep(0.1)
        written.set()
        assert await asked == (issue, "it has ended")
        assert (await stage.engine.outcome("chat_api", issue)).state is State.VERIFIED
