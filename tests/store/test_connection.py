"""How a file is opened: what is looked at before SQLite is, and how SQLite is set."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from healer.errors import StoreBusyError, StoreError
from healer.store import SqliteLog
from healer.store.connection import check_file, connect, create_file, refusals, write_ahead
from healer.store.lock import Lock


@pytest.fixture
def file(tmp_path: Path) -> Path:
    place = tmp_path / "log.db"
    create_file(place)
    return place


def written_ahead(file: Path) -> sqlite3.Connection:
    connection = connect(file, writing=True)
    write_ahead(connection)
    return connection


def settings(connection: sqlite3.Connection, *names: str) -> list[object]:
    return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]


def test_who_writes_waits_for_the_disk_at_each_commit(file: Path) -> None:
    with closing(written_ahead(file)) as connection:
        # NORMAL (1) would lose acknowledged events in a power cut.
        assert settings(connection, "synchronous", "journal_mode") == [2, "wal"]
        assert settings(connection, "journal_size_limit", "busy_timeout") == [64 << 20, 5_000]


@pytest.mark.parametrize("writing", [True, False])
def test_a_file_is_not_trusted_and_its_rules_are_in_force(file: Path, *, writing: bool) -> None:
    with closing(connect(file, writing=writing)) as connection:
        names = ("trusted_schema", "cell_size_check", "foreign_keys", "query_only")
        assert settings(connection, *names) == [0, 1, 1, int(not writing)]
        assert not connection.in_transaction
        connection.execute("BEGIN")
        assert connection.in_transaction


def test_who_reads_can_change_nothing(file: Path) -> None:
    with closing(written_ahead(file)) as connection:
        connection.execute("CREATE TABLE song (title TEXT)")
        with closing(connect(file, writing=False)) as reading:
            for setting in ("ON", "OFF"):
                reading.execute(f"PRAGMA query_only = {setting}")
                with pytest.raises(sqlite3.OperationalError, match="readonly database"):
                    reading.execute("INSERT INTO song VALUES ('x')")


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    for writing in (True, False):
        with pytest.raises(sqlite3.OperationalError, match="unable to open database file"):
            connect(tmp_path / "log.db", writing=writing)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a?b.db", "a#b.db", "100%25.db", "ä ö.db", "file:x.db"])
def test_a_name_is_a_name(tmp_path: Path, name: str) -> None:
    create_file(tmp_path / name)
    with closing(written_ahead(tmp_path / name)) as connection:
        connection.execute("CREATE TABLE song (title TEXT)")
    with closing(connect(tmp_path / name, writing=False)) as connection:
        assert connection.execute("SELECT count(*) FROM song").fetchone() == (0,)
    assert all(path.name.startswith(name) for path in tmp_path.iterdir())


def test_a_log_on_a_disk_that_is_read_only_is_read_without_files_beside_it(
    small_disk: Path,
) -> None:
    file = small_disk / "log.db"
    create_file(file)
    with closing(written_ahead(file)) as connection:
        connection.execute("CREATE TABLE song (title TEXT)")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with closing(connect(file, writing=False)) as connection:
        assert connection.execute("SELECT count(*) FROM song").fetchone() == (0,)
    assert [path.name for path in small_disk.iterdir()] == ["log.db"]


@pytest.mark.parametrize("writing", [True, False])
def test_to_connect_changes_nothing(file: Path, *, writing: bool) -> None:
    with closing(connect(file, writing=writing)):
        assert [path.name for path in file.parent.iterdir()] == ["log.db"]
    assert file.read_bytes() == b""


def test_who_reads_briefly_leaves_nothing_beside_a_file_at_rest(file: Path) -> None:
    with closing(written_ahead(file)) as connection:
        connection.execute("CREATE TABLE song (title TEXT)")
    before = file.read_bytes()
    with closing(connect(file, writing=False, briefly=True)) as reading:
        assert reading.execute("SELECT count(*) FROM song").fetchone() == (0,)
        assert [path.name for path in file.parent.iterdir()] == ["log.db"]
    assert file.read_bytes() == before


def test_who_reads_a_file_at_rest_sees_what_is_written_to_it_later(file: Path) -> None:
    with closing(written_ahead(file)) as writing:
        writing.execute("CREATE TABLE song (title TEXT)")
    with closing(connect(file, writing=False)) as reading, closing(written_ahead(file)) as writing:
        writing.execute("INSERT INTO song VALUES ('x')")
        assert reading.execute("SELECT count(*) FROM song").fetchone() == (1,)


@pytest.mark.parametrize("briefly", [True, False])
def test_a_log_that_is_written_is_read_with_what_is_not_yet_in_its_file(
    file: Path, *, briefly: bool
) -> None:
    with closing(written_ahead(file)) as writing:
        writing.execute("CREATE TABLE song (title TEXT)")
        with closing(connect(file, writing=False, briefly=briefly)) as reading:
            for count in range(3):
                found = reading.execute("SELECT count(*) FROM song").fetchone()
                assert found == (count,)
                writing.execute("INSERT INTO song VALUES ('x')")


# --- the file ------------------------------------------------------------------------------------


def test_a_file_is_created_for_its_owner_and_one_that_is_there_is_left_alone(
    tmp_path: Path,
) -> None:
    file = tmp_path / "log.db"
    before = os.umask(0)
    try:
        create_file(file)
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_bytes(b"kept")
    create_file(file)
    assert file.read_bytes() == b"kept"


def test_a_file_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    file = tmp_path / "none" / "log.db"
    with pytest.raises(StoreError, match=rf"^cannot create {file}: No such file or directory$"):
        create_file(file)


@pytest.mark.parametrize("writing", [True, False])
def test_what_is_wrong_with_a_file_is_said_in_full(file: Path, *, writing: bool) -> None:
    check_file(file, writing=writing)
    file.chmod(0o602)
    with pytest.raises(StoreError) as refused:
        check_file(file, writing=writing)
    assert str(refused.value) == (
        f"cannot open {file}: its mode 0602 lets every user write it; allowed: 0600"
    )
    with pytest.raises(StoreError) as refused:
        check_file(file.parent, writing=writing)
    assert str(refused.value) == f"cannot open {file.parent}: it is not a regular file"
    file.unlink()
    with pytest.raises(StoreError) as refused:
        check_file(file, writing=writing)
    assert str(refused.value) == (
        f"cannot open {file}: No such file or directory; `healer serve` begins a log"
    )


def test_a_refusal_has_the_words_of_who_refused() -> None:
    with pytest.raises(StoreError, match=r"^cannot sing: no voice$"), refusals("sing"):
        raise sqlite3.OperationalError("no voice")
    with (
        pytest.raises(StoreError, match=r"^cannot sing: no such table: song \(SQLITE_ERROR\)$"),
        refusals("sing"),
        closing(sqlite3.connect(":memory:")) as connection,
    ):
        connection.execute("SELECT * FROM song")
    with pytest.raises(StoreError, match=r"^cannot sing: No such file"), refusals("sing"):
        Path("/nowhere/at/all").read_text()
    with pytest.raises(StoreError, match=r"^cannot sing: hoarse$"), refusals("sing"):
        raise OSError("hoarse")
    said = r"^cannot sing: a text in it is not in UTF-8 \('utf-8' codec can't decode byte 0xff"
    with pytest.raises(StoreError, match=said), refusals("sing"):
        b"\xff".decode()


# --- the lock ------------------------------------------------------------------------------------


def test_the_holder_of_a_lock_is_named_by_its_pid(file: Path) -> None:
    lock = Lock(file)
    beside = file.with_name("log.db.lock")
    assert beside.read_text() == f"{os.getpid()}\n"
    with pytest.raises(StoreBusyError) as busy:
        Lock(file)
    assert (busy.value.location, busy.value.holder) == (str(file), os.getpid())
    beside.write_text("somebody\n")
    with pytest.raises(StoreBusyError) as busy:
        Lock(file)
    assert (busy.value.location, busy.value.holder) == (str(file), None)
    lock.release()
    lock.release()
    beside.write_text("12345678901234567890 of a longer holder\n")
    again = Lock(file)
    assert beside.read_text() == f"{os.getpid()}\n"
    again.release()


def test_a_lock_is_its_owners_and_no_link(file: Path) -> None:
    before = os.umask(0)
    try:
        Lock(file).release()
    finally:
        os.umask(before)
    beside = file.with_name("log.db.lock")
    assert stat.S_IMODE(beside.stat().st_mode) == 0o600
    beside.unlink()
    beside.symlink_to(file)
    with pytest.raises(StoreError, match=rf"^cannot open {file}: {beside}: Too many levels"):
        Lock(file)
    assert file.read_bytes() == b""


async def test_a_lock_that_is_held_leaves_the_log_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "log.db"
    lock = Lock(file)
    with pytest.raises(StoreBusyError):
        SqliteLog.open(file, new_log_id=lambda: "log-1")
    assert not file.exists()
    lock.release()
    async with SqliteLog.open(file, new_log_id=lambda: "log-1"):
        pass


def test_what_cannot_even_be_looked_at_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    file = tmp_path / "taken" / "log.db"
    with pytest.raises(StoreError) as refused:
        check_file(file, writing=True)
    assert str(refused.value) == f"cannot open {file}: Not a directory"
