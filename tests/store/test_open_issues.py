"""Who has an open issue is read from the log itself at each opening: one suite for the two stores
that outlive a process."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from healer.domain.events import EVENT_TYPES, PlaybookStarted
from healer.errors import StoreError
from healer.ports import EventLog, Recorded
from healer.store import SqliteLog
from healer.store.codec import Codec
from healer.store.compiled import StoredEvents
from tests import factory
from tests.conftest import Until
from tests.replay.tamper import Break

PATIENT = 30.0


class Place:
    """Where a log is, and how to go round the healer there."""

    def __init__(self, url: str, file: Path) -> None:
        self.url = url
        self.file = file

    async def open(self, codec: Codec | None = None) -> Any:
        if self.url.startswith("sqlite"):
            return SqliteLog.open(self.file, new_log_id=lambda: "log-1", codec=codec)
        from healer.store.postgres import PostgresLog

        return await asyncio.to_thread(
            PostgresLog.open, self.url, new_log_id=lambda: "log-1", codec=codec, key=self.key
        )

    @property
    def key(self) -> Path:
        return self.file.with_name(f"{self.file.name}.key")

    def broken(self) -> Break:
        if self.url.startswith("sqlite"):
            return Break(self.file)
        from tests.store.test_postgres_verify import BreakDatabase

        return BreakDatabase(self.url, self.file)

    def session(self) -> AbstractContextManager[Any]:
        return self._session()

    @contextmanager
    def _session(self) -> Iterator[Any]:
        if self.url.startswith("sqlite"):
            with closing(sqlite3.connect(self.file)) as file:
                yield file
                file.commit()
        else:
            with self.broken().connected() as database:
                yield database

    def rename(self, topics: dict[int, str]) -> None:
        """Make the events at these positions look as if another version had written them, hashes
        and all; and forget who has an open issue."""
        log = self.broken()
        log.rows = [row._replace(topic=topics.get(row.position, row.topic)) for row in log.rows]
        log.recompute()
        log.notes = []
        log.write()
        with self.session() as connection:
            connection.execute("DELETE FROM open_issue")


@pytest.fixture
def place(url: str, tmp_path: Path) -> Place:
    return Place(url, tmp_path / "log.db")


two_stores = pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)


async def _three_issues(place: Place) -> None:
    async with await place.open() as log:
        await log.append([factory.issue_detected(stream="i1", component="a")])
        await log.append([factory.issue_detected(stream="i2", component="b")])
        await log.append([factory.issue_verified(stream="i2", version=2)])
        await log.append([factory.issue_detected(stream="i3", component="c")])


def _as_it_is(topic: str) -> Any:
    return lambda body: (topic, body)


@two_stores
async def test_open_issues_are_found_whichever_version_wrote_their_events(place: Place) -> None:
    await _three_issues(place)
    place.rename({1: "issue.detected.v0", 2: "issue.detected.v0", 3: "issue.verified.v0"})
    older = Codec(
        upcasters={
            "issue.detected.v0": _as_it_is("issue.detected.v1"),
            "issue.verified.v0": _as_it_is("issue.verified.v1"),
        }
    )
    async with await place.open(older) as log:
        assert log.broken is None
        assert await log.open_issues() == {"a": "i1", "c": "i3"}
        with pytest.raises(StoreError, match="its issue i1 is open"):
            await log.append([factory.issue_detected(stream="i4", component="a")])
        await log.append([factory.issue_verified(stream="i1", version=2)])
    async with await place.open(older) as log:
        assert await log.open_issues() == {"c": "i3"}


@two_stores
async def test_an_open_issue_of_a_later_version_stops_the_writing_and_hides_no_other(
    place: Place,
) -> None:
    await _three_issues(place)
    place.rename({1: "issue.detected.v9"})
    with place.session() as connection:
        connection.execute("INSERT INTO open_issue (component, issue) VALUES ('c', 'i3')")
    async with await place.open() as log:
        assert (
            log.broken
            == "cannot read event 1: topic issue.detected.v9 is not known to this version"
        )
        assert await log.open_issues() == {"c": "i3"}
        with pytest.raises(StoreError, match="can only be read"):
            await log.append([factory.issue_detected(stream="i4", component="d")])


@two_stores
async def test_two_open_issues_of_one_component_stop_the_writing(place: Place) -> None:
    await _three_issues(place)
    forged = place.broken()
    body = forged.rows[3].body.replace(b'"component":"c"', b'"component":"a"')
    forged.rows[3] = forged.rows[3]._replace(body=body)
    forged.recompute()
    forged.notes = []
    forged.write()
    async with await place.open() as log:
        assert log.broken == "event 4 opens issue i3 for component 'a', whose issue i1 is open"


@two_stores
async def test_an_issue_of_a_later_version_that_ended_is_no_trouble(place: Place) -> None:
    await _three_issues(place)
    place.rename({2: "issue.detected.v9", 3: "issue.failed.v9"})
    async with await place.open() as log:
        assert log.broken is None
        assert await log.open_issues() == {"a": "i1", "c": "i3"}


@two_stores
@pytest.mark.parametrize("count", [1, 2])
async def test_a_log_from_before_opens_and_finds_its_issues(place: Place, count: int) -> None:
    await _three_issues(place)
    index = "CREATE INDEX event_life ON event (topic, stream) WHERE topic IN ('issue.detected.v1')"
    with place.session() as connection:
        connection.execute("DROP INDEX event_lifetime")
        connection.execute(index)
        connection.execute("DELETE FROM open_issue")
    for _ in range(count):
        async with await place.open() as log:
            assert await log.open_issues() == {"a": "i1", "c": "i3"}
    # Made anew, and the old one is gone.
    with place.session() as connection:
        connection.execute("DROP INDEX event_lifetime")
        connection.execute(index)


@two_stores
async def test_rows_are_what_is_stored(place: Place) -> None:
    await _three_issues(place)
    stored = [tuple(row) for row in place.broken().rows]
    async with await place.open() as log:
        assert await log.rows() == stored
        assert await log.rows(after=1, limit=2) == stored[1:3]
        assert await log.rows(after=4) == []


@two_stores
async def test_a_log_gives_its_rows(place: Place) -> None:
    async with await place.open() as log:
        assert isinstance(log, StoredEvents)


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_an_event_that_cannot_be_read_hides_no_other_from_listeners(
    place: Place, until: Until
) -> None:
    known = {topic: kind for topic, kind in EVENT_TYPES.items() if kind is not PlaybookStarted}
    heard: list[Recorded] = []
    complaints: list[str] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _loop, context: complaints.append(str(context.get("exception")))
    )
    log: EventLog = await place.open(Codec(types=known))
    try:
        log.listen(heard.extend)
        async with await place.open() as newer:
            await newer.append([factory.playbook_started(stream="i0", version=1)])
            await newer.append([factory.issue_detected(stream="i1", component="a")])
            await newer.append([factory.playbook_started(stream="i0", version=2)])
            await newer.append([factory.issue_detected(stream="i2", component="b")])
        await until.soon(lambda: len(heard) == 2 and len(complaints) == 2, PATIENT)
        assert [recorded.position for recorded in heard] == [2, 4]
        assert all("is not known to this version" in each for each in complaints)
    finally:
        await log.close()
