"""A changed projection takes the place of the running one, between two facts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from random import Random

import pytest

from healer.domain.events import IssueVerified
from healer.errors import StoreError
from healer.store import SqliteLog
from projections import ALL, replacement
from projections.fold import Fold
from projections.history import HISTORY
from projections.projection import Cases, Json, Projection, ProjectionStoppedError, canonical
from projections.replacement import ParityError
from projections.runner import LiveViews
from projections.stats import STATS
from tests.projections.build import Log, MemoryLog, heal, random_log


def second_version(state: object) -> Json:
    return {"version": 2, **STATS.view(state)}


STATS_2 = replace(STATS, version=2, view=second_version)


@asynccontextmanager
async def following(log: MemoryLog | SqliteLog) -> AsyncIterator[LiveViews]:
    live = LiveViews(log, retry=0.01)
    running = asyncio.create_task(live.run())
    try:
        async with asyncio.timeout(60):
            await live.caught_up()
            yield live
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_new_version_takes_over_while_facts_land(tmp_path: Path) -> None:
    facts = random_log(Random(3), issues=150)
    async with SqliteLog.open(tmp_path / "log.db", new_log_id=lambda: "log-1") as log:
        await log.append([each.event for each in facts[:2000]])
        async with following(log) as live:
            assert "version" not in live.view("stats")
            replaced = asyncio.create_task(live.replace(STATS_2))
            for recorded in facts[2000:2400]:
                await log.append([recorded.event])
            await replaced
            assert live.view("stats")["version"] == 2
            await log.append([each.event for each in facts[2400:]])
            await live.caught_up()
            shown = live.snapshot()
    rebuilt = Fold([STATS_2, *(each for each in ALL if each is not STATS)])
    rebuilt.apply(facts)
    assert shown == rebuilt.snapshot()


async def test_a_view_of_a_long_log_is_rebuilt_beside_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = random_log(Random(9), issues=60)
    monkeypatch.setattr(replacement, "_LONG", 100)
    async with SqliteLog.open(tmp_path / "log.db", new_log_id=lambda: "log-1") as log:
        await log.append([each.event for each in facts[:800]])
        async with following(log) as live:
            rebuilding = asyncio.create_task(live.rebuild("history"))
            for recorded in facts[800:]:
                await log.append([recorded.event])
            await rebuilding
            await live.caught_up()
            shown = live.snapshot()
    expected = Fold(ALL)
    expected.apply(facts)
    assert shown == expected.snapshot()


async def test_a_projection_that_was_not_there_joins_the_others() -> None:
    facts = random_log(Random(4), issues=10)
    async with following(MemoryLog(facts)) as live:
        await live.replace(replace(HISTORY, name="history_2"))
        assert canonical(live.view("history_2")) == canonical(live.view("history"))


def picky(why: str | None) -> Projection[list[int]]:
    """Counts cures; refuses them where `why` is given."""
    cases: Cases[list[int]] = Cases()
    cases.ignore(*(kind for kind in HISTORY.cases.table() if kind is not IssueVerified))

    @cases.on(IssueVerified)
    def verified(state: list[int], position: int, event: IssueVerified) -> None:
        if why is not None:
            raise ArithmeticError(why)
        state.append(position)

    return Projection("picky", 1, list, cases, list)


async def test_one_that_had_stopped_is_replaced_by_one_that_can_read_on() -> None:
    log = Log()
    heal(log)
    memory = MemoryLog(log.facts)
    live = LiveViews(memory, [*ALL, picky("too good")], retry=0.01)
    running = asyncio.create_task(live.run())
    try:
        async with asyncio.timeout(60):
            await live.caught_up()
            assert "picky" in live.stopped
            with pytest.raises(ProjectionStoppedError):
                await live.replace(picky("still too good"))
            await live.replace(picky(None))
            assert live.view("picky") == [len(log.facts)]
            assert not live.stopped
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_one_that_cannot_read_on_leaves_the_old_one_in_its_place() -> None:
    log = Log()
    heal(log)
    async with following(MemoryLog(log.facts)) as live:
        before = live.snapshot()
        with pytest.raises(ProjectionStoppedError, match="too good"):
            await live.replace(replace(picky("too good"), name="stats"))
        assert live.snapshot() == before


async def test_one_that_is_no_pure_fold_is_refused() -> None:
    numbers = count()
    impure = replace(STATS, version=2, view=lambda state: next(numbers))
    async with following(MemoryLog(random_log(Random(5), issues=5))) as live:
        before = live.snapshot()
        with pytest.raises(ParityError, match="cannot take stats: folded twice up to position"):
            await live.replace(impure)
        assert live.snapshot() == before


async def test_an_outage_of_the_log_leaves_the_old_one_in_its_place() -> None:
    memory = MemoryLog(random_log(Random(6), issues=5))
    async with following(memory) as live:
        before = live.snapshot()
        memory.broken = True
        with pytest.raises(StoreError):
            await live.replace(STATS_2)
        assert live.snapshot() == before


def test_a_fold_of_another_position_is_not_adopted() -> None:
    ours, theirs = Fold(ALL), Fold([STATS_2])
    ours.apply(random_log(Random(7), issues=5))
    with pytest.raises(ValueError, match="cannot adopt a fold at position 0; allowed: "):
        ours.adopt(theirs)
