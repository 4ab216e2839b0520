"""Asks the budget for leave to act, and waits for it. No refusal is silent, and none for ever."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import replace
from typing import Final

from healer.domain import decision
from healer.domain.events import POLICY
from healer.domain.policy import Go, Verdict, Withhold
from healer.domain.routing import choose_route
from healer.engine.patient import Patient, Wishes
from healer.engine.waiting import Waiting
from healer.engine.withdrawal import Withdrawal
from healer.errors import StoreError

__all__ = ["Leave"]


_WISHED: Final = frozenset({"paused", "maintenance", "denied"})


class Leave:
    """The leave of one heal to act; `acting` while it is held."""

    def __init__(self, patient: Patient, waiting: Waiting, withdrawal: Withdrawal) -> None:
        self._patient = patient
        self._instance = patient.instance
        self._issue = patient.issue
        self._waiting = waiting
        self._withdrawal = withdrawal
        self._asked: deque[tuple[Wishes, asyncio.Future[str]]] = deque()
        self.acting = False

    def force(self, wishes: Wishes, asked: asyncio.Future[str]) -> None:
        """An operator wants it healed now, whatever it is withheld for. `asked` gets the issue's id
        once that is durable, or a StoreError."""
        self._patient.wishes = wishes
        self._asked.append((wishes, asked))
        self._waiting.go()

    async def obtain(self) -> int | None:
        """Wait for leave of the budget, and take a place among the heals under way; the number of
        this heal in a row, or None when something else has to be decided first."""
        fleet, name = self._patient.fleet, self._issue.component
        try:
            while True:
                await self._record_asked()
                move = decision.next_move(self._issue, self._patient.mode)
                if isinstance(move, decision.AskApproval):
                    return None  # an operator has made it a suggestion meanwhile
                verdict = self._ask()
                if isinstance(verdict, Go):
                    self.acting = True
                    return fleet.begin(name, rearmed=verdict.rearmed)
                with fleet.waiting(name, verdict, self._ask) as bell:
                    woken = await self._wait(verdict, bell)
                elsewhere = self._patient.abandoned.is_set() or self._withdrawal.asked
                if elsewhere or woken in {"stopping", "recovered"}:
                    return None
        finally:
            fleet.leave(name)

    def _ask(self) -> Verdict:
        left = self._patient.window.left(self._instance.component)
        verdict = self._patient.fleet.ask(
            self._issue.component,
            self._patient.mode,
            maintenance=left > 0,
            forced=self._patient.wishes.forced,
        )
        if isinstance(verdict, Withhold) and verdict.reason == "maintenance":
            # Nothing announces the end of a window.
            return replace(verdict, retry_in=left)
        return verdict

    async def _wait(self, verdict: Withhold, bell: asyncio.Event) -> str:
        """Say why nothing is done, and wait until that may have changed."""
        await self._withhold(verdict)
        patience = self._until_deadline(verdict)
        seconds = min((t for t in (verdict.retry_in, patience) if t is not None), default=None)
        return await self._waiting.wait(seconds, bell.wait())

    async def suggest(self) -> bool:
        """Whether a heal may be suggested now. What a person has refused rests first; it is waited
        for, and then something else may have to be decided."""
        fleet, name = self._patient.fleet, self._issue.component
        bell = fleet.bell(name)  # before the look: what changes after it is not missed
        refusal = fleet.resting(name)
        if refusal is None or self._issue.approval is not None:
            return True
        await self._withhold(refusal)
        await self._waiting.wait(refusal.retry_in, bell.wait())
        return False

    async def choose_route(self) -> None:
        """Choose the playbooks."""
        if not self._asked:
            self._choose_route(self._patient.wishes)
        await self._record_asked()

    def close(self, *, ended: bool) -> None:
        """Tell whoever still waits how the heal was left: with its end in the log, or open."""
        while self._asked:
            _, asked = self._asked.popleft()
            if ended:
                asked.set_result(self._issue.id)
            else:
                asked.set_exception(
                    StoreError(
                        f"cannot record who asked for issue {self._issue.id}: the heal was left"
                    )
                )

    async def _record_asked(self) -> None:
        """Make it durable who asked. The route says so, so that a restart forgets nobody; who asks
        again for the same changes nothing."""
        while self._asked:
            wishes, asked = self._asked[0]
            changed = wishes.playbooks is not None or bool(wishes.skip)
            if changed or self._issue.asked_by is None:
                self._choose_route(wishes)
            await self._patient.save()
            self._asked.popleft()
            asked.set_result(self._issue.id)

    def _choose_route(self, wishes: Wishes) -> None:
        """Choose the playbooks, in the name of whoever asked for the heal by hand."""
        route = choose_route(
            self._issue.issue_type,
            self._instance.spec,
            forced=wishes.playbooks,
            skip=wishes.skip,
        )
        self._issue.choose_route(
            route.playbooks,
            candidates=route.candidates,
            probabilities=route.probabilities,
            chosen_by=route.chosen_by,
            skipped=route.skipped,
            stamp=self._patient.stamp(wishes.actor if wishes.forced else POLICY),
        )

    async def _withhold(self, verdict: Withhold) -> None:
        issue = self._issue
        last = issue.withheld
        if last is None or (last.reason, last.cause) != (verdict.reason, verdict.cause):
            issue.withhold(
                verdict.reason,
                arithmetic=verdict.arithmetic,
                cause=verdict.cause,
                retry_in=verdict.retry_in,
                stamp=self._patient.stamp(POLICY),
            )
        if verdict.page and verdict.reason not in issue.escalations:
            issue.escalate(verdict.reason, stamp=self._patient.stamp(POLICY))
        elif self._until_deadline(verdict) == 0:
            issue.escalate("deadline", stamp=self._patient.stamp(POLICY))
        await self._patient.save()

    def _until_deadline(self, verdict: Withhold) -> float | None:
        """Seconds until a withheld heal is no longer waited for in silence; None: nobody waits.

        Escalation waits for the verdict of a heal, but not for ever. A pause, a maintenance
        window and a refusal are somebody's own wish.
        """
        if self._issue.escalations or verdict.reason in _WISHED:
            return None
        return max(
            0.0, self._patient.fleet.budget.escalate_after - self._patient.since_first_seen()
        )

    def resume(self) -> None:
        """A former healer began it: the same place and the same attempt, not one more."""
        self.acting = True
        self._patient.fleet.resume(self._issue.component)

    def give_back(self) -> None:
        """It is over, however it ended: somebody else may have the place."""
        if self.acting:
            self.acting = False
            self._patient.fleet.end(self._issue.component)
