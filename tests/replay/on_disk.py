"""Logs in real files, for what reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from healer.domain.health import Health
from healer.ports import Recorded
from healer.store import SqliteLog
from tests.projections.build import Log


async def write(path: Path, facts: Sequence[Recorded]) -> str:
    """Append `facts` to a new log at `path`; its URL."""
    async with SqliteLog.open(path, new_log_id=lambda: "log-1") as log:
        await log.append([recorded.event for recorded in facts])
    return f"sqlite:///{path}"


def a_day() -> Log:
    """Two components; chat_api is healed once (issue-0001) while it is watched, then the other one
    fails (issue-0002, given up), then chat_api is in need again (issue-0003, still open)."""
    log = Log()
    log.register("chat_api", 8220)
    log.register("search_api", 8230)
    log.adopt("chat_api", pid=42)
    log.health(Health.UNKNOWN, Health.HEALTHY, "chat_api")
    log.wait(hours=1)
    issue = log.detect("chat_api").diagnose().route("restart_component").remediate()
    issue.playbook("restart_component").step("terminate")
    log.health(Health.HEALTHY, Health.UNHEALTHY, "search_api")
    log.adopt("chat_api", pid=43, epoch=2)
    issue.step("start").finish().look(healthy=True, after="restart_component")
    issue.verify("restart_component")
    log.health(Health.STARTING, Health.HEALTHY, "chat_api", epoch=2)
    log.wait(hours=1)
    log.detect("search_api").diagnose().escalate("no_playbook").fail("no_playbook")
    log.wait(hours=1)
    log.detect("chat_api", previous="issue-0001", recurrence=1).diagnose()
    return log


__all__ = ["a_day", "write"]
