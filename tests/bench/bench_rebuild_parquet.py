"""Statistics and training set from a Parquet export, beside the least that a process can do with
the log that it was made of.

    python tests/bench/bench_rebuild_parquet.py [--days 40] [--log FILE] [--rounds 5]

The log is that of `bench_rebuild` (one million events in 170 days), and so is the floor: select the
rows, decode them with orjson, count in one dict. What is compared is the recipe for DuckDB,
`docs/recipes/duckdb_rebuild.py`, whose statistics are compared byte for byte with a fold of the
log. Each run is a process of its own; starting it, and importing, is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]  # run as a script

from bench_rebuild import floor, head_of  # noqa: E402 - after the path
from bench_retention import write  # noqa: E402

from healer.store import SqliteLog  # noqa: E402
from projections.beside import fold_file  # noqa: E402
from projections.projection import canonical  # noqa: E402
from projections.stats import STATS  # noqa: E402
from replay.export import export  # noqa: E402

RECIPE = ROOT / "docs" / "recipes" / "duckdb_rebuild.py"
TABLES = ("history", "training", "health")
TARGET = 5.0


def work(what: str, log: Path, directory: Path) -> dict[str, Any]:
    """One measured run, in this process."""
    spec = importlib.util.spec_from_file_location("recipe", RECIPE)
    assert spec is not None and spec.loader is not None  # noqa: PT018 - it is a file of ours
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    until = head_of(log)
    began, worked = time.perf_counter(), time.process_time()
    if what == "floor":
        floor(log, until)
        views = None
    else:
        views = recipe.rebuild(directory)
    took, work_done = time.perf_counter() - began, time.process_time() - worked
    return {"seconds": took, "work": work_done, "stats": views and views["stats"]}


def measured(rounds: int, *arguments: str) -> dict[str, Any]:
    """The run of the median time."""
    runs = []
    for _ in range(rounds):
        command = [sys.executable, __file__, "--work", *arguments]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        runs.append(json.loads(done.stdout))
    middle = statistics.median_low(run["seconds"] for run in runs)
    return next(run for run in runs if run["seconds"] == middle)


async def exported(log: Path, directory: Path) -> None:
    async with SqliteLog.open_readonly(log) as opened:
        await export(opened, directory, tables=TABLES)


def report(log: Path, directory: Path, rounds: int) -> None:
    events = head_of(log)
    began = time.perf_counter()
    asyncio.run(exported(log, directory))
    took = time.perf_counter() - began
    size = sum(path.stat().st_size for path in directory.rglob("*.parquet"))
    print(f"{events:,} events; {', '.join(TABLES)} exported in {took:,.1f} s: {size / 1e6:,.1f} MB")
    least = measured(rounds, "floor", str(log), str(directory))
    run = measured(rounds, "duckdb", str(log), str(directory))
    fold = asyncio.run(fold_file(log, [STATS], until=events))
    equal = canonical(run["stats"]) == canonical(fold.view(STATS.name))
    ratio = least["seconds"] / run["seconds"]
    print(f"  floor   {events / least['seconds']:12,.0f} events/s")
    print(
        f"  DuckDB  {events / run['seconds']:12,.0f} events/s {ratio:6.1f} x floor"
        f" ({least['work'] / run['work']:.1f} by the processor's time);"
        f" target {TARGET:.0f}: {'met' if ratio >= TARGET else 'MISSED'}"
    )
    print(f"  the statistics are {'equal to' if equal else 'NOT'} those of the fold, byte for byte")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=40)
    parser.add_argument("--components", type=int, default=200)
    parser.add_argument("--log", type=Path, help="one that is there already")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        what, log, directory = arguments.work
        print(json.dumps(work(what, Path(log), Path(directory))))
        return
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        log = arguments.log
        if log is None:
            log = place / "log.db"
            asyncio.run(write(log, arguments, place))
        report(log, place / "export", arguments.rounds)


if __name__ == "__main__":
    main()
