"""Withdraws a heal that an alert asked for: the alert is resolved, and the heal only waits.

Our own probes stand above the view of the sender: what they find unhealthy is healed all the same.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Final

from healer.domain.decision import ALERT_RESOLVED
from healer.domain.events import ApprovalGranted
from healer.domain.lifecycle import State
from healer.domain.probe import Outcome, ProbeResult
from healer.engine.diagnosis import Diagnosis
from healer.engine.patient import Patient
from healer.engine.waiting import Waiting
from healer.errors import StoreError

__all__ = ["Resolved", "Withdrawal"]

_DECIDED_WITHIN: Final = 5.0
"""Seconds that a sender waits for the heal to come to where it can be withdrawn."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """What came of an alert that is resolved: `issue_id` is the component's issue that ended, or
    that is open all the same (None: none is); `kept` says why nothing was withdrawn, None: it was.
    """

    issue_id: str | None
    kept: str | None


class Withdrawal:
    """The end of one heal that nobody wants any more. As an approval, it is recorded by the heal's
    own task: whoever else did would leave the issue knowing what the log does not."""

    def __init__(self, patient: Patient, waiting: Waiting, diagnosis: Diagnosis) -> None:
        self._patient = patient
        self._issue = patient.issue
        self._waiting = waiting
        self._diagnosis = diagnosis
        self._wishes: deque[tuple[str, asyncio.Future[str | None]]] = deque()

    @property
    def asked(self) -> bool:
        """Whether somebody waits for `settle`."""
        return bool(self._wishes)

    async def ask(self, cause: str, actor: str) -> Resolved:
        """End the issue if `cause` opened it and it only waits; returns when that is durable.

        Raises:
            StoreError: it could not be made durable, or not be decided in time.
        """
        if self._issue.cause != cause:
            return Resolved(self._issue.id, "the alert did not open the issue that is open")
        kept = self._kept()
        if kept is None or self._issue.closed:  # the end may not be durable yet
            decided: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
            self._wishes.append((actor, decided))
            self._waiting.go()
            try:
                async with asyncio.timeout(_DECIDED_WITHIN):
                    kept = await decided
            except TimeoutError:
                raise self._undecided("it is still looked at") from None
        return Resolved(self._issue.id, kept)

    async def settle(self) -> None:
        """Decide what was asked, and record it."""
        patient, (actor, _) = self._patient, self._wishes[0]
        kept = self._kept()
        if kept is None:
            looked = await patient.unless_stopping(self._look())
            if looked is None:
                return
            kept = _contradicts(*looked)
            if kept is None:
                await self._diagnosis.finish()
                kept = self._kept()  # people may have spoken meanwhile
        if kept is None:
            self._issue.fail(
                ALERT_RESOLVED, resolved_in=patient.since_first_seen(), stamp=patient.stamp(actor)
            )
            patient.watch.begin_epoch(patient.watch.state.health)
            await patient.save()
        while self._wishes:
            _, decided = self._wishes.popleft()
            if not decided.done():
                decided.set_result(kept)

    def close(self, *, ended: bool) -> None:
        """Tell whoever still waits how the heal was left: with its end in the log, or open."""
        while self._wishes:
            _, decided = self._wishes.popleft()
            if decided.done():
                continue
            if ended:
                decided.set_result(self._kept())
            else:
                decided.set_exception(self._undecided("the heal was left"))

    def _kept(self) -> str | None:
        """Why the heal goes on whatever the sender says; None: it only waits."""
        issue, wishes = self._issue, self._patient.wishes
        if issue.closed:
            return "it has ended"
        if issue.state is State.REMEDIATING:
            return "its remediation has begun"
        if isinstance(issue.approval, ApprovalGranted):
            return f"{issue.approval.actor} has approved it"
        if issue.asked_by is not None or wishes.forced:
            return f"{issue.asked_by or wishes.actor} wants it as well"
        return None

    async def _look(self) -> tuple[ProbeResult, bool]:
        """A fresh probe, and whether it was a stranger that answered it."""
        watch = self._patient.watch
        probe = await watch.probe()
        return probe, probe.outcome is Outcome.HEALTHY and await watch.usurped()

    def _undecided(self, why: str) -> StoreError:
        return StoreError(f"cannot withdraw issue {self._issue.id} now: {why}")


def _contradicts(probe: ProbeResult, usurped: bool) -> str | None:
    """What our own look holds against the sender's view; None: nothing. Who could not look
    contradicts nobody."""
    if usurped:
        return "a stranger answers in its place"
    return f"our own probe says {probe.reason}" if probe.outcome is Outcome.UNHEALTHY else None
