"""Exporting a log of N events, and what DuckDB and polars make of the files.

    python tests/bench/bench_export.py [--events 200000] [--tables events history ...] [--keep DIR]

The floor is measured in the same run on the same log: select the rows, decode each with orjson,
fold them into one dict. All rates are in events of the log per second, and shown as multiples of
it. The export runs in a process of its own, whose greatest resident size is shown.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import multiprocessing
import resource
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import orjson

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # run as a script, for `tests`

from healer.store import SqliteLog, chain  # noqa: E402 - after the path
from healer.store.codec import Codec  # noqa: E402
from replay.export import TABLES, export  # noqa: E402
from tests.projections.build import random_log  # noqa: E402

LOG_ID = "1" * 32
DAYS = 90
BEGIN = 1_772_366_400_000_000  # 2026-03-01 12:00 UTC


def rows(events: int) -> Iterator[tuple[int, str, int, str, int, bytes, bytes]]:
    """The rows of a log of that many events over `DAYS` days: one of 3,000 issues of 200
    components, over and over; each time issues have other ids, components are the same."""
    codec = Codec()
    template = [
        codec.encode(each.event) for each in random_log(Random(1), issues=3000, components=200)
    ]
    step = DAYS * 86_400_000_000 // events
    previous = chain.genesis(LOG_ID)
    for position in range(1, events + 1):
        copy, place = divmod(position - 1, len(template))
        _, stream, version, topic, _, body = template[place]
        if stream.startswith("component:"):
            version += copy * 100_000
        else:
            body = body.replace(stream.encode(), b"%b-%d" % (stream.encode(), copy))
            stream = f"{stream}-{copy}"
        moment = BEGIN + position * step
        body = at(body, moment)
        previous = chain.link(previous, position, stream, version, topic=topic, body=body)
        yield position, stream, version, topic, moment, body, previous


def at(body: bytes, moment: int) -> bytes:
    """`body` with another time."""
    begin = body.index(b'"timestamp":"') + 13
    end = body.index(b'"', begin)
    seconds, micros = divmod(moment, 1_000_000)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return b"%b%b.%06dZ%b" % (body[:begin], text.encode(), micros, body[end:])


def write_log(file: Path, events: int) -> None:
    """The log, written as fast as the database takes it."""

    async def create() -> None:
        async with SqliteLog.open(file, new_log_id=lambda: LOG_ID):
            pass

    asyncio.run(create())
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.executemany("INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?)", rows(events))
    connection.close()


def floor(file: Path) -> float:
    """Seconds to select all rows, decode them and fold them into one dict."""
    connection = sqlite3.connect(file)
    began = time.perf_counter()
    counts: dict[tuple[str, str], int] = {}
    for topic, body in connection.execute("SELECT topic, body FROM event ORDER BY position"):
        key = (topic, orjson.loads(body)["actor"])
        counts[key] = counts.get(key, 0) + 1
    took = time.perf_counter() - began
    connection.close()
    return took


def run_export(file: Path, directory: Path, tables: tuple[str, ...]) -> tuple[float, float]:
    """Seconds of the export, and the process's greatest resident size in MB."""

    async def run() -> float:
        async with SqliteLog.open_readonly(file) as log:
            began = time.perf_counter()
            await export(log, directory, tables=tables, log_id=LOG_ID)
            return time.perf_counter() - began

    took = asyncio.run(run())
    return took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def alone(work: Callable[..., Any], *arguments: object) -> Any:
    """What `work` returns in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(work, *arguments).result()


def questions(directory: Path, names: tuple[str, ...]) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What is asked of the files: name, and how."""
    duckdb, polars = importlib.import_module("duckdb"), importlib.import_module("polars")
    events = str(directory / "events" / "*" / "*.parquet")
    if "events" in names:
        yield (
            "duckdb: events by topic and actor",
            lambda: duckdb.read_parquet(events).aggregate("topic, actor, count(*)").fetchall(),
        )
        yield (
            "duckdb: failed issues by reason, from JSON",
            lambda: (
                duckdb.read_parquet(events)
                .filter("topic = 'issue.failed.v1'")
                .aggregate("payload->>'reason', avg((payload->>'resolved_in')::DOUBLE)")
                .fetchall()
            ),
        )
        yield (
            "duckdb: a JSON field of every event",
            lambda: duckdb.read_parquet(events).aggregate("payload->>'actor', count(*)").fetchall(),
        )
        yield (
            "polars: events by topic and actor",
            lambda: polars.scan_parquet(events).group_by("topic", "actor").len().collect(),
        )
    if "history" in names:
        history = str(directory / "history" / "*" / "*.parquet")
        yield (
            "duckdb: outcome and p95 by issue type",
            lambda: (
                duckdb.read_parquet(history)
                .aggregate("issue_type, outcome, quantile_cont(time_to_resolution, 0.95)")
                .fetchall()
            ),
        )
        yield (
            "polars: outcome and p95 by issue type",
            lambda: (
                polars.scan_parquet(history)
                .group_by("issue_type", "outcome")
                .agg(polars.col("time_to_resolution").quantile(0.95))
                .collect()
            ),
        )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--events", type=int, default=200_000)
    arguments.add_argument("--tables", nargs="+", default=list(TABLES), choices=list(TABLES))
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--keep", type=Path, help="where log and files stay")
    options = arguments.parse_args()
    tables: tuple[str, ...] = tuple(options.tables)
    with tempfile.TemporaryDirectory() as temporary:
        place = options.keep or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        file, events = place / "log.db", options.events
        if not file.exists():
            alone(write_log, file, events)
        least = min(floor(file) for _ in range(options.rounds))
        print(f"{events:,} events, {file.stat().st_size / 1e6:,.0f} MB in SQLite\n")
        print(f"{'':44}{'seconds':>9}{'events/s':>13}{'x floor':>9}")

        def line(name: str, took: float) -> None:
            print(f"{name:44}{took:9.2f}{events / took:13,.0f}{least / took:9.2f}", flush=True)

        line("floor: select, orjson, one dict", least)
        for only in [(table,) for table in tables if len(tables) > 1]:
            took, _ = alone(run_export, file, place / f"only-{only[0]}", only)
            line(f"export of {only[0]}", took)
        took, resident = alone(run_export, file, place / "export", tables)
        line(f"export of {', '.join(tables)}"[:43], took)
        sizes: Counter[str] = Counter()
        for path in (place / "export").rglob("part-*.parquet"):
            sizes[path.relative_to(place / "export").parts[0]] += path.stat().st_size
        for name, ask in questions(place / "export", tables):
            ask()
            best = float("inf")
            for _ in range(options.rounds):
                began = time.perf_counter()
                ask()
                best = min(best, time.perf_counter() - began)
            line(name, best)
        shown = ", ".join(f"{name} {size / 1e6:,.1f}" for name, size in sizes.items())
        print(f"\nMB of Parquet: {shown}\nresident size of the export at most: {resident:,.0f} MB")


if __name__ == "__main__":
    main()
