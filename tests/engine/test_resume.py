"""A heal that a former healer began is the same heal under the next one: one place, one attempt."""

from __future__ import annotations

from collections.abc import Sequence

from healer.domain.events import Event, RemediationStarted, StepStarted
from healer.domain.probe import Reason
from healer.domain.spec import Backoff, Budget
from healer.testing import Program
from tests.engine.stage import PORT, Stage, in_virtual_time, spec


async def _killed_in_mid_heal(stage: Stage) -> None:
    """The healer is killed once the end of the first component's sick process is intended."""
    process = stage.serving(PORT)
    assert process is not None
    process.answers = Reason.BAD_STATUS
    known = len(await stage.facts(StepStarted))

    def intends(events: Sequence[Event]) -> bool:
        if any(isinstance(event, StepStarted) for event in events):
            stage.log.kill_at = stage.log.appends + 1
        return False

    stage.log.refuses, stage.log.kill_after = intends, True
    stage.log.kill = stage.host.die
    await stage.log.killed.wait()
    stage.log.refuses = lambda _: False
    await stage.bury()
    assert len(await stage.facts(StepStarted)) == known + 1


@in_virtual_time
async def test_a_heal_that_is_resumed_is_no_further_attempt() -> None:
    stage = Stage(budget=Budget(attempts=3, backoff=Backoff(initial=0)))
    await stage.engine.start()
    await stage.healthy()
    await _killed_in_mid_heal(stage)
    await stage.new_healer().start()
    await stage.healthy()
    known = len(await stage.issues())
    stage.crash(PORT)
    await stage.ended(known + 1)
    await stage.engine.stop()
    attempts = [each.attempt for each in await stage.facts(RemediationStarted)]
    assert attempts[-2:] == [1, 2]


@in_virtual_time
async def test_a_heal_that_is_resumed_keeps_its_place_from_the_start() -> None:
    specs = [spec("a", PORT), spec("b", PORT + 1)]
    programs = {each.name: Program(name=each.name, ready_after=1.0) for each in specs}
    budget = Budget(max_concurrent=1, min_unhealthy=9, backoff=Backoff(initial=0))
    stage = Stage(*specs, budget=budget, programs=programs)
    await stage.engine.start()
    await stage.healthy()
    await _killed_in_mid_heal(stage)
    stage.crash(PORT + 1)
    healer = stage.new_healer()
    await healer.start()
    assert healer.fleet.healing == {"a"}
    await stage.healthy()
    await healer.stop()
