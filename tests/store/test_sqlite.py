"""The log in a file: who may open it, how it is kept, and what it notices of harm done to it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import aclosing, closing, suppress
from pathlib import Path

import pytest

from healer.errors import IssueConflictError, StoreBusyError, StoreError
from healer.store import SqliteLog
from healer.store.chain import genesis, link
from healer.store.codec import Codec, Encoded
from healer.store.connection import connect
from healer.store.ledger import Ledger, require_log
from healer.store.lock import Lock
from healer.store.reader import Reader, select
from healer.store.tail import Tail, inspect
from tests import factory
from tests.conftest import ROOT, Processes, Until

AS_USER = pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
NO_UPDATE, NO_DELETE = "event_is_never_updated", "event_is_never_deleted"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


def opened(file: Path) -> SqliteLog:
    return SqliteLog.open(file, new_log_id=lambda: "log-1")


async def filled(file: Path, events: int) -> None:
    async with opened(file) as log:
        await log.append(
            [factory.playbook_started(stream="i1", version=v) for v in range(1, events + 1)]
        )


async def append_for_ever(log: SqliteLog) -> None:
    version = 0
    while True:
        version += 1
        await log.append([factory.playbook_started(stream="i1", version=version)])


def remove_all(directory: Path) -> None:
    for path in directory.iterdir():
        path.unlink()


def contents(file: Path) -> bytes:
    return file.read_bytes()


def write(file: Path, content: bytes) -> None:
    file.write_bytes(content)


def set_mode(file: Path, mode: int) -> None:
    file.chmod(mode)


def remount_read_only(place: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)


def edit(file: Path, *statements: str) -> None:
    with closing(sqlite3.connect(file)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def descriptors(file: Path) -> int:
    """How often this process has `file` open."""
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found += descriptor.samefile(file)
    return found


# --- what the file is ----------------------------------------------------------------------------


async def test_the_file_belongs_to_its_owner_alone(file: Path) -> None:
    before = os.umask(0)
    try:
        async with opened(file) as log:
            await log.append([factory.playbook_started(version=1)])
            modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in file.parent.iterdir()}
    finally:
        os.umask(before)
    assert set(modes) == {"log.db", "log.db-wal", "log.db-shm", "log.db.lock", "log.db.key"}
    assert set(modes.values()) == {0o600}


async def test_a_closed_log_is_one_file_with_its_lock_and_its_key(file: Path) -> None:
    await filled(file, 3)
    assert {path.name for path in file.parent.iterdir()} == {"log.db", "log.db.lock", "log.db.key"}


async def test_the_threads_of_a_log_have_names_and_end_with_it(file: Path) -> None:
    before = set(threading.enumerate())
    async with opened(file) as log:
        await log.append([factory.playbook_started(version=1)])
        # However many ask at once.
        await asyncio.gather(*(log.read() for _ in range(20)))
        names = {thread.name.rstrip("_01") for thread in set(threading.enumerate()) - before}
        assert names == {"healer-log-writer", "healer-log-reader"}
    assert set(threading.enumerate()) <= before


def entry(*versions: int) -> list[Encoded]:
    return [
        Codec().encode(factory.playbook_started(stream="i1", version=each)) for each in versions
    ]


DETECTED = Codec().encode(factory.issue_detected(stream="i2"))


@pytest.mark.parametrize(
    "group",
    [
        [entry(1)],
        [entry(1), entry(2)],
        [entry(1, 2)],
        [entry(1), entry(2, 3), entry(4)],
        [[DETECTED]],
        [[DETECTED], entry(1)],
    ],
    ids=["one", "two", "two in one", "four", "an issue", "an issue and one"],
)
def test_what_is_committed_together_is_all_there(file: Path, group: list[list[Encoded]]) -> None:
    events = [encoded for entry in group for encoded in entry]
    with (
        closing(Ledger(file, Codec(), lambda: "log-1")) as ledger,
        closing(connect(file, writing=False)) as reading,
    ):
        assert ledger.append(group)[-1] == len(events)
        found = select(reading, Codec(), after=0, limit=10)
        assert [each.event for each in found] == [encoded.event for encoded in events]
        claims = reading.execute("SELECT issue FROM open_issue").fetchall()
        assert claims == [("i2",)] * (DETECTED in events)


def test_a_checkpoint_of_the_file_empties_the_wal(file: Path) -> None:
    with closing(Ledger(file, Codec(), lambda: "log-1")) as ledger:
        ledger.append([[Codec().encode(factory.playbook_started(version=1))]])
        wal = file.with_name("log.db-wal")
        assert wal.stat().st_size > 0
        ledger.checkpoint()
        assert wal.stat().st_size == 0


def test_a_proof_that_a_log_can_be_written_changes_nothing_in_it(file: Path) -> None:
    with closing(Ledger(file, Codec(), lambda: "log-1")) as ledger:
        edit(file, "PRAGMA user_version = 7")
        ledger.prove()
        with closing(sqlite3.connect(file)) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (7,)


async def test_the_log_goes_on_where_it_was_closed(file: Path) -> None:
    await filled(file, 3)
    async with SqliteLog.open(file, new_log_id=lambda: pytest.fail("the log has a name")) as log:
        assert await log.append([factory.playbook_started(stream="i1", version=4)]) == 4
        assert [recorded.position for recorded in await log.read()] == [1, 2, 3, 4]


async def test_each_hash_follows_from_the_one_before(file: Path) -> None:
    await filled(file, 3)
    previous = genesis("log-1")
    with closing(sqlite3.connect(file)) as connection:
        for position, stream, version, topic, body, stored in connection.execute(
            "SELECT position, stream, version, topic, body, hash FROM event ORDER BY position"
        ):
            previous = link(previous, position, stream, version, topic=topic, body=body)
            assert stored == previous


def test_the_hash_is_the_published_one() -> None:
    # Computed by hand from the definition: a change of it would break every log there is.
    assert link(genesis("log-1"), 1, "i1", 1, topic="t.v1", body=b"{}").hex() == (
        "ea109c0fe0f76ed696d4924eff0ade3a827978a0db7fc337a8fbc86507a7eb3d"
    )


@pytest.mark.parametrize(
    "statement", ["UPDATE event SET topic = 'x'", "DELETE FROM event WHERE position = 1"]
)
async def test_an_event_is_not_changed_by_accident(file: Path, statement: str) -> None:
    await filled(file, 2)
    with pytest.raises(sqlite3.IntegrityError, match="the log is immutable"):
        edit(file, statement)


async def test_rows_are_what_is_stored(file: Path) -> None:
    await filled(file, 4)
    with closing(sqlite3.connect(file)) as connection:
        stored = connection.execute(
            "SELECT position, stream, version, topic, time, body, hash FROM event ORDER BY position"
        ).fetchall()
    async with SqliteLog.open_readonly(file) as log:
        assert await log.rows() == stored
        assert await log.rows(after=1, limit=2) == stored[1:3]
        assert await log.rows(after=4) == []
        assert (log.file, log.source) == (file, file)


async def test_a_log_is_open_once_a_thread_however_often_it_is_read(file: Path) -> None:
    async with opened(file) as log:
        for _ in range(10):
            await log.open_issues()
        # The writer's, and one of each thread that reads.
        assert 2 <= descriptors(file) <= 3


async def test_what_cannot_be_read_is_said_with_the_file(file: Path) -> None:
    await filled(file, 1)
    async with SqliteLog.open_readonly(file) as log:
        edit(file, "DROP TABLE open_issue")
        with pytest.raises(StoreError) as refused:
            await log.open_issues()
    assert str(refused.value) == f"cannot read {file}: no such table: open_issue (SQLITE_ERROR)"


async def test_who_was_told_to_take_no_more_reads_takes_none(file: Path) -> None:
    await filled(file, 1)
    with closing(Reader(file, Codec())) as reader:
        assert await reader.head() == 1
        reader.refuse()
        with pytest.raises(StoreError, match=r"^cannot read .*log\.db: the log is closed$"):
            await reader.head()


async def test_open_issues_are_made_anew_from_the_log(file: Path) -> None:
    async with opened(file) as log:
        await log.append([factory.issue_detected(stream="i1")])
        await log.append([factory.issue_detected(stream="i2", component="b")])
        await log.append([factory.issue_failed(stream="i2", version=2)])
    edit(file, "DELETE FROM open_issue", "INSERT INTO open_issue VALUES ('b', 'i2')")
    async with opened(file) as log:
        assert await log.open_issues() == {"chat_api": "i1"}


async def test_an_event_of_a_later_version_is_named(file: Path) -> None:
    await filled(file, 1)
    edit(file, f"DROP TRIGGER {NO_UPDATE}", "UPDATE event SET topic = 'issue.foo.v9'")
    async with SqliteLog.open_readonly(file) as log:
        with pytest.raises(StoreError, match=r"cannot read event 1: topic issue\.foo\.v9 is not"):
            await log.read()
        with pytest.raises(StoreError, match="cannot read event 1: "):
            await log.stream("i1")
    with (
        closing(connect(file, writing=False)) as connection,
        pytest.raises(StoreError, match=r"^cannot read event 1: topic issue\.foo\.v9 is not"),
    ):
        select(connection, Codec(), after=0, limit=1)


_FORGETFUL = """
import asyncio, pathlib, sys
from healer.store import SqliteLog
from tests import factory
async def main():
    log = SqliteLog.open(pathlib.Path(sys.argv[1]), new_log_id=lambda: "log-1")
    print(await log.append([factory.playbook_started(version=1)]))
asyncio.run(main())
"""


async def test_a_process_that_forgets_to_close_its_log_ends_and_loses_nothing(file: Path) -> None:
    argv = [sys.executable, "-c", _FORGETFUL, str(file)]
    ran = await asyncio.to_thread(
        subprocess.run, argv, cwd=ROOT, capture_output=True, timeout=120, check=True
    )
    assert ran.stdout == b"1\n"
    async with opened(file) as log:
        assert (await log.head(), log.broken) == (1, None)


# --- who may open it -----------------------------------------------------------------------------


async def test_a_second_healer_is_refused_and_the_first_is_named(
    file: Path, processes: Processes
) -> None:
    argv = [sys.executable, "-m", "tests.store.acknowledging_writer", f"sqlite:///{file}", "x"]
    first = processes.start(*argv, stdout=subprocess.PIPE, cwd=ROOT)
    assert first.stdout is not None
    assert first.stdout.readline()
    with pytest.raises(StoreBusyError, match=rf"another healer .pid {first.pid}. is using") as busy:
        opened(file)
    assert (busy.value.holder, busy.value.location) == (first.pid, str(file))
    async with SqliteLog.open_readonly(file) as reading:
        assert reading.broken is None
        head = await reading.head()
        async with aclosing(reading.follow(after=head)) as facts:
            assert (await asyncio.wait_for(anext(facts), 60)).position == head + 1
        with pytest.raises(StoreError, match=r"cannot append to .*: it is open for reading only"):
            await reading.append([factory.playbook_started(version=1)])
        with pytest.raises(StoreError, match=r"cannot listen to .*: it is open for reading only"):
            reading.listen(print)
    first.kill()
    first.wait(10)
    async with opened(file) as log:
        assert log.broken is None


async def test_a_link_to_the_log_is_the_same_log(file: Path, tmp_path: Path) -> None:
    async with opened(file):
        (tmp_path / "other.db").symlink_to(file)
        with pytest.raises(StoreBusyError):
            opened(tmp_path / "other.db")


async def test_a_reader_opens_a_log_that_nobody_writes(file: Path) -> None:
    await filled(file, 3)
    async with SqliteLog.open_readonly(file) as log:
        assert len(await log.read()) == 3
        assert await log.open_issues() == {}


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    for opener in (opened, SqliteLog.open_readonly):
        with pytest.raises(StoreError, match=rf"no directory {tmp_path}/nowhere"):
            opener(tmp_path / "nowhere" / "log.db")


def test_reading_creates_nothing(file: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot open .*: No such file"):
        SqliteLog.open_readonly(file)
    assert not file.exists()


def test_a_directory_is_not_a_log(tmp_path: Path) -> None:
    (tmp_path / "log.db").mkdir()
    with pytest.raises(StoreError, match="it is not a regular file"):
        opened(tmp_path / "log.db")


async def test_a_file_that_every_user_may_write_is_refused(file: Path) -> None:
    await filled(file, 1)
    set_mode(file, 0o666)
    for opener in (opened, SqliteLog.open_readonly):
        with pytest.raises(StoreError, match="its mode 0666 lets every user write it; allowed"):
            opener(file)


@AS_USER
async def test_a_file_that_we_may_not_write_is_refused(file: Path) -> None:
    await filled(file, 1)
    set_mode(file, 0o400)
    with pytest.raises(StoreError, match="it is not writable for us"):
        opened(file)


@AS_USER
def test_a_directory_that_we_may_not_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StoreError, match=r"cannot open .*: Permission denied"):
            opened(tmp_path / "log.db")
    finally:
        tmp_path.chmod(0o700)


def test_what_is_not_a_database_is_refused(file: Path) -> None:
    file.write_bytes(b"not a database, but long enough to be taken for one" * 100)
    for opener in (opened, SqliteLog.open_readonly):
        with pytest.raises(StoreError, match=r"cannot (open|read) .*: file is not a database"):
            opener(file)
    assert file.read_bytes().startswith(b"not a database")


@pytest.mark.parametrize("journal", ["DELETE", "WAL"])
def test_another_programs_database_is_refused_and_stays_as_it_is_and_alone(
    file: Path, journal: str
) -> None:
    edit(file, f"PRAGMA journal_mode = {journal}", "CREATE TABLE song (title TEXT)")
    before = file.read_bytes()
    with pytest.raises(StoreError) as refused:
        opened(file)
    assert str(refused.value) == f"cannot open {file}: it is a database of another program"
    assert (file.read_bytes(), list(file.parent.iterdir())) == (before, [file])
    with pytest.raises(StoreError, match=r"^cannot open .*: it is a database of another program$"):
        SqliteLog.open_readonly(file)
    assert file.read_bytes() == before


def test_what_another_program_has_not_yet_brought_into_its_database_stays_where_it_is(
    file: Path,
) -> None:
    other = file.with_name("other.db")
    left = file.with_name("log.db-wal")
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE song (title TEXT)")
        # As its end leaves them, where that comes by a kill.
        file.write_bytes(other.read_bytes())
        left.write_bytes(file.with_name("other.db-wal").read_bytes())
    before = file.read_bytes(), left.read_bytes()
    with pytest.raises(StoreError, match="another program"):
        opened(file)
    assert (file.read_bytes(), left.read_bytes()) == before
    assert not file.with_name("log.db.lock").exists()


def test_what_takes_a_logs_place_behind_the_first_look_is_refused_and_stays_as_it_is(
    file: Path,
) -> None:
    edit(file, "CREATE TABLE song (title TEXT)")
    before = file.read_bytes()
    # Who looks first, looks in front of the lock; who opens, behind it.
    for new in (None, lambda: "log-1"):
        with pytest.raises(StoreError) as refused:
            Ledger(file, Codec(), new)
        assert str(refused.value) == f"cannot open {file}: it is a database of another program"
        assert (file.read_bytes(), list(file.parent.iterdir())) == (before, [file])


async def test_an_empty_file_becomes_a_log(file: Path) -> None:
    write(file, b"")
    await filled(file, 3)
    async with SqliteLog.open_readonly(file) as log:
        assert (log.broken, await log.head()) == (None, 3)


async def test_a_later_schema_is_refused(file: Path) -> None:
    await filled(file, 1)
    edit(file, "UPDATE meta SET schema_version = 7")
    for opener in (opened, SqliteLog.open_readonly):
        with pytest.raises(StoreError, match="its schema version is 7; allowed: 1"):
            opener(file)


async def test_a_log_without_a_name_is_refused(file: Path) -> None:
    await filled(file, 1)
    edit(file, "DELETE FROM meta")
    for opener in (opened, SqliteLog.open_readonly):
        with pytest.raises(StoreError, match=r"^cannot open .*log\.db: its table meta is empty$"):
            opener(file)


async def test_a_log_whose_tables_are_others_is_refused(file: Path) -> None:
    await filled(file, 1)
    edit(file, "ALTER TABLE meta RENAME COLUMN log_id TO name")
    with pytest.raises(StoreError) as refused:
        opened(file)
    assert str(refused.value) == f"cannot open {file}: no such column: log_id (SQLITE_ERROR)"


def test_an_empty_file_is_made_a_log_by_who_names_it_only(file: Path) -> None:
    file.touch(0o600)
    for opener in (SqliteLog.open_readonly, lambda path: Ledger(path, Codec())):
        with pytest.raises(StoreError, match=r"^cannot open .*log\.db: it is empty$"):
            opener(file)
        assert file.stat().st_size == 0
    with pytest.raises(StoreError, match=r"^cannot open .*log\.db: it is empty$"):
        require_log(file, new=False)
    require_log(file, new=True)
    assert (file.stat().st_size, list(file.parent.iterdir())) == (0, [file])
    with closing(Ledger(file, Codec(), lambda: "log-1")) as ledger:
        assert (ledger.head, ledger.broken) == (0, None)


def test_a_refused_file_is_not_kept_locked(file: Path) -> None:
    edit(file, "CREATE TABLE song (title TEXT)")
    for _ in range(2):
        with pytest.raises(StoreError, match="another program"):
            opened(file)


# --- harm done to it -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        ("UPDATE event SET body = '{}' WHERE position = 7", "event 7 does not match its hash"),
        ("UPDATE event SET topic = 'x.v1' WHERE position = 1", "event 1 does not match its hash"),
        ("UPDATE event SET stream = 'i2' WHERE position = 9", "event 9 does not match its hash"),
        ("UPDATE event SET hash = zeroblob(32) WHERE position = 10", "event 10 does not match"),
        ("DELETE FROM event WHERE position = 5", "event 5 is missing"),
        ("DELETE FROM event WHERE position >= 9", "event 9 is missing"),
        ("DELETE FROM event", "event 1 is missing"),
        ("UPDATE meta SET log_id = 'another'", "event 1 does not match its hash"),
    ],
)
async def test_an_edited_log_can_only_be_read(file: Path, statement: str, finding: str) -> None:
    await filled(file, 10)
    body_as_blob = statement.replace("'{}'", "CAST('{}' AS BLOB)")
    edit(file, f"DROP TRIGGER {NO_UPDATE}", f"DROP TRIGGER {NO_DELETE}", body_as_blob)
    async with SqliteLog.open_readonly(file) as log:
        assert log.broken is not None
        assert log.broken.startswith(finding)
    async with opened(file) as log:
        assert log.broken is not None
        assert log.broken.startswith(finding)
        with pytest.raises(StoreError, match=rf"cannot append to .*: {finding}.* only be read"):
            await log.append([factory.playbook_started(stream="new", version=1)])
        await log.head()


async def test_harm_before_the_tail_is_left_to_the_audit(file: Path) -> None:
    await filled(file, 1_500)
    edit(file, f"DROP TRIGGER {NO_UPDATE}")
    for position in (10, 500):
        edit(file, f"UPDATE event SET topic = 'x' WHERE position = {position}")  # noqa: S608
        async with opened(file) as log:
            assert log.broken is None
    edit(file, "UPDATE event SET topic = 'x' WHERE position = 501")
    async with opened(file) as log:
        assert log.broken == "event 501 does not match its hash"


async def test_two_open_issues_of_one_component_are_noticed(file: Path) -> None:
    async with opened(file) as log:
        await log.append([factory.issue_detected(stream="i1")])
    encoded = Codec().encode(factory.issue_detected(stream="i2"))
    with closing(sqlite3.connect(file)) as connection:
        (previous,) = connection.execute("SELECT hash FROM event").fetchone()
        forged = link(previous, 2, "i2", 1, topic=encoded.topic, body=encoded.body)
        connection.execute(
            "INSERT INTO event VALUES (2, 'i2', 1, ?, ?, ?, ?)",
            (encoded.topic, encoded.time, encoded.body, forged),
        )
        connection.commit()
    async with opened(file) as log:
        assert log.broken == (
            "event 2 opens issue i2 for component 'chat_api', whose issue i1 is open"
        )


async def test_a_damaged_page_is_noticed(file: Path) -> None:
    await filled(file, 500)
    with file.open("r+b") as damaged:
        damaged.seek(30 * 4096)
        damaged.write(os.urandom(3 * 4096))
    async with opened(file) as log:
        assert log.broken is not None
        assert log.broken.startswith("the file is damaged: ")
        with pytest.raises(StoreError, match=r"cannot append to .*: the file is damaged: "):
            await log.append([factory.playbook_started(stream="new", version=1)])
        # What is readable stays readable.
        assert await log.read(limit=1) != []
    async with SqliteLog.open_readonly(file) as log:
        assert log.broken is not None


async def test_a_damaged_file_has_a_tail_that_is_broken_from_its_beginning(file: Path) -> None:
    await filled(file, 40)
    whole = contents(file)
    write(file, whole[: 2 * 4096] + bytes(4096) + whole[3 * 4096 :])
    with closing(connect(file, writing=False)) as connection:
        found = inspect(connection)
    assert (found.position, found.hash) == (0, b"")
    assert found.broken is not None
    assert found.broken.startswith("the file is damaged: ")


async def test_damage_beside_the_events_is_found_as_well(file: Path) -> None:
    await filled(file, 4)
    with closing(sqlite3.connect(file)) as connection:
        roots = "SELECT rootpage FROM sqlite_schema WHERE name = 'open_issue'"
        (page,) = connection.execute(roots).fetchone()
    whole = contents(file)
    write(file, whole[: (page - 1) * 4096] + bytes(4096) + whole[page * 4096 :])
    with closing(connect(file, writing=False)) as connection:
        found = inspect(connection)
    assert (found.position, found.hash) == (0, b"")
    assert (found.broken or "").startswith("the file is damaged: ")


async def test_events_that_no_checkpoint_covers_are_missed_as_well(file: Path) -> None:
    async with SqliteLog.open(file, new_log_id=lambda: "log-1", cadence=None) as log:
        await log.append([factory.playbook_started(stream="i1", version=v) for v in range(1, 6)])
    edit(file, f"DROP TRIGGER {NO_DELETE}", "DELETE FROM event WHERE position > 3")
    async with SqliteLog.open_readonly(file) as log:
        assert log.broken == "event 4 is missing"


def test_damage_in_a_file_that_is_too_large_to_be_looked_at_is_found_on_reading(file: Path) -> None:
    codec = Codec()
    with closing(Ledger(file, codec, lambda: "log-1")) as ledger:
        for version in range(1, 41):
            event = factory.playbook_started(stream="i1", version=version)
            ledger.append([[codec.encode(event.model_copy(update={"playbook": "x" * 500_000}))]])
    whole = contents(file)
    assert len(whole) > 16 << 20
    write(file, whole[: 12 << 20] + bytes(len(whole) - (12 << 20)))
    with closing(connect(file, writing=False)) as connection:
        found = inspect(connection)
    assert found == Tail(0, b"", "the file is damaged: database disk image is malformed")


# --- a disk that fails ---------------------------------------------------------------------------


async def test_a_full_disk_stops_the_log_until_there_is_space(
    small_disk: Path, until: Until
) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(1_000_000))
    heard: list[int] = []
    async with opened(small_disk / "log.db") as log:
        log.listen(lambda recorded: heard.extend(r.position for r in recorded))
        with pytest.raises(StoreError, match=r"the last write failed: .*full .SQLITE_FULL.$"):
            await append_for_ever(log)
        assert log.unavailable is not None
        with pytest.raises(StoreError, match=r"cannot append to .*: the last write failed"):
            await log.append([factory.playbook_started(stream="other", version=1)])
        acknowledged = len(heard)
        assert await log.head() >= acknowledged > 0

        ballast.unlink()

        async def appended() -> bool:
            try:
                await log.append([factory.playbook_started(stream="new", version=1)])
            except StoreError:
                return False
            return True

        await until.soon(appended)
        assert log.unavailable is None
        positions: list[int] = []
        while batch := await log.read(after=len(positions)):
            positions += [recorded.position for recorded in batch]
        assert positions == list(range(1, len(positions) + 1))
        assert len(positions) > acknowledged
        assert heard == positions


async def test_a_log_says_that_the_disk_has_space_again_though_nobody_appends(
    small_disk: Path, until: Until
) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(1_000_000))
    async with opened(small_disk / "log.db") as log:
        with pytest.raises(StoreError, match="the last write failed"):
            await append_for_ever(log)
        assert log.unavailable is not None
        ballast.unlink()
        await until.soon(lambda: log.unavailable is None)
        head = await log.head()
        assert await log.append([factory.playbook_started(stream="new", version=1)]) > head


async def test_a_read_only_file_system_is_refused_and_can_still_be_read(small_disk: Path) -> None:
    await filled(small_disk / "log.db", 3)
    remount_read_only(small_disk)
    for opener in (opened, lambda path: Ledger(path, Codec())):
        with pytest.raises(StoreError, match=r"cannot open .*: it is not writable for us"):
            opener(small_disk / "log.db")
    with pytest.raises(StoreError, match=r"cannot open .*: Read-only file system"):
        opened(small_disk / "new.db")
    async with SqliteLog.open_readonly(small_disk / "log.db") as log:
        assert await log.head() == 3


async def test_a_failed_write_is_never_reported_as_done(file: Path, processes: Processes) -> None:
    """The limit on the size of files fails writes for any user, at any byte."""
    script = (
        "import asyncio, pathlib, resource, signal, sys\n"
        "from tests.store.acknowledging_writer import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))\n"
        "asyncio.run(main(sys.argv[1], 'x'))\n"
    )
    writer = processes.start(
        *(sys.executable, "-c", script, f"sqlite:///{file}"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )
    said, problems = await asyncio.to_thread(writer.communicate, timeout=120)
    assert b"StoreError: cannot append to " in problems
    async with opened(file) as log:
        assert log.broken is None
        for line in said.decode().splitlines():
            stream, version, position = line.split()
            (recorded,) = await log.read(after=int(position) - 1, limit=1)
            assert recorded.event.event_id == f"{stream}/{version}"


async def test_a_log_that_failed_is_opened_again_as_it_was(file: Path, until: Until) -> None:
    async with opened(file) as log:
        await log.append([factory.issue_detected(stream="i1")])
        full = "BEGIN SELECT RAISE(ABORT, 'no room'); END"
        edit(file, f"CREATE TRIGGER full BEFORE INSERT ON event {full}")
        with pytest.raises(StoreError, match="no room"):
            await log.append([factory.playbook_started(stream="i2", version=1)])
        edit(file, "DROP TRIGGER full")
        await until.soon(lambda: log.unavailable is None)
        assert log.broken is None
        with pytest.raises(IssueConflictError, match="its issue i1 is open"):
            await log.append([factory.issue_detected(stream="i2")])
        await log.change_key()
        assert await log.append([factory.playbook_started(stream="i1", version=2)]) == 2


async def test_a_log_that_vanished_is_not_made_anew(small_disk: Path, until: Until) -> None:
    where = small_disk / "log.db"
    log = opened(where)
    with pytest.raises(StoreError):
        await append_for_ever(log)
    remove_all(small_disk)

    async def refused_because_it_is_gone() -> bool:
        with pytest.raises(StoreError) as refused:
            await log.append([factory.playbook_started(stream="new", version=1)])
        return "No such file" in str(refused.value)

    try:
        await until.soon(refused_because_it_is_gone)
    finally:
        await log.close()
    assert not where.exists()


async def test_whichever_page_is_damaged_the_log_says_so_or_reads_on(
    file: Path, tmp_path: Path
) -> None:
    await filled(file, 300)
    whole = contents(file)
    findings: list[str | None] = []
    for page in range(len(whole) // 4096):
        damaged = tmp_path / f"page-{page}.db"
        write(damaged, whole[: page * 4096] + os.urandom(4096) + whole[(page + 1) * 4096 :])
        try:
            log = opened(damaged)
        except StoreError as error:
            findings.append(str(error))
        else:
            findings.append(log.broken)
            await log.close()
    assert len(findings) > 20
    assert all(findings)


async def test_a_file_that_was_cut_off_is_refused(file: Path) -> None:
    await filled(file, 300)
    write(file, contents(file)[: 10 * 4096])
    with pytest.raises(StoreError, match=r"cannot open .*malformed"):
        opened(file)


async def test_an_open_issue_that_cannot_be_read_is_noticed(file: Path) -> None:
    forged = link(genesis("log-1"), 1, "i1", 1, topic="issue.detected.v1", body=b"{}")
    async with opened(file):
        pass
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(
            "INSERT INTO event VALUES (1, 'i1', 1, 'issue.detected.v1', 0, ?, ?)", (b"{}", forged)
        )
        connection.commit()
    async with opened(file) as log:
        assert log.broken is not None
        assert log.broken.startswith("cannot read event 1: topic issue.detected.v1, ")


def test_a_lock_that_cannot_be_taken_is_named(file: Path) -> None:
    file.with_name("log.db.lock").mkdir()
    with pytest.raises(StoreError, match=r"cannot open .*log\.db\.lock: Is a directory"):
        opened(file)


def test_a_lock_that_cannot_be_written_is_named(small_disk: Path) -> None:
    with (small_disk / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
        while True:
            ballast.write(bytes(1 << 16))
    file = small_disk / "log.db"
    with pytest.raises(StoreError) as refused:
        Lock(file)
    assert str(refused.value) == f"cannot lock {file}.lock: No space left on device"
