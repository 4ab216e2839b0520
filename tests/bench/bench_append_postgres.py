"""What a durable append to PostgreSQL costs, against the bare database in the same run.

    python tests/bench/bench_append_postgres.py [--rounds N]

Starts a server of its own on a unix socket. The bare database is one psycopg connection
(synchronous_commit=on) that inserts rows with bodies of the same size into a table with the same
keys, one commit each, or 64 a commit by one statement. The log does the same through its coroutine:
encode, hand over to the writer's thread, lock the head, check versions and open issues, hash,
commit, notify, wake the caller.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from healer.domain.events import Event  # noqa: E402 - after the path is set
from healer.store.codec import Codec  # noqa: E402
from tests import factory  # noqa: E402
from tests.store.cluster import Cluster, find_programs  # noqa: E402

SINGLE = 500
APPENDERS = 64
EACH = 100
_TICK = 0.001


def event(stream: str, version: int) -> Event:
    return factory.step_succeeded(stream=stream, version=version)


BODY = Codec().encode(event("i1", 1)).body


class Bare:
    """The bare database."""

    def __init__(self, url: str) -> None:
        import psycopg  # an extra

        self._connection = psycopg.connect(url)
        self._connection.execute("SET synchronous_commit = on")
        self._connection.execute(
            "CREATE TABLE bare (position bigint PRIMARY KEY, stream text, version bigint, "
            "topic text, time bigint, body bytea, UNIQUE (stream, version))"
        )
        self._connection.commit()
        self._version = 0

    def insert(self, rows: int) -> float:
        """Insert `rows` in one commit; the seconds that it took."""
        start = time.perf_counter()
        versions = range(self._version + 1, self._version + rows + 1)
        self._version += rows
        self._connection.execute(
            "INSERT INTO bare SELECT n, 'i1', n, 'issue.step_succeeded.v1', 0, body "
            "FROM unnest(%b::bigint[], %b::bytea[]) AS each (n, body)",
            (list(versions), [BODY] * rows),
        )
        self._connection.commit()
        return time.perf_counter() - start

    def close(self) -> None:
        self._connection.close()


async def single(url: str, nodes: int) -> tuple[list[float], list[float]]:
    """Seconds for each bare insert and for each append, taken in turn: the disk has its moods."""
    from healer.store.postgres import PostgresLog

    inserts, appends = [], []
    with closing(Bare(url)) as bare:
        logs = [PostgresLog.open(url, new_log_id=lambda: "bench") for _ in range(nodes)]
        for version in range(1, SINGLE + 1):
            inserts.append(bare.insert(1))
            entry = [event("i1", version)]
            start = time.perf_counter()
            await logs[version % nodes].append(entry)
            appends.append(time.perf_counter() - start)
        for log in logs:
            await log.close()
    return inserts, appends


async def together(url: str, nodes: int) -> tuple[float, list[float], list[float]]:
    """Seconds for all, seconds for each append, and how late the loop was each millisecond."""
    from healer.store.postgres import PostgresLog

    times: list[float] = []
    lags: list[float] = []

    async def look_at_the_loop() -> None:
        while True:
            start = time.perf_counter()
            await asyncio.sleep(_TICK)
            lags.append(time.perf_counter() - start - _TICK)

    logs = [PostgresLog.open(url, new_log_id=lambda: "bench") for _ in range(nodes)]

    async def append(log: PostgresLog, stream: str) -> None:
        for version in range(1, EACH + 1):
            entry = [event(stream, version)]
            start = time.perf_counter()
            await log.append(entry)
            times.append(time.perf_counter() - start)

    looking = asyncio.create_task(look_at_the_loop())
    start = time.perf_counter()
    await asyncio.gather(*(append(logs[n % nodes], f"s{n}") for n in range(APPENDERS)))
    elapsed = time.perf_counter() - start
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    for log in logs:
        await log.close()
    return elapsed, times, lags


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[int(len(values) * share)]


def line(name: str, values: Sequence[float], unit: str, *, digits: int = 3) -> None:
    spread = f"{min(values):,.{digits}f}..{max(values):,.{digits}f}"
    print(f"{name:<52}{median(values):>12,.{digits}f}  {spread:<22} {unit}")


def run(cluster: Cluster, rounds: int) -> None:
    import psycopg

    figures: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        figures.setdefault(name, []).append(value)

    def database(name: str) -> str:
        with psycopg.connect(cluster.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return cluster.url(name)

    for number in range(rounds):
        inserts, appends = asyncio.run(single(database(f"single_{number}"), 1))
        note("bare p50", median(inserts) * 1e3)
        note("log p50", median(appends) * 1e3)
        note("log p99", percentile(appends, 0.99) * 1e3)
        note("single ratio", median(appends) / median(inserts))
        url = database(f"group_{number}")
        with closing(Bare(url)) as bare:
            bare_elapsed = sum(bare.insert(APPENDERS) for _ in range(EACH))
        elapsed, times, lags = asyncio.run(together(url, 1))
        note("bare rate", APPENDERS * EACH / bare_elapsed)
        note("log rate", APPENDERS * EACH / elapsed)
        note("group ratio", elapsed / bare_elapsed)
        note("group p50", median(times) * 1e3)
        note("group p99", percentile(times, 0.99) * 1e3)
        note("lag p99", percentile(lags, 0.99) * 1e3)
        elapsed, _, _ = asyncio.run(together(database(f"nodes_{number}"), 2))
        note("two nodes", APPENDERS * EACH / elapsed)

    print(f"{rounds} rounds, bodies of {len(BODY)} bytes; median and min..max over the rounds\n")
    line("one durable insert, bare psycopg, p50", figures["bare p50"], "ms")
    line("one durable append, p50", figures["log p50"], "ms")
    line("one durable append, p99", figures["log p99"], "ms")
    line("  append / insert", figures["single ratio"], "x", digits=2)
    line(f"{APPENDERS} rows a commit, bare psycopg", figures["bare rate"], "rows/s", digits=0)
    line(f"{APPENDERS} appenders at once", figures["log rate"], "events/s", digits=0)
    line("  time for as many: log / bare", figures["group ratio"], "x", digits=2)
    line("  an append among them, p50", figures["group p50"], "ms")
    line("  an append among them, p99", figures["group p99"], "ms")
    line("  lag of the event loop meanwhile, p99", figures["lag p99"], "ms")
    line(f"{APPENDERS} appenders on two nodes", figures["two nodes"], "events/s", digits=0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    programs = find_programs()
    if programs is None:
        sys.exit("cannot measure: initdb is neither in PATH nor below /usr/lib/postgresql")
    # Nobody connects by TCP here: any port names the socket.
    server = Cluster(programs, 5432, tcp=False)
    try:
        server.start()
        run(server, options.rounds)
    finally:
        server.remove()
