"""How much healing is allowed, over minutes and over many components."""

from __future__ import annotations

import asyncio

import pytest

from healer.domain.aggregate import Stamp
from healer.domain.events import (
    HealthChanged,
    HealWithheld,
    IssueDetected,
    IssueEscalated,
    IssueFailed,
    IssueVerified,
    MaintenanceStarted,
    RemediationStarted,
    StepStarted,
)
from healer.domain.health import Health
from healer.domain.lifecycle import State
from healer.domain.probe import Reason
from healer.domain.spec import Backoff, Budget, ComponentSpec, Mode
from healer.testing import Program
from tests.engine.stage import PORT, Stage, in_virtual_time, spec


def many(count: int, **fields: object) -> list[ComponentSpec]:
    return [spec(f"c{number}", PORT + number, **fields) for number in range(count)]


def unlimited(**fields: object) -> Budget:
    return Budget(**{"max_concurrent": 100, "min_unhealthy": 100, **fields})


def sleepy(specs: list[ComponentSpec], seconds: float) -> dict[str, Program]:
    return {each.name: Program(name=each.name, ready_after=seconds) for each in specs}


@in_virtual_time
async def test_two_components_heal_at_once() -> None:
    specs = many(2)
    stage = Stage(*specs, budget=unlimited(), programs=sleepy(specs, 1.0))
    async with stage:
        await stage.healthy()
        begun = stage.clock.monotonic()
        stage.crash(PORT)
        stage.crash(PORT + 1)
        await stage.ended(4)
    assert stage.clock.monotonic() - begun < 1.6


@in_virtual_time
async def test_a_component_never_has_two_issues() -> None:
    specs = many(4)
    async with Stage(*specs, budget=unlimited()) as stage:
        await stage.healthy()
        for _ in range(5):
            for each in specs:
                stage.crash(each.port)
            await stage.healthy()
        opened: set[str] = set()
        for recorded in await stage.log.read(limit=100_000):
            match recorded.event:
                case IssueDetected(component=component):
                    assert component not in opened
                    opened.add(component)
                case IssueVerified() | IssueFailed() as event:
                    (detected,) = [
                        each
                        for each in await stage.log.stream(event.originator_id)
                        if isinstance(each, IssueDetected)
                    ]
                    opened.remove(detected.component)


@in_virtual_time
async def test_never_more_heals_at_once_than_allowed_and_all_of_them_in_the_end() -> None:
    specs = many(10)
    budget = unlimited(max_concurrent=3)
    stage = Stage(*specs, budget=budget, programs=sleepy(specs, 1.0))
    most = 0
    async with stage:
        await stage.healthy()
        for each in specs:
            stage.crash(each.port)

        async def count() -> bool:
            nonlocal most
            most = max(most, len(stage.engine.fleet.healing))
            return len([i for i in await stage.issues() if i.closed]) == 20

        await stage.until(count)
        withheld = [each for each in await stage.facts(HealWithheld) if each.reason]
    assert most == 3
    assert {each.reason for each in withheld} == {"concurrency"}
    assert withheld[0].arithmetic == {"healing": 3, "max_concurrent": 3}
    assert all(stage.answers(each.port) for each in specs)


@in_virtual_time
async def test_back_off_grows_and_a_long_healthy_stretch_ends_it() -> None:
    backoff = Backoff(initial=10, factor=2, max=60, reset_after=600, jitter=0)
    budget = Budget(attempts=100, backoff=backoff)
    async with Stage(budget=budget) as stage:
        await stage.healthy()
        pauses = []
        for _ in range(5):
            crashed = stage.clock.monotonic()
            stage.crash()
            await stage.healthy()
            pauses.append(round(stage.clock.monotonic() - crashed))
        assert pauses == [0, 10, 20, 40, 60]
        attempts = [each.attempt for each in await stage.facts(RemediationStarted)]
        assert attempts == [1, 1, 2, 3, 4, 5]
        withheld = [each for each in await stage.facts(HealWithheld) if each.reason == "backoff"]
        assert withheld[-1].arithmetic["delay"] == 60
        await asyncio.sleep(601)
        crashed = stage.clock.monotonic()
        stage.crash()
        await stage.healthy()
        assert stage.clock.monotonic() - crashed < 1
        assert (await stage.facts(RemediationStarted))[-1].attempt == 1


@in_virtual_time
async def test_back_off_survives_a_restart_of_the_healer() -> None:
    backoff = Backoff(initial=60, factor=2, max=600, reset_after=6000, jitter=0)
    stage = Stage(budget=Budget(backoff=backoff))
    async with stage:
        await stage.healthy()
        stage.crash()
        await stage.healthy()
    healed = stage.clock.monotonic()
    async with stage.new_healer_started() as stage:
        await stage.healthy()
        stage.crash()
        await stage.healthy()
    assert stage.clock.monotonic() - healed == pytest.approx(60, abs=2)


@in_virtual_time
async def test_a_spent_budget_is_told_once_and_rearms_half_open() -> None:
    """A crash loop: every start lives for two seconds."""
    backoff = Backoff(initial=1, factor=1, max=1, reset_after=60, jitter=0)
    budget = Budget(attempts=3, rearm_after=300, backoff=backoff)
    looping = {"chat_api": Program(exits_after=2.0)}
    async with Stage(budget=budget, programs=looping) as stage:
        await stage.until(lambda: stage.facts(IssueEscalated))
        started = len(stage.world.starts)
        (withheld,) = [w for w in await stage.facts(HealWithheld) if w.reason == "budget_spent"]
        assert withheld.arithmetic == {"attempts": 3, "allowed": 3, "rearm_after": 300}
        assert withheld.retry_in == pytest.approx(300, abs=10)
        await asyncio.sleep(200)
        assert len(stage.world.starts) == started
        assert [each.reason for each in await stage.facts(IssueEscalated)] == ["budget_spent"]
        # Re-armed, half open: one more start, and then it is spent again, and told again.
        await asyncio.sleep(200)
        assert len(stage.world.starts) == started + 1
        escalated = await stage.facts(IssueEscalated)
        assert [each.reason for each in escalated] == ["budget_spent", "budget_spent"]
        assert len({each.originator_id for each in escalated}) == 2


@in_virtual_time
async def test_when_too_many_fail_together_healing_holds_and_then_goes_one_by_one() -> None:
    specs = many(6)
    budget = Budget(max_concurrent=6, max_unhealthy=0.5, min_unhealthy=1, rearm_after=300)
    stage = Stage(*specs, budget=budget, programs=sleepy(specs, 1.0))
    async with stage:
        await stage.healthy()
        before = len(stage.world.starts)
        for each in specs:
            stage.prober.says[each.name] = Reason.BAD_STATUS

        async def held() -> bool:
            reasons = [w.reason for w in await stage.facts(HealWithheld)]
            return reasons.count("quorum") >= 3

        await stage.until(held)
        withheld = [w for w in await stage.facts(HealWithheld) if w.reason == "quorum"]
        assert withheld[0].arithmetic == {
            "unhealthy": 6,
            "components": 6,
            "max_unhealthy": 0.5,
            "limit": 3,
        }
        assert "quorum" in {each.reason for each in await stage.facts(IssueEscalated)}
        stage.prober.says.clear()
        for each in specs:
            process = stage.serving(each.port)
            if process is not None:
                process.answers = Reason.BAD_STATUS
        at_hold = len(stage.world.starts)
        most = 0

        async def counted() -> bool:
            nonlocal most
            most = max(most, len(stage.engine.fleet.healing))
            return all(stage.answers(each.port) for each in specs)

        await stage.until(counted, within=1200)
        await stage.healthy()
    assert at_hold - before <= 3
    assert most <= 3


@in_virtual_time
async def test_what_depends_on_a_broken_component_waits_for_it_and_heals_after() -> None:
    specs = [spec("bus", PORT), spec("api", PORT + 1, depends_on=("bus",))]
    stage = Stage(*specs, budget=unlimited(), programs=sleepy(specs, 1.0))
    async with stage:
        await stage.healthy()
        stage.crash(PORT)
        await asyncio.sleep(0.01)
        stage.crash(PORT + 1)
        await stage.healthy()
        withheld = [w for w in await stage.facts(HealWithheld, "api") if w.reason == "dependency"]
        assert {each.cause for each in withheld} == {"bus"}
        assert withheld[-1].originator_id == (await stage.issues("api"))[-1].id
        starts = [s for s in await stage.facts(StepStarted) if s.action == "start"]
        cured = [h for h in await stage.facts(HealthChanged, "bus") if h.after is Health.HEALTHY]
    of_api = [s for s in starts if s.port == PORT + 1]
    assert of_api[-1].timestamp >= cured[-1].timestamp
    assert stage.answers(PORT)
    assert stage.answers(PORT + 1)


@in_virtual_time
async def test_a_whole_stack_comes_up_in_the_order_of_its_dependencies() -> None:
    specs = [
        spec("api", PORT + 2, depends_on=("bus",)),
        spec("bus", PORT + 1, depends_on=("db",)),
        spec("db", PORT),
    ]
    async with Stage(*specs, budget=unlimited(), programs=sleepy(specs, 0.5)) as stage:
        await stage.healthy()
        starts = [s.port for s in await stage.facts(StepStarted) if s.action == "start"]
    assert starts == [PORT, PORT + 1, PORT + 2]


@in_virtual_time
async def test_a_heal_withheld_for_long_is_told_of() -> None:
    specs = [spec("bus", PORT, mode="observe"), spec("api", PORT + 1, depends_on=("bus",))]
    async with Stage(*specs, budget=unlimited(escalate_after=120)) as stage:
        escalated = await stage.until(lambda: stage.facts(IssueEscalated, "api"))
        withheld = (await stage.facts(HealWithheld, "api"))[0]
        assert withheld.cause == "bus"
        waited = (escalated[0].timestamp - withheld.timestamp).total_seconds()
        await asyncio.sleep(3600)
        assert len(await stage.facts(IssueEscalated, "api")) == 1
    assert escalated[0].reason == "deadline"
    assert waited == pytest.approx(120, abs=2)
    assert stage.world.starts == []


@in_virtual_time
async def test_a_slow_drip_of_crashes_never_goes_silent() -> None:
    """Four hours of a component that crashes at once: each hour is told of, none at full speed."""
    backoff = Backoff(initial=1, factor=2, max=60, reset_after=600)
    budget = Budget(attempts=5, rearm_after=600, backoff=backoff)
    async with Stage(budget=budget, programs={"chat_api": Program(exits_after=0.01)}) as stage:
        await asyncio.sleep(4 * 3600)
        escalated = [each.timestamp for each in await stage.facts(IssueEscalated)]
        starts = len(stage.world.starts)
        failed = [issue for issue in await stage.issues() if issue.state is State.FAILED]
    hours = {(each - escalated[0]).total_seconds() // 3600 for each in escalated}
    assert len(hours) == 4
    assert starts < 4 * 6 * 3
    assert failed


@pytest.mark.parametrize("restarted", [False, True])
@in_virtual_time
async def test_who_waits_for_long_is_looked_at_as_often_as_always(restarted: bool) -> None:
    async with Stage(spec(interval=60.0, fast_interval=0.25)) as stage:
        await stage.healthy()
        await stage.engine.controls.change_mode("chat_api", Mode.OBSERVE, "api:alice", "look")
        stage.crash()  # its end is seen: no probe has to say so
        await stage.until(lambda: stage.facts(HealWithheld))
        if restarted:
            await stage.engine.stop()
            await stage.new_healer().start()
            await stage.until(lambda: stage.engine.status("chat_api").issue)
        looks = stage.prober.looks["chat_api"]
        await asyncio.sleep(10.0)
        soon = stage.prober.looks["chat_api"]
        assert soon - looks >= 5  # it may come back at once
        await asyncio.sleep(3600.0)
        assert 60 <= stage.prober.looks["chat_api"] - soon <= 80


@in_virtual_time
async def test_maintenance_holds_heals_until_its_time_is_over() -> None:
    async with Stage() as stage:
        await stage.healthy()
    component = await stage.component()
    stamp = Stamp(now=stage.clock.now(), actor="cli", node="node-1")
    component.start_maintenance(600, "upgrade", stamp=stamp)
    await stage.log.append(component.collect_events())
    async with stage.new_healer_started() as stage:
        await stage.healthy()
        stage.crash()
        (withheld,) = await stage.until(lambda: stage.facts(HealWithheld))
        assert withheld.reason == "maintenance"
        await stage.healthy(within=1200)
        (window,) = await stage.facts(MaintenanceStarted)
        healed = (await stage.facts(IssueVerified))[-1]
    assert (healed.timestamp - window.timestamp).total_seconds() >= 600
