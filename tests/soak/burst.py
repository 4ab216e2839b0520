"""Everything fails at once: the budget holds, nothing is forgotten, memory is bounded.

    python -m tests.soak.burst [--components 500] [--at-once 5]

Real processes, a real log, the healer as `build()` makes it. All components are started, all are
killed in the same instant, and the log is asked: how many heals were under way at most, and were
all of them verified? Exit status 1: more than allowed, or fewer than there are.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import resource
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import orjson
import structlog

from healer.bootstrap import Healer, build
from healer.config import parse
from healer.domain.events import IssueDetected, IssueFailed, IssueVerified, RemediationStarted
from healer.host.linux import LinuxHost
from healer.ports import Recorded
from tests.conftest import COMPONENT
from tests.healing.conftest import end_all

__all__ = ["Burst", "burst"]

_PATIENCE: Final = 1800.0
"""Seconds within which all have to be well: only a bound, for a machine that works for others."""

_RANGE: Final = range(20_000, 32_000)
"""Ports to choose from, below those of outgoing connections."""


@dataclass(slots=True)
class Burst:
    """What the log says of it. `most` heals were under way at once; `peak` is in MiB."""

    acting: set[str] = field(default_factory=set)
    most: int = 0
    detected: int = 0
    verified: set[str] = field(default_factory=set)
    failed: int = 0
    seconds: float = 0.0
    peak: float = 0.0

    def take(self, facts: Sequence[Recorded], components: dict[str, str]) -> None:
        for recorded in facts:
            match recorded.event:
                case IssueDetected() as event:
                    self.detected += 1
                    components[event.originator_id] = event.component
                case RemediationStarted(originator_id=issue):
                    self.acting.add(issue)
                    self.most = max(self.most, len(self.acting))
                case IssueVerified(originator_id=issue):
                    self.acting.discard(issue)
                    self.verified.add(components[issue])
                case IssueFailed(originator_id=issue):
                    self.acting.discard(issue)
                    self.failed += 1
                case _:
                    pass


def free_ports(count: int) -> list[int]:
    """So many ports that nobody listens on now; each process looks from another place on."""
    found: list[int] = []
    first = os.getpid() * 613 % len(_RANGE)
    for port in (*_RANGE[first:], *_RANGE[:first]):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise SystemExit(f"cannot find {count} free ports")


def _healer(directory: Path, count: int, at_once: int) -> tuple[Healer, LinuxHost]:
    argv = [sys.executable, "-S", "-E", COMPONENT, "--port", "{port}"]
    config = {
        "node": "burst",
        "store": f"sqlite:///{directory}/healer.db",
        "logs": str(directory / "logs"),
        "defaults": {
            "interval": "1m",
            "fast_interval": "20s",
            "timeout": "20s",
            "failure_threshold": 1,
            "success_threshold": 1,
            "start_period": "1m",
        },
        "budget": {
            "max_concurrent": at_once,
            "max_unhealthy": "100%",
            "attempts": 20,
            "backoff": {"initial": 0},
        },
        "components": {
            f"c{number}": {
                "port": port,
                "probe": {"http": "/health"},
                "launch": {"command": argv, "grace": "1s"},
            }
            for number, port in enumerate(free_ports(count))
        },
    }
    parsed = parse(
        orjson.dumps(config).decode(),
        source="burst",
        environ={},
        hostname="burst",
        directory=directory,
    )
    host = LinuxHost()
    return build(parsed, host=host), host


async def burst(directory: Path, count: int, at_once: int) -> Burst:
    """Bring so many components up, kill all of them, and wait until all are well again.

    Raises:
        TimeoutError: they are not, and will not be.
    """
    healer, host = _healer(directory, count, at_once)
    components: dict[str, str] = {}
    async with healer:
        await healer.engine.start()
        try:
            async with asyncio.timeout(_PATIENCE):
                await _all_are_well(healer, count)
                before = await healer.log.head()
                begun = time.monotonic()
                for name in healer.engine.names:
                    process = healer.engine.status(name).process
                    assert process is not None
                    os.kill(process.pid, signal.SIGKILL)
                seen = Burst()
                while len(seen.verified) < count:
                    facts = await healer.log.read(after=before)
                    seen.take(facts, components)
                    before = facts[-1].position if facts else before
                    await asyncio.sleep(0.05)
                seen.seconds = time.monotonic() - begun
        finally:
            await healer.engine.stop()
            facts = [*await healer.log.read(limit=1_000_000)]
            await end_all(host, [recorded.event for recorded in facts])
    seen.peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return seen


async def _all_are_well(healer: Healer, count: int) -> None:
    well = 0
    while well < count:
        statuses = [healer.engine.status(name) for name in healer.engine.names]
        well = sum(each.issue is None and each.process is not None for each in statuses)
        await asyncio.sleep(0.1)


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.burst", description=__doc__)
    parser.add_argument("--components", type=int, default=500)
    parser.add_argument("--at-once", type=int, default=5)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(prefix="burst-") as directory:
        seen = asyncio.run(burst(Path(directory), arguments.components, arguments.at_once))
    print(
        f"{arguments.components} components killed at once: at most {seen.most} heals at once "
        f"(allowed {arguments.at_once}), {len(seen.verified)} verified, {seen.failed} issues "
        f"failed on the way, {seen.seconds:.1f} s, the healer's memory at most {seen.peak:.0f} MiB"
    )
    return 0 if seen.most <= arguments.at_once else 1


if __name__ == "__main__":
    sys.exit(main())
