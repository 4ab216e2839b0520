"""Is a question about the past answered in 20 ms when the log has a million events?

    python tests/bench/bench_history.py [--events 1000000] [--rounds 200] [--half]

A real `healer serve` on a log of that many events: the issues of one healer that really ran, told
again under other names and times and put into the file in bulk. Asked over one kept connection:
pages of the history under each filter, by cursors, of spans of time, of what matches nothing; the
statistics; one issue. Each question is another one each time. `cpu` is what the healer worked for
an answer: of that a busy machine says the same as a quiet one.

`ready` is the time from its start to the first answer of the healer, `read` to the first
statistics; memory is its resident set after the questions (`--half`: with half of the events first,
since it must not grow with the log).
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]  # run as a script

from bench_retention import Incident, Stored, incidents  # noqa: E402 - after the path

from healer.store.chain import genesis, link  # noqa: E402
from healer.store.schema import create  # noqa: E402

LIMIT_MS = 20.0
LOG_ID = "1" * 32
NAMES = 200
BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
STEP = timedelta(seconds=350)
PREFIX = "/network-healer"
CONFIG = """
node: bench
listen: 127.0.0.1:{port}
store: sqlite:///{log}
logs: {logs}
auth: {{read: open}}
components: {{}}
"""


def rows(
    events: int, told: list[Incident], first: dict[str, Stored]
) -> Iterator[tuple[object, ...]]:
    """At least so many rows of `event`, in whole issues."""
    chance = random.Random(1)
    names = [f"service-{number:03}" for number in range(NAMES)]
    versions: dict[str, int] = {}
    kinds = list(first.values())
    position = 0
    head = genesis(LOG_ID)

    def row(event: Stored, name: str, issue: str, old: Incident | None) -> tuple[object, ...]:
        nonlocal position, head
        position += 1
        was = old.component if old else json.loads(event.body)["component"]
        body = event.body.replace(was.encode(), name.encode())
        moment = at + timedelta(microseconds=event.after)
        label = b'"timestamp":"%b"' % moment.isoformat().replace("+00:00", "Z").encode()
        begin = body.index(b'"timestamp":"')
        body = body[:begin] + label + body[body.index(b'"', begin + 13) + 1 :]
        if old is not None:
            body = body.replace(old.issue.encode(), issue.encode())
        own = event.stream.startswith("component:")
        stream = f"component:{name}" if own else issue
        versions[stream] = version = versions.get(stream, 0) + 1
        micro = round(moment.timestamp() * 1e6)
        head = link(head, position, stream, version, topic=event.topic, body=body)
        return (position, stream, version, event.topic, micro, body, head)

    at = BEGIN
    for number, name in enumerate(names):
        yield row(kinds[number % len(kinds)], name, "", None)
    while position < events:
        at += STEP
        old, name = chance.choice(told), chance.choice(names)
        issue = f"{chance.getrandbits(128):032x}"
        for event in old.events:
            yield row(event, name, issue, old)
        del versions[issue]


def write(log: Path, events: int, place: Path) -> None:
    """A log of that many events."""
    told, first = incidents(place)
    with sqlite3.connect(log) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = OFF")
        create(connection, lambda: LOG_ID)
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?)", rows(events, told, first)
        )
        connection.execute("COMMIT")
    connection.close()


class Served:
    """A `healer serve` on a log, and one connection to it."""

    def __init__(self, log: Path, place: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        file = place / "healer.yaml"
        file.write_text(CONFIG.format(port=port, log=log, logs=place / "logs"))
        file.chmod(0o600)
        argv = [sys.executable, "-m", "healer", "serve", "-c", str(file)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        began = time.perf_counter()
        with (place / "serve.log").open("wb") as said:
            self.process = subprocess.Popen(argv, cwd=place, env=environment, stderr=said)
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self.ready = self._until("/livez", began)
        self.read = self._until(f"{PREFIX}/stats", began)

    def _until(self, path: str, began: float) -> float:
        while self.process.poll() is None:
            try:
                if self.get(path)[0] == 200:
                    return time.perf_counter() - began
            except OSError:
                self.connection.close()
            time.sleep(0.01)
        raise SystemExit("the healer ended: see serve.log")

    def get(self, path: str) -> tuple[int, bytes]:
        self.connection.request("GET", path)
        answer = self.connection.getresponse()
        return answer.status, answer.read()

    def history(self, query: str) -> dict[str, list[dict[str, str]]]:
        status, body = self.get(f"{PREFIX}/history?{query}")
        assert status == 200, body
        found: dict[str, list[dict[str, str]]] = json.loads(body)
        return found

    @property
    def memory(self) -> float:
        """The resident set now, in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    @property
    def cpu(self) -> float:
        """The milliseconds that it has worked so far, to 10 ms."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * 1e3 / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.wait(60)


def questions(served: Served, events: int) -> dict[str, Callable[[random.Random], str]]:
    """Kinds of questions: each makes one by chance."""
    newest = served.history("limit=1000")["records"]
    issues = [record["issue_id"] for record in newest]
    last = datetime.fromisoformat(newest[0]["timestamp"])
    span = last - BEGIN

    def moment(chance: random.Random, share: float = 1.0) -> str:
        return (BEGIN + span * chance.random() * share).strftime("%Y-%m-%dT%H:%M:%SZ")

    def component(chance: random.Random) -> str:
        return f"component_name=service-{chance.randrange(NAMES):03}"

    def window(chance: random.Random) -> str:
        begin = BEGIN + span * chance.random()
        end = begin + span * 0.02
        return f"since={begin:%Y-%m-%dT%H:%M:%SZ}&until={end:%Y-%m-%dT%H:%M:%SZ}"

    outcomes = ("healed", "failed", "recovered")
    history = f"{PREFIX}/history?"
    return {
        "the newest 100": lambda chance: history,
        "100 from anywhere (cursor)": lambda chance: (
            f"{history}cursor={chance.randrange(1, events)}"
        ),
        "100 of one component": lambda chance: f"{history}{component(chance)}",
        "100 of one outcome, anywhere": lambda chance: (
            f"{history}outcome={chance.choice(outcomes)}&cursor={chance.randrange(1, events)}"
        ),
        "100 of a type before a time": lambda chance: (
            f"{history}issue_type=port_conflict&until={moment(chance)}"
        ),
        "all of one component in 2 % of the time": lambda chance: (
            f"{history}{component(chance)}&{window(chance)}"
        ),
        "100 in 2 % of the time": lambda chance: f"{history}{window(chance)}",
        "what matches nothing": lambda chance: (
            f"{history}{component(chance)}&issue_type=network_unreachable&outcome=healed"
        ),
        "statistics": lambda chance: f"{PREFIX}/stats",
        "one issue and its story": lambda chance: f"{PREFIX}/issues/{chance.choice(issues)}",
    }


def measure(served: Served, events: int, rounds: int) -> bool:
    """Ask, print, and say whether the target is met by all."""
    chance = random.Random(2)
    every: list[float] = []
    print(f"| {'question':42} | p50 ms | p99 ms | max ms | cpu ms |")
    print(f"| {'-' * 42} | ------ | ------ | ------ | ------ |")
    for name, make in questions(served, events).items():
        took = []
        worked = served.cpu
        for _ in range(rounds):
            path = make(chance)
            began = time.perf_counter()
            status, body = served.get(path)
            took.append((time.perf_counter() - began) * 1e3)
            assert status == 200, (path, body)
        worked = (served.cpu - worked) / rounds
        every += took
        p99 = statistics.quantiles(took, n=100)[98]
        figures = (statistics.median(took), p99, max(took), worked)
        print(f"| {name:42} | {' | '.join(f'{figure:6.1f}' for figure in figures)} |")
    p99 = statistics.quantiles(every, n=100)[98]
    print(
        f"all: p99 {p99:.1f} ms; target < {LIMIT_MS:g} ms: {'met' if p99 < LIMIT_MS else 'MISSED'}"
    )
    return p99 < LIMIT_MS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--half", action="store_true", help="also with half of the events")
    arguments = parser.parse_args()
    met = True
    sizes = [arguments.events // 2, arguments.events] if arguments.half else [arguments.events]
    for events in sizes:
        with tempfile.TemporaryDirectory() as directory:
            place = Path(directory)
            log = place / "log.db"
            began = time.perf_counter()
            write(log, events, place)
            size = log.stat().st_size / 1e6
            took = time.perf_counter() - began
            print(f"\n{events:,} events ({size:,.0f} MB, written in {took:.0f} s)")
            served = Served(log, place)
            try:
                print(f"ready after {served.ready:.1f} s, the log read after {served.read:.1f} s")
                met = measure(served, events, arguments.rounds) and met
                print(f"resident memory {served.memory:,.0f} MB; load {os.getloadavg()[0]:.1f}")
            finally:
                served.end()
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
