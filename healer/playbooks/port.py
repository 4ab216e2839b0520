"""Ports: waiting for one, reserving another, moving to it and telling who has to know."""

from __future__ import annotations

from typing import Final

from healer.domain.events import StepStarted
from healer.domain.issue import NetworkIssue
from healer.domain.playbook import Settlement, StepResult
from healer.domain.spec import PortRange
from healer.errors import LaunchError
from healer.playbooks.action import Plan, Skip, StepFailedError, Verdict
from healer.playbooks.instance import Instance

__all__ = ["AnnouncePort", "CommitPort", "ReservePort", "WaitPortFree", "reserved_port"]

PORT_WAIT: Final = 5.0
"""Seconds that a port may take to become bindable once nobody listens on it any more."""


class WaitPortFree:
    """Wait until the port can really be bound; a listing that shows nobody proves nothing."""

    name = "wait_port_free"
    looks = True

    async def plan(self, instance: Instance, issue: NetworkIssue) -> Plan | Skip:
        return Plan(does=f"wait until port {instance.port} can be bound", port=instance.port)

    async def perform(self, instance: Instance, issue: NetworkIssue, plan: Plan) -> StepResult:
        port, host = instance.port, instance.spec.host
        bind = await instance.host.bind_test(host, port)
        if bind.result == "in_use":
            async with instance.occupants(port, members=False) as found:
                if found.foreign or found.hidden:
                    raise StepFailedError(
                        "foreign_listener" if found.foreign else "hidden_listener",
                        StepResult(port=port, bind=bind.result, foreign=found.strangers),
                    )
            bind = await instance.host.wait_bindable(host, port, timeout=PORT_WAIT)
        result = StepResult(port=port, bind=bind.result, errno=bind.errno)
        if not bind.free:
            raise StepFailedError(f"port_{bind.result}", result)
        return result

    async def settle(self, instance: Instance, issue: NetworkIssue, intent: StepStarted) -> Verdict:
        bind = await instance.host.bind_test(instance.spec.host, instance.port)
        settlement = Settlement.OBSERVED if bind.free else Settlement.ABSENT
        return settlement, StepResult(port=instance.port, bind=bind.result, errno=bind.errno)


class ReservePort:
    """Find a free port of the component's range and keep it: nobody is given it by chance."""

    name = "reserve_port"
    looks = False

    async def plan(self, instance: Instance, issue: NetworkIssue) -> Plan | Skip:
        return Plan(does=f"reserve a free port of {instance.spec.rebind}")

    async def perform(self, instance: Instance, issue: NetworkIssue, plan: Plan) -> StepResult:
        ports = instance.spec.rebind
        if ports is None:
            raise StepFailedError("no_rebind_range")
        reservation = await instance.host.reserve(
            instance.spec.host, ports, excluding=(instance.port,)
        )
        if reservation is None:
            raise StepFailedError("no_free_port", detail=f"none of {ports} is free")
        instance.release()
        instance.reservation = reservation
        return StepResult(port=reservation.port)

    async def settle(self, instance: Instance, issue: NetworkIssue, intent: StepStarted) -> Verdict:
        # A reservation is a socket of the healer: it died with it.
        return Settlement.ABSENT, StepResult()


class CommitPort:
    """The component lives on the new port from now on."""

    name = "commit_port"
    looks = True

    async def plan(self, instance: Instance, issue: NetworkIssue) -> Plan | Skip:
        port = reserved_port(issue)
        return Plan(does=f"move {instance.spec.name} from port {instance.port}", port=port)

    async def perform(self, instance: Instance, issue: NetworkIssue, plan: Plan) -> StepResult:
        return StepResult(port=plan.port)

    async def settle(self, instance: Instance, issue: NetworkIssue, intent: StepStarted) -> Verdict:
        # PortRebound is appended together with the outcome of this step: both or none.
        return Settlement.ABSENT, StepResult(port=intent.port)


class AnnouncePort:
    """Tell the consumers: the component's own `announce` program. Guardian hears PortRebound."""

    name = "announce_port"
    looks = False

    async def plan(self, instance: Instance, issue: NetworkIssue) -> Plan | Skip:
        if instance.announcer is None:
            return Skip("the component has no announce program")
        return Plan(
            does=f"run {instance.announcer.describe(instance.port)}",
            port=instance.port,
            manager="hook",
            launch_id=instance.ids.new(),
        )

    async def perform(self, instance: Instance, issue: NetworkIssue, plan: Plan) -> StepResult:
        assert instance.announcer is not None
        assert plan.launch_id is not None
        await instance.permit()
        try:
            await instance.announcer.start(instance.port, plan.launch_id)
        except LaunchError as error:
            raise StepFailedError(
                "announce_failed",
                StepResult(port=instance.port, exit_code=error.exit_code, errno=error.errno),
                str(error),
            ) from error
        return StepResult(port=instance.port, manager="hook")

    async def settle(self, instance: Instance, issue: NetworkIssue, intent: StepStarted) -> Verdict:
        # Whether a dead program told anybody cannot be seen; telling twice is harmless.
        return Settlement.ABSENT, StepResult(port=intent.port)


def reserved_port(issue: NetworkIssue) -> int:
    """The port that this playbook reserved.

    Raises:
        StepFailedError: it reserved none.
    """
    for outcome in issue.outcomes.values():
        result = getattr(outcome, "result", None)
        if outcome.action == ReservePort.name and result is not None and result.port is not None:
            port: int = result.port
            return port
    raise StepFailedError("no_reserved_port")


def as_range(port: int) -> PortRange:
    """The range that holds just `port`."""
    return PortRange(first=port, last=port)
