"""The healer is killed at every boundary of its log, on every route, and started anew.

Whatever it was doing: the component is healed, nothing stays open, nothing that was done is done
again, and no stranger is touched.
"""

from __future__ import annotations

import asyncio

import pytest

from healer.domain.events import StepStarted
from healer.domain.process import ProcessIdentity
from healer.testing import SimLoop, simulate
from replay.audit import legality
from tests.engine.route import ROUTES, Fault
from tests.engine.stage import Stage


async def _broken(fault: Fault) -> tuple[Stage, list[ProcessIdentity]]:
    """A stage whose component was healthy and is broken now, with the strangers on it."""
    stage = Stage(fault.spec)
    await stage.engine.start()
    await stage.healthy()
    strangers = fault.make(stage)
    stage.log.kill = stage.host.die
    stage.log.appends = 0
    stage.world.starts.clear()
    stage.world.signals.clear()
    return stage, [process.identity for process in strangers]


async def _whole(stage: Stage, fault: Fault, strangers: list[ProcessIdentity]) -> None:
    """Everything that must be true in the end, however it came about."""
    await stage.healthy(within=900)
    await stage.engine.stop()
    assert stage.answers(fault.port)
    assert (await stage.component()).port == fault.port
    for issue in await stage.issues():
        assert issue.closed
        assert issue.intent is None
    assert not set(stage.signalled()) & set(strangers)
    assert all(stage.world.processes[stranger.pid].alive for stranger in strangers)
    starts = [each for each in stage.world.starts if each.identity.name != "announce"]
    assert len(starts) == fault.starts
    assert len(set(stage.world.signals)) == len(stage.world.signals)
    intents = [each for each in await stage.facts(StepStarted) if each.action.startswith("start")]
    launches = [each.launch_id for each in intents]
    assert {each.launch_id for each in starts} <= set(launches)
    assert legality(await stage.log.read(limit=100_000)) == []
    assert stage.host.holding == ()
    assert stage.world.reserved == set()


async def _uninterrupted(fault: Fault) -> tuple[int, int]:
    """Heal it without a crash; how many appends and how many turns of the loop that takes."""
    stage, strangers = await _broken(fault)
    begun = _loop().turns
    known = len(await stage.issues())
    await stage.ended(known + 1)
    issue = (await stage.issues())[known]
    assert issue.issue_type is fault.issue_type
    assert issue.executed == fault.playbooks
    appends, turns = stage.log.appends, _loop().turns - begun
    await _whole(stage, fault, strangers)
    return appends, turns


def _loop() -> SimLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimLoop)
    return loop


async def _resumed(stage: Stage, fault: Fault, strangers: list[ProcessIdentity], at: str) -> None:
    """Wait for the healer to be killed, start another one, and see that all ends as it should."""
    async with asyncio.timeout(900):
        await stage.log.killed.wait()
    await stage.bury()
    await stage.new_healer().start()
    try:
        await _whole(stage, fault, strangers)
    except AssertionError as error:
        error.add_note(f"killed {at}:\n" + "\n".join(await stage.story()))
        raise


async def _killed_at_append(fault: Fault, number: int, *, after: bool) -> None:
    stage, strangers = await _broken(fault)
    stage.log.kill_at, stage.log.kill_after = number, after
    await _resumed(stage, fault, strangers, f"{'after' if after else 'before'} append {number}")


async def _killed_at_turn(fault: Fault, number: int) -> None:
    stage, strangers = await _broken(fault)

    def kill() -> None:
        stage.host.die()
        stage.log.killed.set()

    _loop().interrupt(_loop().turns + number, kill)
    await _resumed(stage, fault, strangers, f"at turn {number}")


@pytest.mark.parametrize("name", ROUTES)
def test_a_healer_killed_at_any_append_is_no_worse_than_one_that_lived(name: str) -> None:
    fault = ROUTES[name]
    appends, _ = simulate(_uninterrupted(fault))
    assert appends > 2
    for number in range(1, appends + 1):
        for after in (False, True):
            simulate(_killed_at_append(fault, number, after=after))


_STRIDE = 7
"""Turns between two kills where not all of them are tried."""


@pytest.mark.parametrize("name", ROUTES)
def test_a_healer_killed_between_two_turns_is_no_worse_either(name: str) -> None:
    """In the middle of effects, too: signals sent and not answered, a start not yet held."""
    fault = ROUTES[name]
    _, turns = simulate(_uninterrupted(fault))
    for number in range(1, turns + 1, _STRIDE):
        simulate(_killed_at_turn(fault, number))


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ROUTES)
def test_a_healer_killed_between_any_two_turns_is_no_worse_either(name: str) -> None:
    fault = ROUTES[name]
    _, turns = simulate(_uninterrupted(fault))
    for number in range(1, turns + 1):
        simulate(_killed_at_turn(fault, number))


async def _killed_twice(fault: Fault, first: int, second: int) -> bool:
    """Kill the healer, and the one that resumes at its own append of number `second`; whether
    that came to it."""
    stage, strangers = await _broken(fault)
    stage.log.kill_at = first
    async with asyncio.timeout(900):
        await stage.log.killed.wait()
    await stage.bury()
    engine = stage.new_healer()
    stage.log.kill, stage.log.kill_at, stage.log.appends = stage.host.die, second, 0
    await engine.start()
    try:
        async with asyncio.timeout(120):
            await stage.log.killed.wait()
    except TimeoutError:
        stage.log.kill_at = 0
        await _whole(stage, fault, strangers)
        return False
    await _resumed(stage, fault, strangers, f"before append {first}, then {second}")
    return True


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ROUTES)
def test_a_healer_killed_while_it_resumes_is_no_worse_either(name: str) -> None:
    fault = ROUTES[name]
    appends, _ = simulate(_uninterrupted(fault))
    for first in range(1, appends + 1):
        second = 1
        while simulate(_killed_twice(fault, first, second)):
            second += 1
