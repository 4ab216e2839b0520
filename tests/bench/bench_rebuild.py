"""Rebuilding from a log in SQLite, beside the least that a process can do with it.

    python tests/bench/bench_rebuild.py [--days 150] [--log FILE] [--rounds 3]

The log is that of `bench_retention` (200 components, what the demo's healer wrote told again), one
million events in 170 days. The floor is one process that selects the rows, decodes them with orjson
and counts in one dict. Each rebuild is a process of its own, so that its memory is its own; of two
processes it is that of both. What is compared is one after the other in one run: it wants a quiet
machine with two free cores. On a busy one the processor's time says more: of two processes it is
that of the busier one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import orjson

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]  # run as a script

from bench_retention import write  # noqa: E402 - after the path

from projections import ALL  # noqa: E402
from projections.beside import fold_file  # noqa: E402
from projections.history import HistoryQuery, page  # noqa: E402

THREE = ("stats", "history", "training")


def head_of(log: Path) -> int:
    """The position of the last event."""
    connection = sqlite3.connect(log)
    (head,) = connection.execute("SELECT max(position) FROM event").fetchone()
    connection.close()
    return int(head)


def floor(log: Path, until: int) -> None:
    connection = sqlite3.connect(log)
    counts: Counter[str] = Counter()
    for stream, topic, body in connection.execute(
        "SELECT stream, topic, body FROM event WHERE position <= ? ORDER BY position", (until,)
    ):
        event = orjson.loads(body)
        counts[event.get("component", stream)] += 1
        counts[topic] += 1
    connection.close()


def work(what: str, names: list[str], log: Path, until: int) -> dict[str, Any]:
    """One measured run, in this process."""
    began = time.perf_counter()
    worked = time.process_time()
    told: dict[str, Any] = {}
    if what == "floor":
        floor(log, until)
        told["seconds"] = time.perf_counter() - began
        told["work"] = time.process_time() - worked
    else:
        chosen = [each for each in ALL if each.name in names]
        long = 1 if what == "two" else 1 << 62
        fold = asyncio.run(fold_file(log, chosen, until=until, long=long))
        told["seconds"] = time.perf_counter() - began
        beside = resource.getrusage(resource.RUSAGE_CHILDREN)
        told["work"] = max(time.process_time() - worked, beside.ru_utime + beside.ru_stime)
        if fold.stopped:
            raise SystemExit(str(fold.stopped))
        began = time.perf_counter()
        page(fold.state("history"), HistoryQuery(issue_type="none of this type"))
        told["page"] = time.perf_counter() - began
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    used += resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {**told, "rss": used / 1024}


def measured(rounds: int, *arguments: str) -> dict[str, Any]:
    """The run of the median time."""
    runs = []
    for _ in range(rounds):
        command = [sys.executable, __file__, "--work", *arguments]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        runs.append(json.loads(done.stdout))
    middle = statistics.median_low(run["seconds"] for run in runs)
    return next(run for run in runs if run["seconds"] == middle)


def report(log: Path, rounds: int) -> None:
    head = head_of(log)
    for until in (head // 2, head):
        least = measured(rounds, "floor", "-", str(log), str(until))
        print(f"\n{until:,} events; floor {until / least['seconds']:,.0f} events/s")
        for label, names in (("three", THREE), ("all", [each.name for each in ALL])):
            for what in ("one", "two"):
                run = measured(rounds, what, ",".join(names), str(log), str(until))
                took = run["seconds"]
                print(
                    f"  {label:6}{what:4} {until / took:10,.0f} events/s"
                    f" {least['seconds'] / took:5.2f} x floor"
                    f" ({least['work'] / run['work']:.2f} by the processor's time)"
                    f" {run['rss']:7,.0f} MB at most;"
                    f" a page of nothing {run['page'] * 1e3:5.1f} ms"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=170)
    parser.add_argument("--components", type=int, default=200)
    parser.add_argument("--log", type=Path, help="one that is there already")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        what, names, log, until = arguments.work
        print(json.dumps(work(what, names.split(","), Path(log), int(until))))
        return
    with tempfile.TemporaryDirectory() as directory:
        log = arguments.log
        if log is None:
            log = Path(directory) / "log.db"
            asyncio.run(write(log, arguments, Path(directory)))
        report(log, arguments.rounds)


if __name__ == "__main__":
    main()
