"""A log on a server is signed as one in a file is; what differs is that several nodes may sign."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from healer.domain.events import PlaybookStarted
from healer.errors import StoreError
from healer.store import checkpoint
from healer.store.checkpoint import Cadence, digest, is_signed_by
from tests import factory
from tests.conftest import Until

if TYPE_CHECKING:
    from healer.store.postgres import PostgresLog

psycopg = pytest.importorskip("psycopg", exc_type=ImportError)

NEVER = Cadence(events=10**9, period=3600.0)
PATIENT = 30.0


def started(stream: str, version: int) -> PlaybookStarted:
    return factory.playbook_started(stream=stream, version=version)


@asynccontextmanager
async def node(url: str, key: Path | None, **options: Any) -> AsyncIterator[PostgresLog]:
    from healer.store.postgres import PostgresLog

    log = await asyncio.to_thread(
        PostgresLog.open, url, new_log_id=lambda: "log-1", key=key, **options
    )
    async with log:
        yield log


@contextmanager
def owner(url: str) -> Iterator[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def notes(url: str) -> list[str]:
    with owner(url) as connection:
        rows = connection.execute("SELECT note FROM healer.checkpoint ORDER BY number")
        return [note for (note,) in rows]


def sizes(url: str) -> list[int]:
    return [checkpoint.read(note).size for note in notes(url)]


def require_chained(url: str) -> None:
    """Each checkpoint names the one before, and is signed by the key that is due."""
    previous, key = None, None
    for note in notes(url):
        said = checkpoint.read(note)
        assert said.previous == previous
        assert is_signed_by(note, said, key or said.key)
        previous, key = digest(note), said.successor or said.key


async def test_a_log_is_signed_when_it_is_made_after_each_issue_and_at_the_close(
    database: str, tmp_path: Path, until: Until
) -> None:
    heard: list[str] = []
    async with node(database, tmp_path / "a.key", cadence=NEVER, witness=heard.append) as log:
        await until.soon(lambda: sizes(database) == [0], PATIENT)
        await log.append([started("i1", 1)])
        await log.append([factory.issue_detected(stream="i2", component="a")])
        await log.append([factory.issue_verified(stream="i2", version=2)])
        await until.soon(lambda: sizes(database) == [0, 3], PATIENT)
        await log.append([started("i1", 2)])
    assert sizes(database) == [0, 3, 4]
    assert heard == notes(database)
    assert (log.unsigned, log.unwitnessed, log.unrotated) == (None, None, None)
    require_chained(database)


async def test_a_checkpoint_follows_so_many_events_and_so_much_time(
    database: str, tmp_path: Path, until: Until
) -> None:
    async with node(database, tmp_path / "a.key", cadence=Cadence(events=3, period=3600.0)) as log:
        for version in (1, 2, 3):
            await log.append([started("i1", version)])
        await until.soon(lambda: sizes(database)[-1] == 3, PATIENT)
    async with node(database, tmp_path / "a.key", cadence=Cadence(events=99, period=0.05)) as log:
        await log.append([started("i1", 4)])
        await until.soon(lambda: sizes(database)[-1] == 4, PATIENT)
    require_chained(database)


async def test_a_log_without_a_key_is_not_signed(database: str) -> None:
    async with node(database, None) as log:
        await log.append([started("i1", 1)])
        assert log.unsigned is None
        with pytest.raises(StoreError, match="it is not signed"):
            await log.change_key()
    async with node(database, None):
        pass
    assert notes(database) == []


async def test_nodes_with_copies_of_the_key_sign_one_chain(
    database: str, tmp_path: Path, until: Until
) -> None:
    async with node(database, tmp_path / "a.key") as one:
        await until.soon(lambda: sizes(database), PATIENT)
        shutil.copy(tmp_path / "a.key", tmp_path / "b.key")
        async with node(database, tmp_path / "b.key") as two:
            for count, log in enumerate([one, two, two, one, two], start=1):
                stream = f"i{count}"
                await log.append([factory.issue_detected(stream=stream, component=stream)])
                await log.append([factory.issue_verified(stream=stream, version=2)])
            await until.soon(lambda: sizes(database)[-1] == 10, PATIENT)
            assert one.unsigned is two.unsigned is None
    require_chained(database)


async def test_a_node_without_the_key_appends_and_says_that_it_does_not_sign(
    database: str, tmp_path: Path, until: Until
) -> None:
    quick = Cadence(period=0.05)
    async with node(database, tmp_path / "a.key") as one:
        await until.soon(lambda: sizes(database) == [0], PATIENT)
        async with node(database, tmp_path / "b.key", cadence=quick) as two:
            await until.soon(lambda: "No such file" in (two.unsigned or ""), PATIENT)
            await two.append([factory.issue_detected(stream="i1", component="a")])
            await two.append([factory.issue_verified(stream="i1", version=2)])
            assert sizes(database) == [0]
            # Whoever has the key signs what the other appended as well, once it was proved.
            await one.append([factory.issue_detected(stream="i2", component="a")])
            await one.append([factory.issue_verified(stream="i2", version=2)])
            await until.soon(lambda: sizes(database)[-1] == 4, PATIENT)
            shutil.copy(tmp_path / "a.key", tmp_path / "b.key")
            await until.soon(lambda: two.unsigned is None, PATIENT)
    require_chained(database)


async def test_after_a_change_of_keys_a_copy_of_the_old_one_signs_nothing(
    database: str, tmp_path: Path, until: Until
) -> None:
    async with node(database, tmp_path / "a.key") as one:
        await until.soon(lambda: sizes(database) == [0], PATIENT)
        shutil.copy(tmp_path / "a.key", tmp_path / "b.key")
        old = checkpoint.read(notes(database)[-1]).key
        new = await one.change_key()
        assert new != old
        async with node(database, tmp_path / "b.key") as two:
            await until.soon(lambda: "it holds the key" in (two.unsigned or ""), PATIENT)
            with pytest.raises(StoreError, match="it holds the key"):
                await two.change_key()
        await one.append([started("i1", 1)])
    assert checkpoint.read(notes(database)[-1]).key == new
    require_chained(database)


@pytest.mark.parametrize("rows", [1, 3])
async def test_what_does_not_follow_from_what_was_proved_is_never_signed(
    database: str, tmp_path: Path, until: Until, rows: int
) -> None:
    async with node(database, tmp_path / "a.key", cadence=NEVER) as one:
        await one.append([started("i1", 1)])
        await until.soon(lambda: sizes(database), PATIENT)
        before = sizes(database)
        async with node(database, None) as two:
            await two.append([started("i1", 2 + each) for each in range(rows)])
        with owner(database) as connection:
            connection.execute("ALTER TABLE healer.event DISABLE TRIGGER USER")
            connection.execute("UPDATE healer.event SET time = 0, topic = 'x' WHERE position = 2")
        await one.append([factory.issue_detected(stream="i2", component="a")])
        await one.append([factory.issue_verified(stream="i2", version=2)])
        await until.soon(lambda: one.broken, PATIENT)
        assert one.broken == "event 2 does not match its hash"
        with pytest.raises(StoreError, match="the log can only be read"):
            await one.append([started("i1", 9)])
    assert sizes(database) == before


async def test_an_end_that_is_taken_away_meanwhile_is_not_built_on(
    database: str, tmp_path: Path
) -> None:
    async with node(database, tmp_path / "a.key") as log:
        await log.append([started("i1", 1)])
        with owner(database) as connection:
            (before,) = connection.execute("SELECT hash FROM healer.event").fetchone()
        await log.append([started("i1", 2)])
        with owner(database) as connection:
            connection.execute("ALTER TABLE healer.event DISABLE TRIGGER USER")
            connection.execute("DELETE FROM healer.event WHERE position = 2")
            connection.execute("UPDATE healer.head SET position = 1, hash = %s", (before,))
        with pytest.raises(StoreError, match="event 2 was acknowledged and is missing"):
            await log.append([started("i1", 2)])


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("UPDATE healer.checkpoint SET note = 'x'", "is not one"),
        ("UPDATE healer.checkpoint SET note = replace(note, 'log-1', 'log-2')", "another log"),
        (
            "UPDATE healer.checkpoint SET note = replace(note, E'\\n1\\n', E'\\n9\\n')",
            "event 2 is missing",
        ),
    ],
)
async def test_a_log_that_contradicts_its_checkpoint_is_neither_written_nor_signed(
    database: str, tmp_path: Path, harm: str, said: str
) -> None:
    async with node(database, tmp_path / "a.key") as log:
        await log.append([started("i1", 1)])
    with owner(database) as connection:
        connection.execute("ALTER TABLE healer.checkpoint DISABLE TRIGGER USER")
        connection.execute(harm)
    before = notes(database)
    async with node(database, tmp_path / "a.key") as log:
        assert said in (log.broken or "")
        with pytest.raises(StoreError, match="the log can only be read"):
            await log.append([started("i1", 2)])
    assert notes(database) == before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE healer.checkpoint SET size = 1",
        "DELETE FROM healer.checkpoint",
        "TRUNCATE healer.checkpoint",
    ],
)
async def test_even_the_owner_cannot_change_a_checkpoint(
    database: str, tmp_path: Path, statement: str
) -> None:
    async with node(database, tmp_path / "a.key"):
        pass
    with owner(database) as connection, pytest.raises(psycopg.Error, match="is immutable"):
        connection.execute(statement)


async def test_a_log_from_before_there_were_checkpoints_gets_them(
    database: str, tmp_path: Path
) -> None:
    async with node(database, None) as log:
        await log.append([started("i1", 1)])
    with owner(database) as connection:
        connection.execute("DROP TABLE healer.checkpoint")
        connection.execute("DROP FUNCTION healer.refuse_checkpoint")
    async with node(database, None) as log:
        assert log.broken is None
    async with node(database, tmp_path / "deep" / "a.key") as log:
        await log.append([started("i1", 2)])
    assert sizes(database)[-1] == 2
    require_chained(database)


async def test_an_outage_while_it_signs_costs_nothing(
    database: str, tmp_path: Path, until: Until
) -> None:
    async with node(database, tmp_path / "a.key", cadence=Cadence(events=1, period=0.05)) as log:
        for version in range(1, 21):
            await log.append([started("i1", version)])
            with owner(database) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
        await until.soon(lambda: sizes(database)[-1] == 20, PATIENT)
        await until.soon(lambda: log.unavailable is None and log.unsigned is None, PATIENT)
    require_chained(database)
