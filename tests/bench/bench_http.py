"""How many questions a second one core answers while 20 heals run, and how long the slowest wait.

    python tests/bench/bench_http.py [--seconds 5] [--clients 8] [--churn 2]

A real `healer serve`, pinned to the first core; the questions come from this process, pinned to the
last one, over connections that are kept. Twenty components are being healed all the time: their
start takes longer than the benchmark. The log moves by `--churn` more, whose start fails at once
and which are healed again without a pause; how many events a second that makes is a column. On a
machine that is busy with other things, look at the requests for each second of the server's own CPU
time: it pays the heals out of the same.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import orjson
import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))

from healer.demo.stack import free_ports

HEALS = 20
EVENTS = 300
PREFIX = "/network-healer"
TARGET = (f"{PREFIX}/stats", f"{PREFIX}/active")
HEAD = """
node: bench
listen: 127.0.0.1:{port}
budget: {{max_concurrent: 64, max_unhealthy: 100%, attempts: 1000000, backoff: {{initial: 0}}}}
defaults: {{interval: 250ms, timeout: 500ms, failure_threshold: 2, start_period: 0s}}
components:
"""
COMPONENT = """  c{number}: {{port: {port}, launch: {{hook: [/bin/sleep, "600"], timeout: 10m}}}}
"""
CHURN = """  f{number}:
    {{port: {port}, interval: 10ms, failure_threshold: 1, launch: {{hook: [/bin/false]}}}}
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--churn", type=int, default=2)
    asked = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as scratch:
        port, *ports = free_ports(1 + HEALS + asked.churn)
        text = HEAD.format(port=port) + "".join(
            COMPONENT.format(number=n, port=each) for n, each in enumerate(ports[:HEALS])
        )
        text += "".join(CHURN.format(number=n, port=each) for n, each in enumerate(ports[HEALS:]))
        file = Path(scratch) / "healer.yaml"
        file.write_text(text)
        file.chmod(0o600)
        argv = [sys.executable, "-m", "healer", "serve", "-c", str(file)]
        with (Path(scratch) / "log").open("wb") as log:
            server = subprocess.Popen(argv, stderr=log, cwd=scratch)
        os.sched_setaffinity(server.pid, {cores[0]})
        os.sched_setaffinity(0, {cores[-1]})
        try:
            healing = _wait(port)
            print(
                "| measured | requests/s | per CPU second | p50 | p99 | max | events/s | target |"
            )
            print("| --- | --- | --- | --- | --- | --- | --- | --- |")
            for name in ("stats", "active", "history", "playbook-stats"):
                path = f"{PREFIX}/{name}"
                asyncio.run(_measure(server.pid, port, path, asked.clients, asked.seconds))
            asyncio.run(_measure(server.pid, port, "/livez", asked.clients, asked.seconds))
            print(f"\n{healing} heals ran; {len(cores)} cores, load {os.getloadavg()[0]:.1f}")
        finally:
            server.kill()
            server.wait()
            for entry in Path("/proc").iterdir():
                _end_sleep(entry)


def _end_sleep(entry: Path) -> None:
    """A hook of ours that still sleeps: it carries our scratch directory's launch."""
    try:
        if entry.name.isdigit() and (entry / "cmdline").read_bytes() == b"/bin/sleep\x00600\x00":
            environ = (entry / "environ").read_bytes()
            if b"HEALER_LAUNCH_ID=" in environ and b"HEALER_COMPONENT=c" in environ:
                os.kill(int(entry.name), 9)
    except OSError:
        return


def _wait(port: int) -> int:
    deadline = time.monotonic() + 60
    running = 0
    while time.monotonic() < deadline and running < HEALS:
        time.sleep(0.1)
        try:
            url = f"http://127.0.0.1:{port}/network-healer/components"
            with urllib.request.urlopen(url, timeout=5) as answer:
                shown = orjson.loads(answer.read())["components"]
            running = sum(each["healing"] for each in shown)
        except OSError:
            continue
    return running


def _head(port: int) -> int:
    """The last position of the log, by the server's own metric."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith("healer_log_head "):
                return int(float(line.split()[1]))
    raise SystemExit("cannot measure: no healer_log_head in /metrics")


def _cpu(pid: int) -> float:
    """Seconds of CPU time that the server itself has had."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


async def _measure(pid: int, port: int, path: str, clients: int, seconds: float) -> None:
    waits: list[float] = []
    until = time.perf_counter() + seconds
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (began := time.perf_counter()) < until:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            low = head.lower()
            at = low.index(b"content-length:") + len(b"content-length:")
            await reader.readexactly(int(low[at : low.index(b"\r", at)]))
            waits.append(time.perf_counter() - began)
        writer.close()

    head, spent = _head(port), _cpu(pid)
    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    took = time.perf_counter() - began
    events, spent = (_head(port) - head) / took, _cpu(pid) - spent
    waits.sort()
    rate, p99 = len(waits) / took, waits[int(len(waits) * 0.99)]
    said = ""
    if path in TARGET:
        met = "met" if rate >= 1500 and p99 < 0.015 and events >= EVENTS else "missed"
        said = f">= 1,500, p99 < 15 ms, >= {EVENTS} events/s: {met}"
    ms = [f"{wait * 1000:.1f} ms" for wait in (waits[len(waits) // 2], p99, waits[-1])]
    cells = (path, f"{rate:,.0f}", f"{len(waits) / spent:,.0f}", *ms, f"{events:,.0f}")
    print(f"| {' | '.join(cells)} | {said} |")


if __name__ == "__main__":
    main()
