"""What many readers of the event stream cost those who heal and those who read along.

    python tests/bench/bench_stream.py [--readers 100] [--rounds 10]

A real `healer serve` with one component to be killed. In turn, round by round: with `--readers`
slow readers (each takes 1 KiB every 100 ms and asks for the whole log again when it has it or is
dropped), and with none. Measured from outside: from kill -9 until the component answers again, from
the healing's verdict in the log until one reader that is not slow has it, and the CPU time of the
server for each heal. At the end: how many slow readers were dropped, by the server's own metric.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import socket
import sys
import threading
import time
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

import orjson
import psutil

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.bench.bench_heal import Daemon, await_answer, entry, free_ports, healing  # noqa: E402
from tests.bench.figure import Figure, table  # noqa: E402

_TAKEN = 1024
_EVERY = 0.1
_EVENTS = "/network-healer/events"


def ask(port: int, after: int | None = None, *, room: int | None = None) -> socket.socket:
    """A connection that was sent the question for the stream."""
    end = socket.socket()
    if room is not None:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    end.connect(("127.0.0.1", port))
    query = "" if after is None else f"?after={after}"
    end.sendall(f"GET {_EVENTS}{query} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
    return end


class SlowReaders:
    """Readers that take a little, now and then, in a thread of their own."""

    def __init__(self, port: int, count: int) -> None:
        self._port = port
        self._ends = [ask(port, 0, room=4096) for _ in range(count)]
        for end in self._ends:
            select.select([end], [], [], 30)  # the cost of coming is not what is measured
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while not self._stop.wait(_EVERY):
            ready, _, _ = select.select(self._ends, [], [], 0)
            for end in ready:
                try:
                    taken = end.recv(_TAKEN)
                except OSError:
                    taken = b""
                if not taken:  # dropped
                    end.close()
                    self._ends[self._ends.index(end)] = ask(self._port, 0, room=4096)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        for end in self._ends:
            end.close()


class Reader:
    """A reader that is not slow; knows when each verdict arrived, and when it was recorded."""

    def __init__(self, port: int) -> None:
        self._end = ask(port)
        self.late: list[float] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with self._end.makefile("rb") as lines:
            for line in lines:
                if line.startswith(b"data: "):
                    event = orjson.loads(line.removeprefix(b"data: "))
                    if event["type"] == "issue.verified.v1":
                        recorded = datetime.fromisoformat(event["timestamp"])
                        late = (datetime.now(UTC) - recorded).total_seconds()
                        self.late.append(late * 1000)

    def close(self) -> None:
        self._end.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._end.close()


def heal(port: int, daemon: Daemon) -> tuple[float, float]:
    """Kill the component: milliseconds until it answers again, and the server's own CPU."""
    server = psutil.Process(daemon.process.pid)
    pid = await_answer(port)
    spent, begun = sum(server.cpu_times()[:2]), time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    await_answer(port, not_by=pid)
    took = (time.perf_counter() - begun) * 1000
    time.sleep(1)  # what is still told of it belongs to it
    return took, (sum(server.cpu_times()[:2]) - spent) * 1000


def dropped(port: int) -> str:
    """The lines of the server's metrics that tell of streams."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return ", ".join(line for line in lines if line.startswith("healer_event_streams_"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--readers", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=10)
    asked = parser.parse_args()
    [port] = free_ports(1)
    alone: tuple[list[float], list[float], list[float]] = ([], [], [])
    crowd: tuple[list[float], list[float], list[float]] = ([], [], [])
    with healing({"service": entry(port)}) as daemon:
        door = int(orjson.loads(daemon.config.read_bytes())["listen"].rpartition(":")[2])
        await_answer(port)
        for _ in range(asked.rounds):
            for figures, readers in ((alone, 0), (crowd, asked.readers)):
                slow = SlowReaders(door, readers)
                reader = Reader(door)
                time.sleep(1)
                took, spent = heal(port, daemon)
                figures[0].append(took)
                figures[1].extend(reader.late)
                figures[2].append(spent)
                reader.close()
                slow.close()
        told = dropped(door)
    names = ("kill -9 until it answers", "verdict until it is read")
    shown = []
    for number, name in enumerate(names):
        shown.append(Figure(f"{name}, no slow reader", alone[number]))
        shown.append(Figure(f"{name}, {asked.readers} of them", crowd[number], floor=alone[number]))
    shown.append(Figure("CPU of the server for 2 s, none", alone[2]))
    shown.append(Figure(f"CPU of the server for 2 s, {asked.readers}", crowd[2], floor=alone[2]))
    print(table(shown))
    print(f"\n{told}; load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
