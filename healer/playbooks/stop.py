"""Ending processes: the component's own, or whoever sits on its port."""

from __future__ import annotations

from typing import Final

from healer.domain.events import StepStarted
from healer.domain.issue import NetworkIssue
from healer.domain.playbook import Settlement, StepResult, Target
from healer.domain.process import ProcessIdentity
from healer.errors import HostError, LaunchError
from healer.playbooks.action import Plan, Skip, StepFailedError, Verdict
from healer.playbooks.instance import Instance, Occupancy
from healer.ports import HeldProcess, Stopped

__all__ = ["Evict", "Terminate", "TerminateReserved"]

_ROUNDS: Final = 5
"""Looks for processes that were forked while their group was being ended."""


class Terminate:
    """End every process that is provably the component's, as one group, and see that it is gone."""

    name = "terminate"
    looks = False

    async def plan(self, instance: Instance, issue: NetworkIssue) -> Plan | Skip:
        if instance.launcher is not None and instance.launcher.stops:
            kind = instance.launcher.kind
            return Plan(does=f"ask {kind} to stop {instance.spec.name}", manager=kind)
        async with instance.occupants(instance.port, members=True) as found:
            if not found.owned:
                return Skip("no process of the component is alive")
            return Plan(
                does=f"end {_names(found.targets)}: SIGTERM, {instance.grace:g} s, SIGKILL",
                targets=found.targets,
                port=instance.port,
            )

    async def perform(self, instance: Instance, issue: NetworkIssue, plan: Plan) -> StepResult:
        if plan.manager is not None:
            return await _stop_by_manager(instance, plan.manager)
        return await _end_owned(instance, instance.port)

    async def settle(self, instance: Instance, issue: NetworkIssue, intent: StepStarted) -> Verdict:
        return await _settle_targets(instance, issue, intent)


class TerminateReserved(Terminate):
    """Undo of a rebinding: end what was started on the new port, and give the port up."""

    name = "terminate_reserved"

    async def plan(self, instance: Instance, issue: NetworkIssue) -> Plan | Skip:
        plan = await super().plan(instance, issue)
        if isinstance(plan, Skip):
            instance.release()
        return plan

    async def perform(self, instance: Instance, issue: NetworkIssue, plan: Plan) -> StepResult:
        try:
            return await super().perform(instance, issue, plan)
        finally:
            instance.release()


class Evict:
    """Clear the port: end every listener on it that is provably the component's.

    A foreign listener is ended only where the configuration says `evict_foreign`; otherwise nobody
    is, because ending some of the holders would free nothing.
    """

    name = "evict"
    looks = False

    async def plan(self, instance: Instance, issue: NetworkIssue) -> Plan | Skip:
        async with instance.occupants(instance.port, members=False) as found:
            if not found.listeners:
                return Skip(f"nothing listens on port {instance.port}")
            targets = (*found.targets, *_evictable(instance, found))
            does = f"end {_names(targets)}" if targets else "end nobody"
            if found.foreign and not instance.spec.evict_foreign:
                strangers = ", ".join(str(identity) for identity in found.strangers)
                does = f"end nobody: foreign {strangers} on port {instance.port}"
                targets = ()
            return Plan(does=does, targets=targets, port=instance.port)

    async def perform(self, instance: Instance, issue: NetworkIssue, plan: Plan) -> StepResult:
        if instance.launcher is not None and instance.launcher.stops:
            # The manager would start again what is killed behind its back.
            await _stop_by_manager(instance, instance.launcher.kind)
        async with instance.occupants(instance.port, members=False) as found:
            if found.hidden:
                raise StepFailedError(
                    "hidden_listener", StepResult(port=instance.port, foreign=found.strangers)
                )
            if found.foreign and not instance.spec.evict_foreign:
                raise StepFailedError(
                    "foreign_listener", StepResult(port=instance.port, foreign=found.strangers)
                )
            allowed = {target.process.pid for target in _evictable(instance, found)}
            if {held.identity.pid for held, _ in found.foreign} - allowed:
                raise StepFailedError(
                    "forbidden_listener", StepResult(port=instance.port, foreign=found.strangers)
                )
            held = [held for held, _ in found.owned] + [held for held, _ in found.foreign]
            result = await _stop(instance, held)
        members = await _end_owned(instance, instance.port)
        return _joined(result, members)

    async def settle(self, instance: Instance, issue: NetworkIssue, intent: StepStarted) -> Verdict:
        return await _settle_targets(instance, issue, intent)


def _evictable(instance: Instance, found: Occupancy) -> tuple[Target, ...]:
    if not instance.spec.evict_foreign:
        return ()
    return tuple(
        Target(process=held.identity, proof=None, listening=True)
        for held, view in found.foreign
        if view.forbidden is None
    )


async def _end_owned(instance: Instance, port: int) -> StepResult:
    """End the component's processes, again and again until a look finds none."""
    ended = StepResult(port=port)
    for _ in range(_ROUNDS):
        async with instance.occupants(port, members=True) as found:
            if not found.owned:
                return ended
            result = await _stop(instance, [held for held, _ in found.owned])
        ended = _joined(ended, result)
    raise StepFailedError("still_alive", ended)


async def _stop(instance: Instance, processes: list[HeldProcess]) -> StepResult:
    try:
        stopped = await instance.host.stop(processes, grace=instance.grace, permit=instance.permit)
    except HostError as error:
        raise StepFailedError(
            "forbidden_target", StepResult(errno=error.errno), str(error)
        ) from error
    result = _as_result(stopped)
    if stopped.unkillable:
        raise StepFailedError("unkillable", result)
    return result


async def _stop_by_manager(instance: Instance, kind: str) -> StepResult:
    assert instance.launcher is not None
    await instance.permit()
    try:
        await instance.launcher.stop(instance.port)
    except LaunchError as error:
        raise StepFailedError(
            "manager_failed",
            StepResult(manager=kind, exit_code=error.exit_code, errno=error.errno),
            str(error),
        ) from error
    return StepResult(manager=kind)


async def _settle_targets(instance: Instance, issue: NetworkIssue, intent: StepStarted) -> Verdict:
    boots = {target.process.boot_id for target in intent.targets}
    if intent.node != issue.node and boots - {instance.host.boot_id}:
        # Of another machine, which another node has left to us: its processes are out of sight.
        return Settlement.UNKNOWABLE, StepResult(port=intent.port)
    alive: list[ProcessIdentity] = []
    gone: list[ProcessIdentity] = []
    for target in intent.targets:
        lives = await _may_live(instance, target.process)
        (alive if lives else gone).append(target.process)
    settlement = Settlement.ABSENT if alive or not gone else Settlement.OBSERVED
    return settlement, StepResult(stopped=tuple(gone), port=intent.port)


async def _may_live(instance: Instance, identity: ProcessIdentity) -> bool:
    """Whether a process still lives. One of its pid that cannot be told from it (a kernel without
    pidfd inodes) may be it: the next look proves the owner anew, so that nothing is risked."""
    held = await instance.host.hold(identity.pid)
    if held is None:
        return False
    try:
        return held.identity.same_as(identity) is not False and not held.gone()
    finally:
        held.close()


def _as_result(stopped: Stopped) -> StepResult:
    return StepResult(stopped=stopped.stopped, killed=stopped.killed, unkillable=stopped.unkillable)


def _joined(first: StepResult, second: StepResult) -> StepResult:
    return first.model_copy(
        update={
            "stopped": (*first.stopped, *second.stopped),
            "killed": (*first.killed, *second.killed),
            "port": first.port or second.port,
        }
    )


def _names(targets: tuple[Target, ...]) -> str:
    return ", ".join(str(target.process) for target in targets)
