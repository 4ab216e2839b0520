"""Suggests a heal to the operators, and waits for their answer."""

from __future__ import annotations

import asyncio
from collections import deque

from healer.domain.events import POLICY, ApprovalRequested
from healer.domain.label import Label
from healer.domain.spec import Mode
from healer.engine.patient import Patient
from healer.engine.told import told
from healer.engine.waiting import Waiting
from healer.errors import IllegalCommandError, StoreError

__all__ = ["Approval"]


class _Answer:
    """What an operator says to a suggested heal; `recorded` ends when the log has it."""

    def __init__(self, actor: str, refusal: str | None = None) -> None:
        self.actor = actor
        self.refusal = refusal
        self.command = "approve the heal" if refusal is None else "refuse the heal"
        self.recorded: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Approval:
    """The suggestion of one heal, and what is said to it."""

    def __init__(self, patient: Patient, waiting: Waiting) -> None:
        self._patient = patient
        self._issue = patient.issue
        self._waiting = waiting
        self._ends: float | None = None
        self._answers: deque[_Answer] = deque()
        self._answered = asyncio.Event()

    async def ask(self) -> None:
        """Suggest, and wait for an answer, its end, or whatever makes it needless."""
        if self._issue.approval is None:
            expires = self._patient.fleet.budget.approval_expires
            self._issue.request_approval(expires_in=expires, stamp=self._patient.stamp(POLICY))
            await self._patient.save()
            self._ends = self._patient.clock.monotonic() + expires
        if self._ends is None:
            # The healer that asked is dead: its clock is gone, the label is all there is.
            asked = self._issue.approval
            assert isinstance(asked, ApprovalRequested)
            age = Label(asked.timestamp).age(self._patient.clock.now())
            self._ends = self._patient.clock.monotonic() + asked.expires_in - age
        left = max(0.0, self._ends - self._patient.clock.monotonic())
        woken = await self._waiting.wait(left, self._answered_or_changed())
        if self._answers:
            await self._record_answer(self._answers.popleft())
        elif woken == "timeout":
            self._issue.deny_approval("expired", stamp=self._patient.stamp(POLICY))

    async def approve(self, actor: str) -> None:
        """An operator allows the suggested heal; returns when that is durable.

        Raises:
            IllegalCommandError: nothing is suggested (any more).
            StoreError: it could not be made durable, and does not count.
        """
        await self._answer(_Answer(actor))

    async def deny(self, actor: str, reason: str) -> None:
        """An operator refuses the suggested heal; otherwise as `approve`."""
        await self._answer(_Answer(actor, reason))

    def close(self) -> None:
        """Tell whoever still waits that nothing is suggested any more."""
        while self._answers:
            answer = self._answers.popleft()
            if not answer.recorded.done():
                answer.recorded.set_exception(
                    IllegalCommandError(answer.command, "nothing is suggested any more")
                )

    async def _answer(self, answer: _Answer) -> None:
        # The heal's own task records it: whoever else did would leave the issue knowing what the
        # log does not, when the append fails.
        if not isinstance(self._issue.approval, ApprovalRequested):
            raise IllegalCommandError(answer.command, "nothing is suggested")
        self._answers.append(answer)
        self._answered.set()
        await told(answer.recorded)

    async def _answered_or_changed(self) -> None:
        """Until somebody has answered the suggestion, or none is needed any more."""
        while not self._answered.is_set() and self._patient.mode is Mode.SUGGEST:
            changed = asyncio.create_task(self._patient.fleet.changed(self._issue.component))
            answered = asyncio.create_task(self._answered.wait())
            try:
                await asyncio.wait((changed, answered), return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (changed, answered):
                    task.cancel()
                await asyncio.gather(changed, answered, return_exceptions=True)

    async def _record_answer(self, answer: _Answer) -> None:
        stamp = self._patient.journal.stamp(answer.actor)
        if answer.refusal is None:
            self._issue.grant_approval(stamp=stamp)
        else:
            self._issue.deny_approval(answer.refusal, stamp=stamp)
        try:
            await self._patient.save()
        except BaseException as error:
            # Who waits for the answer is told; a cancelled heal is no failure of the log.
            lost = error if isinstance(error, StoreError) else StoreError("cannot record: stopped")
            answer.recorded.set_exception(lost)
            raise
        if answer.refusal is not None:
            self._patient.fleet.deny(self._issue.component)
        answer.recorded.set_result(None)
        self.close()
