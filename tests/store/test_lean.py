"""A log is read lean: what is asked for and nothing else, from its file and from its archives."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from healer.domain.events import Event, IssueDetected, IssueFailed, PlaybookStarted
from healer.errors import StoreError
from healer.store import SqliteLog
from healer.store.archive import archive, microseconds
from healer.store.lean import LeanBatch, _Gathered, is_marked, lean_rows
from tests import factory
from tests.store.archiving import DatabaseLog

ISSUES = 600
"""Twice as many events, and a batch is 1024 of them."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


def issues(count: int) -> list[Event]:
    """Each begins and ends; each event is a second younger than the one before."""
    found: list[Event] = []
    for number in range(1, count + 1):
        stream = f"i{number}"
        detected = factory.issue_detected(stream=stream)
        failed = factory.issue_failed(stream=stream, version=2)
        for event in (detected, failed):
            when = factory.BEGIN + timedelta(seconds=len(found))
            found.append(event.model_copy(update={"timestamp": when}))
    return found


async def write(file: Path, events: Iterable[Event]) -> None:
    async with SqliteLog.open(file, new_log_id=lambda: "log-1") as log:
        await log.append(list(events))


def stored(file: Path) -> list[Any]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(
            "SELECT position, stream, version, topic, body FROM event ORDER BY position"
        ).fetchall()


def time_of(event: Event) -> int:
    return microseconds(event.timestamp)


def lean(source: Path | str, **options: Any) -> list[LeanBatch]:
    return list(lean_rows(source, **options))


def rows_of(batches: Iterable[LeanBatch]) -> list[Any]:
    return [row for rows, _, _ in batches for row in rows]


async def test_rows_come_in_batches_that_say_how_far_they_reach_and_how_late_it_is(
    file: Path,
) -> None:
    events = issues(ISSUES)
    await write(file, events)
    batches = lean(file, until=len(events))
    assert rows_of(batches) == stored(file)
    assert [(end, time) for _, end, time in batches] == [
        (1024, time_of(events[1023])),
        (1200, time_of(events[1199])),
    ]
    assert [time for _, _, time in lean(file, until=len(events), timed=False)] == [0, 0]


@pytest.mark.parametrize("archived", [False, True])
async def test_it_begins_behind_one_position_and_ends_at_another(
    file: Path, *, archived: bool
) -> None:
    events = issues(ISSUES)
    await write(file, events)
    rows = stored(file)
    if archived:
        pytest.importorskip("pyarrow", reason="pyarrow is not installed: the extra `export`")
        assert archive(file, events[1100].timestamp).last == 1100
    for after, until in [(0, 1), (1, 1024), (1023, 1025), (1099, 1101), (1100, 1200), (5, 1200)]:
        batches = lean(file, after=after, until=until)
        assert rows_of(batches) == rows[after:until]
        assert batches[-1][1] == until
        assert max(time for _, _, time in batches) == time_of(events[until - 1])
    assert lean(file, after=7, until=7) == []


@pytest.mark.parametrize("archived", [False, True])
async def test_topics_are_left_out_and_the_times_of_all_are_seen(
    file: Path, *, archived: bool
) -> None:
    events = [*issues(3), factory.playbook_started(stream="i4", version=1)]
    await write(file, events)
    rows = stored(file)
    if archived:
        pytest.importorskip("pyarrow", reason="pyarrow is not installed: the extra `export`")
        assert archive(file, datetime(2030, 1, 1, tzinfo=UTC)).last == 7
    without = [IssueFailed.TOPIC, PlaybookStarted.TOPIC]
    ((found, end, time),) = lean(file, until=6, without=without)
    assert found == [rows[0], rows[2], rows[4]]
    assert (end, time) == (6, time_of(events[5]))


@pytest.mark.parametrize("left_out", [True, False])
async def test_the_latest_time_is_seen_though_the_clock_was_set_back_behind_it(
    file: Path, *, left_out: bool
) -> None:
    events = issues(3)
    ahead = factory.BEGIN + timedelta(days=1)
    events[3] = events[3].model_copy(update={"timestamp": ahead})
    await write(file, events)
    without = [IssueFailed.TOPIC] if left_out else []
    marks = {IssueFailed.TOPIC: b"what no event says"}
    batches = lean(file, until=6, without=without, marks={} if left_out else marks)
    assert [(end, time) for _, end, time in batches] == [(6, microseconds(ahead))]
    kept = {row[0] for row in rows_of(batches)}
    assert kept == {1, 3, 5} if left_out else kept >= {1, 3, 5}


async def test_topics_are_left_out_of_every_batch_however_many_it_has_of_them(file: Path) -> None:
    started = [factory.playbook_started(stream=f"s{n}", version=1) for n in range(1100)]
    events = [*issues(ISSUES), *started, factory.issue_failed(stream="last", version=1)]
    await write(file, events)
    rows = stored(file)
    for without in ([IssueFailed.TOPIC], [PlaybookStarted.TOPIC, IssueFailed.TOPIC]):
        wanted = [row for row in rows if row[3] not in without]
        marks = {IssueDetected.TOPIC: b"chat_api"}
        assert rows_of(lean(file, until=len(events), without=without)) == wanted
        assert rows_of(lean(file, until=len(events), without=without, marks=marks)) == wanted


async def test_a_topic_that_a_batch_has_often_is_not_read_in_the_next_one(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = issues(ISSUES)
    await write(file, events)
    read: list[int] = []

    class Watched(_Gathered):
        def __init__(self) -> None:
            super().__init__()
            step = self.step

            def watched(*row: Any) -> None:
                read.append(row[0])
                step(*row)

            self.step = watched

    monkeypatch.setattr("healer.store.lean._Gathered", Watched)
    times = [time for _, _, time in lean(file, until=len(events), without=[IssueFailed.TOPIC])]
    assert times == [time_of(events[1023]), time_of(events[1199])]  # which are left out
    assert read == [*range(1, 1025), *range(1025, 1201, 2)]


@pytest.mark.parametrize("archived", [False, True])
async def test_of_a_marked_topic_those_that_hold_the_mark_or_an_escape_come(
    file: Path, *, archived: bool
) -> None:
    names = ["plain", "here: a*[m]?k", "\x01 needs an escape", 'only a "quote"', "a.[m].k", "amk"]
    events: list[Event] = [
        factory.playbook_started(stream=f"i{n}", version=1, node=name)
        for n, name in enumerate(names)
    ]
    events.append(factory.issue_detected(stream="other"))
    events.append(factory.issue_failed(stream="other", version=2))
    await write(file, events)
    if archived:
        pytest.importorskip("pyarrow", reason="pyarrow is not installed: the extra `export`")
        assert archive(file, datetime(2030, 1, 1, tzinfo=UTC)).last == 8
    marks = {PlaybookStarted.TOPIC: b"a*[m]?k", IssueDetected.TOPIC: b"chat_api"}
    found = rows_of(lean(file, until=8, marks=marks))
    assert [row[0] for row in found] == [2, 3, 7, 8]
    unmarked = {**marks, IssueDetected.TOPIC: b"nobody"}
    found = rows_of(lean(file, until=8, marks=unmarked, without=[IssueFailed.TOPIC]))
    assert [row[0] for row in found] == [2, 3]


async def test_a_mark_of_frequent_letters_is_looked_for_too(file: Path) -> None:
    names = ["admin", "root"]
    events = [
        factory.playbook_started(stream=f"i{n}", version=1, node=name)
        for n, name in enumerate(names)
    ]
    await write(file, events)
    found = rows_of(lean(file, until=2, marks={PlaybookStarted.TOPIC: b"admin"}))
    assert [row[0] for row in found] == [1]


@pytest.mark.parametrize(
    ("body", "marked"),
    [
        (b'{"a":"mark"}', True),
        (b'{"a":"m"}', False),
        (b'{"a":"\\u006dark"}', True),
        (b'{"a":"\\"u"}', False),
        (b'{"a":"\0mark"}', False),
        (b'{"a":"\0\\u006d"}', False),
        (b"mark\0\0", True),
    ],
)
def test_a_mark_is_looked_for_in_front_of_the_first_zero_byte(body: bytes, *, marked: bool) -> None:
    assert is_marked(body, b"mark") is marked


def test_a_log_that_cannot_be_read_is_named(file: Path) -> None:
    file.write_bytes(b"not a database, but long enough to be taken for one" * 100)
    with pytest.raises(StoreError, match=rf"^cannot read {file}: file is not a database"):
        lean(file, until=1)


async def test_an_archive_that_is_made_meanwhile_is_read_on(file: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: the extra `export`")
    events = issues(ISSUES)
    await write(file, events)
    rows = stored(file)
    batches = lean_rows(file, until=len(events))
    first = next(batches)
    archive(file, events[1100].timestamp)
    assert rows_of([first, *batches]) == rows


# --- on a server ---------------------------------------------------------------------------------


@pytest.fixture
def server(database: str, tmp_path: Path) -> DatabaseLog:
    (tmp_path / "server").mkdir()
    return DatabaseLog(database, tmp_path / "server")


async def write_to(server: DatabaseLog, events: Iterable[Event]) -> None:
    async with server.open() as log:
        await log.append(list(events))


async def test_from_postgresql_comes_what_comes_from_a_file(
    file: Path, server: DatabaseLog
) -> None:
    names = ["plain", "here: a*[m]?k", "\x01 needs an escape", 'only a "quote"', "amk"]
    events = [
        *issues(3),
        *(
            factory.playbook_started(stream=f"s{n}", version=1, node=name)
            for n, name in enumerate(names)
        ),
        factory.issue_detected(stream="other", component="other"),
    ]
    await write(file, events)
    await write_to(server, events)
    rows = stored(file)
    assert rows_of(lean(server.url, until=12)) == rows
    marks = {PlaybookStarted.TOPIC: b"a*[m]?k", IssueDetected.TOPIC: b'"component":"chat_api"'}
    asked: list[tuple[dict[str, Any], list[int]]] = [
        ({"until": 12, "marks": marks}, [1, 2, 3, 4, 5, 6, 8, 9]),
        ({"until": 12, "marks": marks, "without": [IssueFailed.TOPIC]}, [1, 3, 5, 8, 9]),
        ({"until": 12, "after": 1, "without": [*marks, IssueFailed.TOPIC]}, []),
        ({"until": 6, "after": 2}, [3, 4, 5, 6]),
        ({"until": 3, "timed": False}, [1, 2, 3]),
    ]
    for options, positions in asked:
        found = lean(server.url, **options)
        assert found == lean(file, **options)
        assert rows_of(found) == [rows[position - 1] for position in positions]
    assert lean(server.url, until=7, after=7) == []


@pytest.fixture
def _eight_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("healer.store.postgres.lean._BATCH", 8)


@pytest.mark.usefixtures("_eight_at_once")
async def test_from_postgresql_come_batches_that_say_how_late_it_is_in_each(
    server: DatabaseLog,
) -> None:
    events = issues(6)
    events[4] = events[4].model_copy(update={"timestamp": factory.BEGIN + timedelta(days=1)})
    await write_to(server, events)
    batches = lean(server.url, until=12, without=[IssueDetected.TOPIC])
    assert [row[0] for row in rows_of(batches)] == [2, 4, 6, 8, 10, 12]
    ends = [(end, time) for _, end, time in batches]
    assert ends == [(8, time_of(events[4])), (12, time_of(events[11]))]
    untimed = lean(server.url, until=12, timed=False)
    assert [(len(rows), end, time) for rows, end, time in untimed] == [(8, 8, 0), (4, 12, 0)]


async def test_behind_the_end_of_a_log_in_postgresql_there_is_nothing(server: DatabaseLog) -> None:
    await write_to(server, issues(1))
    assert lean(server.url, until=9, after=2) == [([], 9, 0)]


async def test_from_postgresql_archived_events_come_too(file: Path, server: DatabaseLog) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: the extra `export`")
    events = issues(20)
    await write(file, events)
    await write_to(server, events)
    rows = stored(file)
    moved = await asyncio.to_thread(server.archive, events[30].timestamp)
    assert moved.last == 30
    marks = {IssueDetected.TOPIC: b"nobody"}
    for after, until in [(0, 40), (0, 30), (0, 29), (3, 40), (29, 31), (30, 40), (31, 40)]:
        batches = lean(server.url, after=after, until=until)
        assert rows_of(batches) == rows[after:until]
        assert batches[-1][1:] == (until, time_of(events[until - 1]))
        batches = lean(server.url, after=after, until=until, marks=marks)
        assert rows_of(batches) == [row for row in rows[after:until] if row[3] not in marks]
        batches = lean(server.url, after=after, until=until, without=[IssueFailed.TOPIC])
        assert rows_of(batches) == [row for row in rows[after:until] if row[3] in marks]


@pytest.mark.usefixtures("_eight_at_once")
async def test_an_archive_that_is_made_meanwhile_in_postgresql_is_read_on(
    server: DatabaseLog,
) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: the extra `export`")
    events = issues(12)
    await write_to(server, events)
    batches = lean_rows(server.url, until=24)
    first = next(batches)
    await asyncio.to_thread(server.archive, events[14].timestamp)
    assert [row[0] for row in rows_of([first, *batches])] == list(range(1, 25))


async def test_who_reads_in_postgresql_need_not_be_able_to_write(server: DatabaseLog) -> None:
    psycopg = pytest.importorskip("psycopg", exc_type=ImportError)
    await write_to(server, issues(1))
    name = server.url.partition("///")[2].partition("?")[0]
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    assert len(rows_of(lean(server.url, until=2))) == 2


# --- recalling -----------------------------------------------------------------------------------


@pytest.mark.parametrize("read_only", [False, True])
async def test_what_is_recalled_is_read_up_to_the_head_and_what_cannot_be_is_told(
    file: Path, *, read_only: bool
) -> None:
    events = issues(ISSUES)
    await write(file, events)
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("DROP TRIGGER event_is_never_updated")
        connection.execute("UPDATE event SET body = CAST('{}' AS BLOB) WHERE position IN (3, 4)")
        connection.execute("UPDATE event SET topic = 'issue.foo.v9' WHERE position = 6")
        connection.commit()
    refused: list[StoreError] = []
    log = (
        SqliteLog.open_readonly(file)
        if read_only
        else SqliteLog.open(file, new_log_id=lambda: "log-1")
    )
    async with log:
        batches = [
            batch async for batch in log.recall({IssueDetected.TOPIC}, refused=refused.append)
        ]
    found = [event for batch in batches for event in batch]
    assert [event.event_id for event in found] == [
        f"i{number}/1" for number in range(1, ISSUES + 1) if number != 2
    ]
    assert {type(event).__name__ for event in found} == {"LightIssueDetected"}
    # What is of no interest is not looked at; of a topic that is not known nobody knows.
    assert [str(error).partition(",")[0] for error in refused] == [
        "cannot read event 3: topic issue.detected.v1",
        "cannot read event 6: topic issue.foo.v9 is not known to this version",
    ]


async def test_a_recall_goes_through_a_log_that_is_longer_than_what_is_read_at_once(
    file: Path,
) -> None:
    events: list[Event] = [factory.issue_detected(stream="first")]
    events += [
        factory.playbook_started(stream="i1", version=version) for version in range(1, 18 * 1024)
    ]
    events.append(factory.issue_failed(stream="first", version=2))
    async with SqliteLog.open(file, new_log_id=lambda: "log-1", cadence=None) as log:
        await log.append(events)
        topics = {IssueDetected.TOPIC, IssueFailed.TOPIC}
        batches = []
        async for batch in log.recall(topics, refused=print):
            batches.append([event.TOPIC for event in batch])
            assert "healer-recall_0" in {thread.name for thread in threading.enumerate()}
    assert batches == [[IssueDetected.TOPIC], [IssueFailed.TOPIC]]


@pytest.mark.parametrize("behind", [0, 1, 2000])
async def test_a_row_that_is_no_text_ends_the_reading_and_is_never_left_out(
    file: Path, behind: int
) -> None:
    events = issues(1 + behind)
    await write(file, events)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("DROP TRIGGER event_is_never_updated")
        connection.execute("UPDATE event SET topic = CAST(x'ff41' AS TEXT) WHERE position = 2")
    with pytest.raises(StoreError, match=f"cannot read {file}"):
        lean(file, until=len(events))
