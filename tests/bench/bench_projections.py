"""Folding the log into all projections: what each costs, and a rebuild from the file.

    python tests/bench/bench_projections.py [--issues 6000] [--components 200] [--rounds 5]

Folds facts that are decoded already, so that the fold alone is measured; then writes the same facts
to a log in SQLite and rebuilds all projections from it, decoding included.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # run as a script, for `tests`

from healer.ports import Recorded  # noqa: E402 - after the path
from healer.store import SqliteLog  # noqa: E402
from projections import ALL  # noqa: E402
from projections.fold import Fold  # noqa: E402
from projections.history import HistoryQuery, page  # noqa: E402
from projections.projection import Projection  # noqa: E402
from replay.rebuild import rebuild  # noqa: E402
from tests.projections.build import random_log  # noqa: E402


def median(rounds: int, work: Callable[[], object]) -> tuple[float, float, float]:
    """Median, least and most seconds of `work`."""
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return statistics.median(took), min(took), max(took)


def fold(projections: Sequence[Projection[Any]], facts: Sequence[Recorded]) -> Fold:
    made = Fold(projections)
    made.apply(facts)
    if made.stopped:
        raise SystemExit(str(made.stopped))
    return made


async def rebuild_from_disk(facts: Sequence[Recorded]) -> float:
    """Seconds for all projections, from the file."""
    with tempfile.TemporaryDirectory() as directory:
        async with SqliteLog.open(Path(directory) / "log.db", new_log_id=lambda: "1" * 32) as log:
            for at in range(0, len(facts), 500):
                await log.append([each.event for each in facts[at : at + 500]])
            began = time.perf_counter()
            await rebuild(log)
            return time.perf_counter() - began


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--issues", type=int, default=6000)
    arguments.add_argument("--components", type=int, default=200)
    arguments.add_argument("--rounds", type=int, default=5)
    options = arguments.parse_args()
    facts = random_log(Random(1), issues=options.issues, components=options.components)
    print(f"{len(facts):,} facts of {options.issues:,} issues, {options.components} components\n")
    print(f"{'fold':18}{'facts/s':>12}{'µs/fact':>9}{'min..max s':>16}{'view ms':>10}")

    def row(name: str, projections: Sequence[Projection[Any]]) -> None:
        middle, least, most = median(options.rounds, lambda: fold(projections, facts))
        made = fold(projections, facts)
        shown, _, _ = median(options.rounds, lambda: [made.view(each) for each in made.names])
        print(
            f"{name:18}{len(facts) / middle:12,.0f}{middle / len(facts) * 1e6:9.2f}"
            f"{least:8.2f}..{most:<6.2f}{shown * 1e3:10.1f}"
        )

    for projection in ALL:
        row(projection.name, [projection])
    row("all together", ALL)

    history = fold([each for each in ALL if each.name == "history"], facts).state("history")
    paged, _, worst = median(
        200, lambda: page(history, HistoryQuery(component="component-0", limit=100))
    )
    print(f"\na page of 100 of one component: {paged * 1e3:.2f} ms, at most {worst * 1e3:.2f}")
    took = asyncio.run(rebuild_from_disk(facts))
    print(f"rebuild of all from SQLite: {len(facts) / took:,.0f} facts/s")


if __name__ == "__main__":
    main()
