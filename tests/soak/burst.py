"""Everything fails at once: the budget holds, nothing is forgotten, memory is bounded.

    python -m tests.soak.burst [--components 500] [--at-once 5] [--held 40]

Real processes, a real log, the healer as `build()` makes it. All components are started, all are
killed in the same instant, and the log is asked: how many heals were under way at most, and were
all of them verified? First with a budget that allows so many at once and holds for nothing else;
then, of fewer components, with the default one: more than half of them fail together, so that
healing holds for five minutes, and then goes one by one until half of them are well. `--held 0`
leaves that out. Exit status 1: more heals than allowed, or more memory; components that are never
well again end it with an error.
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
from datetime import datetime
from pathlib import Path
from typing import Final

import orjson
import structlog

from healer.bootstrap import Healer, build
from healer.config import parse
from healer.domain.events import (
    HealthChanged,
    IssueDetected,
    IssueFailed,
    IssueVerified,
    RemediationStarted,
)
from healer.domain.health import Health
from healer.domain.spec import Backoff, Budget
from healer.host.linux import LinuxHost
from healer.ports import Recorded
from tests.conftest import COMPONENT
from tests.healing.conftest import end_all

__all__ = ["Burst", "burst"]

_PATIENCE: Final = 1800.0
"""Seconds within which all have to be well: only a bound, for a machine that works for others."""

_RANGE: Final = range(20_000, 32_000)
"""Ports to choose from, below those of outgoing connections."""


_MEMORY: Final = 128.0
_MEMORY_OF_ONE: Final = 0.4
"""MiB that the healer may need at most, and for each component: half as much again as was measured
(86 and 0.25)."""


@dataclass(slots=True)
class Burst:
    """What the log says of it, of `count` components under `budget`. `most` heals were under way at
    once. While more components were down together than the budget takes for separate failures, so
    many began before healing had held for as long as it has to (`early`: those that were allowed
    when the others had not been looked at), and at most so many at once afterwards (`crowd`)."""

    count: int
    budget: Budget
    acting: set[str] = field(default_factory=set)
    down: set[str] = field(default_factory=set)
    held: datetime | None = None
    most: int = 0
    early: int = 0
    crowd: int = 0
    detected: int = 0
    verified: set[str] = field(default_factory=set)
    failed: int = 0
    seconds: float = 0.0

    @property
    def within_budget(self) -> bool:
        """Whether nobody was healed beyond it, and healing held where it has to hold for some."""
        allowed = self.budget.max_concurrent
        at_a_time = 1 if self.budget.max_unhealthy < 1 else 0
        return self.most <= allowed and self.early <= allowed and self.crowd == at_a_time

    def take(self, facts: Sequence[Recorded], components: dict[str, str]) -> None:
        for recorded in facts:
            match recorded.event:
                case IssueDetected() as event:
                    self.detected += 1
                    components[event.originator_id] = event.component
                case HealthChanged(component=component, after=Health.UNHEALTHY, timestamp=now):
                    self._has(now, self.down | {component})
                case RemediationStarted(originator_id=issue, timestamp=now):
                    self.acting.add(issue)
                    self.most = max(self.most, len(self.acting))
                    if self.held is None:
                        pass
                    elif (now - self.held).total_seconds() < self.budget.rearm_after:
                        self.early += 1
                    else:
                        self.crowd = max(self.crowd, len(self.acting))
                case IssueVerified(originator_id=issue, timestamp=now):
                    self.acting.discard(issue)
                    self.verified.add(components[issue])
                    self._has(now, self.down - {components[issue]})
                case IssueFailed(originator_id=issue):
                    self.acting.discard(issue)
                    self.failed += 1
                case _:
                    pass

    def _has(self, now: datetime, down: set[str]) -> None:
        self.down = down
        limit = max(self.budget.min_unhealthy, int(self.budget.max_unhealthy * self.count))
        if len(down) <= limit:
            self.held = None
        elif self.held is None:
            self.held = now


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


def _healer(directory: Path, count: int, budget: Budget) -> tuple[Healer, LinuxHost]:
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
        "budget": budget.model_dump(),
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


async def burst(directory: Path, count: int, budget: Budget) -> Burst:
    """Bring so many components up, kill all of them, and wait until all are well again.

    Raises:
        TimeoutError: they are not, and will not be.
    """
    healer, host = _healer(directory, count, budget)
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
                seen = Burst(count, budget)
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
    return seen


def open_but_for(at_once: int) -> Budget:
    """A budget that allows so many heals at once, and holds for nothing else."""
    return Budget(
        max_concurrent=at_once, max_unhealthy=1.0, attempts=20, backoff=Backoff(initial=0)
    )


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
    parser.add_argument("--held", type=int, default=40)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = arguments.components
    good = _tell(count, open_but_for(arguments.at_once))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    allowed = _MEMORY + _MEMORY_OF_ONE * count
    print(f"the healer's memory was at most {peak:.0f} MiB (allowed {allowed:.0f})")
    if arguments.held:
        good = _tell(arguments.held, Budget()) and good
    return 0 if good and peak <= allowed else 1


def _tell(count: int, budget: Budget) -> bool:
    """Whether the budget held; what was seen is printed."""
    with tempfile.TemporaryDirectory(prefix="burst-") as directory:
        seen = asyncio.run(burst(Path(directory), count, budget))
    print(
        f"{count} components killed at once: at most {seen.most} heals at once (allowed "
        f"{budget.max_concurrent}), {len(seen.verified)} verified, {seen.failed} issues failed on "
        f"the way, {seen.seconds:.1f} s; of more than {budget.max_unhealthy:.0%} down together "
        f"{seen.early} were healed at once, and later at most {seen.crowd} at a time",
        flush=True,
    )
    return seen.within_budget


if __name__ == "__main__":
    sys.exit(main())
