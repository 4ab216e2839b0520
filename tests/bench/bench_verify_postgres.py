"""What verifying a log in PostgreSQL costs against reading and hashing it.

    python tests/bench/bench_verify_postgres.py [--rounds N] [--events N]

Starts a server of its own on a unix socket. The floor selects every row, in one process, and hashes
its body. The log is one of issues that were healed one after the other, signed as a healer signs.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from replay.archive import open_database  # noqa: E402 - after the path is set
from replay.independent import examine  # noqa: E402
from replay.verify import Report, verify  # noqa: E402
from tests.bench.figure import Figure, table  # noqa: E402
from tests.projections.build import Log, heal  # noqa: E402
from tests.store.cluster import Cluster, find_programs  # noqa: E402

_MILLION = 1_000_000


async def fill(url: str, key: Path, events: int) -> int:
    """A log of about `events` events, and how many it has."""
    from healer.store.postgres import PostgresLog

    log = Log()
    async with PostgresLog.open(url, new_log_id=lambda: "bench", key=key) as store:
        while len(log.facts) < events:
            begin = len(log.facts)
            for _ in range(20):
                heal(log)
            await store.append([recorded.event for recorded in log.facts[begin:]])
    return len(log.facts)


def floor(url: str) -> None:
    import psycopg

    with psycopg.connect(url) as connection, connection.cursor("rows") as cursor:
        cursor.execute("SELECT * FROM healer.event ORDER BY position", binary=True)
        while rows := cursor.fetchmany(2000):
            for *_, body, _hash in rows:
                sha256(body).digest()


def verified(url: str, *, deep: bool = True, beside: int = 1) -> Report:
    with open_database(url) as archive:
        return verify(archive, deep=deep, beside=beside)


def seconds(call: Callable[[], object]) -> float:
    """By the clock on the wall: more than one process is at work."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def run(cluster: Cluster, rounds: int, events: int) -> None:
    url = cluster.url("postgres")
    with tempfile.TemporaryDirectory() as scratch:
        written = asyncio.run(fill(url, Path(scratch) / "key", events))
    report = verified(url)
    assert report.ok, report.problems
    print(f"{written:,} events, {report.checkpoints:,} checkpoints\n")
    jobs: dict[str, Callable[[], object]] = {
        "select and sha256, in one process": lambda: floor(url),
        "verify": lambda: verified(url),
        "verify, in one process": lambda: verified(url, beside=written + 1),
        "verify, chain and structure only": lambda: verified(url, deep=False),
        "the second verifier": lambda: examine(url),
    }
    took: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            took[name].append(seconds(job) / written * _MILLION)
    base, first, *rest = took
    print(
        table(
            [
                Figure(base, took[base], "s/million"),
                Figure(first, took[first], "s/million", target=4.0),
                *(Figure(f"  {name}", took[name], "s/million", floor=took[base]) for name in rest),
            ]
        )
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=200_000)
    options = parser.parse_args()
    programs = find_programs()
    if programs is None:
        sys.exit("cannot measure: initdb is neither in PATH nor below /usr/lib/postgresql")
    # Nobody connects by TCP here: any port names the socket.
    server = Cluster(programs, 5432, tcp=False)
    try:
        server.start()
        run(server, options.rounds, options.events)
    finally:
        server.remove()
