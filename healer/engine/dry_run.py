"""What a heal would do now: the same decisions and plans, without the last line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from healer.domain.issue import NetworkIssue
from healer.domain.playbook import Target
from healer.domain.routing import choose_route
from healer.domain.spec import IssueType
from healer.engine.keeper import Keeper
from healer.engine.request import HealRequest
from healer.playbooks import ACTIONS, Instance, Plan, StepFailedError

__all__ = ["PlannedStep", "dry_run"]


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """What a step would do now; `does` is None where there is nothing to do, or nobody can say yet
    what (`skipped`)."""

    playbook: str
    action: str
    does: str | None
    skipped: str | None
    targets: tuple[Target, ...]


async def dry_run(
    keeper: Keeper,
    issue_type: IssueType | None,
    playbooks: Sequence[str] | None,
    skip: Sequence[str],
) -> tuple[IssueType, tuple[PlannedStep, ...]]:
    """What a heal of the component would do now, to which processes. Changes nothing.

    Raises:
        UnknownNameError: there is no such playbook.
        HealWithheldError: nothing is wrong, and neither type nor playbook is named.
    """
    instance = keeper.instance
    if issue_type is None:
        wanted = HealRequest("dry-run", playbooks=tuple(playbooks) if playbooks else None)
        await keeper.refuse_needless(wanted, await keeper.watch.probe())
        issue_type = await keeper.watch.classify(
            await keeper.watch.evidence(keeper.watch.last_probe)
        )
    route = choose_route(issue_type, instance.spec, forced=playbooks, skip=skip)
    blank = NetworkIssue("dry-run")
    steps: list[PlannedStep] = []
    for playbook in route.playbooks:
        for step in playbook.steps:
            if step.undo:
                continue
            steps.append(await _planned(instance, blank, playbook.name, step.action))
    return issue_type, tuple(steps)


async def _planned(
    instance: Instance, blank: NetworkIssue, playbook: str, action: str
) -> PlannedStep:
    try:
        plan = await ACTIONS[action].plan(instance, blank)
    except StepFailedError as error:
        # It is made of what a step in front of it does, and that was not done.
        return PlannedStep(playbook, action, None, f"known only when it runs: {error}", ())
    if isinstance(plan, Plan):
        return PlannedStep(playbook, action, plan.does, None, plan.targets)
    return PlannedStep(playbook, action, None, plan.reason, ())
