"""What a durable append costs, against the bare database in the same run.

    python tests/bench/bench_append.py [--rounds N] [--directory DIR]

The bare database is one sqlite3 connection (WAL, synchronous=FULL) that inserts rows with bodies of
the same size, one commit each, or 64 a commit. The log does the same through its coroutine: encode,
hand over to the writer's thread, hash, check versions and open issues, commit, wake the caller.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from healer.domain.events import Event  # noqa: E402 - after the path is set
from healer.store import SqliteLog  # noqa: E402
from healer.store.codec import Codec  # noqa: E402
from tests import factory  # noqa: E402

SINGLE = 500
APPENDERS = 64
EACH = 100
_TICK = 0.001


def event(stream: str, version: int) -> Event:
    return factory.step_succeeded(stream=stream, version=version)


BODY = Codec().encode(event("i1", 1)).body


class Bare:
    """The bare database."""

    def __init__(self, directory: Path) -> None:
        self._connection = sqlite3.connect(directory / "bare.db", isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute(
            "CREATE TABLE event (position INTEGER PRIMARY KEY, stream TEXT, version INTEGER, "
            "topic TEXT, time INTEGER, body BLOB, UNIQUE (stream, version)) STRICT"
        )
        self._version = 0

    def insert(self, rows: int) -> float:
        """Insert `rows` in one commit; the seconds that it took."""
        start = time.perf_counter()
        self._connection.execute("BEGIN IMMEDIATE")
        for _ in range(rows):
            self._version += 1
            self._connection.execute(
                "INSERT INTO event (stream, version, topic, time, body) VALUES (?, ?, ?, ?, ?)",
                ("i1", self._version, "issue.step_succeeded.v1", 0, BODY),
            )
        self._connection.execute("COMMIT")
        return time.perf_counter() - start

    def close(self) -> None:
        self._connection.close()


async def single(directory: Path) -> tuple[list[float], list[float]]:
    """Seconds for each bare insert and for each append, taken in turn: the disk has its moods."""
    inserts, appends = [], []
    with closing(Bare(directory)) as bare:
        async with SqliteLog.open(directory / "single.db", new_log_id=lambda: "bench") as log:
            for version in range(1, SINGLE + 1):
                inserts.append(bare.insert(1))
                entry = [event("i1", version)]
                start = time.perf_counter()
                await log.append(entry)
                appends.append(time.perf_counter() - start)
    return inserts, appends


async def together(directory: Path) -> tuple[float, list[float], list[float]]:
    """Seconds for all, seconds for each append, and how late the loop was each millisecond."""
    times: list[float] = []
    lags: list[float] = []

    async def look_at_the_loop() -> None:
        while True:
            start = time.perf_counter()
            await asyncio.sleep(_TICK)
            lags.append(time.perf_counter() - start - _TICK)

    async with SqliteLog.open(directory / "group.db", new_log_id=lambda: "bench") as log:

        async def append(stream: str) -> None:
            for version in range(1, EACH + 1):
                entry = [event(stream, version)]
                start = time.perf_counter()
                await log.append(entry)
                times.append(time.perf_counter() - start)

        looking = asyncio.create_task(look_at_the_loop())
        start = time.perf_counter()
        await asyncio.gather(*(append(f"s{n}") for n in range(APPENDERS)))
        elapsed = time.perf_counter() - start
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
    return elapsed, times, lags


def per_call(call: Callable[[], object], calls: int = 2_000) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[int(len(values) * share)]


def line(name: str, values: Sequence[float], unit: str, *, digits: int = 3) -> None:
    spread = f"{min(values):,.{digits}f}..{max(values):,.{digits}f}"
    print(f"{name:<52}{median(values):>12,.{digits}f}  {spread:<22} {unit}")


def run(rounds: int, place: Path | None) -> None:
    figures: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        figures.setdefault(name, []).append(value)

    for _ in range(rounds):
        with tempfile.TemporaryDirectory(dir=place) as scratch:
            directory = Path(scratch)
            commits, appends = asyncio.run(single(directory))
            note("bare p50", median(commits) * 1e3)
            note("log p50", median(appends) * 1e3)
            note("log p99", percentile(appends, 0.99) * 1e3)
            note("single ratio", median(appends) / median(commits))
        with tempfile.TemporaryDirectory(dir=place) as scratch:
            directory = Path(scratch)
            total = APPENDERS * EACH
            with closing(Bare(directory)) as bare:
                bare_elapsed = sum(bare.insert(APPENDERS) for _ in range(EACH))
            elapsed, times, lags = asyncio.run(together(directory))
            note("bare rate", total / bare_elapsed)
            note("log rate", total / elapsed)
            note("group ratio", elapsed / bare_elapsed)
            note("group p50", median(times) * 1e3)
            note("group p99", percentile(times, 0.99) * 1e3)
            note("lag p99", percentile(lags, 0.99) * 1e3)
    codec = Codec()
    events = [codec.encode(fact) for fact in factory.every_fact()]
    for encoded in events:
        _, stream, version, topic, _, body = encoded
        decode = partial(codec.decode, stream, version, topic, body, place="x")
        note("encode", per_call(partial(codec.encode, encoded.event)) * 1e6)
        note("decode", per_call(decode) * 1e6)

    print(f"{rounds} rounds, bodies of {len(BODY)} bytes; median and min..max over the rounds\n")
    line("one durable insert, bare sqlite3, p50", figures["bare p50"], "ms")
    line("one durable append, p50", figures["log p50"], "ms")
    line("one durable append, p99", figures["log p99"], "ms")
    line("  append / insert", figures["single ratio"], "x", digits=2)
    line(f"{APPENDERS} inserts a commit, bare sqlite3", figures["bare rate"], "rows/s", digits=0)
    line(f"{APPENDERS} appenders at once", figures["log rate"], "events/s", digits=0)
    line("  time for as many: log / bare", figures["group ratio"], "x", digits=2)
    line("  an append among them, p50", figures["group p50"], "ms")
    line("  an append among them, p99", figures["group p99"], "ms")
    line("  lag of the event loop meanwhile, p99", figures["lag p99"], "ms")
    line(f"encode, over the {len(events)} types", figures["encode"], "us", digits=2)
    line(f"decode, over the {len(events)} types", figures["decode"], "us", digits=2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--directory", type=Path, help="on the disk to measure; default: $TMPDIR")
    options = parser.parse_args()
    run(options.rounds, options.directory)
