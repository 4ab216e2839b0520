"""Several healers, one log: each component is healed by one of them at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from healer.domain.events import (
    ApprovalRequested,
    ComponentRegistered,
    HealthChanged,
    IssueDetected,
    IssueTakenOver,
    IssueVerified,
    ModeChanged,
    StepSettled,
    StepStarted,
)
from healer.domain.health import Health
from healer.domain.lifecycle import State
from healer.domain.playbook import Settlement
from healer.domain.probe import Reason
from healer.domain.spec import IssueType, Mode
from healer.engine import HealRequest
from healer.errors import HealInProgressError, IllegalCommandError
from healer.ports import Recorded
from healer.testing import FakeClock, Program, World
from tests.engine.nodes import TERM, Node, Nodes
from tests.engine.stage import in_virtual_time, spec

SLOW = spec(start_period=20.0)
"""A component that may take its time to start."""


@in_virtual_time
async def test_of_two_nodes_that_see_a_crash_one_heals_and_the_other_looks_on() -> None:
    async with Nodes(SLOW, programs={"chat_api": Program("chat_api", ready_after=3.0)}) as stage:
        stage.crash()
        holder = await stage.held()
        looker = stage.other(holder)
        standing = await stage.until(lambda: looker.engine.status("chat_api").holder)
        assert standing.node == holder.name
        assert looker.engine.status("chat_api").issue is None
        await stage.ended()
        await stage.until(stage.all_see_it_healthy)
        assert len(stage.world.starts) == 1
        (verified,) = await stage.facts(IssueVerified)
        assert verified.node == holder.name
        assert looker.engine.status("chat_api").holder is None
        assert not await stage.facts(IssueTakenOver)


@in_virtual_time
async def test_nodes_in_peace_write_each_fact_once_and_then_nothing() -> None:
    async with Nodes(names="abc") as stage:
        await asyncio.sleep(60)
        written = await stage.log.head()
        assert len(await stage.facts(ComponentRegistered)) == 1
        changes = [(each.before, each.after) for each in await stage.facts(HealthChanged)]
        assert len(changes) == len(set(changes))
        await asyncio.sleep(600)
        assert await stage.log.head() == written


@in_virtual_time
async def test_who_stood_by_knows_of_the_heal_and_heals_the_next_one() -> None:
    async with Nodes() as stage:
        stage.crash()
        holder = await stage.held()
        (first,) = await stage.ended()
        await stage.until(stage.all_see_it_healthy)
        holder.gate.close()
        stage.crash()
        await stage.ended(2)
        second = (await stage.issues())[1]
        assert (second.previous, second.recurrence) == (first.id, 1)
        assert stage.answers()
        assert stage.other(holder).engine.fleet.ledger("chat_api").attempts == 2


@in_virtual_time
@pytest.mark.parametrize("apart", [-7200.0, 7200.0])
async def test_how_long_ago_another_node_healed_is_no_matter_of_its_wall_clock(
    apart: float,
) -> None:
    stage = Nodes(names="a")
    clock = FakeClock(time=asyncio.get_running_loop().time)
    clock.set_wall(apart)
    stage.add("b", clock=clock)
    async with stage:
        # The other has no part in it: it would begin itself where it saw something wrong.
        wish = HealRequest("api:ops", issue_type=IssueType.PROCESS_CRASHED)
        await stage.engine.outcome("chat_api", await stage.engine.heal("chat_api", wish))
        await stage.until(stage.all_see_it_healthy)
        a, b = (node.engine.fleet.ledger("chat_api") for node in stage.nodes.values())
        assert (a.attempts, b.attempts) == (1, 1)
        assert a.last == pytest.approx(b.last, abs=1.0)


@in_virtual_time
async def test_the_issue_of_a_dead_node_is_taken_over_when_its_lease_has_run_out() -> None:
    async with Nodes(SLOW, programs={"chat_api": Program("chat_api", ready_after=3.0)}) as stage:
        stage.crash()
        await stage.until(lambda: stage.facts(StepStarted))
        dead = await stage.held()
        dead.gate.close()
        (issue,) = await stage.ended()
        assert issue.state is State.VERIFIED
        (taken,) = await stage.facts(IssueTakenOver)
        assert (taken.node, taken.holder) == (stage.other(dead).name, dead.name)
        (detected,) = await stage.facts(IssueDetected)
        waited = (taken.timestamp - detected.timestamp).total_seconds()
        assert TERM <= waited <= TERM + 2
        assert len(stage.world.starts) == 1


def _fall(stage: Nodes, how: str) -> None:
    """The component crashes, or hangs and minds no SIGTERM."""
    process = stage.serving()
    assert process is not None
    if how == "crash":
        stage.world.end(process, signal=9)
    else:
        process.answers = Reason.TIMEOUT


def _passages(how: str) -> int:
    """How often a node goes through its gate from a fault to the verified end."""
    counted = 0

    @in_virtual_time
    async def count() -> None:
        nonlocal counted
        async with Nodes(names="a") as stage:
            gate = stage.nodes["a"].gate
            before = gate.passed
            _fall(stage, how)
            await stage.ended()
            counted = gate.passed - before

    count()
    return counted


@pytest.mark.parametrize("comes_back", [True, False], ids=["frozen", "dead"])
@pytest.mark.parametrize("how", ["crash", "hang"])
def test_wherever_a_node_stops_the_other_takes_over_and_nothing_is_done_twice(
    how: str, *, comes_back: bool
) -> None:
    places = _passages(how)
    assert places > 20
    for place in range(1, places + 1):
        _stopped_at(place, how, comes_back)


@in_virtual_time
async def _stopped_at(place: int, how: str, comes_back: bool) -> None:
    stubborn = Program("chat_api", ignores_sigterm=True)
    async with Nodes(programs={"chat_api": stubborn}) as stage:
        a, b = stage.nodes.values()
        a.gate.shuts_at = a.gate.passed + place
        b.gate.close()
        _fall(stage, how)
        await stage.until(lambda: a.gate.shut)
        b.gate.open()
        await stage.until(lambda: _well(stage, b), 300)
        before = stage.done()()
        if comes_back:
            a.gate.open()
            await asyncio.sleep(5 * TERM)
            assert stage.done()() == before, (place, await stage.story())
            assert stage.all_see_it_healthy()
        living = [each for each in stage.world.starts if each.alive]
        assert len(living) == 1, (place, await stage.story())
        assert not await stage.log.open_issues()


async def _well(stage: Nodes, node: Node) -> bool:
    """Whether the component was healed and `node` sees it so."""
    await asyncio.sleep(0.5)
    if node.engine.status("chat_api").health.health is not Health.HEALTHY or not stage.answers():
        return False
    return bool(await stage.facts(IssueVerified)) and not await stage.log.open_issues()


@in_virtual_time
async def test_a_node_that_was_frozen_between_two_signals_does_not_send_the_second() -> None:
    stubborn = Program("chat_api", ignores_sigterm=True)
    component = spec(launch=spec().launch.model_copy(update={"grace": 3.0}))
    async with Nodes(component, programs={"chat_api": stubborn}) as stage:
        _fall(stage, "hang")
        await stage.until(lambda: stage.world.signals)
        frozen = await stage.held()
        frozen.gate.close()
        other = stage.other(frozen)
        await stage.until(lambda: stage.holder() is other)
        await stage.ended()
        await stage.until(stage.answers)
        before = stage.done()()
        frozen.gate.open()
        await stage.until(stage.all_see_it_healthy)
        await asyncio.sleep(5 * TERM)
        assert stage.done()() == before
        assert all(each.node != frozen.name for each in await stage.facts(IssueVerified))


@in_virtual_time
async def test_a_node_that_cannot_reach_the_log_acts_no_more() -> None:
    async with Nodes(SLOW, programs={"chat_api": Program("chat_api", ready_after=3.0)}) as stage:
        stage.crash()
        cut = await stage.held()
        cut.log.cut = True
        before = stage.done()()
        await stage.until(lambda: stage.holder() is stage.other(cut))
        assert stage.done()()[0] == before[0]
        await stage.ended()
        await stage.until(stage.answers)
        healed = stage.done()()
        cut.log.cut = False
        await stage.until(stage.all_see_it_healthy)
        assert stage.done()() == healed


@in_virtual_time
async def test_a_lease_is_renewed_for_as_long_as_the_heal_takes() -> None:
    component = spec(mode=Mode.SUGGEST)
    async with Nodes(component) as stage:
        stage.crash()
        holder = await stage.held()
        await asyncio.sleep(20 * TERM)
        assert stage.holder() is holder
        assert not await stage.facts(IssueTakenOver)
        issue = holder.engine.status("chat_api").issue
        assert issue is not None
        await holder.engine.controls.approve(issue.id, "api:ops")
        await stage.ended()
        await stage.until(stage.all_see_it_healthy)


@in_virtual_time
async def test_who_asks_the_node_that_looks_on_is_told_where_to_ask() -> None:
    async with Nodes(spec(mode=Mode.SUGGEST)) as stage:
        stage.crash()
        holder = await stage.held()
        looker = stage.other(holder)
        await stage.until(lambda: looker.engine.status("chat_api").holder)
        with pytest.raises(HealInProgressError, match=f"already by node '{holder.name}'$"):
            await looker.engine.heal("chat_api", HealRequest("api:ops"))
        issue = holder.engine.status("chat_api").issue
        assert issue is not None
        with pytest.raises(IllegalCommandError, match=f"node '{holder.name}' heals it: say it"):
            await looker.engine.controls.approve(issue.id, "api:ops")
        with pytest.raises(IllegalCommandError, match=f"node '{holder.name}' heals it"):
            await looker.engine.controls.change_mode("chat_api", Mode.ACT, "api:ops", "night")


@in_virtual_time
async def test_who_waits_for_a_heal_is_told_that_another_node_has_taken_it_over() -> None:
    async with Nodes(SLOW, programs={"chat_api": Program("chat_api", ready_after=15.0)}) as stage:
        a, b = stage.nodes.values()
        issue_id = await a.engine.heal(
            "chat_api", HealRequest("api:ops", playbooks=("restart_component",))
        )
        waiting = asyncio.create_task(a.engine.outcome("chat_api", issue_id))
        await stage.until(lambda: stage.world.starts)
        a.gate.close()
        await stage.until(lambda: stage.holder() is b)
        a.gate.open()
        report = await waiting
        assert (report.issue_id, report.node, report.reason) == (issue_id, "b", "taken_over")
        assert report.state is State.REMEDIATING
        assert not report.success
        await stage.ended()


@in_virtual_time
async def test_what_an_operator_says_to_one_node_holds_for_all() -> None:
    async with Nodes() as stage:
        a, b = stage.nodes.values()
        await a.engine.controls.begin_maintenance("chat_api", 300.0, "api:ops", "move")
        await stage.until(lambda: b.engine.status("chat_api").maintenance)
        await b.engine.controls.change_mode("chat_api", Mode.OBSERVE, "api:ops", "look")
        await stage.until(lambda: a.engine.status("chat_api").mode is Mode.OBSERVE)


@in_virtual_time
async def test_a_component_that_one_node_names_no_more_is_still_the_others() -> None:
    async with Nodes() as stage:
        a, b = stage.nodes.values()
        await a.engine.reload({}, stage.budget)
        await asyncio.sleep(5)
        stage.crash()
        (issue,) = await stage.ended()
        assert issue.state is State.VERIFIED
        (verified,) = await stage.facts(IssueVerified)
        assert verified.node == b.name


@in_virtual_time
async def test_a_node_that_names_it_no_more_leaves_the_issue_to_who_heals_it() -> None:
    async with Nodes(spec(mode=Mode.SUGGEST)) as stage:
        stage.crash()
        holder = await stage.held()
        looker = stage.other(holder)
        await stage.until(lambda: looker.engine.status("chat_api").holder)
        await looker.engine.reload({}, stage.budget)
        assert await stage.log.open_issues()
        issue = holder.engine.status("chat_api").issue
        assert issue is not None
        await holder.engine.controls.approve(issue.id, "api:ops")
        (ended,) = await stage.ended()
        assert ended.state is State.VERIFIED


@in_virtual_time
async def test_what_a_dead_node_left_of_a_component_that_nobody_names_is_ended() -> None:
    stubborn = Program("chat_api", ignores_sigterm=True)
    async with Nodes(programs={"chat_api": stubborn}) as stage:
        _fall(stage, "hang")
        await stage.until(lambda: stage.world.signals)
        dead = await stage.held()
        dead.gate.close()
        left = stage.memory.holdings["chat_api"]
        await stage.until(lambda: left.expires <= stage.clock.monotonic())
        heir = stage.other(dead)
        assert stage.holder() is dead
        await heir.engine.reload({}, stage.budget)
        (issue,) = await stage.issues()
        assert (issue.state, issue.reason, issue.node) == (State.FAILED, "removed", heir.name)
        (settled,) = await stage.facts(StepSettled)
        assert settled.settlement is Settlement.UNKNOWABLE
        assert stage.holder() is None


@in_virtual_time
async def test_a_node_that_bears_another_name_now_goes_on_with_its_issue() -> None:
    async with Nodes(spec(mode=Mode.SUGGEST), names="a") as stage:
        stage.crash()
        old = await stage.held()
        old.gate.close()
        renamed = stage.add("a2")
        await renamed.engine.start()
        await stage.until(lambda: stage.holder() is renamed)
        (taken,) = await stage.facts(IssueTakenOver)
        assert (taken.node, taken.holder) == ("a2", "a")
        issue = await stage.until(lambda: renamed.engine.status("chat_api").issue)
        await renamed.engine.controls.approve(issue.id, "api:ops")
        (ended,) = await stage.ended()
        assert ended.state is State.VERIFIED


@in_virtual_time
async def test_a_node_that_was_started_again_goes_on_at_once() -> None:
    async with Nodes(spec(mode=Mode.SUGGEST), names="a") as stage:
        stage.crash()
        (await stage.held()).gate.close()
        begun = stage.clock.monotonic()
        again = stage.add("a")
        await again.engine.start()
        await stage.until(lambda: again.engine.status("chat_api").issue)
        assert stage.clock.monotonic() - begun < 1
        assert [each.holder for each in await stage.facts(IssueTakenOver)] == ["a"]


@in_virtual_time
async def test_what_was_done_on_another_machine_cannot_be_known_from_here() -> None:
    stubborn = Program("chat_api", ignores_sigterm=True)
    async with Nodes(names="a", programs={"chat_api": stubborn}) as stage:
        _fall(stage, "hang")
        await stage.until(lambda: stage.world.signals)
        stage.nodes["a"].gate.close()
        signals = len(stage.world.signals)
        elsewhere = World(boot_id="boot-2")
        await stage.add("b", elsewhere).engine.start()
        (settled, *_) = await stage.until(lambda: stage.facts(StepSettled))
        assert (settled.node, settled.settlement) == ("b", Settlement.UNKNOWABLE)
        assert len(stage.world.signals) == signals
        assert not elsewhere.signals


@in_virtual_time
async def test_a_suggestion_that_a_dead_node_left_of_what_nobody_names_is_ended() -> None:
    async with Nodes(spec(mode=Mode.SUGGEST)) as stage:
        stage.crash()
        await stage.until(lambda: stage.facts(ApprovalRequested))
        dead = await stage.held()
        dead.gate.close()
        left = stage.memory.holdings["chat_api"]
        await stage.until(lambda: left.expires <= stage.clock.monotonic())
        heir = stage.other(dead)
        assert stage.holder() is dead
        await heir.engine.reload({}, stage.budget)
        (issue,) = await stage.issues()
        assert (issue.state, issue.reason, issue.node) == (State.FAILED, "removed", heir.name)
        assert await stage.facts(StepSettled) == []
        assert stage.holder() is None


@in_virtual_time
async def test_a_budget_that_is_reset_at_one_node_is_whole_at_all() -> None:
    async with Nodes() as stage:
        stage.crash()
        await stage.ended()
        await stage.until(stage.all_see_it_healthy)
        a, b = stage.nodes.values()
        assert b.engine.fleet.ledger("chat_api").attempts == 1
        await a.engine.controls.rearm("chat_api", "api:ops", "mended")
        await stage.until(lambda: b.engine.fleet.ledger("chat_api").attempts == 0)


@in_virtual_time
async def test_a_wish_that_comes_with_the_news_of_another_node_is_not_lost() -> None:
    async with Nodes() as stage:
        a, b = stage.nodes.values()
        wish = HealRequest("api:ops", playbooks=("restart_component",))
        asked: list[asyncio.Task[str]] = []

        def ask(facts: Sequence[Recorded]) -> None:
            if any(isinstance(each.event, ModeChanged) for each in facts):
                asked.append(asyncio.create_task(a.engine.heal("chat_api", wish)))

        stop = stage.memory.log.listen(ask)
        await b.engine.controls.change_mode("chat_api", Mode.OBSERVE, "api:ops", "look")
        stop()
        report = await a.engine.outcome("chat_api", await asked[0])
        assert report.success
        assert a.engine.status("chat_api").mode is Mode.OBSERVE
