"""One issue, found and told."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from healer.domain import events as fact
from healer.domain.health import Health
from healer.errors import UnknownNameError
from healer.store import SqliteLog
from projections.history import HISTORY
from replay.issue import AmbiguousIssueError, find, follow, record_of, tell
from tests.conftest import Until
from tests.projections.build import Log, MemoryLog, heal, view_of
from tests.replay.on_disk import a_day, write

GOLDEN = Path(__file__).parent / "golden"


class Counting(MemoryLog):
    """A log that counts what it is asked for."""

    facts_read = 0

    async def read(self, *, after: int = 0, limit: int = 500):
        found = await super().read(after=after, limit=limit)
        self.facts_read += len(found)
        return found


async def test_an_issue_is_told_with_what_happened_to_its_component_meanwhile(tmp_path):
    await write(tmp_path / "log.db", a_day().facts)
    async with SqliteLog.open_readonly(tmp_path / "log.db") as log:
        story = await tell(log, await find(log, "issue-0001"))
        facts = await log.stream("issue-0001")
    text = "".join(f"{told.entry}\n" for told in story)
    assert text == (GOLDEN / "issue.txt").read_text()
    assert [told.position for told in story] == sorted(told.position for told in story)
    history = view_of(HISTORY, a_day().facts)
    assert record_of(story, facts) == history[-1]


async def test_a_unique_beginning_is_enough():
    log = Log()
    heal(log)
    log.add(fact.IssueDetected, "abcdef", **_detection(log))
    detection = await find(MemoryLog(log.facts), "ab")
    assert detection.event.originator_id == "abcdef"


def _detection(log: Log) -> dict[str, object]:
    event = log.facts[0].event
    return {
        name: getattr(event, name)
        for name in fact.IssueDetected.model_fields
        if name not in fact.Event.model_fields
    }


async def test_a_whole_id_wins_over_a_longer_one():
    log = Log()
    heal(log)
    log.add(fact.IssueDetected, "issue-00012", **_detection(log))
    detection = await find(MemoryLog(log.facts), "issue-0001")
    assert detection.event.originator_id == "issue-0001"


async def test_a_beginning_of_several_is_refused_and_some_are_named():
    log = MemoryLog(a_day().facts)
    with pytest.raises(AmbiguousIssueError, match=r"3 begin so .issue-0001, issue-0002") as refused:
        await find(log, "issue-")
    assert isinstance(refused.value, UnknownNameError)


@pytest.mark.parametrize("name", ["nothing", "component:chat_api", "issue-0001x"])
async def test_what_no_issue_is_called_is_refused_and_the_latest_are_named(name):
    with pytest.raises(UnknownNameError, match=r"cannot find issue .*issue-0002, issue-0003"):
        await find(MemoryLog(a_day().facts), name)


async def test_a_whole_id_is_found_without_reading_the_log():
    log = Log()
    for _ in range(1200):
        heal(log)
    counting = Counting(log.facts)
    detection = await find(counting, "issue-0700")
    assert detection.event.event_id == "issue-0700/1"
    assert counting.facts_read < 600 < len(log.facts)
    assert len(await tell(counting, detection)) == 14


async def test_a_clock_that_jumped_does_not_hide_an_issue():
    log = Log()
    for number in range(100):
        log.wait(hours=-1 if number % 3 else 5)
        heal(log)
    for name in ("issue-0001", "issue-0050", "issue-0100"):
        assert (await find(MemoryLog(log.facts), name)).event.originator_id == name


async def test_a_check_that_came_after_the_end_is_told_too():
    log = Log()
    issue = heal(log)
    heal(log, "other")
    late = next(each.event for each in log.facts if isinstance(each.event, fact.CheckRecorded))
    issue.add(fact.CheckRecorded, check=late.check)
    memory = MemoryLog(log.facts)
    story = await tell(memory, await find(memory, issue.id))
    assert story[-1].entry.topic == "issue.check_recorded.v1"


async def test_a_running_issue_is_followed_to_its_end(tmp_path: Path, until: Until):
    told = Log()
    issue = told.detect().diagnose()
    begun = len(told.facts)
    issue.route("restart_component").remediate()
    issue.run("restart_component", cured=True).verify("restart_component")
    told.health(*_BACK)
    path = tmp_path / "log.db"
    async with SqliteLog.open(path, new_log_id=lambda: "log-1") as writing:
        await writing.append([each.event for each in told.facts[:begun]])
        async with SqliteLog.open_readonly(path) as reading:
            lines: list[str] = []
            followed = asyncio.create_task(_follow(reading, issue.id, lines))
            await until.soon(lambda: len(lines) == begun, name="what is there is told")
            await writing.append([each.event for each in told.facts[begun:]])
            await asyncio.wait_for(followed, 60)
    assert len(lines) == len(told.facts) - 1
    assert lines[-1].endswith("healed by restart_component in 1.5s")


_BACK = (Health.STARTING, Health.HEALTHY)


async def _follow(log: SqliteLog, name: str, lines: list[str]) -> None:
    async with aclosing(follow(log, await find(log, name))) as story:
        async for each in story:
            lines.append(str(each.entry))  # noqa: PERF401 - the test looks while it grows
