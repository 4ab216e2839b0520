"""Carries one issue through its life: asks what it needs next, does it, writes it down.

The decision is `next_move`, a pure function of the issue; here is what is done about it. Intent is
durable before the effect, the outcome follows, and only fresh probes end an issue as verified.
"""

from __future__ import annotations

import asyncio
from typing import assert_never

from healer.domain import decision
from healer.domain.events import POLICY
from healer.domain.health import Health
from healer.domain.lifecycle import State
from healer.engine.approval import Approval
from healer.engine.diagnosis import Diagnosis
from healer.engine.leave import Leave
from healer.engine.patient import Patient, Wishes
from healer.engine.step import Steps
from healer.engine.told import told
from healer.engine.verification import Verification
from healer.engine.waiting import Waiting
from healer.engine.withdrawal import Resolved, Withdrawal

__all__ = ["Heal"]


class Heal:
    """One issue under way. `run` returns when it has ended, or when the healer is to stop; then it
    stays open in the log and is resumed by the next start."""

    def __init__(self, patient: Patient) -> None:
        self._patient = patient
        self.issue = patient.issue
        self._instance = patient.instance
        self._diagnosis = Diagnosis(patient)
        self._verification = Verification(patient, self._diagnosis)
        self._waiting = Waiting(patient, self._verification)
        self._approval = Approval(patient, self._waiting)
        self._withdrawal = Withdrawal(patient, self._waiting, self._diagnosis)
        self._leave = Leave(patient, self._waiting, self._withdrawal)
        self._steps = Steps(patient)
        self._first_start = (
            patient.issue.recurrence == 0 and patient.instance.component.process is None
        )

    @property
    def acting(self) -> bool:
        """Whether a playbook is acting on the component, or is about to."""
        return self._leave.acting or self.issue.state is State.REMEDIATING

    @property
    def recorded(self) -> bool:
        """Whether the log knows the issue: what it does not know may never have been, and nobody is
        told of it."""
        recorded = self._patient.recorded
        return recorded.done() and recorded.result()

    async def record(self) -> None:
        """See `Patient.save`."""
        await self._patient.save()

    async def until_recorded(self) -> None:
        """Wait until the log knows the issue, or it was left before."""
        await told(self._patient.recorded)

    async def run(self) -> None:
        """Go on until the issue has ended or the healer is to stop.

        Raises:
            StoreError: a fact could not be made durable; nothing was done on the strength of it.
        """
        issue, stopping = self.issue, self._patient.stopping
        if issue.state is State.REMEDIATING:
            self._leave.resume()
        ended = False
        try:
            while not (issue.closed or stopping.is_set() or self._patient.abandoned.is_set()):
                if self._withdrawal.asked:
                    await self._withdrawal.settle()
                else:
                    await self._make(decision.next_move(issue, self._patient.mode))
                self._diagnosis.record_late()
            ended = issue.closed
        finally:
            self._diagnosis.close()
            self._approval.close()
            self._withdrawal.close(ended=ended)
            self._leave.close(ended=ended)
            if ended or stopping.is_set():
                # Not where log or host failed, though it were in the last append: by the log the
                # heal goes on, in a moment and in its old place.
                self._leave.give_back()
            if issue.closed:
                self._instance.release()

    def force(self, wishes: Wishes, asked: asyncio.Future[str]) -> None:
        """See `Leave.force`."""
        self._leave.force(wishes, asked)

    def abandon(self) -> None:
        """Leave the issue open: what is remembered of it here may not be what the log says."""
        self._waiting.abandon()

    async def approve(self, actor: str) -> None:
        """See `Approval.approve`."""
        await self._approval.approve(actor)

    async def deny(self, actor: str, reason: str) -> None:
        """See `Approval.deny`."""
        await self._approval.deny(actor, reason)

    async def withdraw(self, cause: str, actor: str) -> Resolved:
        """See `Withdrawal.ask`."""
        return await self._withdrawal.ask(cause, actor)

    async def _make(self, move: decision.Move) -> None:
        match move:
            case decision.Diagnose():
                await self._diagnosis.diagnose()
            case decision.RouteIssue():
                await self._leave.choose_route()
            case decision.AskApproval():
                if await self._leave.suggest():
                    await self._approval.ask()
            case decision.Remediate():
                await self._remediate()
            case decision.StartPlaybook():
                self.issue.start_playbook(stamp=self._patient.stamp())
            case decision.RunStep():
                await self._steps.run(move)
            case decision.SettleStep():
                await self._steps.settle(move.intent)
            case decision.FinishPlaybook():
                self.issue.finish_playbook(stamp=self._patient.stamp())
                self._instance.release()
            case decision.Verify():
                await self._verification.verify()
            case decision.Verified():
                await self._close_verified()
            case decision.Fail():
                await self._close_failed(move.reason)
            case decision.Done():
                return
            case _:
                assert_never(move)

    async def _remediate(self) -> None:
        attempt = await self._leave.obtain()
        if attempt is None:
            return
        if self.issue.remaining:
            self.issue.start_remediation(attempt=attempt, stamp=self._patient.stamp(POLICY))
        else:
            await self._patient.save()
            await self._verification.verify()

    async def _close_verified(self) -> None:
        issue = self.issue
        # The cure was seen by now; what still looks only completes the picture.
        resolved_in = self._patient.since_first_seen()
        await self._diagnosis.finish()
        issue.verify(resolved_in=resolved_in, stamp=self._patient.stamp())
        self._patient.watch.begin_epoch(Health.HEALTHY)
        self._instance.component.change_health(
            Health.HEALTHY,
            epoch=self._patient.watch.state.epoch,
            probe=issue.verification.probes[-1] if issue.verification else None,
            stamp=self._patient.stamp(),
        )
        await self._patient.save()
        if self._first_start:
            # Bringing a component up for the first time is no heal in a row.
            self._patient.fleet.rearm(issue.component)
        self._patient.fleet.mark(issue.component, healthy=True)

    async def _close_failed(self, reason: str) -> None:
        issue = self.issue
        await self._diagnosis.finish()
        issue.escalate(reason, stamp=self._patient.stamp(POLICY))
        issue.fail(
            reason, resolved_in=self._patient.since_first_seen(), stamp=self._patient.stamp()
        )
        self._patient.watch.begin_epoch(Health.UNHEALTHY)
        await self._patient.save()
