"""A component with its issue, as all see it who have to do with one heal."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from healer.domain.aggregate import Stamp
from healer.domain.issue import NetworkIssue
from healer.domain.spec import Mode
from healer.engine.fleet import FleetBook
from healer.engine.journal import Journal
from healer.engine.window import Window
from healer.playbooks import Instance
from healer.ports import Clock
from healer.watchdog.watch import Watch

__all__ = ["Patient", "Wishes"]

_T = TypeVar("_T")


@dataclass(slots=True)
class Wishes:
    """What an operator wants of a heal. `forced` overrules mode, maintenance and budget."""

    actor: str = "watchdog"
    forced: bool = False
    playbooks: tuple[str, ...] | None = None
    skip: tuple[str, ...] = ()


@dataclass(slots=True)
class Patient:
    """What is healed, and the pen that writes it down. `first_seen` is the monotonic instant of the
    first bad look, None when a former healer saw it; `abandoned` is set when the issue is left.
    `recorded` comes to True once the issue is in the log, to False when it was left before."""

    issue: NetworkIssue
    instance: Instance
    watch: Watch
    fleet: FleetBook
    journal: Journal
    clock: Clock
    stopping: asyncio.Event
    window: Window
    wishes: Wishes
    recorded: asyncio.Future[bool]
    first_seen: float | None = None
    abandoned: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def mode(self) -> Mode:
        """How far the healer may go with it now."""
        return Mode.ACT if self.wishes.forced else self.instance.component.mode

    def stamp(self, actor: str | None = None) -> Stamp:
        """A stamp for what is decided now, by whoever wished it when nobody is named."""
        return self.journal.stamp(actor or self.wishes.actor)

    async def save(self) -> None:
        """Make all that was decided durable.

        Raises:
            StoreError: it is not; nothing may be done on the strength of it.
        """
        await self.journal.save(self.issue, self.instance.component)
        if not self.recorded.done():
            self.recorded.set_result(True)

    def since_first_seen(self) -> float:
        """Seconds since the first bad look."""
        if self.first_seen is not None:
            return self.clock.monotonic() - self.first_seen
        # The healer that saw it is dead: its clock is gone, the label is all there is.
        return self.issue.age(self.clock.now()) + self.issue.seen_after

    async def unless_stopping(self, work: Coroutine[Any, Any, _T]) -> _T | None:
        """The result of `work`, or None when the healer is to stop, or to leave the issue, first;
        then it is cancelled."""
        task = asyncio.create_task(work)
        stop = asyncio.create_task(self.stopping.wait())
        leave = asyncio.create_task(self.abandoned.wait())
        try:
            await asyncio.wait((task, stop, leave), return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            for waiting in (task, stop, leave):
                waiting.cancel()
            await asyncio.gather(task, stop, leave, return_exceptions=True)
