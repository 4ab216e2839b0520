"""The healer is killed at every boundary of its log, on every route, and started anew.

Whatever it was doing: the component is healed, nothing stays open, nothing that was done is done
again, and no stranger is touched.
"""

from __future__ import annotations

import asyncio

import pytest

from healer.domain.events import StepStarted
from healer.domain.process import ProcessIdentity
from healer.testing import simulate
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


async def _ended(stage: Stage, fault: Fault, strangers: list[ProcessIdentity]) -> None:
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
    assert stage.host.holding == ()
    assert stage.world.reserved == set()


async def _uninterrupted(fault: Fault) -> int:
    """Heal it without a crash; how many appends that takes."""
    stage, strangers = await _broken(fault)
    known = len(await stage.issues())
    await stage.verified(known + 1)
    issue = (await stage.issues())[known]
    assert issue.issue_type is fault.issue_type
    assert issue.executed == fault.playbooks
    appends = stage.log.appends
    await _ended(stage, fault, strangers)
    return appends


async def _killed(fault: Fault, at: int, *, after: bool) -> None:
    stage, strangers = await _broken(fault)
    stage.log.kill_at, stage.log.kill_after = at, after
    async with asyncio.timeout(900):
        await stage.log.killed.wait()
    await stage.bury()
    await stage.new_healer().start()
    try:
        await _ended(stage, fault, strangers)
    except AssertionError as error:
        side = "after" if after else "before"
        error.add_note(f"killed {side} append {at}:\n" + "\n".join(await stage.story()))
        raise


@pytest.mark.parametrize("name", ROUTES)
def test_a_healer_killed_at_any_append_is_no_worse_than_one_that_lived(name: str) -> None:
    fault = ROUTES[name]
    appends = simulate(_uninterrupted(fault))
    assert appends >= 3
    for at in range(1, appends + 1):
        for after in (False, True):
            simulate(_killed(fault, at, after=after))
