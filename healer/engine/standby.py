"""A component that another node heals: it is looked at, and neither touched nor written of."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from healer.engine.lease import Lease
from healer.ports import Holder
from healer.watchdog.watch import Watch

__all__ = ["Standby"]

_LATE: Final = 0.05
"""Seconds behind the end of a lease at which it is looked at again: it has run out then, and is not
just about to."""

_log = structlog.get_logger("healer.standby")


class Standby:
    """Waits for the end of the heal, or of the lease, of another node.

    `holder` is who holds the component's issue; None: nobody is stood by for.
    """

    def __init__(self, component: str, lease: Lease, watch: Watch, stopping: asyncio.Event) -> None:
        self.holder: Holder | None = None
        self._component = component
        self._lease = lease
        self._watch = watch
        self._stopping = stopping
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Look again at who holds the issue: something has happened to it."""
        self._woken.set()

    async def until_free(self, holder: Holder) -> None:
        """Look on until no other node holds the component, or the healer stops.

        Raises:
            StoreError: the log cannot be read.
            HostError: the component cannot be looked at.
        """
        _log.info("standing_by", component=self._component, issue=holder.issue, node=holder.node)
        self.holder = holder
        looking = asyncio.create_task(self._watch.look_on())
        try:
            while self.holder is not None and not self._stopping.is_set():
                await self._wait(self.holder.left + _LATE, looking)
                self.holder = await self._lease.elsewhere()
        finally:
            self.holder = None
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
        _log.info("standby_over", component=self._component)

    async def _wait(self, seconds: float, looking: asyncio.Task[None]) -> None:
        waits = [
            asyncio.create_task(self._woken.wait()),
            asyncio.create_task(self._stopping.wait()),
        ]
        try:
            await asyncio.wait(
                [*waits, looking], timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if looking.done():
                looking.result()
        finally:
            for task in waits:
                task.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        self._woken.clear()
