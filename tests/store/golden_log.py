"""A small log of every type of event, as this version writes it.

    python -m tests.store.golden_log

writes `golden/log.sqlite`, when a type of event was added. When one has changed, what was there is
first kept under another name: see CONTRIBUTING.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from healer.domain.events import Event
from healer.store import SqliteLog
from tests import factory as a

__all__ = ["GOLDEN", "LOG", "history", "write"]

GOLDEN: Final = Path(__file__).parent / "golden"
LOG: Final = GOLDEN / "log.sqlite"


class _Told:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self._versions: dict[str, int] = {}

    def __call__(self, stream: str, make: Callable[..., Event], **fields: Any) -> None:
        version = self._versions[stream] = self._versions.get(stream, 0) + 1
        when = a.BEGIN + timedelta(seconds=len(self.events))
        self.events.append(
            make(
                stream=stream, version=version, timestamp=when, **self._about(stream, make, fields)
            )
        )

    @staticmethod
    def _about(stream: str, make: Callable[..., Event], fields: dict[str, Any]) -> dict[str, Any]:
        if stream.startswith("component:"):
            return {"component": stream.partition(":")[2], **fields}
        if make is a.issue_detected:
            return {"correlation_id": stream, **fields}
        return fields


def history() -> list[Event]:
    """Three issues that an audit accepts, the last one open, and what happens to components."""
    tell = _Told()
    chat, search, gone = "component:chat_api", "component:search_api", "component:gone_api"
    for component in (chat, search, gone):
        tell(component, a.component_registered)
        tell(component, a.process_adopted)
    tell(chat, a.health_changed)
    # Cured by the second of two playbooks, after the healer had died in a step.
    tell("i1", a.issue_detected)
    tell("i1", a.diagnosis_started)
    tell("i1", a.check_recorded)
    tell("i1", a.diagnosis_completed)
    tell("i1", a.heal_withheld)
    tell("i1", a.route_chosen)
    tell("i1", a.approval_requested)
    tell("i1", a.approval_granted)
    tell("i1", a.remediation_started)
    tell("i1", a.playbook_started)
    tell("i1", a.step_started)
    tell("i1", a.step_succeeded)
    tell("i1", a.step_started, step=1, action="start")
    tell("i1", a.step_failed)
    tell("i1", a.playbook_finished)
    tell("i1", a.verification_recorded, healthy=False)
    tell("i1", a.playbook_started)
    tell("i1", a.step_skipped)
    tell("i1", a.step_started, step=1, action="start")
    tell("i1", a.issue_taken_over)
    tell("i1", a.step_settled)
    tell("i1", a.playbook_finished)
    tell("i1", a.verification_recorded)
    tell("i1", a.issue_verified)
    # Nobody allowed it.
    tell("i2", a.issue_detected, component="search_api")
    tell("i2", a.diagnosis_started)
    tell("i2", a.diagnosis_completed)
    tell("i2", a.route_chosen)
    tell("i2", a.approval_requested)
    tell("i2", a.approval_denied)
    tell("i2", a.issue_escalated)
    tell("i2", a.issue_failed)
    tell(chat, a.port_rebound)
    tell(chat, a.maintenance_started)
    tell(chat, a.maintenance_ended)
    tell(chat, a.mode_changed)
    tell(chat, a.budget_reset)
    tell("fleet", a.fleet_paused)
    tell("fleet", a.fleet_resumed)
    tell(gone, a.component_removed)
    tell("i3", a.issue_detected, component="search_api")
    tell("i3", a.diagnosis_started)
    return tell.events


async def write(file: Path) -> None:
    """Write the log of today to `file`, which is not there."""
    async with SqliteLog.open(file, new_log_id=lambda: "golden") as log:
        await log.append(history())


def main() -> None:
    """Write it where it is kept; the key goes, because nobody signs it again."""
    LOG.unlink(missing_ok=True)
    asyncio.run(write(LOG))
    for left in (".key", ".lock"):
        LOG.with_name(f"{LOG.name}{left}").unlink()


if __name__ == "__main__":
    main()
