"""A whole healer over real processes and a real log; every component ends with the test."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from healer.bootstrap import Healer, build
from healer.config import parse
from healer.domain.events import Fact, IssueDetected, IssueFailed, IssueVerified, ProcessAdopted
from healer.domain.health import Health
from healer.domain.process import Launch
from healer.host.linux import LinuxHost
from tests.conftest import COMPONENT, Until


def command(*options: str) -> dict[str, Any]:
    """A `launch:` of the component to break."""
    argv = [sys.executable, "-S", "-E", COMPONENT, "--port", "{port}", *options]
    return {"command": argv, "grace": "500ms"}


class Lab:
    """A healer under test and what the test asks of it."""

    def __init__(self, healer: Healer, until: Until) -> None:
        self.healer = healer
        self.until = until

    async def facts(self) -> list[Fact]:
        found: list[Fact] = []
        after = 0
        while batch := await self.healer.log.read(after=after):
            found += [recorded.event for recorded in batch]
            after = batch[-1].position
        return found

    async def of(self, kind: type, component: str = "chat_api") -> list[Any]:
        """Facts of one kind that belong to a component."""
        facts = await self.facts()
        issues = {
            fact.originator_id
            for fact in facts
            if isinstance(fact, IssueDetected) and fact.component == component
        }
        return [
            fact
            for fact in facts
            if isinstance(fact, kind)
            and (getattr(fact, "component", None) == component or fact.originator_id in issues)
        ]

    async def healthy(self, component: str = "chat_api", timeout: float = 15) -> int:
        """Wait until the component is healthy with a process of its own; its pid."""

        def pid() -> int | None:
            status = self.healer.engine.status(component)
            well = status.health.health is Health.HEALTHY and status.issue is None
            return status.process.pid if well and status.process else None

        return await self.until.soon(pid, timeout, name=f"{component} is healthy")

    async def end_of_issue(
        self, number: int = 1, component: str = "chat_api", timeout: float = 20
    ) -> IssueVerified | IssueFailed:
        """Wait for the end of the component's `number`-th issue."""

        async def ended() -> list[Any]:
            ends = await self.of(IssueVerified, component) + await self.of(IssueFailed, component)
            return sorted(ends, key=lambda event: event.timestamp)[number - 1 : number]

        return (await self.until.soon(ended, timeout, name=f"issue {number} has ended"))[0]

    def signal(self, pid: int, number: signal.Signals) -> None:
        os.kill(pid, number)


OpenLab = Callable[..., Any]


@pytest.fixture
def lab(tmp_path: Path, until: Until) -> OpenLab:
    """`async with lab({name: {...}}) as it`: a healer that watches these components."""

    @asynccontextmanager
    async def open_lab(
        components: dict[str, dict[str, Any]], *, leave: bool = False, **settings: Any
    ) -> AsyncIterator[Lab]:
        config = {
            "node": "lab",
            "logs": "logs",
            "defaults": {
                "interval": "200ms",
                "fast_interval": "50ms",
                "timeout": "200ms",
                "failure_threshold": 2,
                "start_period": "4s",
            },
            "budget": {"attempts": 20, "backoff": {"initial": 0}},
            "components": {
                name: {"probe": {"http": "/health"}, **entry} for name, entry in components.items()
            },
        } | settings
        parsed = parse(
            orjson.dumps(config).decode(),
            source="lab",
            environ={},
            hostname="lab",
            directory=tmp_path,
        )
        host = LinuxHost()
        healer = build(parsed, host=host)
        it = Lab(healer, until)
        async with healer:
            await healer.engine.start()
            try:
                yield it
            finally:
                await healer.engine.stop()
                if not leave:
                    await end_all(host, await it.facts())

    return open_lab


async def end_all(host: LinuxHost, facts: Sequence[Fact]) -> None:
    """End every process that was launched according to the log."""
    for fact in facts:
        if isinstance(fact, ProcessAdopted) and fact.launch_id is not None:
            members = await host.members(Launch(launch_id=fact.launch_id, leader=fact.process))
            if members:
                await host.stop(members, grace=0.2)
            for member in members:
                member.close()
