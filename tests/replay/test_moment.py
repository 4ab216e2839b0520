"""The world as it was then, from a log in a file."""

from __future__ import annotations

from datetime import timedelta
from random import Random

import pytest

from healer.store import SqliteLog
from projections import ALL
from projections.fold import Fold
from replay.moment import at, moments
from replay.point import PointError
from tests.projections.build import START, Log, MemoryLog, heal, random_log
from tests.replay.on_disk import a_day, write


async def test_the_world_at_a_time_is_what_was_known_then(tmp_path):
    await write(tmp_path / "log.db", a_day().facts)
    async with SqliteLog.open_readonly(tmp_path / "log.db") as log:
        early, healing, late = await moments(
            log,
            [
                START,
                START + timedelta(hours=1, milliseconds=12),
                START + timedelta(hours=2, minutes=30),
            ],
        )
    assert [each["name"] for each in early.fold.view("components")] == ["chat_api"]
    assert early.fold.view("active") == []
    [active] = healing.fold.view("active")
    assert (active["issue_id"], active["state"]) == ("issue-0001", "remediating")
    assert late.fold.view("active") == []
    assert late.fold.view("stats")["successful_healings"] == 1
    assert (early.passed_over, healing.passed_over, late.passed_over) == (0, 0, 0)


@pytest.mark.parametrize("position", [0, 1, 250, 499, 500, 501])
async def test_a_position_is_the_log_cut_there(position):
    facts = random_log(Random(7), issues=60)
    moment = await at(MemoryLog(facts), position)
    cut = Fold(ALL)
    cut.apply(facts[:position])
    assert moment.snapshot == cut.snapshot()
    assert moment.label == (facts[position - 1].event.timestamp if position else None)


async def test_where_time_only_goes_forward_a_time_is_a_position():
    log = Log()
    for _ in range(5):
        heal(log)
        log.wait(minutes=1)
    for recorded in log.facts[::9]:
        by_time = await at(MemoryLog(log.facts), recorded.event.timestamp)
        by_place = await at(MemoryLog(log.facts), recorded.position)
        assert by_time.snapshot == by_place.snapshot
        assert by_time.passed_over == 0


async def test_a_clock_that_was_wrong_for_a_while_misplaces_only_what_it_labelled():
    log = Log()
    heal(log, "a")
    log.wait(hours=5)
    heal(log, "b")  # the clock runs five hours ahead, and is put right again
    log.wait(hours=-4)
    heal(log, "c")
    moment = await at(MemoryLog(log.facts), START + timedelta(hours=2))
    assert [each["component"] for each in moment.fold.view("history")] == ["c", "a"]
    per_issue = len(log.facts) // 3
    assert moment.position == 3 * per_issue
    assert moment.passed_over == per_issue
    later = await at(MemoryLog(log.facts), START + timedelta(hours=6))
    assert later.fold.view("stats")["successful_healings"] == 3
    assert later.passed_over == 0


async def test_before_the_first_fact_there_is_nothing():
    moment = await at(MemoryLog(a_day().facts), START - timedelta(seconds=1))
    assert (moment.position, moment.label, moment.passed_over) == (0, None, 0)
    assert moment.fold.view("components") == []


async def test_a_position_behind_the_end_is_refused():
    facts = a_day().facts
    with pytest.raises(PointError, match=f"the log ends at {len(facts)}"):
        await at(MemoryLog(facts), len(facts) + 1)
    with pytest.raises(PointError, match="the log ends at 0; allowed: 0 to 0"):
        await at(MemoryLog(), 1)


async def test_progress_is_told_to_the_end():
    facts = random_log(Random(8), issues=120)
    steps: list[tuple[int, int]] = []
    await moments(MemoryLog(facts), [3, START], progress=lambda *step: steps.append(step))
    assert steps[0] == (0, len(facts))
    assert steps[-1] == (len(facts), len(facts))
