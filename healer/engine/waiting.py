"""Waits for something to change, and for all else that ends the waiting of a heal."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from healer.engine.patient import Patient
from healer.engine.verification import Verification

__all__ = ["Waiting"]


class Waiting:
    """The waits of one heal."""

    def __init__(self, patient: Patient, verification: Verification) -> None:
        self._patient = patient
        self._verification = verification
        self._go = asyncio.Event()

    def go(self) -> None:
        """Let whoever waits ask again now."""
        self._go.set()

    def abandon(self) -> None:
        """Wait no more, for anything."""
        self._patient.abandoned.set()
        self._go.set()

    async def wait(self, seconds: float | None, event: Coroutine[Any, Any, object]) -> str:
        """Wait for the event, the time, the operator, the stop or the recovery of the component.

        Says which it was. A recovery is recorded: fresh probes, and the next move verifies.
        """
        recovery = asyncio.create_task(self._patient.watch.until_healthy())
        waits: dict[str, asyncio.Task[Any]] = {
            "stopping": asyncio.create_task(self._patient.stopping.wait()),
            "forced": asyncio.create_task(self._go.wait()),
            "event": asyncio.create_task(event),
            "recovered": recovery,
        }
        try:
            await asyncio.wait(waits.values(), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            woken = next((name for name, task in waits.items() if task.done()), "timeout")
            self._go.clear()
            if woken == "recovered":
                await self._verification.record(healthy=True, probes=recovery.result(), begun=None)
            return woken
        finally:
            for task in waits.values():
                task.cancel()
            await asyncio.gather(*waits.values(), return_exceptions=True)
