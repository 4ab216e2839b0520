"""What verifying a log costs against reading and hashing it, and what signing it costs.

    python tests/bench/bench_verify.py [--rounds N] [--events N] [--directory DIR]

The floor selects every row and hashes its body. Appends are durable, one at a time, with and
without checkpoints in turn: once as single events (a checkpoint each 100), once as issues that end
(a checkpoint each).
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
from hashlib import sha256
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from healer.domain.events import Event  # noqa: E402 - after the path is set
from healer.store import SqliteLog  # noqa: E402
from healer.store.checkpoint import Cadence, Checkpoint, is_signed_by, sign  # noqa: E402
from healer.store.key import KeyFile, public  # noqa: E402
from replay.independent import examine  # noqa: E402
from replay.verify import verify  # noqa: E402
from tests import factory  # noqa: E402
from tests.bench.figure import Figure, table  # noqa: E402
from tests.projections.build import Log, heal  # noqa: E402

APPENDS = 600
_MILLION = 1_000_000


async def fill(file: Path, events: int) -> None:
    """A log of issues that were healed, one after the other, as a healer would have written it."""
    log = Log()
    async with SqliteLog.open(file, new_log_id=lambda: "bench") as store:
        while len(log.facts) < events:
            begin = len(log.facts)
            for _ in range(20):
                heal(log)
            await store.append([recorded.event for recorded in log.facts[begin:]])


def checkpoint_every_issue(file: Path, per: int) -> int:
    """Sign as often as a healer does whose issues end one by one; the number of checkpoints."""
    key = KeyFile(file.with_name(f"{file.name}.key")).create()
    previous: str | None = None
    notes: list[tuple[int, str]] = []
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("DROP TRIGGER checkpoint_is_never_deleted")
        connection.execute("DELETE FROM checkpoint")
        rows = connection.execute("SELECT position, hash FROM event ORDER BY position")
        for position, head in rows.fetchall():
            if position % per == 0:
                said = Checkpoint(
                    log_id="bench",
                    size=position,
                    head=head,
                    time="2026-03-01T12:00:00.000Z",
                    epoch=1,
                    key=public(key),
                    successor=None,
                    previous=None if previous is None else sha256(previous.encode()).digest(),
                )
                previous = sign(said, key)
                notes.append((position, previous))
        connection.executemany("INSERT INTO checkpoint (size, note) VALUES (?, ?)", notes)
        connection.commit()
    return len(notes)


def floor(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        for *_, body, _hash in connection.execute("SELECT * FROM event ORDER BY position"):
            sha256(body).digest()


def seconds(call: Callable[[], object]) -> float:
    """By the clock on the wall: two processors may be at work."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


async def appends(directory: Path, entry: Callable[[int], list[Event]]) -> list[list[float]]:
    """Seconds for each append to a log that is not signed, and to one that is, in turn."""
    took: list[list[float]] = [[], []]
    bare = SqliteLog.open(directory / "bare.db", new_log_id=lambda: "bench", cadence=None)
    signed = SqliteLog.open(directory / "signed.db", new_log_id=lambda: "bench", cadence=Cadence())
    async with bare, signed:
        for count in range(1, APPENDS + 1):
            for log, times in zip((bare, signed), took, strict=True):
                events = entry(count)
                start = time.perf_counter()
                await log.append(events)
                times.append(time.perf_counter() - start)
    return took


def step(count: int) -> list[Event]:
    return [factory.step_succeeded(stream="i1", version=count)]


def issue(count: int) -> list[Event]:
    stream = f"i{count}"
    return [
        factory.issue_detected(stream=stream, component=stream),
        factory.issue_failed(stream=stream, version=2),
    ]


def verifying(file: Path, rounds: int, events: int) -> list[Figure]:
    jobs: dict[str, Callable[[], object]] = {
        "select and sha256": lambda: floor(file),
        "verify": lambda: verify(file, beside=1),
        "verify, in one process": lambda: verify(file, beside=events + 1),
        "verify, chain and structure only": lambda: verify(file, deep=False),
        "the second verifier": lambda: examine(file),
    }
    assert verify(file).ok
    took: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            took[name].append(seconds(job) / events * _MILLION)
    base, *rest = took
    return [
        Figure(base, took[base], "s/million"),
        Figure(rest[0], took[rest[0]], "s/million", target=4.0),
        *(Figure(f"  {name}", took[name], "s/million", floor=took[base]) for name in rest),
    ]


def signing(rounds: int, place: Path | None) -> list[Figure]:
    figures: list[Figure] = []
    for name, entry in (("event", step), ("issue that ends", issue)):
        plain: list[float] = []
        signed: list[float] = []
        for _ in range(rounds):
            with tempfile.TemporaryDirectory(dir=place) as scratch:
                one, other = asyncio.run(appends(Path(scratch), entry))
            plain.append(median(one) * 1e6)
            signed.append(median(other) * 1e6)
        figures.append(Figure(f"append an {name}, unsigned", plain, "us"))
        figures.append(Figure("  signed", signed, "us", floor=plain))
    return figures


def primitives() -> list[Figure]:
    with tempfile.TemporaryDirectory() as scratch:
        key = KeyFile(Path(scratch) / "key").create()
    said = Checkpoint("bench", 7, bytes(32), "2026-03-01T12:00:00.000Z", 1, public(key), None, None)
    note = sign(said, key)

    def per_call(call: Callable[[], object]) -> Sequence[float]:
        return [seconds(lambda: [call() for _ in range(200)]) / 200 * 1e6 for _ in range(5)]

    return [
        Figure("sign a checkpoint", per_call(lambda: sign(said, key)), "us", target=50),
        Figure(
            "check its signature", per_call(lambda: is_signed_by(note, said, public(key))), "us"
        ),
    ]


def run(rounds: int, events: int, place: Path | None) -> None:
    with tempfile.TemporaryDirectory(dir=place) as scratch:
        file = Path(scratch) / "log.db"
        asyncio.run(fill(file, events))
        per_issue = 15
        count = checkpoint_every_issue(file, per_issue)
        with closing(sqlite3.connect(file)) as connection:
            (written, size) = connection.execute(
                "SELECT count(*), avg(length(body)) FROM event"
            ).fetchone()
        print(f"{written:,} events, bodies of {size:.0f} bytes on average, {count:,} checkpoints\n")
        figures = verifying(file, rounds, written)
    print(table([*figures, *signing(rounds, place), *primitives()]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--directory", type=Path, help="on the disk to measure; default: $TMPDIR")
    options = parser.parse_args()
    run(options.rounds, options.events, options.directory)
