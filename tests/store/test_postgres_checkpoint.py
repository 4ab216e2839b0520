"""A log on a server is signed as one in a file is; what differs is that several nodes may sign."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from healer.domain.events import PlaybookStarted
from healer.errors import StoreError
from healer.store import checkpoint
from healer.store.chain import genesis
from healer.store.checkpoint import Cadence, digest, is_signed_by
from healer.store.codec import Codec
from healer.store.cold import Segment
from healer.store.notary import Notary, Sealing
from tests import factory
from tests.conftest import Until
from tests.store.test_checkpoint import Clock

if TYPE_CHECKING:
    from healer.store.postgres import PostgresLog
    from healer.store.postgres.connection import Connection
    from healer.store.postgres.signer import Signer

psycopg = pytest.importorskip("psycopg", exc_type=ImportError)

from healer.store.postgres.archived import add_archive  # noqa: E402
from healer.store.postgres.ledger import Ledger  # noqa: E402
from healer.store.postgres.place import locate  # noqa: E402

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
        with pytest.raises(StoreError) as refused:
            await log.change_key()
        assert str(refused.value) == (
            f"cannot change the key of {locate(database)}: it is not signed"
        )
    async with node(database, None):
        pass
    assert notes(database) == []


def test_a_log_that_is_not_signed_is_not_archived(database: str, tmp_path: Path) -> None:
    segment = Segment(1, 1, bytes(32), bytes(32), tmp_path / "events")
    with closing(Ledger(locate(database), Codec(), lambda: "log-1")) as ledger:
        with pytest.raises(StoreError) as refused:
            ledger.archive(segment, {})
        assert str(refused.value) == f"cannot archive {locate(database)}: it is not signed"


async def test_what_is_not_all_there_is_not_archived(database: str, tmp_path: Path) -> None:
    async with node(database, tmp_path / "a.key") as log:
        await log.append([started("i1", 1)])
    segment = Segment(1, 5, bytes(32), bytes(32), tmp_path / "events")
    sealing = Sealing(tmp_path / "a.key", NEVER)
    async with node(database, None) as other:
        with closing(Ledger(locate(database), Codec(), str, sealing)) as ledger:
            await other.append([started("i1", 2)])
            with owner(database) as connection:
                add_archive(connection)
            with pytest.raises(StoreError, match=r"^the log has 2 of the events 1 to 5$"):
                ledger.archive(segment, {})
        assert len(await other.read()) == 2


async def test_who_closes_leaves_to_others_what_they_appended(
    database: str, tmp_path: Path, until: Until
) -> None:
    async with node(database, None) as other:
        async with node(database, tmp_path / "a.key", cadence=NEVER) as log:
            await log.append([factory.issue_detected(stream="i1", component="a")])
            await log.append([factory.issue_verified(stream="i1", version=2)])
            await until.soon(lambda: sizes(database)[-1:] == [2], PATIENT)
            await other.append([started("i2", 1)])
        assert sizes(database)[-1] == 2


async def test_a_node_that_lost_its_connection_signs_what_others_appended_meanwhile(
    database: str, tmp_path: Path, until: Until
) -> None:
    async with node(database, tmp_path / "a.key", cadence=NEVER) as one:
        await one.append([started("i1", 1)])
        await until.soon(lambda: sizes(database), PATIENT)
        async with node(database, None) as two:
            await two.append([started("i1", 2)])
        with owner(database) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        await one.change_key()
        assert sizes(database)[-1] == 2
        assert one.broken is None
    require_chained(database)


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


async def test_since_when_a_key_signs_is_told_by_who_handed_over_to_it(
    database: str, tmp_path: Path, until: Until
) -> None:
    from healer.store.postgres.schema import key_since

    async with node(database, tmp_path / "a.key", cadence=Cadence(events=1, period=3600.0)) as log:
        for version in range(1, 7):
            await log.append([started("i1", version)])
            await until.soon(lambda size=version: sizes(database)[-1] == size, PATIENT)
            if version in {2, 4}:
                await log.change_key()
    said = [checkpoint.read(note) for note in notes(database)]
    since = {1: said[0].time}
    since |= {each.epoch + 1: each.time for each in said if each.successor is not None}
    assert len(since) == 3
    with owner(database) as connection:
        for note, each in zip(notes(database), said, strict=True):
            assert key_since(connection, note) == since[each.epoch]
        assert key_since(connection, "of no epoch") == since[1]
        assert key_since(connection, "epoch 9") is None


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


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (
            "UPDATE healer.head SET hash = '\\x00'",
            "event 3 is not the one that the head of the log names",
        ),
        ("DELETE FROM healer.event WHERE position = 3", "event 3 is missing"),
        ("DELETE FROM healer.event WHERE position > 1", "event 2 is missing"),
    ],
)
async def test_what_others_appended_is_not_signed_where_the_head_names_something_else(
    database: str, tmp_path: Path, until: Until, harm: str, said: str
) -> None:
    async with node(database, tmp_path / "a.key", cadence=NEVER) as one:
        await one.append([started("i1", 1)])
        await until.soon(lambda: sizes(database), PATIENT)
        async with node(database, None) as two:
            await two.append([started("i1", 2), started("i1", 3)])
        before = sizes(database)
        with owner(database) as connection:
            connection.execute("ALTER TABLE healer.event DISABLE TRIGGER USER")
            connection.execute(harm)
        with pytest.raises(StoreError) as refused:
            await one.change_key()
        assert str(refused.value) == (
            f"cannot append to {locate(database)}: {said}; the log can only be read"
        )
        assert one.broken == said
    assert sizes(database) == before


async def test_however_much_others_appended_it_is_signed_when_it_was_followed(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("healer.store.postgres.ledger._FOLLOWED", 2)
    async with node(database, tmp_path / "a.key", cadence=NEVER) as one:
        await one.append([started("i1", 1)])
        async with node(database, None) as two:
            await two.append([started("i1", version) for version in range(2, 7)])
        await one.change_key()
        assert sizes(database)[-1] == 6
        assert one.broken is None
    require_chained(database)


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
        with pytest.raises(StoreError) as refused:
            await log.change_key()
        assert str(refused.value) == (f"cannot change the key of {locate(database)}: {log.broken}")
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
    with owner(database) as connection:
        found = connection.execute("SELECT to_regclass('healer.checkpoint')").fetchone()
        assert found == (None,)
    async with node(database, tmp_path / "deep" / "down" / "a.key") as log:
        await log.append([started("i1", 2)])
    assert sizes(database)[-1] == 2
    require_chained(database)


async def test_a_key_that_is_old_hands_over_with_the_next_checkpoint(
    database: str, tmp_path: Path
) -> None:
    witness = tmp_path / "witness"
    async with node(database, tmp_path / "a.key", rotate_every=0.0, witness=witness):
        pass
    assert checkpoint.read(notes(database)[0]).successor is not None
    said = witness.read_text()
    assert "network-healer/log-1\\n0\\n" in said
    assert "\\nnext " in said


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


# --- who signs for a node -------------------------------------------------------------------------


def signer(key: Path, **options: Any) -> Signer:
    from healer.store.postgres.signer import Signer

    return Signer(Sealing(key, **options))


@contextmanager
def appending(url: str) -> Iterator[Connection]:
    """A connection as a node's that appends, to a log that is there."""
    from healer.store.postgres.connection import connect
    from healer.store.postgres.place import locate

    with closing(connect(locate(url), writing=True)) as connection:
        yield connection


async def make(url: str) -> None:
    """An empty log that nobody signed."""
    async with node(url, None):
        pass


def test_who_has_not_looked_yet_does_so_at_once_and_who_failed_a_period_later(
    tmp_path: Path,
) -> None:
    clock = Clock()
    signs = signer(tmp_path / "a.key", cadence=Cadence(period=60.0), monotonic=clock)
    assert (signs.unsigned, signs.unwitnessed, signs.unrotated) == (None, None, None)
    assert (signs.wait(0), signs.key()) == (0.0, b"")
    signs.postpone("no key")
    assert (signs.wait(0), signs.unsigned) == (60.0, "no key")
    clock.now += 59.5
    assert signs.wait(0) == 0.5
    clock.now += 7.0
    assert signs.wait(0) == 0.0


async def test_a_checkpoint_bears_the_time_of_the_database(database: str, tmp_path: Path) -> None:
    async with node(database, tmp_path / "a.key"):
        pass
    label = checkpoint.read(notes(database)[0]).time
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", label)
    age = datetime.now(UTC) - datetime.fromisoformat(label)
    assert timedelta(minutes=-1) < age < timedelta(hours=1)


async def test_a_witness_that_has_heard_of_the_newest_checkpoint_is_not_told_again(
    database: str, tmp_path: Path
) -> None:
    """Neither by who signed it nor by who found it, however often they look."""
    await make(database)
    with appending(database) as connection:
        for known in (False, True):
            heard: list[str] = []
            signs = signer(tmp_path / "a.key", witness=heard.append)
            note = signs.sign(connection, 0, genesis("log-1"))
            assert (note is None) is known
            signs.stored(note)
            for _ in range(2):
                assert signs.sign(connection, 0, genesis("log-1")) is None
                signs.stored(None)
            assert heard == notes(database)


async def test_a_deaf_witness_is_told_by_the_next_offer_and_an_end_is_due_at_once(
    database: str, tmp_path: Path
) -> None:
    heard: list[str] = []
    deaf = ["deaf"]

    def witness(note: str) -> None:
        if deaf:
            raise OSError(deaf.pop())
        heard.append(note)

    signs = signer(tmp_path / "a.key", cadence=NEVER, witness=witness)
    signs.offer()
    signs.noted(ended=True)
    await make(database)
    with appending(database) as connection:
        signs.stored(signs.sign(connection, 0, genesis("log-1")))
    assert signs.unwitnessed == "cannot tell the witness of 0 events: deaf"
    signs.offer()
    assert (heard, signs.unwitnessed) == (notes(database), None)
    assert (signs.wait(0), signs.wait(1) == 0.0) == (None, False)
    signs.noted(ended=False)
    assert signs.wait(1) != 0.0
    signs.noted(ended=True)
    assert signs.wait(1) == 0.0


def _signed_at(url: str, key: Path, times: Sequence[str]) -> None:
    """A checkpoint of no event for each of these times."""
    notary = Notary(Sealing(key), "log-1", None)
    with owner(url) as connection:
        for number, time in enumerate(times, start=1):
            note = notary.sign(0, genesis("log-1"), time)
            notary.stored(note)
            connection.execute("INSERT INTO healer.checkpoint VALUES (%s, 0, %s)", (number, note))


@pytest.mark.parametrize(("begun", "old"), [("2020-01-01T00:00:00.000Z", True), (None, False)])
async def test_a_key_is_as_old_as_its_first_checkpoint(
    database: str, tmp_path: Path, begun: str | None, old: bool
) -> None:
    """Not as the newest one, for a node that comes later."""
    await make(database)
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}.000Z"
    _signed_at(database, tmp_path / "a.key", [begun or now, now])
    signs = signer(tmp_path / "a.key", rotate_every=365 * 86400.0)
    with appending(database) as connection:
        note = signs.sign(connection, 1, b"\1" * 32)
    assert note is not None
    assert (checkpoint.read(note).successor is not None) is old
