"""What the events of a log say, row by row: which problems, and what is open at the end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from healer.domain import events as fact
from healer.domain.events import EVENT_TYPES
from healer.store.codec import Codec
from replay.archive import Row
from replay.audit import Problem
from replay.judge import KEPT, Judge
from tests.projections.build import Log, heal
from tests.replay.sealed import rows_of


def judged(rows: list[Row], carried: dict[str, str] | None = None) -> Judge:
    judge = Judge(carried or {})
    for row in rows:
        judge.take([row])
    at_once = Judge(carried or {})
    at_once.take(rows)
    assert (at_once.problems, at_once.found) == (judge.problems, judge.found)
    assert (at_once.open, at_once.first) == (judge.open, judge.first)
    return judge


def changed(row: Row, **columns: object) -> Row:
    names = ("position", "stream", "version", "topic", "time", "body", "hash")
    return tuple((dict(zip(names, row, strict=True)) | columns).values())  # type: ignore[return-value]


def body_of(row: Row, old: bytes, new: bytes) -> Row:
    assert old in row[5]
    return changed(row, body=row[5].replace(old, new))


def three() -> Log:
    """One that was cured, one that was given up, one that is open, and one more of the first."""
    log = Log()
    heal(log, "chat_api")
    log.detect("search_api").fail()
    log.detect("db").diagnose()
    log.detect("chat_api")
    return log


def test_what_is_open_and_where_each_component_began_is_known() -> None:
    rows = rows_of(three().facts)
    judge = judged(rows)
    assert (judge.problems, judge.found) == ([], 0)
    assert judge.open == {"issue-0003": "db", "issue-0004": "chat_api"}
    search, db = (
        next(row[0] for row in rows if row[1] == stream) for stream in ("issue-0002", "issue-0003")
    )
    assert judge.first == {"chat_api": 1, "search_api": search, "db": db}


def test_what_cannot_be_read_is_named_and_the_rest_is_judged() -> None:
    log = Log()
    log.register()
    log.adopt()
    log.detect().remediate()
    rows = rows_of(log.facts)
    rows[0] = changed(rows[0], topic="component.registered.v9")
    rows[1] = changed(rows[1], body=b"{}")
    judge = judged(rows)
    assert judge.problems[0] == Problem(
        1,
        "component:chat_api/1",
        "unreadable",
        "cannot read event 1: topic component.registered.v9 is not known to this version",
    )
    assert judge.problems[1].event_id == "component:chat_api/2"
    assert judge.problems[1].message.startswith(f"cannot read event 2: topic {rows[1][3]}, ")
    assert [(each.position, each.code) for each in judge.problems] == [
        (1, "unreadable"),
        (2, "unreadable"),
        (4, "illegal_transition"),
    ]
    assert judge.found == 3


@pytest.mark.parametrize("off", [-1, 1, 1_000_000, 86_400_000_000])
def test_a_time_that_is_not_that_of_the_body_is_named(off: int) -> None:
    row = rows_of(Log().detect().log.facts)[0]
    judge = judged([changed(row, time=row[4] + off)])
    why = f"its column time says {row[4] + off}, its body 2026-03-01 12:00:00+00:00"
    assert judge.problems == [
        Problem(1, "issue-0001/1", "time", f"cannot accept event 1: {why}"),
    ]
    # It is judged all the same.
    assert judge.open == {"issue-0001": "chat_api"}


@pytest.mark.parametrize("year", [b"1969-12-31T23:59:59.5Z", b"2026-03-01T13:00:00.25+01:00"])
def test_a_time_is_that_of_the_body_wherever_and_whenever(year: bytes) -> None:
    row = body_of(rows_of(Log().detect().log.facts)[0], b"2026-03-01T12:00:00Z", year)
    time = -500_000 if year.startswith(b"1969") else row[4] + 250_000
    assert judged([changed(row, time=time)]).problems == []


def test_a_time_of_no_zone_is_no_time() -> None:
    row = body_of(
        rows_of(Log().detect().log.facts)[0], b"2026-03-01T12:00:00Z", b"2026-03-01T12:00:00"
    )
    [problem] = judged([row]).problems
    assert (problem.position, problem.code) == (1, "time")
    assert problem.message.endswith(f"says {row[4]}, its body 2026-03-01 12:00:00")


def test_what_only_the_codec_can_read_is_judged_as_everything_else() -> None:
    """Words with an escape; a number as text, which it takes for one."""
    log = Log()
    log.detect().remediate().fail("superseded")
    rows = rows_of(log.facts)
    rows[0] = body_of(rows[0], b'"chat_api"', b'"chat\\u005fapi"')
    rows[1] = body_of(rows[1], b'"attempt":1', b'"attempt":"1"')
    rows[2] = body_of(rows[2], b'"superseded"', b'"super\\u0073eded"')
    judge = judged(rows)
    assert [(each.position, each.code) for each in judge.problems] == [(2, "illegal_transition")]
    assert (judge.open, judge.first) == ({}, {"chat_api": 1})
    judge = judged(rows[:1])
    assert judge.open == {"issue-0001": "chat_api"}


def told_elsewhere(log: Log) -> None:
    """Who counts rows sees gaps, and events out of order."""
    issue = log.detect()
    log.add_raw(fact.IssueEscalated, issue.id, 5, reason="x")


def ended_unknown(log: Log) -> None:
    log.add(fact.IssueFailed, "nobody", reason="x", resolved_in=1.0)
    log.detect()


@pytest.mark.parametrize(
    ("history", "codes", "left"),
    [
        (told_elsewhere, [], {"issue-0001": "chat_api"}),
        (ended_unknown, ["undetected"], {"issue-0001": "chat_api"}),
    ],
)
def test_each_event_is_judged(
    history: Callable[[Log], None], codes: list[str], left: dict[str, str]
) -> None:
    log = Log()
    history(log)
    judge = judged(rows_of(log.facts))
    assert [each.code for each in judge.problems] == codes
    assert judge.found == len(codes)
    assert judge.open == left


def test_of_an_issue_that_began_elsewhere_nothing_is_judged_but_its_end() -> None:
    log = Log()
    heal(log)
    log.detect("search_api").remediate()
    rows = rows_of(log.facts)
    carried = {"issue-0001": "chat_api", "issue-0009": "db"}
    judge = judged(rows[4:], carried)
    assert [(each.event_id, each.code) for each in judge.problems] == [
        ("issue-0002/2", "illegal_transition")
    ]
    assert judge.open == {"issue-0002": "search_api", "issue-0009": "db"}
    assert carried == {"issue-0001": "chat_api", "issue-0009": "db"}
    judge = judged(rows[4:6], carried)
    assert judge.open == carried


def test_so_many_problems_are_kept_and_all_are_counted() -> None:
    log = Log()
    issue = log.detect().diagnose()
    for _ in range(KEPT + 1):
        issue.remediate()
    judge = judged(rows_of(log.facts))
    assert KEPT == 100
    assert (len(judge.problems), judge.found) == (KEPT, KEPT)
    judge = judged(rows_of(issue.remediate().log.facts))
    assert (len(judge.problems), judge.found) == (KEPT, KEPT + 1)
    assert [each.position for each in judge.problems] == [*range(6, 6 + KEPT)]


def test_another_codec_is_asked_for_each_event() -> None:
    """One that knows an event less, and another one under an old name."""
    row = rows_of(Log().detect().log.facts)[0]
    rest = {topic: kind for topic, kind in EVENT_TYPES.items() if topic != row[3]}
    judge = Judge({}, Codec(rest))
    judge.take([row])
    assert [each.code for each in judge.problems] == ["unreadable"]
    judge = Judge({}, Codec(upcasters={"issue.found.v1": lambda fields: (row[3], fields)}))
    judge.take([changed(row, topic="issue.found.v1")])
    assert judge.problems == []
    assert judge.open == {"issue-0001": "chat_api"}
