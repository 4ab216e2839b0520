"""Does the log of 200 components over 90 days stay under 1 GB, and how fast is it asked then?

    python tests/bench/bench_retention.py [--components 200] [--days 90] [--keep DIR]

The faults are real: the demo breaks its services, and the issues that its healer wrote (every
check, step and probe of them) are told again under other names and times through the real store,
with its chain, and a signed checkpoint behind each issue. Nothing else is in a log: a quiet day
adds nothing.

How often: each component has one issue a day, and each day one component loops for four hours,
which the budget holds to one attempt in five minutes (48 issues). That is more than people put up
with: the usual alarm on restarts, more than 5 in a quarter of an hour or one an hour for a day,
finds the loop alone, and a service that fails each day is one with a leak that nobody mends.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # run as a script, for `tests`

from healer.domain.component import component_stream  # noqa: E402 - after the path
from healer.domain.events import Fact, IssueFailed, IssueVerified  # noqa: E402
from healer.store import SqliteLog  # noqa: E402
from healer.store.archive import archive  # noqa: E402
from healer.store.codec import Codec  # noqa: E402
from projections import ALL  # noqa: E402
from projections.history import HistoryQuery, page  # noqa: E402
from replay.rebuild import rebuild  # noqa: E402

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
LIMIT = 1_000_000_000
LOOP = timedelta(minutes=5)


class Stored(NamedTuple):
    """An event of the demo: which stream, what, and how long after its issue began."""

    stream: str
    version: int
    topic: str
    body: bytes
    after: int


class Incident(NamedTuple):
    """One issue of the demo, with what was said of its component meanwhile."""

    issue: str
    component: str
    events: list[Stored]


def incidents(place: Path) -> tuple[list[Incident], dict[str, Stored]]:
    """What the demo's healer wrote of each issue that ended, and of each component first."""
    log = place / "demo.db"
    command = [sys.executable, "-m", "healer", "demo", "--json", "--store", f"sqlite:///{log}"]
    # On a busy machine not every fault ends as the demo expects (1); its log is as real.
    subprocess.run(command, cwd=ROOT, check=False, capture_output=True, timeout=120)
    connection = sqlite3.connect(log)
    rows = connection.execute(
        "SELECT stream, version, topic, body, time FROM event ORDER BY position"
    ).fetchall()
    connection.close()
    first: dict[str, Stored] = {}
    found: list[Incident] = []
    open_now: dict[str, tuple[Incident, int]] = {}
    for stream, version, topic, body, moment in rows:
        fields = json.loads(body)
        if stream.startswith("component:"):
            name = fields["component"]
            first.setdefault(name, Stored(stream, version, topic, body, 0))
            if name in open_now and topic != "component.port_rebound.v1":
                incident, began = open_now[name]
                incident.events.append(Stored(stream, version, topic, body, moment - began))
            continue
        if topic == "issue.detected.v1":
            open_now[fields["component"]] = (Incident(stream, fields["component"], []), moment)
        for name, (incident, began) in list(open_now.items()):
            if incident.issue == stream:
                incident.events.append(Stored(stream, version, topic, body, moment - began))
                if topic in {IssueVerified.TOPIC, IssueFailed.TOPIC}:
                    found.append(open_now.pop(name)[0])
    return found, first


def calendar(random: Random, components: int, days: int) -> list[tuple[datetime, int]]:
    """When which component fails."""
    faults = []
    for day in range(days):
        begin = BEGIN + timedelta(days=day)
        faults += [
            (begin + timedelta(seconds=random.random() * 86_400), component)
            for component in range(components)
        ]
        looping = random.randrange(components)
        faults += [(begin + timedelta(hours=9) + LOOP * turn, looping) for turn in range(48)]
    return sorted(faults)


def facts(components: int, days: int, place: Path) -> Iterator[Fact]:
    """The facts of all faults, in the order of their issues."""
    random, decode = Random(1), Codec().decode
    told, first = incidents(place)
    versions: dict[str, int] = {}

    def again(event: Stored, name: str, issue: str, old: Incident | None, at: datetime) -> Fact:
        was = old.component if old else json.loads(event.body)["component"]
        body = event.body.replace(was.encode(), name.encode())
        if old is not None:
            body = body.replace(old.issue.encode(), issue.encode())
        component = event.stream.startswith("component:")
        stream = component_stream(name) if component else issue
        versions[stream] = version = versions.get(stream, 0) + 1 if component else event.version
        fact = decode(stream, version, event.topic, body, place=f"demo {event.stream}")
        return fact.model_copy(update={"timestamp": at + timedelta(microseconds=event.after)})

    names = [f"service-{number:03}" for number in range(components)]
    kinds = list(first.values())
    for number, name in enumerate(names):
        yield again(kinds[number % len(kinds)], name, "", None, BEGIN)
    for at, component in calendar(random, components, days):
        incident, issue = random.choice(told), f"{random.getrandbits(128):032x}"
        for event in incident.events:
            yield again(event, names[component], issue, incident, at)


async def write(log: Path, arguments: argparse.Namespace, place: Path) -> int:
    """Write the log; how many events it has."""
    async with SqliteLog.open(log, new_log_id=lambda: "1" * 32) as opened:
        waiting: list[Fact] = []
        for fact in facts(arguments.components, arguments.days, place):
            waiting.append(fact)
            if isinstance(fact, IssueVerified | IssueFailed):
                await opened.append(waiting)
                waiting = []
        if waiting:
            await opened.append(waiting)
        return await opened.head()


async def timed(ask: Callable[[], Awaitable[Any]], rounds: int) -> float:
    """The median of `rounds`, in milliseconds."""
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        await ask()
        took.append((time.perf_counter() - began) * 1e3)
    return statistics.median(took)


async def questions(log: Path) -> None:
    """What is asked of a log, and how long the answers take."""
    async with SqliteLog.open_readonly(log) as opened:
        began = time.perf_counter()
        fold = await rebuild(opened, ALL)
        print(f"  {'all projections from nothing':44}{time.perf_counter() - began:10.1f} s")
        stream = component_stream("service-000")

        async def stats() -> None:
            fold.view("stats")

        async def history() -> None:
            page(fold.state("history"), HistoryQuery(component="service-000", limit=100))

        shown = [
            ("statistics, live", stats, 20),
            ("100 issues of one component, live", history, 20),
            ("load a component (all of its facts)", lambda: opened.stream(stream), 5),
            ("the first 500 events of the log", lambda: opened.read(after=0), 20),
        ]
        for name, ask, rounds in shown:
            print(f"  {name:44}{await timed(ask, rounds):10.2f} ms")


def size_of(log: Path) -> int:
    with sqlite3.connect(f"file:{log}?mode=ro", uri=True) as connection:
        (notes,) = connection.execute("SELECT sum(length(note)) FROM checkpoint").fetchone()
    connection.close()
    print(f"  of it checkpoints, their text              {notes / 1e6:10.1f} MB")
    return log.stat().st_size


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--components", type=int, default=200)
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument("--keep", type=Path, help="where the log stays")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = arguments.keep or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        log = place / "log.db"
        began = time.perf_counter()
        events = asyncio.run(write(log, arguments, place))
        took = time.perf_counter() - began
        size = log.stat().st_size
        print(f"{arguments.components} components, {arguments.days} days: {events:,} events")
        print(f"  written in {took:,.0f} s through the store ({events / took:,.0f} events/s)")
        verdict = "met" if size < LIMIT else "MISSED"
        print(f"  {size / 1e6:,.1f} MB; target: under {LIMIT / 1e6:,.0f} MB: {verdict}")
        print(f"  {size / events:,.0f} bytes an event, {size / arguments.days / 1e6:.2f} MB a day")
        size_of(log)
        asyncio.run(questions(log))
        began = time.perf_counter()
        done = archive(log, BEGIN + timedelta(days=arguments.days * 2 / 3))
        print(f"archived two thirds: {done.events:,} events in {time.perf_counter() - began:.1f} s")
        print(
            f"  {done.size / 1e6:,.1f} MB of Parquet, {log.stat().st_size / 1e6:,.1f} MB in SQLite"
        )
        asyncio.run(questions(log))
    return 0 if size < LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
