"""Whose turn it is, when hundreds fail at once: nobody is forgotten, and nobody asked in vain."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from healer.domain.events import IssueVerified, RemediationStarted
from healer.domain.policy import Go, Verdict, Withhold
from healer.domain.spec import Backoff, Budget, Mode
from healer.engine.fleet import FleetBook
from healer.engine.turn import Turns
from healer.ports import Recorded
from healer.testing import FakeClock, FakeIds
from tests.engine.stage import PORT, Stage, in_virtual_time, spec

CONCURRENCY = Withhold("concurrency", {})


class Line:
    """Heals that wait for `places` of a fleet, and keep the order in which they went."""

    def __init__(self, *names: str, places: int = 1, **fields: object) -> None:
        specs = {name: spec(name, PORT + index, **fields) for index, name in enumerate(names)}
        budget = Budget(max_concurrent=places, min_unhealthy=len(names))
        self.fleet = FleetBook(specs, budget, clock=FakeClock(), ids=FakeIds())
        self.went: list[str] = []

    def ask(self, name: str) -> Verdict:
        return self.fleet.ask(name, Mode.ACT, maintenance=False, forced=False)

    async def go(self, name: str) -> None:
        try:
            while isinstance(verdict := self.ask(name), Withhold):
                with self.fleet.waiting(name, verdict, lambda: self.ask(name)) as bell:
                    await asyncio.sleep(0)  # as long as it takes to say so in the log
                    await bell.wait()
            self.fleet.begin(name, rearmed=False)
            self.went.append(name)
        finally:
            self.fleet.leave(name)


async def _rest() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@in_virtual_time
async def test_the_first_to_wait_is_the_first_to_go() -> None:
    names = [f"c{number}" for number in range(6)]
    line = Line(*names, places=2)
    heals = [asyncio.create_task(line.go(name)) for name in names]
    for count in range(2, 7):
        await _rest()
        assert line.went == names[:count]
        line.fleet.end(line.went[count - 2])
    await asyncio.gather(*heals)


@in_virtual_time
async def test_a_place_that_its_heal_does_not_take_is_offered_to_the_next() -> None:
    line = Line("a", "b", "c", "d")
    heals = {name: asyncio.create_task(line.go(name)) for name in ("a", "b", "c", "d")}
    await _rest()
    line.fleet.end("a")
    heals["b"].cancel()  # woken and gone in the same instant
    await _rest()
    assert line.went == ["a", "c"]
    heals["d"].cancel()
    await asyncio.gather(*heals.values(), return_exceptions=True)


@in_virtual_time
async def test_a_place_that_is_offered_is_not_taken_by_whoever_comes_between() -> None:
    line = Line("a", "b", "c")
    heals = [asyncio.create_task(line.go("a")), asyncio.create_task(line.go("b"))]
    await _rest()
    line.fleet.end("a")
    heals.append(asyncio.create_task(line.go("c")))
    assert isinstance(line.ask("c"), Withhold)
    assert isinstance(line.ask("b"), Go)
    await _rest()
    assert line.went == ["a", "b"]
    line.fleet.end("b")
    await asyncio.gather(*heals)
    assert line.went == ["a", "b", "c"]


@in_virtual_time
async def test_whoever_has_to_wait_for_something_else_stands_in_nobodys_way() -> None:
    line = Line("base", "a", "b", "c")
    line.fleet.reload(
        line.fleet.specs | {"b": spec("b", PORT + 9, depends_on=("base",))}, line.fleet.budget
    )
    heals = [asyncio.create_task(line.go(name)) for name in ("a", "b", "c")]
    await _rest()
    line.fleet.mark("base", healthy=False)
    line.fleet.end("a")
    await _rest()
    assert line.went == ["a", "c"]
    line.fleet.end("c")
    await _rest()
    assert line.went == ["a", "c"]
    line.fleet.mark("base", healthy=True)
    await asyncio.gather(*heals)
    assert line.went == ["a", "c", "b"]


@in_virtual_time
async def test_a_change_between_the_verdict_and_the_wait_is_not_missed() -> None:
    turns = Turns()
    with turns.waiting("a", CONCURRENCY, Go) as bell:
        turns.offer()
        assert bell.is_set()
        assert turns.offered == {"a"}
    turns.leave("a")
    assert turns.offered == set()


class Storm:
    """All of so many components fail at once; what the log says of it, as it is written."""

    def __init__(self) -> None:
        self.acting: set[str] = set()
        self.most = 0
        self.cured = 0
        self.over = asyncio.Event()

    def heard(self, facts: Sequence[Recorded], count: int) -> None:
        for recorded in facts:
            match recorded.event:
                case RemediationStarted(originator_id=issue):
                    self.acting.add(issue)
                    self.most = max(self.most, len(self.acting))
                case IssueVerified(originator_id=issue):
                    self.acting.discard(issue)
                    self.cured += 1
                case _:
                    pass
        if self.cured == count:
            self.over.set()

    @classmethod
    async def of(cls, count: int) -> tuple[Storm, int]:
        """It, and how many verdicts were asked for."""
        specs = [
            spec(f"c{number}", PORT + number, interval=60.0, fast_interval=20.0)
            for number in range(count)
        ]
        budget = Budget(
            max_concurrent=5,
            min_unhealthy=10,
            rearm_after=60,
            backoff=Backoff(initial=0.1, max=1),
            escalate_after=86_400,
        )
        stage = Stage(*specs, budget=budget)
        started, storm = cls(), cls()
        forget = stage.log.listen(lambda facts: started.heard(facts, count))
        async with stage:
            await started.over.wait()
            forget()
            asked = stage.engine.fleet.asked
            stage.log.listen(lambda facts: storm.heard(facts, count))
            for each in specs:
                stage.crash(each.port)
            await storm.over.wait()
            asked = stage.engine.fleet.asked - asked
            assert not storm.acting
            assert not stage.engine.fleet.unhealthy
        return storm, asked


@in_virtual_time
async def test_what_a_storm_costs_grows_with_its_size_and_not_with_its_square() -> None:
    small, few = await Storm.of(40)
    large, many = await Storm.of(160)
    assert (small.most, large.most) == (5, 5)
    # Each is asked about when it fails, in the hold, after the hold, and when it is its turn.
    assert few <= 10 * 40
    assert many <= 10 * 160


@pytest.mark.soak
@pytest.mark.timeout(600)
@in_virtual_time
async def test_of_five_hundred_that_fail_at_once_none_is_forgotten() -> None:
    storm, asked = await Storm.of(500)
    assert (storm.most, storm.cured) == (5, 500)
    assert asked <= 10 * 500
