"""What changed between two points."""

from __future__ import annotations

from datetime import timedelta
from random import Random

import orjson
import pytest

from healer.store import SqliteLog
from replay.difference import Change, IssueChange, diff
from replay.point import PointError
from tests.projections.build import START, MemoryLog, random_log
from tests.replay.on_disk import a_day, write


async def test_what_changed_is_named_with_both_values(tmp_path):
    await write(tmp_path / "log.db", a_day().facts)
    async with SqliteLog.open_readonly(tmp_path / "log.db") as log:
        found = await diff(
            log, START + timedelta(minutes=30), START + timedelta(hours=2, minutes=30)
        )
    components = {change.of: (change.before, change.after) for change in found.components}
    assert components["chat_api.epoch"] == (1, 2)
    assert components["search_api.health"] == ("unknown", "unhealthy")
    assert components["chat_api.process"][1]["pid"] == 43
    assert "chat_api.port" not in components
    assert found.issues == (
        IssueChange("issue-0001", "chat_api", "port_not_listening", None, "healed"),
        IssueChange("issue-0002", "search_api", "port_not_listening", None, "failed"),
    )
    assert Change("successful_healings", 0, 1) in found.stats
    assert Change("playbook_stats.restart_component.executions", None, 1) in found.stats


async def test_the_other_way_round_it_is_undone():
    log = MemoryLog(a_day().facts)
    head = await log.head()
    there, back = await diff(log, 10, head), await diff(log, head, 10)
    turned = {Change(each.of, each.after, each.before) for each in there.stats if _plain(each)}
    assert turned == {each for each in back.stats if _plain(each)}
    assert [(each.issue_id, each.after, each.before) for each in there.issues] == [
        (each.issue_id, each.before, each.after) for each in back.issues
    ]


def _plain(change: Change) -> bool:
    return not isinstance(change.before, list) and not isinstance(change.after, list)


async def test_an_open_issue_has_its_states():
    log = MemoryLog(a_day().facts)
    head = await log.head()
    [change] = (await diff(log, head - 3, head)).issues
    assert (change.issue_id, change.before, change.after) == (
        "issue-0003",
        "detected",
        "diagnosing",
    )


@pytest.mark.parametrize("seed", range(3))
async def test_a_point_does_not_differ_from_itself(seed):
    log = MemoryLog(random_log(Random(seed), issues=10))
    point = await log.head() // 2
    found = await diff(log, point, point)
    assert (found.components, found.issues, found.stats) == ((), (), ())


async def test_it_is_json_for_a_program():
    log = MemoryLog(a_day().facts)
    shown = orjson.loads(orjson.dumps((await diff(log, 0, START + timedelta(days=1))).view()))
    assert shown["from"] == {"point": 0, "position": 0, "passed_over": 0}
    assert shown["to"]["point"] == "2026-03-02T12:00:00.000000Z"
    assert {"figure": "issues", "before": 0, "after": 3} in shown["stats"]
    assert shown["issues"][0]["issue_id"] == "issue-0001"


async def test_a_position_behind_the_end_is_refused():
    with pytest.raises(PointError, match="cannot go to position 5000: the log ends at"):
        await diff(MemoryLog(a_day().facts), 0, 5000)
