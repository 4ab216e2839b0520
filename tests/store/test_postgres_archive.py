"""Archiving a log that several nodes share: they go on, whatever becomes of who archives."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from healer.domain.component import component_stream
from healer.domain.events import EVENT_TYPES
from healer.errors import IssueConflictError, StoreError
from healer.ports import Recorded
from healer.store.archive import Archived
from healer.store.chain import genesis
from tests import factory
from tests.conftest import ROOT, Until
from tests.projections.build import Log
from tests.store.archiving import DatabaseLog, Databases, check
from tests.store.cluster import Cluster
from tests.store.test_archive import FACTS, LATER, MIDDLE, read_all
from tests.store.test_postgres import named

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
        both = [
            registered("component-0", version + 1, 9002),
            registered("component-1", version_of("component-1"), 9003),
        ]
        assert await other.append(both) == count + 3
        assert [each.position for each in heard][-1:] == [count + 3]
        assert (one.broken, one.unsigned, other.broken) == (None, None, None)
    assert moved.last > 0.9 * count
    assert len(await read_all(log)) == count + 3
    report = check(log)
    assert (report.events, report.unseen) == (count + 3, 0)


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
        new = factory.issue_detected(stream="new", component="new")
        await idle.append([new])
        assert await idle.stream("new") == [new]
        with pytest.raises(
            StoreError, match=rf"cannot read the archive {moved.path}: .* not there"
        ):
            await idle.read(after=0)
        with pytest.raises(StoreError, match=rf"cannot read the archive {moved.path}"):
            await idle.require_past()
        assert len(await idle.read(after=moved.last)) == count + 3 - moved.last
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


class Between:
    """A connection behind whose first question something happens."""

    def __init__(self, connection: Any, then: Callable[[], object]) -> None:
        self._connection = connection
        self._then: Callable[[], object] | None = then

    def execute(self, *said: Any, **options: Any) -> Any:
        done = self._connection.execute(*said, **options)
        then, self._then = self._then, None
        if then is not None:
            then()
        return done


def test_what_is_moved_between_the_look_at_the_table_and_at_the_files_is_seen_once(
    log: DatabaseLog,
) -> None:
    from healer.store.postgres.archived import Stored

    log.archive(MIDDLE)
    stored = Stored()
    with closing(stored), psycopg.connect(log.url, autocommit=True) as connection:
        between: Any = Between(connection, lambda: log.archive(LATER))
        stream = component_stream("component-0")
        versions = [row[2] for row in stored.stream(between, stream)]
    assert versions == list(range(1, version_of("component-0") + 1))


def test_a_hash_is_that_of_its_event_wherever_it_is(log: DatabaseLog) -> None:
    from healer.store.postgres.archived import Stored

    hashes = "SELECT position, hash FROM healer.event WHERE position IN (1, 2, 500)"
    with closing(Stored()) as stored, psycopg.connect(log.url, autocommit=True) as connection:
        known = dict(connection.execute(hashes).fetchall())
        for _ in range(2):
            assert {place: stored.hash_at(connection, place) for place in known} == known
            assert stored.hash_at(connection, len(FACTS) + 1) is None
            log.archive(MIDDLE)
        log.forge("DELETE FROM event WHERE position = 601")
        assert stored.hash_at(connection, 601) is None


def test_what_the_log_has_not_is_not_moved(log: DatabaseLog) -> None:
    from healer.store.cold import Segment
    from healer.store.postgres.archived import add_archive, move

    with psycopg.connect(log.url, autocommit=True) as connection:
        add_archive(connection)
        segment = Segment(1, len(FACTS) + 1, b"", b"", log.place)
        with (
            pytest.raises(StoreError, match=f"^the log has {len(FACTS)} of the events 1 to "),
            connection.transaction(),
        ):
            move(connection, segment, {})
    assert log.rows() == len(FACTS)


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
        with pytest.raises(StoreError) as refused:
            log.archive(LATER)
    why = "it is being archived by somebody else; nothing was moved"
    assert str(refused.value) == f"cannot archive {named(log.url)}: {why}"
    assert log.rows() == len(FACTS)


def test_only_the_owner_archives_and_whoever_reads_events_reads_archives(
    log: DatabaseLog, databases: Databases
) -> None:
    from healer.store.postgres.schema import grants

    role = f"archnode{os.getpid()}"
    theirs = DatabaseLog(log.url.replace("user=healer", f"user={role}"), log.place.parent)
    with psycopg.connect(log.url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN".encode())
        try:
            connection.execute(grants(role).encode())
            with pytest.raises(StoreError) as refused:
                theirs.archive(LATER)
            assert str(refused.value).endswith(
                f" as {role}: only the owner of the log may, healer; name that role in --store; "
                "nothing was moved"
            )
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
            connection.execute(f"DROP OWNED BY {role}".encode())
            connection.execute(f"DROP ROLE {role}".encode())
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


def test_behind_an_archive_the_first_event_is_proved(log: DatabaseLog) -> None:
    first = log.archive(MIDDLE).last + 1
    with log.connected() as connection:
        connection.execute("UPDATE event SET body = '{}' WHERE position = %s", (first,))
    with pytest.raises(StoreError, match=f"event {first} does not match its hash"):
        log.archive(MIDDLE)


def test_of_what_is_archived_the_last_hash_is_known(log: DatabaseLog) -> None:
    from healer.store.postgres.inspection import hash_at

    with log.connected() as connection:
        hashes = dict(connection.execute("SELECT position, hash FROM event").fetchall())
    last = log.archive(MIDDLE).last
    with log.connected() as connection:
        assert hash_at(connection, 0) == genesis("log-1")
        assert [hash_at(connection, position) for position in (last, last + 1, len(FACTS))] == [
            hashes[position] for position in (last, last + 1, len(FACTS))
        ]
        assert hash_at(connection, last - 1) is None
        assert hash_at(connection, len(FACTS) + 1) is None


def test_the_witness_hears_that_events_were_archived(log: DatabaseLog, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    log.archive(LATER, witness=witness)
    with psycopg.connect(log.url) as connection:
        newest = "SELECT note FROM healer.checkpoint ORDER BY number DESC LIMIT 1"
        (note,) = connection.execute(newest).fetchone()
    assert json.loads(witness.read_text().splitlines()[-1]) == note


def test_without_the_logs_key_nothing_is_moved(log: DatabaseLog, tmp_path: Path) -> None:
    log.key.unlink()
    with pytest.raises(StoreError) as refused:
        log.archive(LATER)
    why = f"there is no key {log.key}, and it has to be signed; nothing was moved"
    assert str(refused.value) == f"cannot archive {named(log.url)}: {why}"
    assert not log.place.exists()
    assert log.rows() == len(FACTS)


def test_a_place_that_cannot_be_written_is_named_wherever_we_stand(
    log: DatabaseLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taken").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError) as refused:
        log.archive(LATER, directory=Path("taken"))
    why = f"{tmp_path}/taken: File exists; nothing was moved"
    assert str(refused.value) == f"cannot archive {named(log.url)}: {why}"


def test_a_log_of_another_version_is_not_archived(log: DatabaseLog) -> None:
    log.forge("UPDATE meta SET schema_version = 99")
    with pytest.raises(StoreError) as refused:
        log.archive(LATER)
    why = "its schema version is 99; allowed: 1; nothing was moved"
    assert str(refused.value) == f"cannot open {named(log.url)}: {why}"


def test_a_log_whose_end_is_damaged_is_not_archived(log: DatabaseLog) -> None:
    last = len(FACTS)
    log.forge(f"UPDATE event SET topic = 'x' WHERE position = {last}")  # noqa: S608 - a number
    with pytest.raises(StoreError) as refused:
        log.archive(LATER)
    why = f"event {last} does not match its hash; nothing was moved"
    assert str(refused.value) == f"cannot archive {named(log.url)}: {why}"
    assert log.rows() == last


async def test_what_was_moved_is_told_to_the_byte(log: DatabaseLog) -> None:
    before = _size_of(log)
    steps: list[tuple[int, int]] = []
    done = _archived(log, MIDDLE, on_progress=lambda *step: steps.append(step))
    moved = len(FACTS) - log.rows()
    assert (done.events, done.last, done.unreturned) == (moved, moved, None)
    assert done.size == sum(path.stat().st_size for path in log.place.iterdir())
    assert done.freed == max(0, before - _size_of(log))
    assert steps == [(moved, moved)]
    size = _size_of(log)
    again = _archived(log, MIDDLE)
    assert (again.events, again.last, again.path, again.size) == (0, moved, None, 0)
    assert again.freed == max(0, size - _size_of(log))
    size = _size_of(log)
    rest = _archived(log, LATER)
    assert (rest.events, rest.last) == (len(FACTS) - moved, len(FACTS))
    # A table without a row takes next to nothing.
    assert rest.freed == size - _size_of(log) > size / 2


def _archived(log: DatabaseLog, before: datetime, **options: Any) -> Archived:
    from healer.store.postgres.archive import archive

    return archive(log.url, before, directory=log.place, key=log.key, **options)


def _size_of(log: DatabaseLog) -> int:
    with psycopg.connect(log.url) as connection:
        row = connection.execute("SELECT pg_total_relation_size('healer.event')").fetchone()
    return int(row[0])


async def test_one_event_is_archived_and_takes_more_than_it_gives(
    databases: Databases, tmp_path: Path
) -> None:
    told = Log()
    told.register()
    kept = DatabaseLog(databases.make(), tmp_path)
    await kept.write(told.facts)
    place = tmp_path / "far" / "from" / "it"
    done = kept.archive(LATER, directory=place)
    assert (done.events, done.last, done.held_by, done.freed) == (1, 1, None, 0)
    assert done.path is not None
    assert done.path.parent == place
    assert await read_all(kept) == told.facts
    assert check(kept).events == 1


async def test_what_stands_behind_one_archived_event_is_not_the_whole(
    databases: Databases, tmp_path: Path
) -> None:
    told = Log()
    told.register()
    told.register("web")
    kept = DatabaseLog(databases.make(), tmp_path)
    await kept.write(told.facts)
    done = kept.archive(told.facts[1].event.timestamp)
    assert (done.events, done.last) == (1, 1)
    assert await read_all(kept) == told.facts


async def test_space_that_cannot_be_given_back_is_said_and_the_events_are_moved(
    log: DatabaseLog, until: Until
) -> None:
    """As when a person ends a VACUUM that takes too long."""
    with psycopg.connect(log.url) as holding, psycopg.connect(log.url, autocommit=True) as look:
        holding.execute(_HELD["done"].encode())
        moving = asyncio.create_task(asyncio.to_thread(log.archive, LATER))
        ended = (
            "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query ~* '^vacuum' "
            "AND wait_event_type = 'Lock' AND datname = current_database()"
        )
        await until.soon(lambda: look.execute(ended).fetchone(), 60)
        done = await moving
    assert done.unreturned == "canceling statement due to user request"
    assert (done.events, done.freed) == (len(FACTS) - log.rows(), 0)
    assert check(log).events == len(FACTS)


def test_of_a_database_that_is_away_it_is_not_said_that_nothing_was_moved(
    tmp_path: Path, free_port: int
) -> None:
    away = DatabaseLog(f"postgresql://healer@127.0.0.1:{free_port}/gone", tmp_path)
    with pytest.raises(StoreError) as refused:
        away.archive(LATER)
    said = str(refused.value)
    assert said.startswith(f"cannot archive {away.url}: connection failed: ")
    assert said.endswith("; whether anything was moved is not known; run it again when it is back")


async def test_an_empty_database_is_not_made_a_log(databases: Databases, tmp_path: Path) -> None:
    empty = DatabaseLog(databases.make(), tmp_path)
    with pytest.raises(StoreError) as refused:
        empty.archive(LATER)
    why = "it is empty; nothing was moved"
    assert str(refused.value) == f"cannot archive {named(empty.url)}: {why}"
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
