"""A real healer whose database goes away: it does nothing that it cannot record, says so, and goes
on by itself. And what the thread that writes does meanwhile, with a clock of its own."""

from __future__ import annotations

import asyncio
import math
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import pytest

from healer.errors import IssueConflictError, StoreError
from healer.ports import Recorded
from healer.store.codec import Codec
from healer.store.feed import Feed
from healer.store.postgres.plan import Entry
from replay.archive import open_database
from replay.verify import verify
from tests import factory
from tests.api.ending import end_components
from tests.cli.conftest import CONFIG, House
from tests.conftest import COMPONENT, Processes, Until
from tests.store.cluster import PASSWORD, Cluster

psycopg = pytest.importorskip("psycopg", exc_type=ImportError)

from healer.store.postgres.ledger import Committed, Ledger  # noqa: E402
from healer.store.postgres.writer import Writer  # noqa: E402

PATIENT = 40.0


class Wire:
    """A wire to the server that can be cut: connections stay, and nothing comes through."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._whole = threading.Event()
        self._whole.set()
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets.append(self._listener)
        self.port = self._listener.getsockname()[1]
        self._start(self._accept)
        return self

    def __exit__(self, *error: object) -> None:
        self._whole.set()
        for each in list(self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def cut(self) -> None:
        self._whole.clear()

    def mend(self) -> None:
        self._whole.set()

    def url(self, database: str) -> str:
        """The same database, through here."""
        name = psycopg.conninfo.conninfo_to_dict(database)["dbname"]
        return (
            f"postgresql://healer:{quote(PASSWORD, '')}@127.0.0.1:{self.port}/{name}"
            "?sslmode=disable&gssencmode=disable"
        )

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            far = socket.create_connection(("127.0.0.1", self._server_port))
            self._sockets += [near, far]
            self._start(lambda near=near, far=far: self._carry(near, far))  # type: ignore[misc]
            self._start(lambda near=near, far=far: self._carry(far, near))  # type: ignore[misc]

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65_536):
                self._whole.wait()
                sink.sendall(data)
        finally:
            with suppress(OSError):
                sink.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _start(work: Callable[[], None]) -> None:
        def quietly() -> None:
            # A connection that ended, on either side, is what a wire is for.
            with suppress(OSError):
                work()

        threading.Thread(target=quietly, daemon=True).start()


class Outage(House):
    """A healer with one component, whose log is on a server."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.url = ""

    def keep_log_in(self, url: str) -> None:
        self.url = url
        text = CONFIG.format(
            listen=self.listen, port=self.port, python=sys.executable, component=COMPONENT
        )
        # The end of a process is seen at once; a machine that is slow is no fault.
        patient = "timeout: 10s, failure_threshold: 5"
        text = text.replace("timeout: 500ms, failure_threshold: 2", patient)
        assert patient in text
        self.write(f'{text}\nstore: "{url}"\nwitness: witness\n')

    def writable(self) -> float:
        found = re.search(r"^healer_log_writable (\S+)$", self.get("/metrics").text, re.MULTILINE)
        assert found
        return float(found[1])

    def listening(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


async def _end(url: str) -> None:
    from healer.store.postgres import PostgresLog

    async with await asyncio.to_thread(PostgresLog.open_readonly, url) as log:
        await end_components(log)


@pytest.fixture
def outage(
    tmp_path: Path,
    free_ports: Callable[[int], list[int]],
    processes: Processes,
    cluster: Cluster,
    database: str,
) -> Iterator[Outage]:
    listen, port = free_ports(2)
    house = Outage(tmp_path, listen, port, processes)
    try:
        yield house
    finally:
        house.end()
        asyncio.run(_end(database))


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", ["restart", "crash", "cut"])
def test_a_healer_waits_for_its_database_and_goes_on_by_itself(
    outage: Outage, cluster: Cluster, database: str, until: Until, kind: str
) -> None:
    with Wire(cluster.port) as wire:
        away, back = {
            "restart": (cluster.stop, cluster.start),
            "crash": (cluster.crash, cluster.start),
            "cut": (wire.cut, wire.mend),
        }[kind]
        outage.keep_log_in(wire.url(database) if kind == "cut" else database)
        healer = outage.start()
        until(outage.ready, PATIENT)
        before = until(outage.healthy, PATIENT)["process"]["pid"]
        assert outage.writable() == 1
        away()
        try:
            os.kill(before, signal.SIGKILL)
            until(lambda: "cannot be written" in outage.get("/readyz").text, PATIENT)
            assert outage.get("/readyz").status_code == 503
            assert outage.writable() == 0
            # What cannot be recorded is not done.
            assert not outage.listening()
        finally:
            back()
        after = until(lambda: _another(outage.healthy(), before), PATIENT)
        until(outage.ready, PATIENT)
        assert outage.writable() == 1
        assert outage.stop(healer) == 0
    with open_database(database) as archive:
        report = verify(archive, witness=outage.directory / "witness")
    assert report.ok, report.problems
    assert report.witnessed == report.events
    starts = _started(database)
    assert {before, after} <= set(starts)
    assert len(starts) == len(set(starts))


def _another(shown: dict[str, Any] | None, pid: int) -> int | None:
    found = shown["process"]["pid"] if shown else pid
    return None if found == pid else int(found)


def _started(url: str) -> list[int]:
    """The processes that the log says were started."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT (convert_from(body, 'UTF8')::json -> 'result' -> 'started' ->> 'pid')::int "
            "FROM healer.event WHERE topic = 'issue.step_succeeded.v1' ORDER BY position"
        ).fetchall()
    return [pid for (pid,) in rows if pid is not None]


# --- the thread that writes ----------------------------------------------------------------------

CODEC = Codec()
NAME = "healer-log-writer"
GONE = psycopg.OperationalError("it is\n  gone")
AWAY = "the database does not answer: it is gone"


def started(version: int, stream: str = "i1") -> Any:
    return factory.playbook_started(stream=stream, version=version)


class FailingLedger(Ledger):
    """Keeps what is appended to it, without a database, and fails as often as it was told to."""

    def __init__(self, wait: float | None) -> None:
        self.head = 0
        self.broken = None
        self.wait = wait
        self.facts: list[Recorded] = []
        self.problems: list[StoreError] = []
        self.failures: dict[str, list[Exception]] = {}
        self.asked: list[str] = []
        self.groups: list[Sequence[Entry]] = []
        self.spans: list[tuple[int, int]] = []
        self.postponed: list[str] = []
        self.turns = 0
        self.spend: Callable[[], None] = lambda: None
        self.held = threading.Event()
        self.held.set()

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.failures.get(what):
            self.spend()
            raise self.failures[what].pop(0)

    def append(self, group: Sequence[Entry]) -> Committed:
        self.groups.append(group)
        self._ask("append")
        assert self.held.wait(PATIENT)
        start = len(self.facts)
        outcomes: list[int | StoreError] = []
        for entry in group:
            if entry.events[0].stream == "refused":
                outcomes.append(IssueConflictError("cannot append refused/1: no"))
                continue
            for encoded in entry.events:
                self.facts.append(Recorded(len(self.facts) + 1, encoded.event))
            outcomes.append(len(self.facts))
        self.head = len(self.facts)
        return Committed(start, outcomes)

    def reach(self) -> int:
        self._ask("reach")
        return len(self.facts)

    def between(self, after: int, last: int) -> tuple[list[Recorded], list[StoreError]]:
        self.spans.append((after, last))
        self._ask("between")
        return self.facts[after:last], self.problems

    def until_seal(self) -> float | None:
        self.turns += 1
        return self.wait

    def seal(self, *, closing: bool = False) -> None:
        self._ask("seal last" if closing else "seal")
        self.wait = None

    def postpone(self, why: str) -> None:
        self.postponed.append(why)
        self.wait = None

    def drop(self) -> None:
        self.asked.append("drop")

    def close(self) -> None:
        self.asked.append("close")


class Desk:
    """A writer with a clock of its own, whose ledger does as it is told."""

    def __init__(
        self, *, chance: float = 0.0, patience: float = 1e9, wait: float | None = None
    ) -> None:
        self.now = 0.0
        self.pace = 0.0
        self.heard: list[Recorded] = []
        self.reads = 0
        self.ledger = FailingLedger(wait)
        self.feed = Feed(self._read, poll=False)
        self.writer = Writer(
            self.ledger,
            self.feed,
            name="the log",
            monotonic=self._clock,
            chance=lambda: chance,
            patience=patience,
        )

    def _clock(self) -> float:
        self.now += self.pace
        return self.now

    async def _read(self, after: int) -> list[Recorded]:
        self.reads += 1
        return self.ledger.facts[after:]

    def append(self, *versions: int, stream: str = "i1") -> asyncio.Task[int]:
        entry = Entry([CODEC.encode(started(version, stream)) for version in versions])
        return asyncio.create_task(self.writer.append(entry))

    def others(self, count: int) -> None:
        """What other nodes append."""
        have = len(self.ledger.facts)
        self.ledger.facts += [Recorded(have + n, started(n, "i2")) for n in range(1, count + 1)]

    async def look(self) -> None:
        """As when another node announces a commit; until the thread has done with it."""
        await Until().soon(lambda: self.ledger.turns, PATIENT)
        before = self.ledger.turns
        self.writer.look()
        await Until().soon(lambda: self.ledger.turns > before, PATIENT)
        # The thread has said what there was to say, and the loop hears it in its next turn.
        await asyncio.sleep(0)

    def count(self, what: str) -> int:
        return self.ledger.asked.count(what)

    async def hold(self, version: int) -> asyncio.Task[int]:
        """The thread is busy with this append, and what follows waits for it together."""
        self.ledger.held.clear()
        before = self.count("append")
        task = self.append(version)
        await Until().soon(lambda: self.count("append") > before, PATIENT)
        return task

    async def close(self, finish: Callable[[], None] = lambda: None) -> None:
        await asyncio.wait_for(self.writer.close(finish), PATIENT)


@asynccontextmanager
async def desk(**options: Any) -> AsyncIterator[Desk]:
    opened = Desk(**options)
    yield opened
    if opened.writer.alive:
        await opened.close()


async def soon(task: asyncio.Task[int]) -> int:
    return await asyncio.wait_for(task, PATIENT)


async def outcomes_of(*tasks: asyncio.Task[int]) -> list[int | BaseException]:
    return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), PATIENT)


@pytest.mark.parametrize(("chance", "factor"), [(0.0, 0.5), (0.5, 1.0), (1.0, 1.5)])
async def test_the_waits_in_an_outage_double_up_to_two_seconds_and_differ_by_chance(
    chance: float, factor: float
) -> None:
    async with desk(chance=chance) as ours:
        ours.ledger.failures["reach"] = [GONE] * 8
        for number, wait in enumerate((0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0), start=1):
            await ours.look()
            assert ours.count("reach") == number
            due = ours.now + wait * factor
            ours.now = math.nextafter(due, 0.0)
            await ours.look()
            assert ours.count("reach") == number
            ours.now = due
        await ours.look()
        ours.ledger.failures["reach"] = [GONE]
        await ours.look()
        ours.now += 0.05 * factor
        await ours.look()
        assert ours.count("reach") == 11


async def test_what_is_wrong_with_the_database_is_said_until_it_answers() -> None:
    async with desk() as ours:
        assert ours.writer.unavailable is None
        assert await soon(ours.append(1)) == 1
        ours.ledger.failures["reach"] = [GONE]
        await ours.look()
        assert ours.writer.unavailable == AWAY
        assert ours.count("drop") == 1
        ours.now += 1.0
        await ours.look()
        assert ours.writer.unavailable is None


async def test_a_database_that_says_nothing_is_said_to_be_away() -> None:
    async with desk() as ours:
        waiting = await ours.hold(1)
        ours.now = 5.0
        assert ours.writer.unavailable is None
        ours.now = 7.0
        assert ours.writer.unavailable == "the database has not answered for 7 s"
        ours.ledger.held.set()
        assert await soon(waiting) == 1
        assert ours.writer.unavailable is None


async def test_what_was_sent_and_not_answered_is_given_to_the_ledger_again_as_it_was() -> None:
    async with desk(chance=0.5) as ours:
        ours.pace = 10.0
        ours.ledger.failures["append"] = [GONE] * 60
        assert await soon(ours.append(1)) == 1
        first, *again = ours.ledger.groups
        assert len(again) == 60
        assert all(group is first for group in again)


async def test_an_outage_beyond_the_patience_fails_what_waits_and_later_all_is_well() -> None:
    async with desk(patience=3.0) as ours:

        def spend() -> None:
            ours.now += 1.0

        ours.ledger.spend = spend
        ours.ledger.failures["append"] = [GONE] * 5
        # The first is lost at 1, the fourth at 4; then nobody asks before it is time to.
        for _ in range(2):
            with pytest.raises(StoreError) as failed:
                await soon(ours.append(1))
            assert str(failed.value) == f"cannot use the log: {AWAY}"
            assert ours.count("append") == 4
        ours.now += 10.0
        with pytest.raises(StoreError) as failed:
            await soon(ours.append(1))
        assert str(failed.value) == f"cannot use the log: {AWAY}"
        assert isinstance(failed.value.__cause__, psycopg.OperationalError)
        assert ours.count("append") == 5
        ours.now += 10.0
        assert await soon(ours.append(1)) == 1
        ours.ledger.failures["append"] = [GONE]
        assert await soon(ours.append(2)) == 2


async def test_an_attempt_is_due_at_its_time_and_not_after_it() -> None:
    async with desk(patience=0.0, chance=0.5) as ours:
        ours.ledger.failures["append"] = [GONE]
        with pytest.raises(StoreError):
            await soon(ours.append(1))
        ours.now = 0.05
        assert await soon(ours.append(1)) == 1


async def test_who_closes_in_an_outage_waits_for_nothing_and_signs_nothing() -> None:
    async with desk(chance=1e9) as ours:
        ours.ledger.failures["append"] = [GONE] * 9
        waiting = ours.append(1)
        await Until().soon(lambda: ours.count("append"), PATIENT)
        await ours.close()
        with pytest.raises(StoreError, match=f"^cannot use the log: {AWAY}$"):
            await soon(waiting)
        assert ours.count("append") == 2
        assert ours.ledger.asked[-1] == "close"
        assert ours.count("seal last") == 0


@pytest.mark.parametrize("error", [psycopg.errors.UniqueViolation("no"), ValueError("no")])
async def test_everybody_in_a_group_that_was_refused_is_told_in_an_error_of_their_own(
    error: Exception,
) -> None:
    async with desk() as ours:
        first = await ours.hold(1)
        ours.ledger.failures["append"] = [error]
        others = [ours.append(version) for version in (2, 3, 4)]
        await asyncio.sleep(0)
        ours.ledger.held.set()
        assert await soon(first) == 1
        outcomes = await outcomes_of(*others)
        assert len({id(outcome) for outcome in outcomes}) == 3
        for outcome in outcomes:
            assert isinstance(outcome, StoreError)
            assert str(outcome) == f"cannot use the log: no ({type(error).__name__})"
            assert outcome.__cause__ is error
        assert [len(group) for group in ours.ledger.groups] == [1, 3]
        assert ours.count("drop") == 1
        assert await soon(ours.append(2)) == 2


@pytest.mark.parametrize("failing", [False, True])
async def test_who_waits_no_longer_keeps_nobody_from_being_told(*, failing: bool) -> None:
    wrong: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: wrong.append(context))
    async with desk() as ours:
        first = await ours.hold(1)
        ours.ledger.failures["append"] = [ValueError("no")] if failing else []
        left, stays = ours.append(2), ours.append(3)
        await asyncio.sleep(0)
        left.cancel()
        ours.ledger.held.set()
        assert await soon(first) == 1
        (outcome,) = await outcomes_of(stays)
        assert isinstance(outcome, StoreError) if failing else outcome == 3
        assert left.cancelled()
    assert wrong == []


async def test_a_wait_on_a_loop_that_is_gone_hurts_nobody() -> None:
    async with desk() as ours:

        def leave_without_waiting() -> None:
            async def leave() -> None:
                waiting = await ours.hold(1)
                waiting.cancel()

            asyncio.run(leave())
            ours.ledger.held.set()

        await asyncio.to_thread(leave_without_waiting)
        assert await soon(ours.append(2)) == 2


async def test_whoever_has_the_thread_do_something_hears_what_became_of_it() -> None:
    def run(*answers: Any) -> asyncio.Task[Any]:
        left = list(answers)

        def work(ledger: Ledger) -> Any:
            assert ledger is ours.ledger
            if isinstance(answer := left.pop(0), Exception):
                raise answer
            return answer

        return asyncio.create_task(ours.writer.run(work))

    async with desk() as ours:
        assert await soon(run(42)) == 42
        assert await soon(run(GONE, GONE, 43)) == 43
        with pytest.raises(StoreError, match=r"^cannot do it$"):
            await soon(run(StoreError("cannot do it")))
        with pytest.raises(StoreError, match=r"^cannot use the log: odd \(ValueError\)$"):
            await soon(run(ValueError("odd")))


async def test_listeners_hear_of_all_nodes_in_the_order_of_the_log() -> None:
    async with desk() as ours:
        assert await soon(ours.append(1)) == 1
        ours.feed.listen(ours.heard.extend)
        ours.others(2)
        assert await soon(ours.append(2, 3)) == 5
        ours.others(1)
        await ours.look()
        await Until().soon(lambda: len(ours.heard) == 5, PATIENT)
        first = await ours.hold(4)
        tasks = [ours.append(1, stream="refused"), ours.append(5), ours.append(6)]
        await asyncio.sleep(0)
        ours.ledger.held.set()
        assert await soon(first) == 7
        with pytest.raises(IssueConflictError, match=r"^cannot append refused/1: no$"):
            await soon(tasks[0])
        assert [await soon(task) for task in tasks[1:]] == [8, 9]
        assert ours.heard == ours.ledger.facts[1:]


async def test_what_cannot_be_told_now_is_told_before_what_comes_after_it() -> None:
    async with desk() as ours:
        ours.feed.listen(ours.heard.extend)
        ours.others(1)
        ours.ledger.failures["between"] = [GONE]
        assert await soon(ours.append(1)) == 2
        assert ours.heard == []
        ours.now += 1.0
        assert await soon(ours.append(2)) == 3
        assert ours.heard == ours.ledger.facts


async def test_an_event_that_cannot_be_told_is_said_to_the_loop() -> None:
    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
    async with desk() as ours:
        ours.feed.listen(ours.heard.extend)
        problem = StoreError("cannot read event 2")
        ours.ledger.problems = [problem]
        ours.others(1)
        await ours.look()
        await Until().soon(lambda: ours.heard, PATIENT)
        assert ours.heard == ours.ledger.facts
    assert said == [{"message": "an event was not told to listeners", "exception": problem}]


@pytest.mark.parametrize("question", ["reach", "between"])
@pytest.mark.parametrize("error", [psycopg.errors.InsufficientPrivilege("no"), ValueError("no")])
async def test_who_waits_is_answered_though_others_facts_cannot_be_read_for_listeners(
    question: str, error: Exception
) -> None:
    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
    async with desk() as ours:
        ours.feed.listen(ours.heard.extend)
        ours.others(1)
        ours.ledger.failures[question] = [error]
        ours.writer.look()
        await Until().soon(lambda: said, PATIENT)
        ours.others(1)
        ours.ledger.failures["between"] = [error]
        assert await soon(ours.append(1)) == 3
        assert ours.heard == []
        assert await soon(ours.append(2)) == 4
        assert ours.heard == ours.ledger.facts
    assert [each["message"] for each in said] == ["an event was not told to listeners"] * 2
    assert [str(each["exception"]) for each in said] == [
        f"cannot use the log: no ({type(error).__name__})"
    ] * 2


async def test_nothing_is_read_for_nobody_nor_for_who_listens_from_now_on() -> None:
    async with desk() as ours:
        ours.others(3)
        await ours.look()
        assert await soon(ours.append(1)) == 4
        busy, go_on = threading.Event(), threading.Event()

        def work(_: Ledger) -> bool:
            busy.set()
            return go_on.wait(PATIENT)

        working = asyncio.create_task(ours.writer.run(work))
        await Until().soon(busy.is_set, PATIENT)
        ours.others(3)
        ours.writer.look(skip=True)
        ours.feed.listen(ours.heard.extend)
        own = ours.append(2)
        await asyncio.sleep(0)
        go_on.set()
        assert (await soon(working), await soon(own)) == (True, 8)
        assert ours.ledger.spans == []
        ours.others(1200)
        await ours.look()
        await Until().soon(lambda: len(ours.heard) == 1201, PATIENT)
        assert ours.heard == ours.ledger.facts[7:]
        assert ours.ledger.spans == [(8, 508), (508, 1008), (1008, 1208)]


async def test_followers_are_woken_by_what_others_append_and_by_what_we_do() -> None:
    async with desk() as ours, aclosing(ours.feed.follow(after=0)) as facts:
        for number in (1, 2):
            coming = asyncio.ensure_future(anext(facts))
            await Until().soon(lambda seen=ours.reads: ours.reads > seen, PATIENT)
            if number == 1:
                ours.others(1)
                await ours.look()
            else:
                assert await soon(ours.append(1)) == 2
            assert (await asyncio.wait_for(coming, PATIENT)).position == number


@pytest.mark.parametrize("error", [ValueError("odd"), psycopg.errors.UniqueViolation("no")])
async def test_a_defect_at_the_last_signature_is_told_to_who_closes(error: Exception) -> None:
    async with desk() as ours:
        ours.ledger.failures["seal last"] = [error]
        if isinstance(error, psycopg.Error):
            await soon(ours.close())
        else:
            with pytest.raises(StoreError, match=r"^cannot use the log: odd \(ValueError\)$"):
                await soon(ours.close())
        assert ours.ledger.asked[-1] == "close"


async def test_what_is_due_to_be_signed_is_signed_though_nobody_appends() -> None:
    async with desk(wait=0.0) as ours:
        await Until().soon(lambda: ours.count("seal"), PATIENT)
        await Until().soon(lambda: ours.ledger.turns > 1, PATIENT)
        assert ours.ledger.postponed == []
        assert await soon(ours.append(1)) == 1
        await Until().soon(lambda: ours.count("seal") == 2, PATIENT)
    assert ours.ledger.asked[-2:] == ["seal last", "close"]


async def test_nothing_is_signed_before_it_is_due() -> None:
    async with desk(wait=1000.0) as ours:
        await ours.look()
        await ours.look()
        assert ours.count("seal") == 0


async def test_a_signature_that_is_refused_is_postponed_and_says_why() -> None:
    async with desk() as ours:
        ours.ledger.failures["seal"] = [StoreError("cannot sign it")]
        assert await soon(ours.append(1)) == 1
        await Until().soon(lambda: ours.ledger.postponed, PATIENT)
        assert ours.ledger.postponed == ["cannot sign it"]
        ours.ledger.failures["seal last"] = [StoreError("cannot sign it")]


async def test_a_signature_waits_for_the_database_as_everything_does() -> None:
    async with desk() as ours:
        ours.now = 1000.0
        ours.ledger.wait = 0.0
        ours.ledger.failures["seal"] = [GONE]
        assert await soon(ours.append(1)) == 1
        await Until().soon(lambda: ours.writer.unavailable == AWAY, PATIENT)
        assert ours.count("seal") == 1
        ours.now += 1.0
        await Until().soon(lambda: ours.count("seal") == 2, PATIENT)
        assert ours.ledger.postponed == []


async def test_in_an_outage_the_thread_sleeps_though_a_signature_is_due() -> None:
    async with desk(chance=1e9) as ours:
        ours.ledger.wait = 0.0
        ours.ledger.failures["seal"] = [GONE]
        assert await soon(ours.append(1)) == 1
        await Until().soon(lambda: ours.writer.unavailable, PATIENT)
        before = ours.ledger.turns
        for _ in range(20):
            await ours.look()
        assert ours.ledger.turns - before in {20, 21}
        assert ours.count("seal") == 1


async def test_a_close_that_fails_is_told_and_lets_go_of_the_database(until: Until) -> None:
    def finish() -> None:
        raise RuntimeError("not today")

    ours = Desk()
    with pytest.raises(RuntimeError, match=r"^not today$"):
        await ours.close(finish)
    assert ours.ledger.asked == ["close"]
    await until.soon(lambda: not ours.writer.alive, PATIENT)


async def test_the_thread_has_a_name_and_keeps_no_process_from_ending() -> None:
    before = set(threading.enumerate())
    async with desk():
        (thread,) = set(threading.enumerate()) - before
        assert (thread.name, thread.daemon) == (NAME, True)
    assert set(threading.enumerate()) <= before
