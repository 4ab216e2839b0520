"""From a fault to a healthy component: how long, against the component's own start; and what a
healer costs while nothing happens.

    python tests/bench/bench_heal.py [--rounds 20] [--components 100] [--idle SECONDS] [CASE ...]

Cases: crash, foreign, hang, service, idle. The healer is a process of its own, and everything is
measured from outside: from the signal until /health answers again, asked without pause for breath
but for a millisecond. The floor is fork, exec and start of the same component until its first
answer, taken in turn with the healings; of `service` it is the healing by the engine alone, without
API, views, files and Guardian. Log: SQLite, synchronous=FULL, in $TMPDIR.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from healer.demo import component as demo_component  # noqa: E402 - after the path is set
from healer.demo.stack import PORTS_EACH, free_ports  # noqa: E402
from tests.bench.figure import Figure, paired, table  # noqa: E402

SERVICE = Path(__file__).with_name("service.py")
SMALL = Path(demo_component.__file__)
SERVE = (sys.executable, "-m", "healer", "serve", "-c")
ALONE = (sys.executable, str(Path(__file__).with_name("engine_alone.py")))
_POLL = 0.001
_PATIENCE = 30.0
_CALM = (0.8, 1.2)
"""Seconds of quiet between two rounds, drawn anew, so that no round meets a fixed phase."""
_REQUEST = b"GET /health HTTP/1.1\r\nHost: bench\r\n\r\n"


def answer(port: int) -> dict[str, Any] | None:
    """What /health says, None when it does not; never waits longer than an answer takes."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.5) as connection:
            connection.sendall(_REQUEST)
            received = b""
            while piece := connection.recv(65536):
                received += piece
    except OSError:
        return None
    head, _, body = received.partition(b"\r\n\r\n")
    return json.loads(body) if b" 200 " in head.split(b"\r\n")[0] else None


def await_answer(port: int, *, not_by: int | None = None) -> int:
    """The pid that answers on `port`, once another process than `not_by` does."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        said = answer(port)
        if said is not None and said["pid"] != not_by:
            return int(said["pid"])
        time.sleep(_POLL)
    raise SystemExit(f"cannot measure: nothing healthy on port {port} after {_PATIENCE:g} s")


def command(program: Path, port: int | str) -> list[str]:
    return [sys.executable, "-E", "-S", str(program), "--port", str(port)]


def start(port: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command(SERVICE, port), start_new_session=True, stdout=-3, stderr=-3)


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def bare_start(port: int) -> float:
    """Milliseconds from fork to the first answer, with nobody's help."""
    begun = time.perf_counter()
    process = start(port)
    try:
        await_answer(port)
        return (time.perf_counter() - begun) * 1000
    finally:
        end(process)


def settle() -> None:
    time.sleep(random.uniform(*_CALM))


class Daemon:
    """`healer serve`, or another `program` of its configuration, in a directory of its own."""

    def __init__(
        self,
        directory: Path,
        components: Mapping[str, Any],
        program: Sequence[str] = SERVE,
        **more: Any,
    ) -> None:
        self._log = (directory / "healer.log").open("wb")
        [first] = free_ports(1)
        self.port = first + PORTS_EACH - 1
        self.config = directory / "healer.yaml"
        tree = {
            "node": "bench",
            "store": f"sqlite:///{directory}/healer.db",
            "logs": str(directory / "logs"),
            "listen": f"127.0.0.1:{self.port}",
            # Each round is a heal in a row: none of them may be held back for that.
            "budget": {"attempts": 1000, "backoff": {"initial": 0}, "max_concurrent": 8},
            "components": dict(components),
            **more,
        }
        self.config.write_text(json.dumps(tree))
        self.process = subprocess.Popen(
            [*program, str(self.config)],
            cwd=directory,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=self._log,
            stderr=self._log,
        )

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log.close()


@contextmanager
def healing(components: Mapping[str, Any], **more: Any) -> Iterator[Daemon]:
    """A healer that keeps `components`; at the end it and all of them are gone. `more` is as for
    `Daemon`."""
    ports = [component["port"] for component in components.values()]
    with tempfile.TemporaryDirectory() as scratch:
        daemon = Daemon(Path(scratch), components, **more)
        try:
            yield daemon
        finally:
            daemon.stop()
            for port in ports:
                said = answer(port)
                if said is not None and said["launch"] is not None:
                    # Started by our healer under its launch id, and answering on our own port.
                    os.kill(said["pid"], signal.SIGKILL)


def entry(port: int, program: Path = SERVICE, **more: Any) -> dict[str, Any]:
    launch = {"command": command(program, "{port}")}
    return {"port": port, "probe": {"http": "/health"}, "launch": launch, **more}


def crash(rounds: int) -> list[Figure]:
    """kill -9 of what the healer launched."""
    port, bare_port = free_ports(2)
    floor, healed = [], []
    with healing({"service": entry(port)}):
        await_answer(port)
        for _ in range(rounds):
            settle()
            floor.append(bare_start(bare_port))
            settle()
            healed.append(crashed(port))
    return [
        Figure("bare start of the component (floor)", floor),
        Figure("kill -9, launched by the healer", healed, floor=floor, target=1.15),
    ]


def foreign(rounds: int) -> list[Figure]:
    """kill -9 of processes that somebody else started; each round one that nobody healed before."""
    bare_port, *ports = free_ports(rounds + 1)
    processes = {port: start(port) for port in ports}
    floor, healed = [], []
    try:
        for port in ports:
            await_answer(port)
        owned = {
            f"service_{port}": entry(port, owner={"cmdline": f"--port {port}"}) for port in ports
        }
        with healing(owned, defaults={"interval": "1s"}):
            time.sleep(3 * _CALM[1])
            for port, process in processes.items():
                settle()
                floor.append(bare_start(bare_port))
                settle()
                begun = time.perf_counter()
                process.kill()
                process.wait()
                await_answer(port, not_by=process.pid)
                healed.append((time.perf_counter() - begun) * 1000)
    finally:
        for process in processes.values():
            end(process)
    return [
        Figure("bare start of the component (floor)", floor),
        Figure("kill -9, started by somebody else", healed, floor=floor, target=1.3),
    ]


def hang(rounds: int) -> list[Figure]:
    """SIGSTOP at any phase of the interval."""
    [port] = free_ports(1)
    quick = {
        "interval": "250ms",
        "fast_interval": "50ms",
        "timeout": "200ms",
        "failure_threshold": 2,
    }
    healed = []
    with healing({"service": entry(port, **quick)}):
        await_answer(port)
        for _ in range(rounds):
            settle()
            pid = await_answer(port)
            begun = time.perf_counter()
            os.kill(pid, signal.SIGSTOP)
            await_answer(port, not_by=pid)
            healed.append((time.perf_counter() - begun) * 1000)
    return [Figure("SIGSTOP, 250 ms interval, 2 x 200 ms", healed, target=800)]


def crashed(port: int) -> float:
    """Milliseconds from kill -9 of what answers on `port` until something answers there again."""
    pid = await_answer(port)
    begun = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    await_answer(port, not_by=pid)
    return (time.perf_counter() - begun) * 1000


@contextmanager
def watched(daemon: Daemon) -> Iterator[None]:
    """Somebody has the dashboard open: the events are told as they land."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            reader = socket.create_connection(("127.0.0.1", daemon.port), timeout=0.5)
            break
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL)
    with reader:
        reader.sendall(
            b"GET /network-healer/events HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % daemon.port
        )
        reader.settimeout(_PATIENCE)
        if not reader.recv(65536).startswith(b"HTTP/1.1 200"):
            raise SystemExit("cannot measure: the stream of events was refused")
        yield


def service(rounds: int) -> list[Figure]:
    """kill -9 under the whole service and under the engine alone, in turn."""
    ports = free_ports(2)
    healed: dict[int, list[float]] = {port: [] for port in ports}
    served, alone = ports
    sink = [{"name": "bench", "file": "events.jsonl"}]
    with (
        healing({"service": entry(served)}, guardian=sink) as daemon,
        healing({"service": entry(alone)}, program=ALONE),
        watched(daemon),
    ):
        for number in range(rounds):
            for port in ports if number % 2 else reversed(ports):
                await_answer(port)
                settle()
                healed[port].append(crashed(port))
    return [
        Figure("kill -9, healed by the engine alone (floor)", healed[alone]),
        Figure(
            "the same by healer serve: API, dashboard, metrics, Guardian",
            healed[served],
            floor=healed[alone],
            target=1.05,
        ),
    ]


def idle(components: int, seconds: float) -> list[Figure]:
    """A healer with nothing to do but to look."""
    ports = free_ports(components)
    entries = {f"service_{port}": entry(port, SMALL) for port in ports}
    with healing(entries, defaults={"interval": "5s"}) as daemon:
        for port in ports:
            await_answer(port)
        time.sleep(2 * 5)
        process = psutil.Process(daemon.process.pid)
        shares, memory = [], []
        for _ in range(3):
            before, begun = process.cpu_times(), time.perf_counter()
            time.sleep(seconds / 3)
            after, ended = process.cpu_times(), time.perf_counter()
            used = after.user + after.system - before.user - before.system
            shares.append(used / (ended - begun) * 100)
            memory.append(process.memory_full_info())
    name = f"{components} components at 5 s"
    return [
        Figure(f"{name}: CPU of one core", shares, "%", target=3),
        Figure(f"{name}: RSS", [each.rss / 2**20 for each in memory], "MiB", target=120),
        Figure(f"{name}: PSS", [each.pss / 2**20 for each in memory], "MiB"),
        Figure(f"{name}: USS", [each.uss / 2**20 for each in memory], "MiB"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--components", type=int, default=100)
    parser.add_argument("--idle", type=float, default=30.0, help="seconds")
    parser.add_argument(
        "cases", nargs="*", metavar="CASE", help="crash, foreign, hang, service, idle"
    )
    options = parser.parse_args()
    cases: dict[str, Callable[[], Sequence[Figure]]] = {
        "crash": lambda: crash(options.rounds),
        "foreign": lambda: foreign(options.rounds),
        "hang": lambda: hang(options.rounds),
        "service": lambda: service(options.rounds),
        "idle": lambda: idle(options.components, options.idle),
    }
    unknown = [case for case in options.cases if case not in cases]
    if unknown:
        parser.error(f"cannot measure {unknown[0]!r}; allowed: {', '.join(cases)}")
    before = os.getloadavg()[0]
    figures = [figure for case in options.cases or cases for figure in cases[case]()]
    print(table(figures))
    print("\n".join(["", *(paired(figure) for figure in figures if figure.floor)]))
    print(
        f"\n{os.cpu_count()} cores, load {before:.1f} before and {os.getloadavg()[0]:.1f} after; "
        "where others compute too, figures wander and the ratios with them"
    )


if __name__ == "__main__":
    main()
