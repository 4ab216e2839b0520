"""What every action of a playbook is: a plan, an effect, and a way to look at what became of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from healer.domain.events import StepStarted
from healer.domain.issue import NetworkIssue
from healer.domain.playbook import Settlement, StepResult, Target
from healer.playbooks.instance import Instance

__all__ = ["Action", "Plan", "Skip", "StepFailedError", "Verdict"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a step would do, to which processes; the same words in a dry run and in the intent."""

    does: str
    targets: tuple[Target, ...] = ()
    port: int | None = None
    launch_id: str | None = None
    manager: str | None = None


@dataclass(frozen=True, slots=True)
class Skip:
    """There is nothing to do, and why."""

    reason: str


class StepFailedError(Exception):
    """The effect was not had; `result.error` is a stable word for why."""

    def __init__(self, error: str, result: StepResult | None = None, detail: str | None = None):
        facts = (result or StepResult()).model_dump(exclude_unset=True)
        facts |= {"error": error, **({"detail": detail} if detail else {})}
        self.result = StepResult.model_validate(facts)
        super().__init__(error)


Verdict = tuple[Settlement, StepResult]


class Action(Protocol):
    """One kind of step.

    `looks` is set on actions without an effect: their intent need not be durable before they run.
    """

    @property
    def name(self) -> str: ...

    @property
    def looks(self) -> bool: ...

    async def plan(self, instance: Instance, issue: NetworkIssue) -> Plan | Skip:
        """What would be done now; looks, and changes nothing."""
        ...

    async def perform(self, instance: Instance, issue: NetworkIssue, plan: Plan) -> StepResult:
        """Do it.

        Raises:
            StepFailedError: the effect was not had.
        """
        ...

    async def settle(self, instance: Instance, issue: NetworkIssue, intent: StepStarted) -> Verdict:
        """Look at what became of an intent whose healer died."""
        ...


Perform = Callable[[Instance, NetworkIssue, Plan], Awaitable[StepResult]]
