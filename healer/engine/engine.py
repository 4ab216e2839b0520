"""The engine: a keeper for each component, and what operators may ask of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import structlog

from healer.domain.component import Component, component_stream
from healer.domain.events import (
    ComponentEvent,
    IssueDetected,
    IssueFailed,
    IssueTakenOver,
    IssueVerified,
    MaintenanceStarted,
    RemediationStarted,
)
from healer.domain.health import Health, HealthState
from healer.domain.issue import NetworkIssue
from healer.domain.lifecycle import State
from healer.domain.playbook import Settlement, StepResult
from healer.domain.policy import Withhold
from healer.domain.probe import ProbeResult
from healer.domain.process import ProcessIdentity
from healer.domain.routing import choose_route
from healer.domain.spec import Budget, ComponentSpec, HookLaunch, IssueType, Mode
from healer.engine.control import Controls
from healer.engine.dry_run import PlannedStep, dry_run
from healer.engine.fleet import FleetBook
from healer.engine.journal import Journal
from healer.engine.keeper import Keeper
from healer.engine.lease import LEASE, Leases
from healer.engine.past import REMEMBERED, Memory
from healer.engine.request import HealRequest
from healer.engine.withdrawal import Resolved
from healer.errors import HealWithheldError, StoreError, UnknownNameError
from healer.playbooks import Instance
from healer.ports import Clock, EventLog, Holder, Host, Ids, Launcher, Prober, Recorded

__all__ = ["ComponentStatus", "Engine", "HealReport"]

_STOP_WITHIN: Final = 30.0
"""Seconds that steps in flight get to end and be recorded when the healer stops: the longest
default grace, and the time that a SIGKILL is waited for, with room."""

_log = structlog.get_logger("healer.engine")


def _passed_over(error: StoreError) -> None:
    _log.error("event_unreadable", error=str(error), consequence="it is not remembered at start")


LauncherFactory = Callable[[ComponentSpec], Launcher | None]


@dataclass(frozen=True, slots=True)
class HealReport:
    """How a heal that was asked for ended. `node` is the node that carries the issue now, where it
    has not ended and another one has taken it over."""

    issue_id: str
    component: str
    port: int
    issue_type: IssueType
    state: State
    playbooks_executed: tuple[str, ...]
    reason: str | None
    node: str | None = None

    @property
    def success(self) -> bool:
        """Whether the component was seen to be cured."""
        return self.state is State.VERIFIED


@dataclass(frozen=True, slots=True)
class ComponentStatus:
    """A component as the healer sees it now. `maintenance` is the window that is open, `last_probe`
    what the last look saw and `last_look` when that was, None before the first since the start;
    `issue` is the one that is open and in the log, `healing` whether a playbook acts on it, and
    `holder` the other node that heals it: this one stands by."""

    name: str
    host: str
    port: int
    health: HealthState
    mode: Mode
    maintenance: MaintenanceStarted | None
    process: ProcessIdentity | None
    last_probe: ProbeResult | None
    last_look: datetime | None
    issue: NetworkIssue | None
    healing: bool
    holder: Holder | None = None


class Engine:
    """Runs all components of one node. `start`, then ask; `stop` finishes what is in flight."""

    def __init__(
        self,
        specs: Mapping[str, ComponentSpec],
        budget: Budget,
        *,
        log: EventLog,
        host: Host,
        prober: Prober,
        clock: Clock,
        ids: Ids,
        node: str,
        launchers: LauncherFactory,
        lease: float = LEASE,
    ) -> None:
        """`lease` is how long, in seconds, a node that is not heard of keeps an open issue where
        several share the log."""
        self.log = log
        self.node = node
        self._leases = Leases(log, clock, node=node, term=lease)
        self._forget: Callable[[], None] | None = None
        self._renewing: asyncio.Task[None] | None = None
        self.checks = host.check_names()
        self._clock = clock
        self._stopping = asyncio.Event()
        self.fleet = FleetBook(specs, budget, clock=clock, ids=ids)
        self._started = False
        self._defect: asyncio.Future[BaseException]
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._keepers: dict[str, Keeper] = {}
        self.controls = Controls(
            self._keepers,
            self.fleet,
            Journal(log, clock, node),
            running=lambda: self.running,
        )

        def keeper(spec: ComponentSpec) -> Keeper:
            lease = self._leases.of(spec.name)
            announcer = None
            if spec.announce is not None:
                hook = spec.model_copy(update={"launch": HookLaunch(hook=spec.announce)})
                announcer = launchers(hook)
            instance = Instance(
                spec,
                Component(component_stream(spec.name)),
                host=host,
                prober=prober,
                ids=ids,
                launcher=launchers(spec),
                announcer=announcer,
                permit=lease.permit,
            )
            return Keeper(
                instance,
                fleet=self.fleet,
                journal=Journal(log, clock, node, lease),
                lease=lease,
                clock=clock,
                ids=ids,
                stopping=asyncio.Event(),
            )

        self._new_keeper = keeper
        self._journal = Journal(log, clock, node)
        self._keepers |= {name: keeper(spec) for name, spec in specs.items()}

    # Life

    @property
    def running(self) -> bool:
        """Whether components are being watched."""
        return self._started and not self._stopping.is_set()

    async def start(self) -> bool:
        """Take in what the log remembers, then watch; False when it was running already."""
        if self._started:
            return False
        self._started = True
        self._defect = asyncio.get_running_loop().create_future()
        try:
            await self.controls.start(self.log)
            if self.log.shared:
                self._forget = self.log.listen(self._overhear)
            await self._remember()
        except BaseException:
            self._started = False
            raise
        if self.log.shared:
            self._renewing = asyncio.create_task(self._leases.keep(), name="leases")
            self._renewing.add_done_callback(self._keeper_ended)
        for name in self._keepers:
            self._watch(name)
        return True

    def _watch(self, name: str) -> None:
        task = asyncio.create_task(self._keepers[name].run(), name=f"keeper {name}")
        task.add_done_callback(self._keeper_ended)
        self._tasks[name] = task

    async def stop(self) -> None:
        """Finish or record what is in flight, and stop watching. Components live on."""
        self._stopping.set()
        for keeper in self._keepers.values():
            keeper.stop()
        self.controls.stop()
        if self._forget is not None:
            self._forget()
            self._forget = None
        if not self._tasks:
            await self._stop_renewing()
            return
        _, unfinished = await asyncio.wait(self._tasks.values(), timeout=_STOP_WITHIN)
        for task in unfinished:
            _log.error("stopped_in_flight", task=task.get_name())
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._tasks.clear()
        await self._stop_renewing()

    async def _stop_renewing(self) -> None:
        # Last of all: until then something may still be under way.
        renewing, self._renewing = self._renewing, None
        if renewing is not None:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)

    async def reload(
        self, specs: Mapping[str, ComponentSpec], budget: Budget
    ) -> dict[str, list[str]]:
        """Keep `specs` from now on, under `budget`; which were added, removed and changed. What has
        not changed is not touched, and a component that a playbook is acting on finishes first.

        Raises:
            ConfigError: a launcher cannot be made of what the configuration says; nothing changed.
            StoreError: a removal could not be recorded.
        """
        old = self.fleet.specs
        changed = [name for name, spec in specs.items() if name in old and old[name] != spec]
        added = [name for name in specs if name not in old]
        removed = [name for name in old if name not in specs]
        made = {name: self._new_keeper(specs[name]) for name in (*added, *changed)}
        self.fleet.reload({**old, **{name: specs[name] for name in added}}, budget)
        for name in added:
            self._keepers[name] = made[name]
            if self.running:
                self._watch(name)
        await asyncio.gather(
            *(self._replace(name, made[name]) for name in changed),
            *(self._remove(name) for name in removed),
        )
        ordered = {name: self._keepers[name] for name in specs}
        self._keepers.clear()
        self._keepers.update(ordered)
        self.fleet.reload(specs, budget)
        return {"added": added, "removed": removed, "changed": changed}

    async def _replace(self, name: str, keeper: Keeper) -> None:
        former = self._keepers[name]
        await self._retire(name)
        keeper.succeed(former)
        self._keepers[name] = keeper
        self.fleet.reload({**self.fleet.specs, name: keeper.instance.spec}, self.fleet.budget)
        if self.running:
            self._watch(name)

    async def _remove(self, name: str) -> None:
        await self._retire(name)
        lease = self._leases.of(name)
        if await lease.elsewhere() is not None:
            # It is no longer named here; what becomes of it is for the node that heals it to say.
            self._leases.forget(name)
            self.fleet.forget(name)
            return
        component = Component.replay(
            component_stream(name), await self.log.stream(component_stream(name))
        )
        component.remove(stamp=self._journal.stamp("config"))
        open_id = (await self.log.open_issues()).get(name)
        if open_id is None:
            await self._journal.save(component)
        else:
            issue = NetworkIssue.replay(open_id, await self.log.stream(open_id))
            stamp = self._journal.stamp("config")
            if not lease.covers(open_id):
                # Left by a node that died; here nobody names the component to go on with it.
                former = await lease.holder()
                issue.take_over(former.node if former else None, stamp=stamp)
                if issue.intent is not None:
                    issue.settle_step(Settlement.UNKNOWABLE, StepResult(), stamp=stamp)
            resolved_in = issue.age(stamp.now) + issue.seen_after
            issue.fail("removed", resolved_in=resolved_in, stamp=stamp)
            await Journal(self.log, self._clock, self.node, lease).save(component, issue)
        self._leases.forget(name)
        self.fleet.forget(name)

    async def _retire(self, name: str) -> None:
        """Stop watching a component once nothing acts on it."""
        while name in self.fleet.healing:
            await self.fleet.changed(name)
        self._keepers[name].stop()
        task = self._tasks.pop(name, None)
        if task is not None:
            await asyncio.wait((task,))

    async def failed(self) -> BaseException:
        """Wait, once started, for a keeper to die of a defect: the daemon must not go on then."""
        return await asyncio.shield(self._defect)

    # What may be asked

    @property
    def names(self) -> tuple[str, ...]:
        """The components, in the order of the configuration."""
        return tuple(self._keepers)

    def status(self, name: str) -> ComponentStatus:
        """One component, now.

        Raises:
            UnknownNameError: there is none of that name.
        """
        keeper = self._keeper(name)
        instance = keeper.instance
        process, component = instance.process, instance.component
        return ComponentStatus(
            name=name,
            host=instance.spec.host,
            port=instance.port,
            health=keeper.watch.state,
            mode=component.mode if component.registered else instance.spec.mode,
            maintenance=component.maintenance if keeper.maintenance_left() else None,
            process=process.identity if process is not None and not process.gone() else None,
            last_probe=keeper.watch.last_probe,
            last_look=keeper.watch.last_look,
            issue=keeper.open_issue,
            healing=keeper.open_issue is not None
            and keeper.heal is not None
            and keeper.heal.acting,
            holder=keeper.standby.holder,
        )

    async def heal(self, name: str, request: HealRequest) -> str:
        """Ask for a heal; the id of the issue that carries it.

        Raises:
            UnknownNameError: there is no such component or playbook.
            HealInProgressError: one is under way.
            HealWithheldError: everything is paused, or nothing is wrong and nothing was named.
        """
        keeper = self._keeper(name)
        choose_route(
            request.issue_type or IssueType.PORT_NOT_LISTENING,
            keeper.instance.spec,
            forced=request.playbooks,
            skip=request.skip,
        )
        if self.fleet.paused:
            issue = keeper.open_issue.id if keeper.open_issue else None
            pause = self.controls.pause
            hint = f"by {pause.actor}: {pause.reason}" if pause else None
            raise HealWithheldError(name, issue, "paused", {}, hint=hint)
        return await keeper.request(request)

    async def withdraw(self, name: str, cause: str, actor: str) -> Resolved:
        """Take back what was asked for as `cause`: end the issue that it opened, if that only waits
        and no fresh probe finds the component unhealthy. What came of it, once it is durable.

        Raises:
            UnknownNameError: there is no such component.
            StoreError: it is not durable, or cannot be decided now: ask again.
        """
        return await self._keeper(name).withdraw(cause, actor)

    async def outcome(self, name: str, issue_id: str) -> HealReport:
        """Wait until an issue has ended, or until this node carries it no more, and say how it is.

        Raises:
            UnknownNameError: there is no such component.
            StoreError: the log cannot be read.
        """
        issue = await self._keeper(name).outcome(issue_id)
        node = None
        if not issue.closed and self.log.shared:
            issue = NetworkIssue.replay(issue_id, await self.log.stream(issue_id))
            holder = await self.log.holder(name)
            if holder is not None and holder.issue == issue_id and holder.node != self.node:
                node = holder.node
        return HealReport(
            node=node,
            issue_id=issue.id,
            component=issue.component,
            port=self.status(name).port,
            issue_type=issue.issue_type,
            state=issue.state,
            playbooks_executed=issue.executed,
            reason=(
                issue.reason
                or ("taken_over" if node is not None else None)
                or (issue.withheld.reason if issue.withheld else None)
            ),
        )

    def failing(self) -> tuple[str, ...]:
        """Components that are not healthy now and that nothing is acting on."""
        unhealthy = self.fleet.unhealthy
        return tuple(
            name
            for name, keeper in self._keepers.items()
            if name in unhealthy and not (keeper.heal and keeper.heal.acting)
        )

    async def plan(
        self,
        name: str,
        *,
        issue_type: IssueType | None = None,
        playbooks: Sequence[str] | None = None,
        skip: Sequence[str] = (),
    ) -> tuple[IssueType, tuple[PlannedStep, ...]]:
        """A dry run: what a heal would do now, to which processes. Changes nothing.

        Raises:
            UnknownNameError: there is no such component or playbook.
            HealWithheldError: nothing is wrong, and neither type nor playbook is named.
        """
        return await dry_run(self._keeper(name), issue_type, playbooks, skip)

    def withheld(self, name: str) -> Withhold | None:
        """Why a heal of the component would be withheld now; None when it would not."""
        mode = self.status(name).mode
        left = self._keeper(name).maintenance_left()
        verdict = self.fleet.ask(name, mode, maintenance=left > 0, forced=False)
        if isinstance(verdict, Withhold) and verdict.reason == "maintenance":
            verdict = replace(verdict, retry_in=left)
        return verdict if isinstance(verdict, Withhold) else None

    # Inside

    def _keeper(self, name: str) -> Keeper:
        try:
            return self._keepers[name]
        except KeyError:
            raise UnknownNameError("component", name, self.names) from None

    async def _remember(self) -> None:
        """What back-off, recurrence, quorum and dependencies need of the past."""
        memory = Memory(self._keepers, self._clock.now())
        async with aclosing(self.log.recall(REMEMBERED, refused=_passed_over)) as batches:
            async for batch in batches:
                for event in batch:
                    memory.read(event)
        pasts = memory.pasts
        for name, past in pasts.items():
            self._keepers[name].remember(past)
        # Until it is looked at again, a component is what it was last: who leans on one that was
        # down must not be healed before it.
        for name, past in pasts.items():
            if past.was_healthy:
                self.fleet.mark(name, healthy=True)
        for name, past in pasts.items():
            if past.health is Health.UNHEALTHY:
                self.fleet.mark(name, healthy=False)
        # Before anybody asks for a place: those that were taken are still taken.
        for name, issue in (await self.log.open_issues()).items():
            if name in pasts and pasts[name].begun == issue:
                self.fleet.resume(name)

    def _overhear(self, facts: Sequence[Recorded]) -> None:
        """What other nodes write of the components that are kept here."""
        for event in (recorded.event for recorded in facts):
            if event.node == self.node:
                continue
            match event:
                case ComponentEvent(component=name) | IssueDetected(component=name):
                    keepers = [self._keepers[name]] if name in self._keepers else []
                case IssueTakenOver() | RemediationStarted() | IssueVerified() | IssueFailed():
                    issue = event.originator_id
                    keepers = [each for each in self._keepers.values() if each.carries(issue)]
                case _:
                    keepers = []
            for keeper in keepers:
                keeper.overhear(event)

    def _keeper_ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _log.critical("keeper_died", task=task.get_name(), exc_info=error)
            if not self._defect.done():
                self._defect.set_result(error)
