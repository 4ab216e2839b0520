"""The log first: what cannot be written is not done, and what was begun is finished or found."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

import pytest

from healer.domain.events import (
    Event,
    Fact,
    HealWithheld,
    IssueDetected,
    IssueVerified,
    ProcessAdopted,
    RemediationStarted,
    StepSettled,
    StepStarted,
    StepSucceeded,
)
from healer.domain.playbook import Settlement
from healer.domain.spec import Budget, IssueType, Mode
from healer.engine import HealRequest
from healer.errors import HealInProgressError, HealWithheldError, StoreError, UnknownNameError
from healer.testing import Program
from tests.engine.route import ROUTES
from tests.engine.stage import PORT, Stage, in_virtual_time, spec


@in_virtual_time
@pytest.mark.parametrize("route", ["process_crashed", "connection_refused", "connection_timeout"])
async def test_no_effect_is_had_whose_intent_could_not_be_written(route: str) -> None:
    async with Stage() as stage:
        await stage.healthy()
        stage.log.refuses = lambda events: any(isinstance(each, StepStarted) for each in events)
        processes = set(stage.world.processes)
        ROUTES[route].make(stage)
        await asyncio.sleep(120)
        assert stage.world.signals == []
        assert len(stage.world.starts) == 1
        assert set(stage.world.processes) <= processes
        stage.log.refuses = lambda _: False
        await stage.healthy()
        assert stage.answers()
    assert len(stage.world.starts) == 2


@in_virtual_time
async def test_a_log_that_is_away_holds_everything_and_is_gone_on_with_when_it_returns() -> None:
    async with Stage() as stage:
        await stage.healthy()
        stage.log.refuses = lambda _: True
        stage.crash()
        await asyncio.sleep(600)
        assert stage.serving() is None
        stage.log.refuses = lambda _: False
        await stage.healthy()
        issues = await stage.issues()
    assert stage.answers()
    assert all(issue.closed for issue in issues)
    assert len(stage.world.starts) == 2


@in_virtual_time
@pytest.mark.parametrize("refused", [Event, RemediationStarted])
async def test_what_the_log_never_heard_of_is_no_attempt(refused: type[Event]) -> None:
    async with Stage(budget=Budget(attempts=3, rearm_after=3600)) as stage:
        await stage.healthy()
        await asyncio.sleep(3600)
        known = len(await stage.issues())
        stage.log.refuses = lambda events: any(isinstance(each, refused) for each in events)
        stage.crash()
        await asyncio.sleep(600)
        stage.log.refuses = lambda _: False
        await asyncio.sleep(60)
        assert stage.answers()
    events = [recorded.event for recorded in await stage.log.read(limit=1000)]
    assert [e.attempt for e in events if isinstance(e, RemediationStarted)][known:] == [1]
    assert not any(isinstance(each, HealWithheld) for each in events)


async def _told(stage: Stage, asked: str) -> str | None:
    """The issue that somebody is told of who asks now; None: of none, or not in time."""
    engine = stage.engine
    alert = HealRequest("api:sender", reason="alert", forced=False, cause="alert:f@t")
    by_hand = HealRequest("api:alice", issue_type=IssueType.PROCESS_CRASHED)
    try:
        async with asyncio.timeout(3600):
            match asked:
                case "status":
                    issue = engine.status("chat_api").issue
                    assert issue is not None or not engine.status("chat_api").healing
                    return issue.id if issue else None
                case "withdrawal":
                    return (await engine.withdraw("chat_api", "alert:g@t", "api:sender")).issue_id
                case "approval":
                    await engine.controls.approve("?", "api:alice")
                case "alert" | "hand":
                    return await engine.heal("chat_api", alert if asked == "alert" else by_hand)
    except (HealInProgressError, HealWithheldError) as error:
        return error.issue_id
    except UnknownNameError as error:
        return error.known[0] if error.known else None
    except (StoreError, TimeoutError):
        return None
    raise AssertionError(asked)


@in_virtual_time
@pytest.mark.parametrize("asked", ["status", "withdrawal", "approval", "alert", "hand"])
@pytest.mark.parametrize("paused", [False, True])
async def test_nobody_is_told_of_an_issue_that_the_log_does_not_know(
    asked: str, paused: bool
) -> None:
    async with Stage() as stage:
        await stage.healthy()
        if paused:
            await stage.engine.controls.begin_pause("api:alice", "deploy")
        # The log is slow, and refuses two of three times what would open an issue.
        stage.log.takes = 0.3
        tries = itertools.count()
        stage.log.refuses = lambda events: (
            any(isinstance(each, IssueDetected) for each in events) and next(tries) % 3 != 2
        )
        answers: list[str] = []

        async def ask() -> None:
            issue = await _told(stage, asked)
            if issue is not None:
                assert await stage.log.stream(issue), f"{asked}: {issue} is in no log"
                answers.append(issue)

        stage.crash()
        async with asyncio.TaskGroup() as group:
            for _ in range(1000):
                group.create_task(ask())
                await asyncio.sleep(0.01)
            stage.log.takes, stage.log.refuses = 0.0, lambda _: False
            if paused:
                await stage.engine.controls.end_pause("api:alice", "done")
            await stage.healthy()
        assert answers
        assert {*answers} <= {issue.id for issue in await stage.issues()}


@in_virtual_time
async def test_an_issue_that_the_log_never_heard_of_is_nobodys_past() -> None:
    async with Stage() as stage:
        await stage.healthy()
        first = (await stage.issues())[-1]
        stage.log.refuses = lambda _: True
        stage.crash()
        await asyncio.sleep(60)
        stage.log.refuses = lambda _: False
        await stage.healthy()
        last = (await stage.issues())[-1]
    assert last.previous == first.id
    assert last.recurrence == first.recurrence + 1


@in_virtual_time
async def test_a_heal_whose_last_words_were_written_and_denied_is_an_attempt() -> None:
    async with Stage() as stage:
        await stage.healthy()
        append = stage.log.append
        lost = 0

        async def written_and_denied(events: Sequence[Event]) -> int:
            nonlocal lost
            position = await append(events)
            if not lost and any(isinstance(each, IssueVerified) for each in events):
                lost += 1
                raise StoreError("cannot say whether it was written: input/output error")
            return position

        stage.log.append = written_and_denied  # type: ignore[method-assign]
        stage.crash()
        await asyncio.sleep(10)
        stage.crash()
        await asyncio.sleep(60)
        assert stage.answers()
    events = [recorded.event for recorded in await stage.log.read(limit=1000)]
    attempts = [each.attempt for each in events if isinstance(each, RemediationStarted)]
    assert lost == 1
    assert attempts[-2:] == [1, 2]


@in_virtual_time
async def test_an_outcome_that_could_not_be_written_is_looked_for_and_not_repeated() -> None:
    async with Stage() as stage:
        await stage.healthy()
        stage.log.refuses = lambda events: any(
            isinstance(each, StepSucceeded) and each.action == "start" for each in events
        )
        stage.crash()
        await stage.until(lambda: len(stage.world.starts) == 2)
        await asyncio.sleep(60)
        stage.log.refuses = lambda _: False
        await stage.healthy()
        settled = [each for each in await stage.facts(StepSettled) if each.action == "start"]
    assert [each.settlement for each in settled] == [Settlement.OBSERVED]
    assert len(stage.world.starts) == 2
    assert stage.answers()
    assert stage.host.holding == ()


@in_virtual_time
async def test_a_heal_whose_end_could_not_be_written_gives_its_place_to_nobody() -> None:
    first, second = spec("first", PORT), spec("second", PORT + 1)
    budget = Budget(max_concurrent=1, min_unhealthy=10)
    slow = {each.name: Program(name=each.name, ready_after=1.0) for each in (first, second)}
    stage = Stage(first, second, budget=budget, programs=slow)
    async with stage:
        await stage.healthy()
        brought_up = len(await stage.log.read(limit=100_000))
        refused: list[int] = []

        def refuses(events: Sequence[Event]) -> bool:
            ends = any(isinstance(event, IssueVerified) for event in events) and len(refused) < 3
            refused.extend([1] * ends)
            return ends

        stage.log.refuses = refuses
        stage.crash(PORT)
        stage.crash(PORT + 1)
        await stage.ended(4)
    assert len(refused) == 3
    acting: set[str] = set()
    for recorded in (await stage.log.read(limit=100_000))[brought_up:]:
        match recorded.event:
            case RemediationStarted(originator_id=issue):
                acting.add(issue)
                assert len(acting) == 1
            case IssueVerified(originator_id=issue):
                acting.discard(issue)
            case _:
                pass


@in_virtual_time
async def test_stopping_in_the_middle_of_a_step_records_its_outcome() -> None:
    stage = Stage(programs={"chat_api": Program(shutdown=0.5)})
    async with stage:
        await stage.healthy()
        ROUTES["connection_refused"].make(stage)
        await stage.until(lambda: stage.world.signals)
    issue = (await stage.issues())[-1]
    assert not issue.closed
    assert issue.intent is None
    (ended,) = [s for s in await stage.facts(StepSucceeded) if s.action == "terminate"]
    assert len(ended.result.stopped) == 1
    assert stage.serving() is None
    async with stage.new_healer_started():
        await stage.healthy()
        assert len(await stage.facts(IssueDetected)) == 2
    assert stage.answers()
    assert len(stage.world.starts) == 2


@in_virtual_time
async def test_a_component_lives_on_when_the_healer_stops_and_is_adopted_by_the_next() -> None:
    stage = Stage()
    async with stage:
        await stage.healthy()
    process = stage.serving()
    assert process is not None
    async with stage.new_healer_started():
        await stage.healthy()
        assert stage.engine.status("chat_api").process == process.identity
        adopted = await stage.facts(ProcessAdopted)
        stage.crash()
        await stage.healthy()
    assert len(adopted) == 1
    assert len(await stage.facts(ProcessAdopted)) == 2
    assert stage.answers()


@in_virtual_time
async def test_a_crash_while_no_healer_lived_is_healed_by_the_next_one() -> None:
    stage = Stage()
    async with stage:
        await stage.healthy()
    stage.crash()
    async with stage.new_healer_started():
        await stage.healthy()
    assert stage.answers()
    assert len(stage.world.starts) == 2


@in_virtual_time
async def test_who_asks_while_the_healer_stops_is_told_so() -> None:
    stage = Stage(spec(mode="observe"))
    async with stage:
        await stage.until(lambda: stage.facts(HealWithheld))
    with pytest.raises(HealWithheldError):
        await stage.engine.heal("chat_api", HealRequest(actor="cli"))


@in_virtual_time
async def test_nothing_is_held_after_the_healer_has_stopped() -> None:
    specs = [spec(f"c{number}", PORT + number) for number in range(3)]
    stage = Stage(*specs)
    async with stage:
        await stage.healthy()
        stage.crash(PORT)
        await asyncio.sleep(0.001)
    assert stage.host.holding == ()
    assert stage.world.reserved == set()


@in_virtual_time
async def test_a_healer_that_cannot_read_its_past_does_not_run_and_may_be_started_again() -> None:
    stage = Stage()
    stream = stage.log.stream

    async def away(_: str) -> list[Fact]:
        raise StoreError("cannot read: the disk is gone")

    stage.log.stream = away  # type: ignore[method-assign]
    with pytest.raises(StoreError, match="the disk is gone"):
        await stage.engine.start()
    assert not stage.engine.running
    stage.log.stream = stream  # type: ignore[method-assign]
    assert await stage.engine.start()
    await stage.healthy()
    await stage.engine.stop()


@in_virtual_time
async def test_who_speaks_before_the_log_is_read_is_told_so() -> None:
    stage = Stage()
    stream = stage.log.stream

    async def away(stream_id: str) -> list[Fact]:
        if stream_id.startswith("component:"):
            raise StoreError("cannot read: the disk is gone")
        return await stream(stream_id)

    stage.log.stream = away  # type: ignore[method-assign]
    async with stage:
        with pytest.raises(StoreError, match="cannot change chat_api: the log is not read yet"):
            await stage.engine.controls.change_mode("chat_api", Mode.OBSERVE, "cli", "look")
        asked = asyncio.create_task(stage.engine.heal("chat_api", HealRequest(actor="cli")))
        await asyncio.sleep(60)
        assert not asked.done()
    with pytest.raises(HealWithheldError):
        await asked
    assert stage.world.starts == []


@in_virtual_time
async def test_the_first_defect_that_ends_a_keeper_is_told() -> None:
    defects: list[ZeroDivisionError] = []

    def breaks(_: Sequence[Event]) -> bool:
        defects.append(ZeroDivisionError(len(defects)))
        raise defects[-1]

    stage = Stage(spec("first", PORT), spec("second", PORT + 1))
    stage.log.refuses = breaks
    async with stage:
        await stage.until(lambda: len(defects) == 2)
        assert await stage.engine.failed() is defects[0]
