"""Carries out the steps of playbooks: intent, effect, outcome; and looks back at open intents."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

import structlog

from healer.domain import decision
from healer.domain.events import StepStarted
from healer.domain.playbook import Settlement, StepResult
from healer.domain.process import OwnerProof
from healer.engine.patient import Patient
from healer.errors import HostError, StoreError
from healer.playbooks import ACTIONS, Action, Plan, Skip, StepFailedError
from healer.playbooks.action import Verdict

__all__ = ["Steps"]

_PROMPT: Final = 0.02
"""Seconds for which facts may wait for a look to end, to be written together with what follows."""

_T = TypeVar("_T")

_log = structlog.get_logger("healer.heal")


class Steps:
    """The steps of one issue."""

    def __init__(self, patient: Patient) -> None:
        self._patient = patient
        self._instance = patient.instance
        self._issue = patient.issue

    async def run(self, move: decision.RunStep) -> None:
        """One step, from its plan to its outcome."""
        action = ACTIONS[move.step.action]
        try:
            plan = await self._plan(action)
        except StepFailedError as error:
            # An intent that could not be stated is never carried out.
            self._issue.start_step(stamp=self._patient.stamp())
            self._issue.fail_step(error.result, elapsed=0.0, stamp=self._patient.stamp())
            return
        if isinstance(plan, Skip):
            self._issue.skip_step(plan.reason, stamp=self._patient.stamp())
            return
        self._issue.start_step(
            targets=plan.targets,
            port=plan.port,
            launch_id=plan.launch_id,
            manager=plan.manager,
            stamp=self._patient.stamp(),
        )
        if not action.looks:
            await self._patient.save()
        begun = self._patient.clock.monotonic()
        perform = self._perform_looking if action.looks else self._perform
        try:
            result = await perform(action, plan)
        except StepFailedError as error:
            elapsed = self._patient.clock.monotonic() - begun
            self._issue.fail_step(error.result, elapsed=elapsed, stamp=self._patient.stamp())
        else:
            elapsed = self._patient.clock.monotonic() - begun
            self._issue.succeed_step(result, elapsed=elapsed, stamp=self._patient.stamp())
            self._take_over(action.name, result)
        if not action.looks or action.name == "commit_port":
            await self._patient.save()

    async def settle(self, intent: StepStarted) -> None:
        """Look at what became of a step whose healer died in the middle of it."""
        action = ACTIONS.get(intent.action)
        stamp = self._patient.stamp("recovery")
        if action is None:
            unknown = StepResult(error="unknown_action")
            self._issue.settle_step(Settlement.UNKNOWABLE, unknown, stamp=stamp)
        else:
            settlement, result = await self._look_back(action, intent)
            self._issue.settle_step(settlement, result, stamp=stamp)
            if settlement is Settlement.OBSERVED:
                self._take_over(intent.action, result)
        await self._patient.save()

    async def _plan(self, action: Action) -> Plan | Skip:
        """What the action would do; StepFailedError when that cannot be said."""
        return await self._guarded(action, action.plan(self._instance, self._issue))

    async def _perform_looking(self, action: Action, plan: Plan) -> StepResult:
        """Perform what has no effect. If it takes long, what led to it is told meanwhile."""
        looking = asyncio.create_task(self._perform(action, plan))
        try:
            done, _ = await asyncio.wait((looking,), timeout=_PROMPT)
            if not done:
                await self._patient.save()
            return await looking
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def _perform(self, action: Action, plan: Plan) -> StepResult:
        return await self._guarded(action, action.perform(self._instance, self._issue, plan))

    async def _guarded(self, action: Action, work: Coroutine[Any, Any, _T]) -> _T:
        """The result of `work`; whatever it raises is a StepFailedError."""
        try:
            return await work
        except (StepFailedError, StoreError):
            # An effect that was not permitted is no failure of the step: nothing was tried.
            raise
        except HostError as error:
            facts = StepResult(errno=error.errno)
            raise StepFailedError("host_error", facts, str(error)) from error
        except Exception as error:
            # A defect of ours: recorded as the step's failure, so that the issue goes on, and told.
            _log.exception("step_defect", issue=self._issue.id, action=action.name)
            raise StepFailedError("internal_error", detail=type(error).__name__) from error

    def _take_over(self, action: str, result: StepResult) -> None:
        """What the outcome of a step means for the component, appended together with it."""
        component = self._instance.component
        if result.started is not None:
            component.adopt(
                result.started,
                proof=OwnerProof.LAUNCHED,
                port=result.port or self._instance.port,
                epoch=self._patient.watch.state.epoch,
                launch_id=result.launch_id,
                stamp=self._patient.stamp(),
            )
        if action == "commit_port" and result.port is not None:
            component.rebind(result.port, stamp=self._patient.stamp())

    async def _look_back(self, action: Action, intent: StepStarted) -> Verdict:
        """What the world says of an intent; unknowable when it cannot be looked at."""
        try:
            return await self._guarded(action, action.settle(self._instance, self._issue, intent))
        except StepFailedError as error:
            return Settlement.UNKNOWABLE, error.result
