"""Who asks for a heal by hand is answered once the log says so: killed at any moment after the
answer, the healer is followed by one that overrules what they overruled."""

from __future__ import annotations

import asyncio

import pytest

from healer.domain.events import IssueVerified, RouteChosen
from healer.domain.lifecycle import State
from healer.domain.spec import Backoff, Budget, IssueType, Mode
from healer.engine import HealRequest
from healer.errors import HealInProgressError, StoreError
from healer.testing import Program, SimLoop, simulate
from tests.engine.stage import Stage, in_virtual_time, spec

ALICE = "api:alice"
SENDER = "api:alertmanager"
ALERT = HealRequest(SENDER, issue_type=IssueType.PROCESS_CRASHED, forced=False, cause="alert:f@t")
WISH = HealRequest(ALICE, issue_type=IssueType.PROCESS_CRASHED)
WITHHELD = ("maintenance", "observe", "suggest", "backoff")
OPENED = ("waits", "is looked at", "is opened for them")


async def _stage(withheld: str) -> Stage:
    """A component that is well, and whose heals are withheld."""
    stage = Stage(
        # That it is well again is believed after two minutes: until then a heal of it waits.
        spec(success_threshold=3, fast_interval=60.0),
        budget=Budget(backoff=Backoff(initial=3600, max=3600)),
    )
    await stage.engine.start()
    await stage.healthy()
    controls = stage.engine.controls
    match withheld:
        case "maintenance":
            await controls.begin_maintenance("chat_api", 3600.0, ALICE, "deploy")
        case "backoff":
            await stage.engine.outcome("chat_api", await stage.engine.heal("chat_api", WISH))
        case mode:
            await controls.change_mode("chat_api", Mode(mode), ALICE, "look")
    return stage


async def _opened(stage: Stage, opened: str) -> None:
    """Let an alert open an issue, so far as the case wants."""
    if opened == "is opened for them":
        return
    issue = await stage.engine.heal("chat_api", ALERT)
    if opened == "waits":

        async def waits() -> bool:
            facts = await stage.log.stream(issue)
            return type(facts[-1]).__name__ in {"HealWithheld", "ApprovalRequested"}

        await stage.until(waits)


async def _kill(stage: Stage) -> None:
    stage.host.die()
    stage.log.killed.set()
    await stage.bury()


async def _by_alice(stage: Stage, issue: str) -> bool:
    facts = await stage.log.stream(issue)
    return any(isinstance(each, RouteChosen) and each.actor == ALICE for each in facts)


@pytest.mark.parametrize("withheld", WITHHELD)
@pytest.mark.parametrize("opened", OPENED)
@in_virtual_time
async def test_a_healer_killed_right_after_the_answer_forgets_nobody(
    withheld: str, opened: str
) -> None:
    stage = await _stage(withheld)
    await _opened(stage, opened)
    issue = await stage.engine.heal("chat_api", WISH)
    await _kill(stage)
    assert await _by_alice(stage, issue)
    async with stage.new_healer_started():
        await stage.until(lambda: stage.engine.status("chat_api").issue is not None)
        assert (await stage.engine.outcome("chat_api", issue)).success


async def _killed_at_turn(withheld: str, opened: str, number: int) -> bool:
    """Kill the healer so many turns after somebody asked; whether they were answered by
    then; who was is not forgotten."""
    stage = await _stage(withheld)
    await _opened(stage, opened)
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimLoop)
    cured = len(await stage.facts(IssueVerified))
    asked = asyncio.create_task(stage.engine.heal("chat_api", WISH))

    def kill() -> None:
        stage.host.die()
        stage.log.killed.set()

    loop.interrupt(loop.turns + number, kill)
    async with asyncio.timeout(900):
        await stage.log.killed.wait()
    answered = asked.result() if asked.done() else None
    await stage.bury()
    if answered is not None:
        assert await _by_alice(stage, answered)
        async with stage.new_healer_started():

            async def healed() -> bool:
                return len(await stage.facts(IssueVerified)) > cured

            await stage.until(healed)
    return answered is not None


@pytest.mark.parametrize("opened", OPENED)
def test_a_healer_killed_at_any_turn_forgets_nobody_whom_it_answered(opened: str) -> None:
    answered = [simulate(_killed_at_turn("maintenance", opened, number)) for number in range(1, 60)]
    assert answered == sorted(answered)
    assert set(answered) == {False, True}


@in_virtual_time
async def test_a_wish_that_cannot_be_written_is_refused_and_does_not_hold() -> None:
    stage = await _stage("maintenance")
    await _opened(stage, "waits")
    stage.log.refuses = lambda _: True
    with pytest.raises(StoreError):
        await stage.engine.heal("chat_api", WISH)
    stage.log.refuses = lambda _: False
    [issue] = (await stage.log.open_issues()).values()
    await stage.until(lambda: stage.engine.status("chat_api").issue is not None)
    await asyncio.sleep(60.0)
    assert not await _by_alice(stage, issue)
    assert not stage.engine.status("chat_api").healing
    assert await stage.engine.heal("chat_api", WISH) == issue  # said again, it holds
    assert (await stage.engine.outcome("chat_api", issue)).success
    await stage.engine.stop()


@in_virtual_time
async def test_a_healer_that_stops_does_not_answer_as_if_it_had_written() -> None:
    stage = await _stage("maintenance")
    await _opened(stage, "waits")
    asked = asyncio.create_task(stage.engine.heal("chat_api", WISH))
    await asyncio.sleep(0)
    await stage.engine.stop()
    with pytest.raises(StoreError, match=r"cannot record who asked .* the heal was left"):
        await asked


@in_virtual_time
async def test_who_asks_for_what_ends_meanwhile_is_told_of_its_end() -> None:
    stage = await _stage("suggest")
    await _opened(stage, "waits")
    [issue] = (await stage.log.open_issues()).values()
    _, asked = await asyncio.gather(
        stage.engine.controls.deny(issue, "api:bob", "no"), stage.engine.heal("chat_api", WISH)
    )
    assert asked == issue
    report = await stage.engine.outcome("chat_api", issue)
    assert (report.state, report.reason) == (State.FAILED, "approval_denied")
    await stage.engine.stop()


@in_virtual_time
async def test_who_no_longer_waits_for_the_answer_takes_nothing_back() -> None:
    stage = await _stage("maintenance")
    await _opened(stage, "waits")
    asked = asyncio.create_task(stage.engine.heal("chat_api", WISH))
    await asyncio.sleep(0)
    asked.cancel()
    [issue] = (await stage.log.open_issues()).values()
    assert (await stage.engine.outcome("chat_api", issue)).success
    assert await _by_alice(stage, issue)
    await stage.engine.stop()


@in_virtual_time
async def test_who_asks_before_a_heal_is_resumed_that_acts_is_told_that_it_does() -> None:
    stage = Stage(programs={"chat_api": Program("chat_api", ready_after=1.0)})
    await stage.engine.start()
    await stage.until(lambda: stage.engine.status("chat_api").healing)
    await _kill(stage)
    [issue] = (await stage.log.open_issues()).values()
    async with stage.new_healer_started():
        with pytest.raises(HealInProgressError) as refused:
            await stage.engine.heal("chat_api", WISH)
        assert refused.value.issue_id == issue
        await stage.healthy()
