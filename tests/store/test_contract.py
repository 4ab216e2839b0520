"""What every log promises, in memory, on disk and on a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from healer.domain.events import IssueDetected, IssueFact, IssueFailed, PlaybookStarted
from healer.errors import IssueConflictError, StoreError
from healer.ports import EventLog, Recorded
from healer.store import MemoryLog, SqliteLog, open_log
from tests import factory
from tests.conftest import Until

if TYPE_CHECKING:
    from healer.store.postgres import PostgresLog

    Log = MemoryLog | SqliteLog | PostgresLog


@pytest.fixture
async def log(url: str) -> AsyncIterator[Log]:
    async with open_log(url, new_log_id=lambda: "log-1") as opened:
        yield opened


def started(stream: str, version: int) -> PlaybookStarted:
    return factory.playbook_started(stream=stream, version=version)


async def test_a_log_is_an_event_log(log: Log) -> None:
    promised: EventLog = log
    assert await promised.head() == 0
    assert await promised.read() == []
    assert await promised.stream("i1") == []
    assert await promised.open_issues() == {}
    assert (log.broken, log.unavailable) == (None, None)


async def test_facts_are_read_in_the_order_of_the_log(log: Log) -> None:
    one, two = started("i1", 1), started("i1", 2)
    other = started("i2", 1)
    assert await log.append([one]) == 1
    assert await log.append([other, two]) == 3
    assert await log.read() == [Recorded(1, one), Recorded(2, other), Recorded(3, two)]
    assert await log.stream("i1") == [one, two]
    assert await log.head() == 3


async def test_reading_goes_on_behind_a_position(log: Log) -> None:
    await log.append([started("i1", version) for version in range(1, 11)])
    assert [r.position for r in await log.read(after=4, limit=3)] == [5, 6, 7]
    assert [r.position for r in await log.read(after=-4, limit=3)] == [1, 2, 3]
    assert await log.read(after=10) == []


async def test_few_kinds_of_facts_are_recalled_in_the_order_of_the_log(log: Log) -> None:
    facts = [factory.issue_detected(stream=f"i{n}", component=f"c{n}") for n in range(1, 6)]
    for n, fact in enumerate(facts, 1):
        await log.append(
            [fact, started(f"i{n}", 2), factory.issue_failed(stream=f"i{n}", version=3)]
        )
    refused: list[StoreError] = []
    topics = {IssueDetected.TOPIC, IssueFailed.TOPIC}
    found = [fact async for batch in log.recall(topics, refused=refused.append) for fact in batch]
    assert [(each.TOPIC, each.event_id) for each in found] == [
        (each.event.TOPIC, each.event.event_id)
        for each in await log.read()
        if each.event.TOPIC in topics
    ]
    assert [each.component for each in found[::2]] == ["c1", "c2", "c3", "c4", "c5"]
    assert not refused
    assert [each async for batch in log.recall((), refused=refused.append) for each in batch] == []


async def test_every_fact_comes_back_equal(log: Log) -> None:
    facts = [
        fact.model_copy(update={"originator_id": f"s{index}", "originator_version": 1})
        for index, fact in enumerate(factory.every_fact())
    ]
    await log.append(facts)
    assert [recorded.event for recorded in await log.read()] == facts


async def test_appending_nothing_changes_nothing(log: Log) -> None:
    await log.append([started("i1", 1)])
    assert await log.append([]) == 1


@pytest.mark.parametrize("version", [1, 3, 2**70])
async def test_a_stream_that_moved_refuses_the_append(log: Log, version: int) -> None:
    await log.append([started("i1", 1)])
    with pytest.raises(
        IssueConflictError, match=rf"^cannot append i1/{version}: the stream is at version 1$"
    ):
        await log.append([started("i1", 1).model_copy(update={"originator_version": version})])
    assert await log.head() == 1


async def test_of_two_appends_that_race_one_wins(log: Log) -> None:
    outcomes = await asyncio.gather(
        *(log.append([started("i1", 1)]) for _ in range(8)), return_exceptions=True
    )
    assert outcomes.count(1) == 1
    assert sum(isinstance(outcome, IssueConflictError) for outcome in outcomes) == 7
    assert await log.head() == 1


async def test_an_append_that_conflicts_fails_alone_and_wholly(log: Log) -> None:
    await log.append([started("taken", 1)])
    outcomes = await asyncio.gather(
        log.append([started("a", 1), started("a", 2)]),
        log.append([started("b", 1), started("taken", 1)]),
        log.append([started("c", 1)]),
        return_exceptions=True,
    )
    assert outcomes[0] == 3
    assert isinstance(outcomes[1], IssueConflictError)
    assert outcomes[2] == 4
    assert await log.stream("b") == []
    assert [recorded.position for recorded in await log.read()] == [1, 2, 3, 4]


async def test_a_component_has_at_most_one_open_issue(log: Log) -> None:
    await log.append([factory.issue_detected(stream="i1")])
    with pytest.raises(
        IssueConflictError,
        match=r"^cannot open issue i2 for component 'chat_api': its issue i1 is open$",
    ):
        await log.append([factory.issue_detected(stream="i2")])
    await log.append([factory.issue_detected(stream="i3", component="message_bus")])
    await log.append([factory.issue_detected(stream="i4", component="a")])
    found = await log.open_issues()
    assert list(found.items()) == [("a", "i4"), ("chat_api", "i1"), ("message_bus", "i3")]


async def test_of_two_issues_that_race_for_a_component_one_is_opened(log: Log) -> None:
    outcomes = await asyncio.gather(
        *(log.append([factory.issue_detected(stream=f"i{n}")]) for n in range(8)),
        return_exceptions=True,
    )
    assert sum(isinstance(outcome, IssueConflictError) for outcome in outcomes) == 7
    assert len(await log.open_issues()) == 1


@pytest.mark.parametrize("end", [factory.issue_verified, factory.issue_failed])
async def test_an_issue_that_ended_releases_its_component(
    log: Log, end: Callable[..., IssueFact]
) -> None:
    await log.append([factory.issue_detected(stream="i1")])
    await log.append([end(stream="i1", version=2)])
    assert await log.open_issues() == {}
    await log.append([factory.issue_detected(stream="i2")])
    assert await log.open_issues() == {"chat_api": "i2"}


async def test_one_append_can_end_an_issue_and_open_the_next(log: Log) -> None:
    await log.append([factory.issue_detected(stream="i1")])
    await log.append(
        [factory.issue_failed(stream="i1", version=2), factory.issue_detected(stream="i2")]
    )
    assert await log.open_issues() == {"chat_api": "i2"}


async def test_a_refused_append_leaves_the_open_issues_alone(log: Log) -> None:
    await log.append([factory.issue_detected(stream="i1")])
    with pytest.raises(IssueConflictError):
        await log.append([factory.issue_verified(stream="i1", version=2), started("i9", 5)])
    with pytest.raises(IssueConflictError):
        await log.append([factory.issue_detected(stream="i2", component="b"), started("i9", 5)])
    assert await log.open_issues() == {"chat_api": "i1"}


async def test_an_append_that_opens_two_issues_opens_both_or_none(log: Log) -> None:
    await log.append([factory.issue_detected(stream="i1")])
    with pytest.raises(IssueConflictError, match="its issue i1 is open"):
        await log.append(
            [
                factory.issue_detected(stream="i2", component="b"),
                factory.issue_detected(stream="i3"),
            ]
        )
    assert (await log.head(), await log.open_issues()) == (1, {"chat_api": "i1"})
    assert await log.append([factory.issue_detected(stream="i4", component="b")]) == 2


async def test_what_cannot_be_stored_is_refused_before_anything_is(log: Log) -> None:
    bad = factory.issue_verified(stream="i1", version=2).model_copy(
        update={"resolved_in": float("nan")}
    )
    with pytest.raises(StoreError, match="cannot store i1/2"):
        await log.append([started("i1", 1), bad])
    assert await log.head() == 0


async def test_following_gives_what_is_there_and_then_what_comes(log: Log) -> None:
    await log.append([started("i1", version) for version in range(1, 4)])
    async with aclosing(log.follow(after=1)) as facts:
        assert [(await anext(facts)).position for _ in range(2)] == [2, 3]
        coming = asyncio.ensure_future(anext(facts))
        await asyncio.sleep(0)
        assert not coming.done()
        await log.append([started("i2", 1)])
        assert await asyncio.wait_for(coming, 60) == Recorded(4, started("i2", 1))


async def test_a_follower_misses_nothing_of_many_appends(log: Log) -> None:
    async def follow() -> list[int]:
        positions: list[int] = []
        async with aclosing(log.follow(after=0)) as facts:
            async for recorded in facts:
                positions.append(recorded.position)
                if len(positions) == 1200:
                    break
        return positions

    following = asyncio.create_task(follow())

    async def append(stream: str) -> None:
        for version in range(1, 61):
            await log.append([started(stream, version)])

    await asyncio.gather(*(append(f"s{n}") for n in range(20)))
    assert await asyncio.wait_for(following, 60) == list(range(1, 1201))


async def test_followers_end_with_the_log(log: Log) -> None:
    async def follow() -> list[Recorded]:
        return [recorded async for recorded in log.follow(after=0)]

    await log.append([started("i1", 1)])
    following = asyncio.create_task(follow())
    await asyncio.sleep(0)
    await log.close()
    assert len(await asyncio.wait_for(following, 60)) <= 1


async def test_a_listener_hears_each_commit_in_order_until_it_stops(log: Log) -> None:
    heard: list[Recorded] = []
    stop = log.listen(heard.extend)
    await asyncio.gather(*(log.append([started(f"s{n}", 1)]) for n in range(20)))
    await log.append([started("s0", 2), started("s0", 3), started("s1", 2)])
    assert heard == await log.read()
    stop()
    stop()
    await log.append([started("late", 1)])
    assert len(heard) == 23


async def test_a_listener_that_fails_stops_nobody(log: Log) -> None:
    reported: list[str] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda loop, context: reported.append(f"{context['message']}: {context['exception']}")
    )
    heard: list[Recorded] = []

    def fail(recorded: Sequence[Recorded]) -> None:
        raise RuntimeError("deaf")

    log.listen(fail)
    log.listen(heard.extend)
    assert await log.append([started("i1", 1)]) == 1
    assert (len(heard), reported) == (1, ["a listener of the log failed: deaf"])


async def test_a_listener_that_another_stops_hears_no_more_and_those_behind_it_do(log: Log) -> None:
    stop: list[Callable[[], None]] = []
    heard: dict[str, list[Sequence[Recorded]]] = {name: [] for name in ("first", "second", "third")}

    def first(recorded: Sequence[Recorded]) -> None:
        heard["first"].append(recorded)
        stop[0]()

    log.listen(first)
    stop.append(log.listen(heard["second"].append))
    log.listen(heard["third"].append)
    await log.append([started("i1", 1)])
    assert {name: len(each) for name, each in heard.items()} == {
        "first": 1,
        "second": 0,
        "third": 1,
    }


async def test_a_refused_append_is_not_heard(log: Log) -> None:
    heard: list[Sequence[Recorded]] = []
    log.listen(heard.append)
    with pytest.raises(IssueConflictError):
        await log.append([started("i1", 2)])
    assert heard == []


async def test_cancelling_the_wait_neither_loses_nor_halves_the_append(
    log: Log, until: Until
) -> None:
    waits = [
        asyncio.create_task(log.append([started(f"s{n}", 1), started(f"s{n}", 2)]))
        for n in range(50)
    ]
    await asyncio.sleep(0)
    for wait in waits:
        wait.cancel()
    await asyncio.gather(*waits, return_exceptions=True)
    await until.soon(lambda: _head_is(log, 100))
    for n in range(50):
        assert [fact.originator_version for fact in await log.stream(f"s{n}")] == [1, 2]


async def _head_is(log: Log, position: int) -> bool:
    return await log.head() == position


async def test_a_closed_log_says_so(log: Log) -> None:
    await log.close()
    await log.close()
    with pytest.raises(StoreError, match=r"^cannot append to .*: the log is closed"):
        await log.append([started("i1", 1)])
    with pytest.raises(StoreError, match=r"^cannot read .*: the log is closed$"):
        await log.head()


async def test_what_waits_when_the_log_is_closed_is_still_appended(log: Log) -> None:
    waits = [asyncio.create_task(log.append([started(f"s{n}", 1)])) for n in range(20)]
    await asyncio.sleep(0)
    await log.close()
    assert sorted(await asyncio.gather(*waits)) == list(range(1, 21))


# --- leases --------------------------------------------------------------------------------------


async def test_a_claim_appends_and_its_fence_is_a_position(log: Log) -> None:
    assert await log.holder("chat_api") is None
    await log.append([started("other", 1)])
    claim = await log.claim("chat_api", [factory.issue_detected(stream="i1")], node="a", ttl=60)
    assert (claim.component, claim.node, claim.fence) == ("chat_api", "a", 2)
    assert await log.append([started("i1", 2)]) == 3
    taken = factory.issue_taken_over(stream="i1", version=3)
    assert (await log.claim("chat_api", [taken], node="a", ttl=60)).fence == 4
    await log.renew(ttl=60)
    assert await log.head() == 4


async def test_only_a_shared_log_says_who_holds_an_issue(log: Log) -> None:
    await log.claim("chat_api", [factory.issue_detected(stream="i1")], node="a", ttl=60)
    holder = await log.holder("chat_api")
    assert holder is not None
    assert holder.issue == "i1"
    if log.shared:
        assert holder.node == "a"
        assert 0 < holder.left <= 60
    else:
        assert (holder.node, holder.left) == (None, 0)
    await log.append([factory.issue_failed(stream="i1", version=2)])
    assert await log.holder("chat_api") is None


async def test_a_claim_on_what_is_not_so_any_more_is_refused_wholly(log: Log) -> None:
    await log.append([started("component:chat_api", 1)])
    detected = [factory.issue_detected(stream="i1")]
    for stale in (0, 2):
        seen = {"component:chat_api": stale}
        with pytest.raises(
            IssueConflictError,
            match=rf"^cannot claim on what was seen of component:chat_api at version {stale}: "
            r"the stream is at version 1$",
        ):
            await log.claim("chat_api", detected, node="a", ttl=60, seen=seen)
    assert (await log.head(), await log.open_issues()) == (1, {})
    await log.claim("chat_api", detected, node="a", ttl=60, seen={"component:chat_api": 1})
    assert await log.open_issues() == {"chat_api": "i1"}
