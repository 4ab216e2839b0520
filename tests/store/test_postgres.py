"""What only a log on a server has: other nodes, outages, roles, and a network in between."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from healer.domain.events import Event, Fact, PlaybookStarted
from healer.errors import IssueConflictError, StoreError
from healer.ports import Recorded
from healer.store import open_log
from healer.store.chain import Link, first_break, genesis
from healer.store.codec import Codec
from healer.store.tail import Tail
from tests import factory
from tests.conftest import ROOT, Processes, Until
from tests.store.cluster import PASSWORD, Cluster
from tests.store.test_kill import lines_until_killed

if TYPE_CHECKING:
    from healer.store.postgres import PostgresLog

psycopg = pytest.importorskip("psycopg", exc_type=ImportError)

from healer.store.postgres.ledger import Ledger  # noqa: E402
from healer.store.postgres.place import locate  # noqa: E402


def started(stream: str, version: int) -> PlaybookStarted:
    return factory.playbook_started(stream=stream, version=version)


@asynccontextmanager
async def node(url: str, **options: Any) -> AsyncIterator[PostgresLog]:
    from healer.store.postgres import PostgresLog

    log = await asyncio.to_thread(PostgresLog.open, url, new_log_id=lambda: "log-1", **options)
    async with log:
        yield log


@contextmanager
def owner(url: str) -> Iterator[Any]:
    """Somebody with all rights, who goes round the healer."""
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def cut_connections(url: str, *, but: int = 0) -> None:
    """End all sessions, except that of the backend `but`."""
    with owner(url) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid NOT IN (pg_backend_pid(), %s)",
            (but,),
        )


def require_whole_chain(url: str) -> int:
    """Every position is there, in order, and follows from the one before; the last position."""
    with owner(url) as connection:
        rows = connection.execute(
            "SELECT position, stream, version, topic, body, hash FROM healer.event "
            "ORDER BY position"
        ).fetchall()
    links = [Link(*row) for row in rows]
    assert first_break(links, after=0, previous=genesis("log-1")) is None
    return len(links)


async def collect(log: PostgresLog, count: int) -> list[Recorded]:
    facts: list[Recorded] = []
    async with aclosing(log.follow(after=0)) as following:
        async for recorded in following:
            facts.append(recorded)
            if len(facts) == count:
                break
    return facts


# --- several nodes -------------------------------------------------------------------------------


async def test_nodes_that_append_at_once_make_one_order(database: str) -> None:
    total = 3 * 10 * 20
    heard: list[Recorded] = []
    async with node(database) as a, node(database) as b, node(database) as c:
        readonly = open_log(database, new_log_id=str, read_only=True)
        async with readonly:
            a.listen(heard.extend)
            tails = [asyncio.create_task(collect(log, total)) for log in (b, readonly)]

            async def append(log: PostgresLog, stream: str) -> None:
                for version in range(1, 21):
                    await log.append([started(stream, version)])

            await asyncio.gather(
                *(
                    append(log, f"{name}-{n}")
                    for name, log in zip("abc", (a, b, c), strict=True)
                    for n in range(10)
                )
            )
            for tail in tails:
                positions = [each.position for each in await asyncio.wait_for(tail, 60)]
                assert positions == list(range(1, total + 1))
        await _heard(heard, total)
        assert heard == [each async for each in _all(a)]
    assert require_whole_chain(database) == total


async def _heard(heard: list[Recorded], count: int) -> None:
    await Until().soon(lambda: len(heard) == count, 40)


async def _all(log: PostgresLog) -> AsyncIterator[Recorded]:
    after = 0
    while batch := await log.read(after=after):
        for recorded in batch:
            yield recorded
            after = recorded.position


async def test_a_follower_hears_of_another_node_without_waiting_for_the_poll(
    database: str, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("healer.store.feed._POLL", 3600.0)
    monkeypatch.setattr("healer.store.postgres.watch._POLL", 3600.0)
    async with node(database) as a, node(database) as b, aclosing(a.follow(after=0)) as facts:
        coming = asyncio.ensure_future(anext(facts))
        await until.soon(lambda: _listening(database))
        await b.append([started("i1", 1)])
        assert (await asyncio.wait_for(coming, 30)).position == 1


async def test_facts_are_told_from_one_place_to_another_and_what_cannot_be_is_named(
    database: str,
) -> None:
    async with node(database) as log:
        await log.append([started("i1", version) for version in (1, 2, 3, 4)])
    with closing(Ledger(locate(database), Codec(), str)) as ledger:
        with owner(database) as connection:
            connection.execute("ALTER TABLE healer.event DISABLE TRIGGER USER")
            connection.execute("UPDATE healer.event SET body = 'x' WHERE position = 3")
        facts, problems = ledger.between(1, 2)
        assert facts == [Recorded(2, started("i1", 2))]
        assert problems == []
        facts, problems = ledger.between(1, 4)
        assert [each.position for each in facts] == [2, 4]
        assert [str(each).partition(":")[0] for each in problems] == ["cannot read event 3"]


def _listening(url: str) -> bool:
    with owner(url) as connection:
        query = (
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND query LIKE 'LISTEN%'"
        )
        return bool(connection.execute(query).fetchone()[0])


async def test_a_new_listener_is_not_told_of_what_was_there_before(database: str) -> None:
    heard: list[Recorded] = []
    async with node(database) as a, node(database) as b:
        await b.append([started("i1", 1)])
        a.listen(heard.extend)
        assert await a.append([started("i2", 1)]) == 2
        await b.append([started("i1", 2)])
        await _heard(heard, 2)
    assert [recorded.position for recorded in heard] == [2, 3]


async def test_of_two_nodes_that_see_one_fault_one_opens_an_issue(database: str) -> None:
    async with node(database) as a, node(database) as b:
        outcomes = await asyncio.gather(
            *(
                log.append([factory.issue_detected(stream=f"{name}{n}")])
                for n in range(5)
                for name, log in (("a", a), ("b", b))
            ),
            return_exceptions=True,
        )
        assert sum(isinstance(outcome, IssueConflictError) for outcome in outcomes) == 9
        assert await a.open_issues() == await b.open_issues()
        assert len(await a.open_issues()) == 1


async def test_two_nodes_that_find_an_empty_database_make_one_log(database: str) -> None:
    async with asyncio.TaskGroup() as group:
        for n in range(4):
            group.create_task(_append_one(database, f"s{n}"))
    assert require_whole_chain(database) == 4


async def _append_one(url: str, stream: str) -> None:
    async with node(url) as log:
        await log.append([started(stream, 1)])


@pytest.mark.timeout(120)
async def test_killing_a_node_loses_nothing_and_stops_nobody(
    database: str, processes: Processes
) -> None:
    acknowledged: list[str] = []
    argv = [sys.executable, "-m", "tests.store.acknowledging_writer", database]
    stop = asyncio.Event()
    async with node(database) as survivor:

        async def go_on() -> int:
            version = 0
            while not stop.is_set():
                version += 1
                await survivor.append([started("survivor", version)])
            return version

        going = asyncio.create_task(go_on())
        for number in range(8):
            writer = processes.start(*argv, str(number), stdout=subprocess.PIPE, cwd=ROOT)
            life = random.uniform(0, 0.2)
            acknowledged += await asyncio.to_thread(lines_until_killed, writer, life)
        stop.set()
        count = await asyncio.wait_for(going, 60)
        facts = [each async for each in _all(survivor)]
    require_whole_chain(database)
    places = {each.event.event_id: each.position for each in facts}
    for line in acknowledged:
        stream, version, position = line.split()
        assert places[f"{stream}/{version}"] == int(position)
    assert sum(each.event.originator_id == "survivor" for each in facts) == count
    lengths: dict[str, int] = {}
    for each in facts:
        lengths[each.event.originator_id] = each.event.originator_version
    # Two at a time: never half of an append.
    assert [s for s, length in lengths.items() if s != "survivor" and length % 2] == []


# --- outages -------------------------------------------------------------------------------------


@pytest.mark.timeout(120)
async def test_a_crash_of_the_server_in_mid_run_loses_and_doubles_nothing(
    cluster: Cluster, database: str
) -> None:
    acknowledged: dict[str, int] = {}
    heard: list[Recorded] = []
    stop = asyncio.Event()
    async with node(database) as log, node(database) as other:
        other.listen(heard.extend)

        async def append(log: PostgresLog, stream: str) -> int:
            version = 0
            while not stop.is_set():
                version += 1
                fact = started(stream, version)
                acknowledged[fact.event_id] = await log.append([fact])
            return version

        appenders = [asyncio.create_task(append((log, other)[n % 2], f"s{n}")) for n in range(20)]
        for _ in range(2):
            before = len(acknowledged)
            await Until().soon(lambda before=before: len(acknowledged) > before + 200, 40)
            await asyncio.to_thread(cluster.stop, "immediate")
            assert not any(task.done() for task in appenders)
            await asyncio.to_thread(cluster.start)
        before = len(acknowledged)
        await Until().soon(lambda: len(acknowledged) > before + 200, 40)
        stop.set()
        lengths = await asyncio.wait_for(asyncio.gather(*appenders), 60)
        facts = [each async for each in _all(log)]
        assert (log.broken, log.unavailable) == (None, None)
        await _heard(heard, len(facts))
        assert heard == facts
    assert require_whole_chain(database) == len(facts) == sum(lengths)
    assert {each.event.event_id: each.position for each in facts} == acknowledged


class Proxy:
    """Stands between a node and the server, and can lose a COMMIT or the answer to it, or keep the
    node's COMMIT to itself while all connections stay."""

    def __init__(self, port: int) -> None:
        self.lose: str | None = None
        self.times = 1
        self.lost = 0
        self._server_port = port
        self._served: set[asyncio.Task[None] | None] = set()

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        await self._server.wait_closed()
        await asyncio.wait_for(asyncio.gather(*filter(None, self._served)), 60)

    def url(self, database: str) -> str:
        """The same database, through here."""
        name = psycopg.conninfo.conninfo_to_dict(database)["dbname"]
        return (
            f"postgresql://healer:{quote(PASSWORD, '')}@127.0.0.1:{self.port}/{name}"
            "?sslmode=disable&gssencmode=disable"
        )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._served.add(asyncio.current_task())
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        deaf = asyncio.Event()

        async def down() -> None:
            while data := await up_reader.read(65536):
                if not deaf.is_set():
                    writer.write(data)
                    await writer.drain()
            writer.close()

        answers = asyncio.create_task(down())
        try:
            while data := await reader.read(65536):
                if self.lose and b"COMMIT" in data:
                    if self.lose == "time":
                        self.lose = None
                        self.lost += 1
                        # Whatever else it says is not heard either, until the server hangs up.
                        await answers
                        break
                    if self.lose == "answer":
                        deaf.set()
                        up_writer.write(data)
                        await up_writer.drain()
                    self.lost += 1
                    if self.lost == self.times:
                        self.lose = None
                    break
                up_writer.write(data)
                await up_writer.drain()
        except ConnectionError:
            pass
        finally:
            # The server does what it was told before it sees the end.
            writer.close()
            up_writer.close()
            await asyncio.gather(answers, return_exceptions=True)


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("lost", ["answer", "commit"])
async def test_a_commit_whose_answer_is_lost_is_looked_up_and_not_repeated(
    cluster: Cluster, database: str, lost: str, times: int
) -> None:
    """However often the database is lost again while it is looked up."""
    async with Proxy(cluster.port) as proxy:
        proxy.times = times
        heard: list[Recorded] = []
        async with node(proxy.url(database)) as log:
            log.listen(heard.extend)
            assert await log.append([started("i1", 1)]) == 1
            proxy.lose = lost
            outcomes = await asyncio.wait_for(
                asyncio.gather(
                    log.append([started("i1", 2), started("i1", 3)]),
                    log.append([started("i1", 3)]),
                    log.append([started("i1", 4)]),
                    return_exceptions=True,
                ),
                40,
            )
            assert proxy.lost == times
            assert (outcomes[0], outcomes[2]) == (3, 4)
            # Its stream had moved, and that is what it was told, although the event is there.
            assert isinstance(outcomes[1], IssueConflictError)
            assert log.unavailable is None
            assert await log.append([started("i1", 5)]) == 5
            assert [recorded.position for recorded in heard] == [1, 2, 3, 4, 5]
    assert require_whole_chain(database) == 5


async def test_a_node_that_freezes_in_mid_append_does_not_stop_the_others(
    cluster: Cluster, database: str
) -> None:
    async with (
        Proxy(cluster.port) as proxy,
        node(database) as other,
        node(proxy.url(database)) as frozen,
    ):
        proxy.lose = "time"
        waiting = asyncio.create_task(frozen.append([started("i1", 1)]))
        await Until().soon(lambda: proxy.lost == 1)
        assert await asyncio.wait_for(other.append([started("i2", 1)]), 60) == 1
        assert await asyncio.wait_for(waiting, 60) == 2
    assert require_whole_chain(database) == 2


async def test_an_outage_beyond_the_patience_is_told_and_ends_without_a_human(
    cluster: Cluster, database: str, until: Until
) -> None:
    async with node(database, patience=0.3) as log:
        following = asyncio.create_task(collect(log, 2))
        await log.append([started("i1", 1)])
        await asyncio.to_thread(cluster.stop)
        try:
            with pytest.raises(StoreError, match=r"^cannot use postgresql://.*does not answer"):
                await asyncio.wait_for(log.append([started("i1", 2)]), 60)
            assert "the database does not answer" in (log.unavailable or "")
            with pytest.raises(StoreError, match=r"^cannot read postgresql://"):
                await log.head()
        finally:
            await asyncio.to_thread(cluster.start)

        async def goes_on() -> bool:
            try:
                return await log.append([started("i1", 2)]) == 2
            except StoreError:
                return False

        await until.soon(goes_on)
        assert log.unavailable is None
        assert [each.position for each in await asyncio.wait_for(following, 60)] == [1, 2]


async def test_closing_in_an_outage_waits_for_nothing(cluster: Cluster, database: str) -> None:
    async with node(database) as log:
        await asyncio.to_thread(cluster.stop)
        try:
            waiting = asyncio.create_task(log.append([started("i1", 1)]))
            await asyncio.sleep(0)
            await asyncio.wait_for(log.close(), 60)
            with pytest.raises(StoreError, match="does not answer"):
                await waiting
        finally:
            await asyncio.to_thread(cluster.start)


def take_back_the_third(url: str) -> None:
    """As a copy of the log has it that is one event behind."""
    with owner(url) as connection:
        connection.execute("ALTER TABLE healer.event DISABLE TRIGGER USER")
        connection.execute("DELETE FROM healer.event WHERE position = 3")
        connection.execute(
            "UPDATE healer.head SET position = 2, "
            "hash = (SELECT hash FROM healer.event WHERE position = 2)"
        )


async def test_a_database_that_went_back_in_time_is_not_appended_to(database: str) -> None:
    async with node(database) as log:
        await log.append([started("i1", version) for version in (1, 2, 3)])
        take_back_the_third(database)
        cut_connections(database)
        for _ in range(2):
            with pytest.raises(
                StoreError, match="event 3 was acknowledged and is missing; the log"
            ):
                await log.append([started("i1", 3)])
        assert log.broken == "event 3 was acknowledged and is missing"
        assert await log.head() == 2


@pytest.mark.parametrize(("further", "lost"), [(1, False), (1, True), (3, True)])
async def test_a_database_that_went_back_in_time_and_on_is_not_appended_to(
    database: str, further: int, lost: bool
) -> None:
    async with node(database) as log:
        await log.append([started("i1", version) for version in (1, 2, 3)])
        take_back_the_third(database)
        async with node(database) as other:
            await other.append([started("i2", 1 + n) for n in range(further)])
        if lost:
            cut_connections(database)
        said = "event 3 is not the one that was acknowledged"
        for _ in range(2):
            with pytest.raises(StoreError, match=f"^cannot append to .*: {said}; the log can"):
                await log.append([started("i1", 3)])
        assert log.broken == said
        assert await log.head() == 2 + further


async def test_what_was_acknowledged_is_missed_also_behind_what_others_wrote(
    database: str,
) -> None:
    async with node(database) as log:
        await log.append([started("i1", version) for version in (1, 2, 3)])
        async with node(database) as other:
            await other.append([started("i2", 1)])
        with owner(database) as connection:
            connection.execute("ALTER TABLE healer.event DISABLE TRIGGER USER")
            connection.execute("DELETE FROM healer.event WHERE position = 3")
        cut_connections(database)
        with pytest.raises(StoreError, match="event 3 was acknowledged and is missing; the log"):
            await log.append([started("i1", 4)])


async def test_a_node_that_lost_its_connection_goes_on_behind_what_others_wrote(
    database: str,
) -> None:
    async with node(database) as log:
        await log.append([started("i1", 1)])
        cut_connections(database)
        async with node(database) as other:
            await other.append([started("i2", 1), started("i2", 2)])
        assert await log.append([started("i1", 2)]) == 4
        assert log.broken is None


# --- reading -------------------------------------------------------------------------------------


def sessions(url: str) -> int:
    with owner(url) as connection:
        query = (
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return int(connection.execute(query).fetchone()[0])


@contextmanager
def away(cluster: Cluster, url: str) -> Iterator[None]:
    """As in an outage of the server: nobody is connected to the database, and nobody can be."""
    name = url.partition("///")[2].partition("?")[0]
    with owner(cluster.url("postgres")) as connection:
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        try:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = %s",
                (name,),
            )
            yield
        finally:
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


async def test_many_who_read_share_two_connections_and_lost_ones_are_made_anew(
    database: str, until: Until
) -> None:
    await asyncio.to_thread(open_and_close, database, started("i1", 1))
    async with open_log(database, new_log_id=str, read_only=True) as log:
        for _ in range(3):
            found = await asyncio.gather(*(log.read() for _ in range(30)))
            assert [len(facts) for facts in found] == [1] * 30
            assert 1 <= sessions(database) <= 2
            assert "healer-log-reader_0" in {thread.name for thread in threading.enumerate()}
            cut_connections(database)
    await until.soon(lambda: sessions(database) == 0)
    assert not [each for each in threading.enumerate() if each.name.startswith("healer-log-reader")]


async def test_reading_in_an_outage_fails_and_goes_on_behind_it(
    cluster: Cluster, database: str
) -> None:
    from healer.store.postgres.place import locate

    await asyncio.to_thread(open_and_close, database, started("i1", 1))
    async with open_log(database, new_log_id=str, read_only=True) as log:
        assert len(await log.read()) == 1
        with away(cluster, database):
            for _ in range(4):
                with pytest.raises(StoreError, match=" is not currently accepting") as refused:
                    await log.head()
                assert str(refused.value).startswith(f"cannot read {locate(database)}: ")
        assert await log.head() == 1


async def test_there_is_no_news_in_an_outage_but_what_cannot_be_read_is_told(
    cluster: Cluster, database: str
) -> None:
    from healer.store.postgres.place import locate
    from healer.store.postgres.reader import Reader

    await asyncio.to_thread(
        open_and_close, database, started("i1", 1), started("i1", 2), started("i1", 3)
    )
    reader, blind = (Reader(locate(database), codec) for codec in (Codec(), Codec(types={})))
    with closing(reader), closing(blind):
        assert [each.position for each in await reader.news(1, 1)] == [2]
        assert [row[:3] for row in await blind.rows(1, 1)] == [(2, "i1", 2)]
        await blind.require_past()
        with away(cluster, database):
            assert await reader.news(0, 9) == []
        unknown = "topic issue.playbook_started.v1 is not known to this version"
        with pytest.raises(StoreError, match=f"^cannot read event 2: {unknown}$"):
            await blind.news(1, 1)
        with pytest.raises(StoreError, match=f"^cannot read event 1: {unknown}$"):
            await blind.stream("i1")
        blind.refuse()
        with pytest.raises(StoreError, match=r"the log is closed$"):
            await blind.rows(1, 1)


def test_a_connection_that_was_lost_is_tried_anew_once_and_a_new_one_is_not(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from healer.store.postgres.place import locate
    from healer.store.postgres.reader import Reader

    monkeypatch.setattr("healer.store.postgres.reader._THREADS", 1)
    asked: list[Any] = []

    def cut(connection: Any) -> None:
        asked.append(connection)
        cut_connections(database)
        connection.execute("SELECT 1")

    with closing(Reader(locate(database), Codec())) as reader:
        for tries in (1, 2, 2):
            asked.clear()
            with pytest.raises(StoreError, match="terminating connection"):
                reader.now(cut)
            assert len(asked) == tries
            assert reader.now(lambda connection: connection.execute("SELECT 1").fetchone()) == (1,)


async def test_the_close_waits_for_the_reads_that_run(database: str, until: Until) -> None:
    from healer.store.postgres.place import locate
    from healer.store.postgres.reader import Reader

    await asyncio.to_thread(open_and_close, database, started("i1", 1))
    reader = Reader(locate(database), Codec())
    with psycopg.connect(database) as holding:
        holding.execute("LOCK TABLE healer.event IN ACCESS EXCLUSIVE MODE")
        running = asyncio.ensure_future(reader.rows(0, 9))
        waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND database = "
        waits += "(SELECT oid FROM pg_database WHERE datname = current_database())"
        await until.soon(lambda: holding.execute(waits).fetchone()[0])
        closed = asyncio.ensure_future(asyncio.to_thread(reader.close))
        assert not (await asyncio.wait([closed], timeout=0.2))[0]
    assert len(await running) == 1
    await closed


async def test_a_refusal_to_read_costs_no_connection(database: str) -> None:
    await asyncio.to_thread(open_and_close, database, started("i1", 1))
    query = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
    query += "AND backend_type = 'client backend'"
    with owner(database) as connection:

        def connected() -> set[tuple[int]]:
            return {*connection.execute(query).fetchall()}

        before = connected()  # of whom some may just be leaving
        async with open_log(database, new_log_id=str, read_only=True) as log:
            assert await log.open_issues() == {}
            ours = connected() - before
            assert ours
            connection.execute("ALTER TABLE healer.open_issue RENAME TO closed_issue")
            for _ in range(4):
                with pytest.raises(StoreError, match='open_issue" does not exist'):
                    await log.open_issues()
            assert ours <= connected()


def _listener(url: str) -> list[tuple[int]]:
    with owner(url) as connection:
        return connection.execute(
            "SELECT pid FROM pg_stat_activity "
            "WHERE datname = current_database() AND query LIKE 'LISTEN%'"
        ).fetchall()


async def test_a_watch_looks_at_once_and_now_and_then_and_through_an_outage(
    cluster: Cluster, database: str, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    from healer.store.postgres.place import locate
    from healer.store.postgres.watch import watch

    looks: list[float] = []
    monkeypatch.setattr("healer.store.postgres.watch._POLL", 3600.0)
    watching = asyncio.create_task(watch(locate(database), lambda: looks.append(0)))
    await until.soon(lambda: looks, 30)
    listener = _listener(database)
    with owner(database) as connection:
        connection.execute("NOTIFY healer_log")
    await until.soon(lambda: len(looks) > 1, 30)
    # On the same connection: nothing was missed in between.
    assert _listener(database) == listener
    watching.cancel()
    monkeypatch.setattr("healer.store.postgres.watch._POLL", 0.01)
    watching = asyncio.create_task(watch(locate(database), lambda: looks.append(0)))
    await until.soon(lambda: len(looks) > 4, 30)
    with away(cluster, database):
        seen = len(looks)
        await until.soon(lambda: len(looks) > seen + 4, 30)
    await until.soon(lambda: _listening(database), 30)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


# --- opening -------------------------------------------------------------------------------------


def refusal(url: str, *, read_only: bool = False) -> str:
    with pytest.raises(StoreError) as refused:
        open_log(url, new_log_id=lambda: "log-1", read_only=read_only)
    text = str(refused.value)
    assert text.startswith("cannot open postgresql://")
    assert "\n" not in text
    return text


@pytest.mark.parametrize("read_only", [False, True])
def test_what_keeps_a_log_from_being_opened_is_one_line_without_the_password(
    cluster: Cluster, free_port: int, read_only: bool
) -> None:
    at = f"127.0.0.1:{cluster.port}"
    wrong = refusal(f"postgresql://healer:s3cr3t-wrong@{at}/postgres", read_only=read_only)
    assert "password authentication failed" in wrong
    missing = refusal(
        f"postgresql://healer:{quote(PASSWORD, '')}@{at}/nowhere", read_only=read_only
    )
    assert 'database "nowhere" does not exist' in missing
    nobody = refusal(f"postgresql://healer:s3cr3t@127.0.0.1:{free_port}/x", read_only=read_only)
    assert "refused" in nobody
    nameless = refusal("postgresql://healer:s3cr3t@nowhere.invalid/x", read_only=read_only)
    assert "nowhere.invalid" in nameless
    for text in (wrong, missing, nobody, nameless):
        assert "s3cr3t" not in text


def test_a_schema_of_another_program_is_left_alone(database: str) -> None:
    with owner(database) as connection:
        connection.execute("CREATE SCHEMA healer CREATE TABLE event (id int)")
    said = refusal(database)
    assert said.endswith(": its schema healer belongs to another program")


def test_a_log_without_its_description_is_left_alone(database: str) -> None:
    open_and_close(database)
    with owner(database) as connection:
        connection.execute("DELETE FROM healer.meta")
    assert refusal(database).endswith(": its table healer.meta is empty")


def test_a_log_without_its_head_is_left_alone(database: str) -> None:
    open_and_close(database)
    with owner(database) as connection:
        connection.execute("DELETE FROM healer.head")
    assert refusal(database).endswith(": a table of the log lacks its only row")


def test_who_owns_an_empty_schema_makes_it_a_log_and_needs_no_right_to_make_schemas(
    database: str,
) -> None:
    theirs = database.replace("user=healer", "user=tenant")
    with owner(database) as connection:
        connection.execute("CREATE ROLE tenant LOGIN")
        try:
            assert "permission denied for database" in refusal(theirs)
            connection.execute("CREATE SCHEMA healer AUTHORIZATION tenant")
            assert open_and_close(theirs, started("i1", 1)) is None
        finally:
            connection.execute("DROP OWNED BY tenant")
            connection.execute("DROP ROLE tenant")


def test_a_log_of_another_version_is_left_alone(database: str) -> None:
    open_and_close(database)
    with owner(database) as connection:
        connection.execute("UPDATE healer.meta SET schema_version = 99")
    why = f"cannot open {named(database)}: its schema version is 99; allowed: 1"
    assert refusal(database) == refusal(database, read_only=True) == why


def test_what_cannot_be_looked_at_is_said_of_the_log(database: str) -> None:
    open_and_close(database)
    with owner(database) as connection:
        connection.execute("ALTER TABLE healer.meta RENAME COLUMN schema_version TO version")
    assert 'column "schema_version" does not exist' in refusal(database)


def test_reading_only_makes_no_log(database: str) -> None:
    assert refusal(database, read_only=True) == f"cannot open {named(database)}: it is empty"


def named(url: str) -> str:
    """A database as messages name it."""
    from healer.store.postgres.place import locate

    return str(locate(url))


async def test_a_log_that_is_only_read_or_closed_says_what_cannot_be_done(database: str) -> None:
    name = named(database)
    async with node(database) as log:
        pass
    with pytest.raises(StoreError, match=r"it is not open for writing$"):
        await log.change_key()
    async with open_log(database, new_log_id=str, read_only=True) as log:
        refused = {
            f"cannot append to {name}: it is open for reading only": log.append([started("i1", 1)]),
            f"cannot change the key of {name}: it is not open for writing": log.change_key(),
        }
        for said, asked in refused.items():
            with pytest.raises(StoreError) as no:
                await asked
            assert str(no.value) == said
        with pytest.raises(StoreError) as no:
            log.listen(print)
        assert str(no.value) == f"cannot listen to {name}: it is open for reading only; follow it"


def test_a_key_that_has_no_place_is_said_before_anything_is_made(
    database: str, tmp_path: Path
) -> None:
    (tmp_path / "taken").touch()
    key = tmp_path / "taken" / "deep" / "key"
    with pytest.raises(StoreError) as refused:
        open_log(database, new_log_id=str, key=key)
    assert str(refused.value) == f"cannot keep {key}: Not a directory"
    assert "it is empty" in refusal(database, read_only=True)


async def test_where_nothing_is_heard_a_follower_looks_now_and_then(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    listening = asyncio.Event()

    async def deaf(place: object, grown: object) -> None:
        listening.set()
        await asyncio.Event().wait()

    monkeypatch.setattr("healer.store.postgres.log.watch", deaf)
    monkeypatch.setattr("healer.store.feed._POLL", 0.01)
    async with node(database) as a, node(database) as b, aclosing(a.follow(after=0)) as facts:
        coming = asyncio.ensure_future(anext(facts))
        await asyncio.wait_for(listening.wait(), 30)
        for _ in range(5):
            # By then the follower has been told that there is nothing yet.
            assert await a.read() == []
        await b.append([started("i1", 1)])
        assert (await asyncio.wait_for(coming, 30)).position == 1


async def test_who_listens_to_the_server_ends_with_the_log(database: str) -> None:
    """It has a name of its own, without a password."""
    name = f"watch {named(database)}"

    def watching() -> int:
        return sum(task.get_name() == name for task in asyncio.all_tasks())

    async with node(database) as log:
        log.listen(lambda _facts: None)
        log.listen(lambda _facts: None)
        assert watching() == 1
    assert watching() == 0


async def test_the_close_waits_for_who_listens_to_the_server(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[bool] = []

    async def slow(_place: object, _grown: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.3)
            ended.append(True)

    monkeypatch.setattr("healer.store.postgres.log.watch", slow)
    async with node(database) as log:
        log.listen(lambda _facts: None)
        await asyncio.sleep(0)
    assert ended


def test_a_server_that_would_lose_events_is_refused(cluster: Cluster, database: str) -> None:
    with owner(database) as connection:
        try:
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")
            Until()(lambda: _setting(database, "fsync") == "off")
            said = "fsync=off and would lose acknowledged events in a power cut; allowed: on"
            assert refusal(database).endswith(f": the server runs with {said}")
            # Who only reads acknowledges nothing.
            assert "it is empty" in refusal(database, read_only=True)
        finally:
            connection.execute("ALTER SYSTEM RESET fsync")
            connection.execute("SELECT pg_reload_conf()")
            Until()(lambda: _setting(database, "fsync") == "on")


def test_only_who_writes_is_refused_where_fsync_is_off(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As above, of a server that only says so: it is not changed for anybody else."""
    from healer.store.postgres import connection
    from healer.store.postgres.place import locate

    off = connection._SETTINGS.replace("current_setting('fsync')", "'off'")
    monkeypatch.setattr(connection, "_SETTINGS", off)
    place = locate(database)
    with pytest.raises(StoreError) as refused:
        connection.connect(place, writing=True)
    assert str(refused.value) == (
        f"cannot open {place}: the server runs with fsync=off and would lose acknowledged events "
        "in a power cut; allowed: on"
    )
    connection.connect(place, writing=False).close()


def _setting(url: str, name: str) -> str:
    with owner(url) as connection:
        return str(connection.execute("SELECT current_setting(%s)", (name,)).fetchone()[0])


@pytest.mark.parametrize("read_only", [False, True])
def test_a_database_that_has_not_every_text_is_refused(
    cluster: Cluster, database: str, read_only: bool
) -> None:
    name = f"{database.partition('///')[2].partition('?')[0]}_ascii"
    with owner(database) as connection:
        connection.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0")
        try:
            said = refusal(cluster.url(name), read_only=read_only)
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    assert said.endswith(f"/{name}: the database's encoding is SQL_ASCII; allowed: UTF8")


@pytest.mark.parametrize("writing", [False, True])
def test_a_connection_is_set_for_what_it_is_for(database: str, writing: bool) -> None:
    from healer.store.postgres.connection import connect
    from healer.store.postgres.place import locate

    wanted = {
        "client_encoding": "UTF8",
        "default_transaction_read_only": "off" if writing else "on",
        "idle_in_transaction_session_timeout": "5s",
        "lock_timeout": "20s",
        "plan_cache_mode": "force_generic_plan" if writing else "auto",
        "search_path": "pg_catalog",
    }
    with connect(locate(database), writing=writing) as connection:
        assert connection.autocommit
        for name, value in wanted.items():
            shown = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
            assert shown == (value,), name


def test_a_database_that_takes_no_writes_now_is_there_for_who_reads(database: str) -> None:
    from healer.store.postgres.connection import connect
    from healer.store.postgres.place import locate

    name = database.partition("///")[2].partition("?")[0]
    with owner(database) as connection:
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with pytest.raises(psycopg.OperationalError, match="session is read-only"):
        connect(locate(database), writing=True)
    connect(locate(database), writing=False).close()
    assert refusal(database, read_only=True).endswith(": it is empty")


async def test_a_commit_is_durable_whatever_the_role_is_set_to(database: str) -> None:
    from healer.store.postgres.connection import connect
    from healer.store.postgres.place import locate

    with owner(database) as connection:
        connection.execute("CREATE ROLE hasty SUPERUSER LOGIN")
        try:
            connection.execute("ALTER ROLE hasty SET synchronous_commit = off")
            place = locate(database.replace("user=healer", "user=hasty"))
            with connect(place, writing=True) as ours:
                shown = ours.execute("SHOW synchronous_commit").fetchone()
            assert shown == ("on",)
        finally:
            connection.execute("DROP ROLE hasty")


def open_and_close(url: str, *facts: Event, key: Path | None = None) -> str | None:
    """What an opening says of the log."""

    async def use() -> str | None:
        async with node(url, key=key) as log:
            if facts:
                await log.append(facts)
            return log.broken

    return asyncio.run(use())


# --- what an opening looks at --------------------------------------------------------------------


@contextmanager
def reading(url: str) -> Iterator[Any]:
    """One of the connections that the healer reads with."""
    from healer.store.postgres.connection import connect
    from healer.store.postgres.place import locate

    with connect(locate(url), writing=False) as connection:
        yield connection


def hash_of(url: str, position: int) -> bytes:
    with owner(url) as connection:
        query = "SELECT hash FROM healer.event WHERE position = %s"
        return bytes(connection.execute(query, (position,)).fetchone()[0])


class Meanwhile(Codec):
    """Lets something happen whenever it is asked."""

    def __init__(self, happens: Callable[[], None]) -> None:
        super().__init__()
        self._happens = happens

    def decode(self, *args: Any, **names: Any) -> Fact:
        self._happens()
        return super().decode(*args, **names)


def test_all_is_looked_at_as_it_was_at_one_moment(database: str) -> None:
    from healer.store.postgres.inspection import inspect

    open_and_close(database, factory.issue_detected(stream="i1", component="a"))

    def happens() -> None:
        with owner(database) as connection:
            connection.execute("INSERT INTO healer.open_issue VALUES ('b', 'i2')")

    with reading(database) as connection:
        connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        end = Tail(1, hash_of(database, 1), None)
        assert inspect(connection, Meanwhile(happens)) == (end, True)
        assert connection.isolation_level is psycopg.IsolationLevel.SERIALIZABLE
        assert inspect(connection, Codec()) == (end, False)


def test_who_is_cut_off_while_it_looks_hears_that(database: str) -> None:
    from healer.store.postgres.inspection import inspect

    open_and_close(database, factory.issue_detected(stream="i1", component="a"))
    cut = Meanwhile(lambda: cut_connections(database))
    with reading(database) as connection, pytest.raises(psycopg.Error, match="terminating conn"):
        inspect(connection, cut)


def test_a_log_that_cannot_be_understood_is_looked_at_as_far_as_it_goes(database: str) -> None:
    from healer.store.postgres.inspection import inspect

    open_and_close(database, factory.issue_detected(stream="i1"), started("i1", 2))
    strange = Codec(types={PlaybookStarted.TOPIC: PlaybookStarted})
    said = "cannot read event 1: topic issue.detected.v1 is not known to this version"
    with reading(database) as connection:
        assert inspect(connection, strange) == (Tail(2, hash_of(database, 2), said), True)


@pytest.mark.parametrize(
    ("count", "harmed", "found"),
    [(5, 1, True), (6, 2, False), (6, 3, True), (7, 3, False), (7, 4, True)],
)
def test_the_last_events_are_proved_and_no_others(
    database: str, monkeypatch: pytest.MonkeyPatch, count: int, harmed: int, found: bool
) -> None:
    from healer.store.postgres import inspection

    monkeypatch.setattr(inspection, "TAIL", 4)
    open_and_close(database, *(started("i1", version) for version in range(1, count + 1)))
    with owner(database) as connection:
        connection.execute("ALTER TABLE healer.event DISABLE TRIGGER USER")
        connection.execute("UPDATE healer.event SET body = '{}' WHERE position = %s", (harmed,))
    said = f"event {harmed} does not match its hash" if found else None
    end = Tail(count, hash_of(database, count), said)
    with reading(database) as connection:
        assert inspection.inspect(connection, Codec()) == (end, True)


# --- immutable -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE healer.event SET time = 0",
        "DELETE FROM healer.event",
        "TRUNCATE healer.event",
        "INSERT INTO healer.event SELECT * FROM healer.event ON CONFLICT (position) "
        "DO UPDATE SET time = 0",
    ],
)
def test_even_the_owner_cannot_change_an_event(database: str, statement: str) -> None:
    open_and_close(database, started("i1", 1))
    with owner(database) as connection, pytest.raises(psycopg.Error, match="the log is immutable"):
        connection.execute(statement)


def test_the_documented_grants_are_those_that_are_enough() -> None:
    from healer.store.postgres.schema import grants

    documented = (ROOT / "docs" / "operations.md").read_text()
    for statement in grants("healer_node").replace('"', "").split(";\n"):
        assert f"{statement.strip(';')};" in documented


def test_a_role_that_may_only_append_is_enough(database: str, tmp_path: Path) -> None:
    from healer.store.postgres.schema import grants

    open_and_close(database, started("i1", 1))
    theirs = database.replace("user=healer", "user=node%22x")
    with owner(database) as connection:
        connection.execute('CREATE ROLE "node""x" LOGIN')
        try:
            connection.execute(grants('node"x'))
            assert open_and_close(theirs, started("i1", 2), key=tmp_path / "key") is None
            (signed,) = connection.execute("SELECT max(size) FROM healer.checkpoint").fetchone()
            assert signed == 2
            for statement in (
                "UPDATE healer.event SET time = 0",
                "DELETE FROM healer.event",
                "TRUNCATE healer.event",
                "ALTER TABLE healer.event DISABLE TRIGGER USER",
                "UPDATE healer.meta SET log_id = ''",
                "UPDATE healer.checkpoint SET size = 0",
                "DELETE FROM healer.checkpoint",
            ):
                with owner(theirs) as node_x, pytest.raises(psycopg.errors.InsufficientPrivilege):
                    node_x.execute(statement)
        finally:
            connection.execute('DROP OWNED BY "node""x"')
            connection.execute('DROP ROLE "node""x"')
    assert require_whole_chain(database) == 2


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (
            "UPDATE healer.event SET body = body || ' ' WHERE position = 2",
            "event 2 does not match its hash",
        ),
        ("DELETE FROM healer.event WHERE position = 2", "event 2 is missing"),
        ("DELETE FROM healer.event WHERE position = 3", "event 3 is missing"),
        ("DELETE FROM healer.event", "event 1 is missing"),
        (
            "UPDATE healer.head SET position = 2",
            "event 3 is not the one that the head of the log names (2)",
        ),
        (
            "UPDATE healer.head SET hash = '\\x00'",
            "event 3 is not the one that the head of the log names (3)",
        ),
    ],
)
async def test_a_harmed_log_can_only_be_read(database: str, harm: str, said: str) -> None:
    async with node(database) as log:
        await log.append([started("i1", version) for version in (1, 2, 3)])
    with owner(database) as connection:
        connection.execute("ALTER TABLE healer.event DISABLE TRIGGER USER")
        connection.execute(harm.encode())
    async with node(database) as log:
        assert log.broken == said
        with pytest.raises(StoreError, match="the log can only be read"):
            await log.append([started("i2", 1)])
        assert len(await log.read()) == await _count(log)
        broken = log.broken
    async with open_log(database, new_log_id=str, read_only=True) as log:
        assert log.broken == broken


async def _count(log: PostgresLog) -> int:
    return len([each async for each in _all(log)])


async def test_what_the_database_refuses_is_said_of_the_log_by_its_name(database: str) -> None:
    async with node(database) as log:
        with owner(database) as connection:
            connection.execute("ALTER TABLE healer.event RENAME TO gone")
            with pytest.raises(StoreError) as refused:
                await log.append([started("i1", 1)])
            connection.execute("ALTER TABLE healer.gone RENAME TO event")
    assert str(refused.value).startswith(f"cannot use {named(database)}: relation ")


async def test_what_a_recall_cannot_read_is_told(database: str) -> None:
    async with node(database) as log:
        await log.append([factory.issue_detected(stream="i1")])
        with owner(database) as connection:
            connection.execute("ALTER TABLE healer.event DISABLE TRIGGER USER")
            connection.execute("UPDATE healer.event SET topic = 'issue.foo.v9'")
        refused: list[StoreError] = []
        recalled = log.recall({"issue.detected.v1"}, refused=refused.append)
        assert [fact async for batch in recalled for fact in batch] == []
    assert ["topic issue.foo.v9 is not known" in str(each) for each in refused] == [True]


async def test_open_issues_are_made_anew_from_the_log(database: str) -> None:
    async with node(database) as log:
        await log.append([factory.issue_detected(stream="i1", component="a")])
        await log.append([factory.issue_detected(stream="i2", component="b")])
        await log.append([factory.issue_verified(stream="i2", version=2)])
        await log.append([factory.issue_detected(stream="i3", component="d")])
    with owner(database) as connection:
        connection.execute("UPDATE healer.open_issue SET component = 'c' WHERE issue = 'i1'")
        connection.execute("INSERT INTO healer.open_issue VALUES ('b', 'i2')")
    async with node(database) as log:
        assert await log.open_issues() == {"a": "i1", "d": "i3"}


async def test_what_postgresql_has_no_text_for_is_refused_alone(database: str) -> None:
    async with node(database) as log:
        outcomes = await asyncio.gather(
            log.append([started("i1", 1)]),
            log.append([started("i\0", 1)]),
            log.append([factory.issue_detected(stream="i2", component="a\0")]),
            log.append([factory.issue_detected(stream="i3", component="\u00e4\U0001f525")]),
            return_exceptions=True,
        )
        assert (outcomes[0], outcomes[3]) == (1, 2)
        assert all("no NUL" in str(outcome) for outcome in outcomes[1:3])
        assert await log.open_issues() == {"\u00e4\U0001f525": "i3"}
        assert await log.stream("i\0") == []
        assert await log.holder("a\0") is None
