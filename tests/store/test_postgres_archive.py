"""Archiving a log that several nodes share: they go on, whatever becomes of who archives."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from healer.domain.component import component_stream
from healer.domain.events import EVENT_TYPES
from healer.errors import IssueConflictError, StoreError
from healer.ports import Recorded
from healer.store.archive import Archived
from tests import factory
from tests.conftest import ROOT, Until
from tests.projections.build import Log
from tests.store.archiving import DatabaseLog, Databases, check
from tests.store.cluster import Cluster
from tests.store.test_archive import FACTS, LATER, MIDDLE, read_all

psycopg = pytest.importorskip("psycopg", exc_type=ImportError)
pytest.importorskip("pyarrow", reason="pyarrow is not installed: the extra `export`")


@pytest.fixture(scope="module")
def databases(cluster: Cluster) -> Iterator[Databases]:
    databases = Databases(cluster)
    yield databases
    databases.drop()


@pytest.fixture(scope="module")
def original(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> DatabaseLog:
    log = DatabaseLog(databases.make(), tmp_path_factory.mktemp("original"))
    asyncio.run(log.write(FACTS))
    return log


@pytest.fixture
def log(databases: Databases, original: DatabaseLog, tmp_path: Path) -> DatabaseLog:
    """A log of `FACTS`."""
    copy = DatabaseLog(databases.make(original.url), tmp_path)
    shutil.copy(original.key, copy.key)
    return copy


def node(log: DatabaseLog, **options: Any) -> Any:
    from healer.store.postgres import PostgresLog

    return PostgresLog.open(log.url, new_log_id=str, **options)


def registered(component: str, version: int, port: int) -> Any:
    """The next fact of a component whose stream stands at `version`."""
    told = Log()
    told.now = FACTS[-1].event.timestamp
    told._versions[component_stream(component)] = version
    told.register(component, port)
    return told.facts[0].event


def version_of(component: str) -> int:
    return sum(each.event.originator_id == component_stream(component) for each in FACTS)


async def test_nodes_that_have_it_open_append_and_sign_as_before(log: DatabaseLog) -> None:
    count = len(FACTS)
    async with node(log, node="a", key=log.key) as one, node(log, node="b") as other:
        heard: list[Recorded] = []
        other.listen(heard.extend)
        moved = await asyncio.to_thread(log.archive, LATER)
        # Neither has asked for this stream before, and its events are all in the files.
        version = version_of("component-0")
        assert await one.append([registered("component-0", version, 9000)]) == count + 1
        with pytest.raises(IssueConflictError, match=f"is at version {version + 1}"):
            await other.append([registered("component-0", 0, 9001)])
        assert await other.append([registered("component-0", version + 1, 9002)]) == count + 2
        assert [each.position for each in heard][-1:] == [count + 2]
        assert (one.broken, one.unsigned, other.broken) == (None, None, None)
    assert moved.last > 0.9 * count
    assert len(await read_all(log)) == count + 2
    report = check(log)
    assert (report.events, report.unseen) == (count + 2, 0)


async def test_who_reads_and_who_appends_meanwhile_misses_nothing(log: DatabaseLog) -> None:
    """Read all the time, in every way, while events go from the table to the files."""
    count = len(FACTS)
    topics = list(EVENT_TYPES)
    async with node(log, node="a", key=log.key) as writer, log.reading() as reader:
        version = version_of("component-0")
        moving = asyncio.create_task(asyncio.to_thread(log.archive, LATER))
        heard: list[Recorded] = []
        refused: list[StoreError] = []
        writer.listen(heard.extend)
        looks = 0
        while not moving.done() or looks < 2:
            await writer.append([registered("component-0", version, 9000)])
            version, looks = version + 1, looks + 1
            found: list[Recorded] = []
            while batch := await reader.read(after=len(found), limit=400):
                found += batch
            assert [each.position for each in found] == list(range(1, count + looks + 1))
            recalled = 0
            async for facts in reader.recall(topics, refused=refused.append):
                recalled += len(facts)
            assert (recalled, refused) == (count + looks, [])
            stream = await reader.stream(component_stream("component-0"))
            assert [each.originator_version for each in stream] == list(range(1, version + 1))
        moved = await moving
        assert moved.last >= count - 200
    assert [each.position for each in heard] == list(range(count + 1, count + looks + 1))
    assert check(log).events == count + looks


async def test_a_node_that_was_away_meanwhile_goes_on_from_what_it_knew(
    log: DatabaseLog, cluster: Cluster
) -> None:
    """What it had acknowledged last stands in the files by now, and so do the hashes that it has
    not followed yet."""
    count = len(FACTS)
    async with node(log, node="a", key=log.key) as idle, node(log, node="b") as other:
        for number in range(3):
            name = "component-1"
            await other.append([registered(name, version_of(name) + number, 9000 + number)])
        _end_sessions(log, "a")
        moved = await asyncio.to_thread(log.archive, LATER)
        assert moved.last == count + 3
        version = version_of("component-0")
        assert await idle.append([registered("component-0", version, 9100)]) == count + 4
        assert idle.broken is None
    assert idle.unsigned is None
    assert check(log).events == count + 4


def _end_sessions(log: DatabaseLog, name: str) -> None:
    """Cut the connection that bears the name of a node."""
    with psycopg.connect(log.url) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' "
            "AND objid = hashtext(%s)::bigint & 4294967295",
            (name,),
        )


async def test_a_node_that_cannot_reach_the_files_appends_and_says_what_it_cannot_do(
    log: DatabaseLog, until: Until
) -> None:
    count = len(FACTS)
    async with node(log, node="a", key=log.key) as idle, node(log, node="b") as other:
        await other.append([registered("component-1", version_of("component-1"), 9000)])
        moved = await asyncio.to_thread(log.archive, LATER)
        shutil.rmtree(log.place)
        version = version_of("component-0")
        assert await idle.append([registered("component-0", version, 9100)]) == count + 2
        with pytest.raises(
            StoreError, match=rf"cannot read the archive {moved.path}: .* not there"
        ):
            await idle.read(after=0)
        assert len(await idle.read(after=moved.last)) == count + 2 - moved.last
        # The end of an issue is signed at once, by who can prove what stands before it.
        await idle.append(
            [
                factory.issue_detected(stream="late", component="late"),
                factory.issue_failed(stream="late", version=2),
            ]
        )
        said = await asyncio.to_thread(until, lambda: idle.unsigned, 30)
        assert f"cannot read the archive {moved.path}" in said
        assert idle.broken is None
    report = check(log)
    assert (report.ok, report.unseen) == (True, moved.last)


_ARCHIVER = """
import sys, time
from pathlib import Path
from healer.store.postgres.archive import archive
from tests.store.test_archive import LATER
_, url, directory, moment = sys.argv
def told(done, total):
    while moment == "writing":
        time.sleep(600)
log = Path(directory)
archive(url, LATER, directory=log / "cold", key=log / "log.db.key", on_progress=told)
"""
# What it has to wait for, so that it can be found there.
_HELD = {
    "writing": "SELECT",
    "written": "SELECT FROM healer.event WHERE position = 9 FOR UPDATE",
    "deleted": "SELECT FROM healer.head FOR UPDATE",
    "done": "LOCK TABLE healer.event IN SHARE UPDATE EXCLUSIVE MODE",
}


def _killed_at(log: DatabaseLog, moment: str, until: Until) -> None:
    with psycopg.connect(log.url) as connection, psycopg.connect(log.url, autocommit=True) as look:
        connection.execute(_HELD[moment].encode())

        def there() -> bool:
            if moment == "writing":
                return any(log.place.glob(".new-*"))
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            return bool(look.execute(waiting).fetchone()[0])

        child = subprocess.Popen(
            [sys.executable, "-c", _ARCHIVER, log.url, str(log.key.parent), moment],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        with child:
            try:
                until(lambda: child.poll() is not None or there(), 60)
                assert child.poll() is None
            finally:
                child.kill()


@pytest.mark.parametrize("moment", _HELD)
def test_killed_anywhere_it_is_done_or_nothing_has_happened(
    log: DatabaseLog, moment: str, until: Until
) -> None:
    """kill -9 where the file is half written, where it is whole and the rows are there, in the
    middle of the transaction that deletes them, and at the end."""
    _killed_at(log, moment, until)
    assert list(log.place.iterdir())
    assert asyncio.run(read_all(log)) == FACTS

    def archived() -> Archived | None:
        try:
            return log.archive(LATER)
        except StoreError as error:
            # Who was killed has the log until the server notices.
            if "by somebody else" not in str(error):
                raise
            return None

    done = until(archived, 60)
    moved = len(FACTS) - log.rows()
    assert moved > len(FACTS) / 2
    assert done.events == (0 if moment == "done" else moved)
    assert asyncio.run(read_all(log)) == FACTS
    assert check(log).events == len(FACTS)
    assert len(list(log.place.iterdir())) == 2


async def test_two_do_not_archive_at_once(log: DatabaseLog) -> None:
    with psycopg.connect(log.url, autocommit=True) as connection:
        from healer.store.postgres.archive import ARCHIVING

        connection.execute("SELECT pg_advisory_lock(%s)", (ARCHIVING,))
        with pytest.raises(StoreError, match=r"archived by somebody else; nothing was moved"):
            log.archive(LATER)
    assert log.rows() == len(FACTS)


def test_only_the_owner_archives_and_whoever_reads_events_reads_archives(
    log: DatabaseLog, databases: Databases
) -> None:
    from healer.store.postgres.schema import grants

    theirs = DatabaseLog(log.url.replace("user=healer", "user=archnode"), log.place.parent)
    with psycopg.connect(log.url, autocommit=True) as connection:
        connection.execute("CREATE ROLE archnode LOGIN")
        try:
            connection.execute(grants("archnode").encode())
            with pytest.raises(
                StoreError, match="as archnode: only the owner of the log may, healer"
            ):
                theirs.archive(LATER)
            log.archive(LATER)
            assert asyncio.run(read_all(theirs)) == FACTS

            async def append() -> None:
                async with theirs.open() as opened:
                    version = version_of("component-0")
                    await opened.append([registered("component-0", version, 9100)])

            asyncio.run(append())
            for statement in (
                "DELETE FROM healer.event",
                "SET healer.archiving = 'on'; DELETE FROM healer.event",
                "DELETE FROM healer.archive",
                "UPDATE healer.archive SET path = ''",
            ):
                with (
                    psycopg.connect(theirs.url) as node_,
                    pytest.raises(psycopg.errors.InsufficientPrivilege),
                ):
                    node_.execute(statement.encode())
        finally:
            connection.execute("DROP OWNED BY archnode")
            connection.execute("DROP ROLE archnode")
    assert check(log).events == len(FACTS) + 1


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM healer.event", "TRUNCATE healer.event", "UPDATE healer.event SET time = 0"],
)
def test_behind_an_archive_the_log_is_as_immutable_as_before(
    log: DatabaseLog, statement: str
) -> None:
    log.archive(MIDDLE)
    with (
        psycopg.connect(log.url) as connection,
        pytest.raises(psycopg.Error, match="the log is immutable"),
    ):
        connection.execute(statement.encode())


def test_without_the_logs_key_nothing_is_moved(log: DatabaseLog, tmp_path: Path) -> None:
    log.key.unlink()
    with pytest.raises(StoreError, match=r"there is no key .*log\.db\.key.*; nothing was moved"):
        log.archive(LATER)
    assert not log.place.exists()
    assert log.rows() == len(FACTS)


async def test_an_empty_database_is_not_made_a_log(databases: Databases, tmp_path: Path) -> None:
    empty = DatabaseLog(databases.make(), tmp_path)
    with pytest.raises(StoreError, match="it is empty; nothing was moved"):
        empty.archive(LATER)
    with psycopg.connect(empty.url) as connection:
        assert connection.execute("SELECT to_regnamespace('healer')").fetchone() == (None,)


def _run(directory: Path, *arguments: str) -> Any:
    ran = subprocess.run(
        [sys.executable, "-m", "healer", *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_as_a_person_types_it(log: DatabaseLog, tmp_path: Path) -> None:
    config = tmp_path / "healer.yaml"
    config.write_text(f"store: '{log.url}'\nnode: n1\nlogs: logs\n")
    config.chmod(0o600)
    (tmp_path / "logs").mkdir()
    log.key.rename(tmp_path / "logs" / "n1.key")
    before = _run(tmp_path, "stats")
    done = _run(tmp_path, "archive", "--before", "-1s", "--out", "cold")
    assert 0 < done["events"] == len(FACTS) - log.rows()
    assert done["path"].startswith(f"{tmp_path}/cold/events-")
    assert _run(tmp_path, "stats") == before
    report = _run(tmp_path, "replay", "verify")
    assert (report["ok"], report["unseen"], report["events"]) == (True, 0, len(FACTS))
