"""Live views: current behind the log, whatever the log does."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from healer.domain.events import HealthChanged
from healer.errors import StoreError, UnknownNameError
from healer.ports import Recorded
from healer.store import SqliteLog
from projections import ALL, beside, runner
from projections.feed import BATCH, batches
from projections.fold import Fold
from projections.projection import Cases, Projection, ProjectionStoppedError
from projections.runner import LiveViews
from projections.stats import STATS
from replay.rebuild import rebuild
from tests.projections.build import Log, MemoryLog, heal, random_log


@asynccontextmanager
async def following(log: MemoryLog | SqliteLog, *, long: int = 10_000) -> AsyncIterator[LiveViews]:
    live = LiveViews(log, retry=0.01, long=long)
    running = asyncio.create_task(live.run())
    try:
        async with asyncio.timeout(60):
            yield live
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def rebuilt(facts):
    fold = Fold(ALL)
    fold.apply(facts)
    return fold.snapshot()


@given(seed=st.integers(0, 2**32), data=st.data())
@settings(max_examples=25, deadline=None)
def test_live_views_equal_rebuilt_ones_byte_for_byte(seed, data):
    facts = random_log(Random(seed), issues=10)
    cut = data.draw(st.integers(0, len(facts)))
    sizes = data.draw(st.lists(st.integers(1, 40), max_size=30))

    async def scenario() -> None:
        log = MemoryLog(facts[:cut])
        async with following(log) as live:
            rest = [recorded.event for recorded in facts[cut:]]
            for size in [*sizes, len(rest)]:
                log.quiet = size % 7 == 0  # now and then a commit comes without a notice
                await log.append(rest[:size])
                del rest[:size]
                if size % 3 == 0:
                    await asyncio.sleep(0)
                live.snapshot()
            log.quiet = False
            told = Log()
            heal(told, "last")
            await log.append([recorded.event for recorded in told.facts])
            await live.caught_up()
            assert live.snapshot() == rebuilt(log.facts)

    asyncio.run(scenario())


async def test_views_are_compared_at_one_position_while_the_log_goes_on():
    facts = random_log(Random(11), issues=250)
    begun = len(facts) - 400
    log = MemoryLog(facts[:begun])
    async with following(log) as live:
        await live.caught_up()
        asked = asyncio.create_task(live.fingerprints())
        for recorded in facts[begun:]:
            await log.append([recorded.event])
            await live.reached(recorded.position)
        found = await asked
        assert found.position < live.position == len(facts)
        assert found == (await rebuild(log, until=found.position)).fingerprints()
        assert await live.fingerprints() == (await rebuild(log)).fingerprints()


async def test_views_stand_still_while_they_are_compared():
    loop, told = asyncio.get_running_loop(), Log()
    heal(told)
    log = MemoryLog(told.facts)
    seen: list[tuple[int, int]] = []

    async def go_on() -> None:
        heal(told, "last")
        await log.append([each.event for each in told.facts[await log.head() :]])
        waiting = asyncio.create_task(live.caught_up())
        for _ in range(100):
            await asyncio.sleep(0)
        waiting.cancel()

    def view(state: list[int]) -> int:
        before = len(state)
        asyncio.run_coroutine_threadsafe(go_on(), loop).result(60)
        seen.append((before, len(state)))
        return before

    cases: Cases[list[int]] = Cases()
    for kind in STATS.cases.table():
        cases.on(kind)(lambda state, position, _event: state.append(position))
    counted = Projection("counted", 1, list, cases, view)
    live = LiveViews(log, [counted], linger=0)
    running = asyncio.create_task(live.run())
    async with asyncio.timeout(60):
        await live.caught_up()
        found = await live.fingerprints()
        await live.caught_up()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert seen == [(found.position, found.position)]
    assert live.position == len(told.facts) > found.position


async def test_notices_are_used_as_they_come_without_reading_again():
    log, told = MemoryLog(), Log()
    async with following(log) as live:
        await live.reached(0)
        heal(told)
        await asyncio.sleep(0.02)
        reads = log.reads
        await log.append([recorded.event for recorded in told.facts])
        await live.caught_up()
        assert live.view("stats")["successful_healings"] == 1
        assert log.reads == reads


async def test_an_outage_is_told_and_survived(until):
    told = Log()
    heal(told)
    log = MemoryLog(told.facts)
    log.broken = True
    async with following(log) as live:
        await until.soon(lambda: live.trouble is not None)
        assert isinstance(live.trouble, StoreError)
        assert live.position == 0
        log.broken = False
        await live.caught_up()
        assert live.trouble is None
        assert live.snapshot() == rebuilt(told.facts)


async def test_the_loop_gets_a_turn_after_each_batch():
    facts = random_log(Random(3), issues=200)
    log = MemoryLog(facts)
    sizes, turns = [], 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    busy = asyncio.create_task(others())
    seen: list[Recorded] = []
    feed = batches(log)
    async for batch in feed:
        sizes.append((len(batch), turns))
        seen += batch
        if seen[-1].position == len(facts):
            break
    await feed.aclose()
    busy.cancel()
    assert seen == facts
    assert max(size for size, _ in sizes) <= BATCH
    assert len({turn for _, turn in sizes}) == len(sizes) > 3


async def test_what_lands_one_by_one_is_handed_over_together():
    facts = random_log(Random(7), issues=3)
    log, hurry = MemoryLog(), asyncio.Event()
    feed = batches(log, linger=3600, hurry=hurry)
    await log.append([facts[0].event])
    seen = list(await anext(feed))
    rest = asyncio.create_task(anext(feed))
    for _ in range(10):  # until it waits
        await asyncio.sleep(0)
    for recorded in facts[1:]:
        await log.append([recorded.event])
        await asyncio.sleep(0)
    assert not rest.done()
    hurry.set()
    async with asyncio.timeout(60):
        assert [*seen, *await rest] == facts
    await feed.aclose()


async def test_who_waits_for_the_views_waits_no_longer_for_what_else_may_land():
    facts = random_log(Random(9), issues=3)
    log = MemoryLog()
    live = LiveViews(log, linger=3600)
    running = asyncio.create_task(live.run())
    async with asyncio.timeout(60):
        await live.reached(0)
        for recorded in facts:
            await log.append([recorded.event])
            await live.caught_up()
            assert live.position == recorded.position
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert live.snapshot() == rebuilt(facts)


async def test_a_slow_reader_reads_from_the_log_what_was_not_kept_for_it():
    facts = random_log(Random(5), issues=900)
    assert len(facts) > 20 * BATCH
    log = MemoryLog()
    feed = batches(log)
    await log.append([facts[0].event])
    seen = list(await anext(feed))
    for at in range(1, len(facts), 100):
        await log.append([recorded.event for recorded in facts[at : at + 100]])
    async with asyncio.timeout(60):
        while len(seen) < len(facts):
            seen += await anext(feed)
    await feed.aclose()
    assert [each.event for each in seen] == [each.event for each in facts]


async def test_views_follow_the_log_on_disk_here_and_in_another_reader(tmp_path):
    facts = random_log(Random(8), issues=40)
    events = [recorded.event for recorded in facts]
    async with SqliteLog.open(tmp_path / "healer.db", new_log_id=lambda: "1" * 32) as log:
        await log.append(events[:100])
        async with following(log) as live:
            await log.append(events[100:300])
            await live.caught_up()
            async with (
                SqliteLog.open_readonly(tmp_path / "healer.db") as copy,
                following(copy) as other,
            ):
                await other.caught_up()
                for event in events[300:]:
                    await log.append([event])
                await live.caught_up()
                await other.reached(len(facts))
                assert live.snapshot() == other.snapshot() == rebuilt(facts)
                assert live.snapshot() == (await rebuild(log)).snapshot()


async def test_a_stopped_projection_is_marked_and_an_unknown_one_refused():
    told = Log()
    heal(told)
    broken = Recorded(len(told.facts) + 1, object())  # type: ignore[arg-type]
    log = MemoryLog([*told.facts, broken])
    async with following(log) as live:
        await live.caught_up()
        assert live.stopped["stats"].position == broken.position
        with pytest.raises(ProjectionStoppedError, match="unknown type 'object'"):
            live.view("stats")
        with pytest.raises(UnknownNameError, match="cannot find projection 'stat'"):
            live.view("stat")


async def test_an_event_that_cannot_be_read_stops_those_that_need_it_and_no_other(tmp_path):
    file = tmp_path / "log.db"
    facts = random_log(Random(5), issues=12)
    async with SqliteLog.open(file, new_log_id=lambda: "1" * 32, cadence=None) as log:
        await log.append([each.event for each in facts])
    with closing(sqlite3.connect(file)) as connection, connection:
        [(spoiled,)] = connection.execute(
            "SELECT min(position) FROM event WHERE topic = 'component.health_changed.v1'"
        )
        connection.execute("DROP TRIGGER event_is_never_updated")
        spoilt = (b'{"before": 3}', spoiled)
        connection.execute("UPDATE event SET body = ? WHERE position = ?", spoilt)
    sound = Fold([each for each in ALL if each.cases.table()[HealthChanged] is None])
    sound.apply(facts)
    log = SqliteLog.open_readonly(file)
    async with log:
        live = LiveViews(log, retry=0.01)
        running = asyncio.create_task(live.run())
        async with asyncio.timeout(60):
            await live.caught_up()
            assert (await live.rebuild("stats")).name == "stats"
            with pytest.raises(ProjectionStoppedError, match=f"at position {spoiled} "):
                await live.rebuild("components")
            with pytest.raises(UnknownNameError, match="cannot find view 'stat'; known: stats, "):
                await live.rebuild("stat")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert set(live.stopped) == {each.name for each in ALL} - set(sound.names)
        assert live.snapshot().views == sound.snapshot().views
        assert (await live.fingerprints()).views == sound.fingerprints().views
        for stopped in live.stopped.values():
            assert (stopped.position, "health_changed" in str(stopped)) == (spoiled, True)
        again = await rebuild(log)
        assert again.stopped.keys() == live.stopped.keys()


async def test_views_begin_with_a_long_log_beside_the_loop_and_follow_it_then(
    tmp_path, monkeypatch
):
    facts = random_log(Random(9), issues=40)
    events = [recorded.event for recorded in facts]
    asked: list[int] = []

    async def counted(*arguments: Any, until: int, **options: Any) -> Fold:
        asked.append(until)
        return await beside.fold_file(*arguments, until=until, **options)

    monkeypatch.setattr(runner, "fold_file", counted)
    async with SqliteLog.open(tmp_path / "healer.db", new_log_id=lambda: "1" * 32) as log:
        await log.append(events[:300])
        async with following(log, long=100) as live:
            await live.caught_up()
            await log.append(events[300:])
            await live.caught_up()
            assert live.snapshot() == rebuilt(facts)
            await live.replace(STATS)
            assert live.snapshot() == rebuilt(facts)
    assert asked == [300]


async def test_views_go_on_by_the_log_when_the_process_beside_dies(tmp_path, monkeypatch):
    facts = random_log(Random(9), issues=20)
    monkeypatch.setattr(runner, "fold_file", partial(beside.fold_file, long=1))
    monkeypatch.setattr(beside.sys, "executable", "/bin/false")
    async with SqliteLog.open(tmp_path / "healer.db", new_log_id=lambda: "1" * 32) as log:
        await log.append([recorded.event for recorded in facts])
        async with following(log, long=100) as live:
            await live.caught_up()
            assert live.snapshot() == rebuilt(facts)
            assert live.trouble is None


async def test_a_long_log_holds_up_nobody_and_shows_nothing_half_read(tmp_path: Path) -> None:
    facts = random_log(Random(12), issues=60)
    async with SqliteLog.open(tmp_path / "log.db", new_log_id=lambda: "log-1") as log:
        await log.append([each.event for each in facts])
        live = LiveViews(log, long=100)
        running = asyncio.create_task(live.run())
        try:
            await live.begun()
            with pytest.raises(StoreError, match="cannot show stats yet: the log is"):
                live.view("stats")
            with pytest.raises(StoreError, match=f"of {len(facts):,} events"):
                live.state("history")
            await live.caught_up()
            expected = Fold(ALL)
            expected.apply(facts)
            assert live.snapshot() == expected.snapshot()
            assert live.view("stats") == expected.view("stats")
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
