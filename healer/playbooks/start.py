"""Starting a component, on its port or on a reserved one, and looking at it there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from healer.domain.events import StepStarted
from healer.domain.issue import NetworkIssue
from healer.domain.playbook import Settlement, StepResult
from healer.domain.probe import Outcome, ProbeResult
from healer.domain.process import Launch
from healer.errors import LaunchError
from healer.playbooks.action import Plan, Skip, StepFailedError, Verdict
from healer.playbooks.instance import Instance
from healer.playbooks.port import as_range, reserved_port

__all__ = ["ProbeReserved", "Start", "StartReserved", "probe_until"]

_FIRST_PAUSE = 0.01
"""Seconds before the second look at a component that is starting; doubles up to fast_interval."""


class Start:
    """Start the component through its launcher. Started is not healthy: the verification says."""

    name = "start"
    looks = False

    async def plan(self, instance: Instance, issue: NetworkIssue) -> Plan | Skip:
        return self._plan(instance, instance.port)

    async def perform(self, instance: Instance, issue: NetworkIssue, plan: Plan) -> StepResult:
        return await self._launch(instance, plan)

    async def settle(self, instance: Instance, issue: NetworkIssue, intent: StepStarted) -> Verdict:
        """Look for what carries the launch's id; a manager's own are looked for on the port."""
        facts = {"launch_id": intent.launch_id, "manager": intent.manager, "port": intent.port}
        if intent.launch_id is not None:
            launch = Launch(launch_id=intent.launch_id)
            members = await instance.host.members(launch)
            if members:
                leader = min(members, key=lambda held: held.identity.start_ticks)
                for held in members:
                    if held is not leader:
                        held.close()
                instance.hold(leader)
                instance.extra_launches = (
                    Launch(launch_id=intent.launch_id, leader=leader.identity),
                )
                result = StepResult(started=leader.identity, **facts)
                return Settlement.OBSERVED, result
        async with instance.occupants(intent.port or instance.port, members=False) as found:
            if found.owned:
                return Settlement.OBSERVED, StepResult(**facts)
        unknowable = intent.manager == "hook"
        return (Settlement.UNKNOWABLE if unknowable else Settlement.ABSENT), StepResult(**facts)

    def _plan(self, instance: Instance, port: int) -> Plan | Skip:
        if instance.launcher is None:
            return Skip("the component has no launcher; it is ready for its own supervisor")
        return Plan(
            does=f"run {instance.launcher.describe(port)}",
            port=port,
            launch_id=instance.ids.new(),
            manager=instance.launcher.kind,
        )

    async def _launch(self, instance: Instance, plan: Plan) -> StepResult:
        assert instance.launcher is not None
        assert plan.port is not None
        assert plan.launch_id is not None
        facts = {"launch_id": plan.launch_id, "manager": plan.manager, "port": plan.port}
        await instance.permit()
        try:
            launched = await instance.launcher.start(plan.port, plan.launch_id)
        except LaunchError as error:
            result = StepResult(exit_code=error.exit_code, errno=error.errno, **facts)
            raise StepFailedError("launch_failed", result, str(error)) from error
        instance.started(launched, plan.launch_id)
        identity = launched.process.identity if launched.process is not None else None
        return StepResult(started=identity, **facts)


class StartReserved(Start):
    """Start the component on the port that was reserved for it.

    The reservation is held while it starts. A component that cannot bind a reserved port (it sets
    no SO_REUSEADDR) dies at once; it is started again with the reservation given up.
    """

    name = "start_reserved"

    async def plan(self, instance: Instance, issue: NetworkIssue) -> Plan | Skip:
        if not any(outcome.action == "reserve_port" for outcome in issue.outcomes.values()):
            ports = instance.spec.rebind
            plan = self._plan(instance, ports.first if ports else instance.port)
            # A dry run has reserved nothing yet.
            return plan if isinstance(plan, Skip) else Plan(does=f"{plan.does} (first free port)")
        return self._plan(instance, reserved_port(issue))

    async def perform(self, instance: Instance, issue: NetworkIssue, plan: Plan) -> StepResult:
        assert plan.port is not None
        if instance.reservation is None:
            instance.reservation = await instance.host.reserve(
                instance.spec.host, as_range(plan.port)
            )
        if instance.reservation is None:
            raise StepFailedError("port_lost", StepResult(port=plan.port))
        result = await self._launch(instance, plan)
        if await _refused_by_reservation(instance, plan.port):
            instance.release()
            result = await self._launch(instance, plan)
        return result


class ProbeReserved:
    """Verify the component on the port that it is to move to, before anybody is told."""

    name = "probe_reserved"
    looks = True

    async def plan(self, instance: Instance, issue: NetworkIssue) -> Plan | Skip:
        return Plan(does="probe the component there", port=_port_or_none(issue))

    async def perform(self, instance: Instance, issue: NetworkIssue, plan: Plan) -> StepResult:
        assert plan.port is not None
        healthy, probes = await probe_until(
            instance, plan.port, within=instance.spec.start_period, patient=True
        )
        result = StepResult(port=plan.port, probe=probes[-1])
        if not healthy:
            raise StepFailedError("not_healthy_there", result)
        return result

    async def settle(self, instance: Instance, issue: NetworkIssue, intent: StepStarted) -> Verdict:
        return Settlement.ABSENT, StepResult(port=intent.port)


async def probe_until(
    instance: Instance,
    port: int,
    *,
    within: float,
    patient: bool,
    answered: Callable[[], None] | None = None,
) -> tuple[bool, Sequence[ProbeResult]]:
    """Look until the component is healthy `success_threshold` times in a row.

    Gives up after `within` seconds, when its process ends, or, without `patience`, at the first
    look that is not healthy. Returns whether it is healthy, and the looks that say so (the last one
    only, when it is not). `answered` is called at each look that is healthy.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    pause = _FIRST_PAUSE
    streak: list[ProbeResult] = []
    while True:
        result = await instance.prober.probe(instance.spec, port)
        if result.outcome is Outcome.HEALTHY:
            streak.append(result)
            if answered is not None:
                answered()
            if len(streak) >= instance.spec.success_threshold:
                return True, streak
        else:
            streak = []
            dead = instance.process is not None and instance.process.gone()
            if loop.time() >= deadline or dead or not patient:
                return False, [result]
        await _pause_or_exit(instance, min(pause, max(deadline - loop.time(), _FIRST_PAUSE)))
        pause = min(pause * 1.5, instance.spec.fast_interval)


async def _pause_or_exit(instance: Instance, seconds: float) -> None:
    if instance.process is None or instance.process.gone():
        await asyncio.sleep(seconds)
        return
    try:
        async with asyncio.timeout(seconds):
            await instance.process.exited()
    except TimeoutError:
        return


async def _refused_by_reservation(instance: Instance, port: int) -> bool:
    """Wait until what was started listens on `port` or ends; whether it ended."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + instance.spec.start_period
    pause = _FIRST_PAUSE
    while loop.time() < deadline:
        if instance.process is None:
            return False
        if instance.process.gone():
            return True
        if await instance.host.listeners(port):
            return False
        await _pause_or_exit(instance, pause)
        pause = min(pause * 1.5, instance.spec.fast_interval)
    return False


def _port_or_none(issue: NetworkIssue) -> int | None:
    try:
        return reserved_port(issue)
    except StepFailedError:
        return None
