"""Any moment, quickly, and the same as from the whole log."""

from __future__ import annotations

from datetime import timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from healer.ports import Recorded
from projections import ALL
from projections.fold import Fold
from projections.history import HISTORY, HistoryQuery, page, shown
from projections.projection import canonical
from projections.shelf import Shelved, Wanted
from replay.moment import at
from replay.past import Past
from replay.point import Point, PointError
from tests.projections.build import Log, MemoryLog, logs, random_log

VIEWS = ("components", "active", "stats", "playbook_stats", "pause")
EVERYTHING = HistoryQuery(limit=1000)


def history_of(facts: list[Recorded]) -> Any:
    fold = Fold([HISTORY])
    fold.apply(facts)
    return fold.state("history")


async def past_of(facts: list[Recorded], **options: int) -> Past:
    past = Past(MemoryLog(facts), lambda: history_of(facts), **options)
    await past.catch_up()
    return past


def told(record: Shelved) -> tuple[Any, ...]:
    """What a record is found by, and what is shown of it."""
    return (*record[:-1], shown(record))


async def agrees(past: Past, facts: list[Recorded], point: Point) -> None:
    then, moment = await past.at(point), await at(MemoryLog(facts), point, ALL)
    assert (then.position, then.label, then.passed_over) == (
        moment.position,
        moment.label,
        moment.passed_over,
    )
    for name in VIEWS:
        assert canonical(then.view(name)) == moment.snapshot.views[name], name
    expected = moment.fold.state("history")
    assert page(then.history, EVERYTHING) == page(expected, EVERYTHING)
    assert set(then.history.components) == set(expected.components)
    every = list(expected.newest(Wanted()))
    assert [*map(told, then.history.newest(Wanted()))] == [*map(told, every)]
    for record in every:
        found = then.history.find(record.issue)
        assert found is not None
        assert told(found) == told(record)
    assert then.history.find("nothing") is None
    for component in expected.components:
        of_one = HistoryQuery(component=component, limit=3)
        assert page(then.history, of_one) == page(expected, of_one)


@settings(max_examples=30, suppress_health_check=list(HealthCheck))
@given(facts=logs(), data=st.data())
async def test_every_moment_is_the_one_that_replay_shows(facts, data):
    """Streams are shuffled into each other here, so that labels jump about."""
    past = await past_of(facts, spacing=7, kept=4)
    for _ in range(4):
        point = data.draw(
            st.integers(0, len(facts))
            | st.sampled_from([each.event.timestamp for each in facts] or [0])
        )
        await agrees(past, facts, point)


async def test_a_log_that_grows_is_followed():
    facts = random_log(Random(3), issues=40)
    log = MemoryLog(facts[:100])
    past = Past(log, lambda: history_of(log.facts), spacing=16, kept=8)
    await past.catch_up()
    await agrees(past, log.facts, 100)
    log.facts += facts[100:]
    await past.catch_up()
    for point in (len(facts), 99, 100, 101, 250, 3, 4, 5, facts[60].event.timestamp):
        await agrees(past, facts, point)


async def test_a_moment_costs_the_way_from_the_nearest_copy():
    facts = random_log(Random(5), issues=400)
    log = MemoryLog(facts)
    past = Past(log, lambda: history_of(facts), spacing=50, kept=16)
    await past.catch_up()
    read = []
    plain = log.read

    async def counting(**asked: Any) -> Any:
        found = await plain(**asked)
        read.append(len(found))
        return found

    log.read = counting
    await past.at(len(facts) // 2)
    assert sum(read) <= len(facts) // 8
    read.clear()
    await past.at(len(facts) // 2 + 1)
    assert sum(read) <= 1, "a step forward goes on from the moment before"


async def test_an_empty_log_has_an_empty_past():
    past = await past_of([])
    then = await past.at(0)
    assert (then.position, then.label, then.view("components")) == (0, None, [])
    assert (await past.span()).first is None
    with pytest.raises(PointError, match="the log ends at 0"):
        await past.at(1)


async def test_a_clock_that_was_set_back_moves_the_facts_of_that_time_only():
    log = Log()
    log.register("a")
    log.wait(hours=2)
    log.register("ahead")
    log.now -= timedelta(hours=1)
    log.register("back")
    past = await past_of(log.facts)
    then = await past.at(log.facts[2].event.timestamp)
    assert [each["name"] for each in then.view("components")] == ["a", "back"]
    assert (then.position, then.passed_over) == (3, 1)
