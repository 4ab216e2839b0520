"""Keeps one component: watches it, heals it when it is in need. One task, one issue at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

import structlog
from structlog.contextvars import bound_contextvars

from healer.domain.aggregate import Stamp
from healer.domain.component import Component, component_stream
from healer.domain.events import (
    POLICY,
    BudgetReset,
    ComponentEvent,
    Event,
    IssueDetected,
    IssueFailed,
    IssueTakenOver,
    IssueVerified,
    RemediationStarted,
)
from healer.domain.health import Health, HealthState
from healer.domain.issue import NetworkIssue
from healer.domain.lifecycle import State
from healer.domain.probe import Outcome, ProbeResult
from healer.domain.process import OwnerProof, ProcessIdentity
from healer.domain.spec import Criticality, Severity
from healer.engine.fleet import FleetBook
from healer.engine.heal import Heal
from healer.engine.journal import Journal
from healer.engine.lease import Lease
from healer.engine.past import Past
from healer.engine.patient import Patient, Wishes
from healer.engine.request import HealRequest
from healer.engine.standby import Standby
from healer.engine.told import told
from healer.engine.window import Window
from healer.engine.withdrawal import Resolved
from healer.errors import (
    HealInProgressError,
    HealWithheldError,
    HostError,
    IllegalCommandError,
    IssueConflictError,
    StoreError,
)
from healer.playbooks import Instance
from healer.ports import Clock, Ids
from healer.watchdog.watch import Detection, Watch

__all__ = ["Keeper"]

_RETRY: Final = 1.0
"""Seconds between attempts to go on while the log cannot be written."""

_SAID_AGAIN: Final = 60.0
"""Seconds until what could not be written, and is for later healers only, is tried again."""

_KNOWN_WITHIN: Final = 5.0
"""Seconds that an operator waits for the log to be read, at the start or after trouble."""

_SEVERITIES: Final = {
    Criticality.LOW: Severity.LOW,
    Criticality.MEDIUM: Severity.MEDIUM,
    Criticality.HIGH: Severity.HIGH,
    Criticality.CRITICAL: Severity.CRITICAL,
}

_log = structlog.get_logger("healer.keeper")


class Keeper:
    """The life of one component under this healer."""

    def __init__(
        self,
        instance: Instance,
        *,
        fleet: FleetBook,
        journal: Journal,
        lease: Lease,
        clock: Clock,
        ids: Ids,
        stopping: asyncio.Event,
    ) -> None:
        self.instance = instance
        self.name = instance.spec.name
        self._fleet = fleet
        self._journal = journal
        self._lease = lease
        self._clock = clock
        self._ids = ids
        self._stopping = stopping
        self._window = Window(clock)
        self.watch = Watch(
            instance, clock=clock, on_health=self._health_changed, on_adopted=self._adopted
        )
        self.standby = Standby(self.name, lease, self.watch, stopping)
        self.heal: Heal | None = None
        self.last_issue: str | None = None
        self._issues = 0
        self._doubtful: tuple[str, str | None, int] | None = None
        self._known = asyncio.Event()
        self._doubted = asyncio.Event()
        self._outdated = asyncio.Event()
        self._measured = asyncio.Event()
        self._requests: asyncio.Queue[tuple[HealRequest, asyncio.Future[str]]] = asyncio.Queue()
        self._ended: dict[str, asyncio.Future[NetworkIssue]] = {}

    def stop(self) -> None:
        """Finish or record what is in flight, and stop watching."""
        self._stopping.set()

    def succeed(self, former: Keeper) -> None:
        """Take over what another keeper of the component knows of its past."""
        self.last_issue, self._issues = former.last_issue, former._issues
        self._window = former._window

    async def request(self, wanted: HealRequest) -> str:
        """Ask for a heal; the id of the issue that carries it. What a person asks for is durable
        then: the next healer knows of it.

        Raises:
            HealInProgressError: a playbook is acting on the component now, or another node heals
                it.
            HealWithheldError: the healer is stopping.
            StoreError: it is not durable; ask again.
        """
        while True:
            if self._stopping.is_set():
                raise HealWithheldError(self.name, None, "stopping", {})
            if (holder := self.standby.holder) is not None:
                raise HealInProgressError(self.name, holder.issue, holder.node)
            heal = self.heal
            # A wish is taken by an issue that is not in the log yet, and told of when it is.
            if heal is None or heal.recorded or (wanted.forced and not heal.acting):
                break
            await heal.until_recorded()
        opened: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        # One that fails just now takes no more wishes: they are for the next.
        if heal is not None and heal.issue.state is not State.FAILED:
            self._hand_over(heal, wanted, opened)
        else:
            self._requests.put_nowait((wanted, opened))
        return await told(opened)

    async def decide(self, actor: str, decision: Callable[[Component, Stamp], None]) -> None:
        """Let what an operator decides about the component become a fact, and wake who waits.

        Raises:
            IllegalCommandError: the component's own rules refuse it.
            StoreError: it is not durable, and does not hold.
        """
        component = await self._current()
        decision(component, self._journal.stamp(actor))
        self._measure()
        await self._durably(self._journal.save(component))
        self._fleet.announce(self.name)

    async def approve(self, actor: str) -> None:
        """Allow the heal that is suggested.

        Raises:
            IllegalCommandError: none is.
            StoreError: it is not durable, and does not hold.
        """
        await self._suggested("approve").approve(actor)

    async def deny(self, actor: str, reason: str) -> None:
        """Refuse the heal that is suggested.

        Raises:
            IllegalCommandError: none is.
            StoreError: it is not durable, and does not hold.
        """
        await self._suggested("deny").deny(actor, reason)

    async def withdraw(self, cause: str, actor: str) -> Resolved:
        """End the open issue that `cause` opened, if it only waits.

        Raises:
            StoreError: it is not durable, or cannot be decided now.
        """
        if (holder := self.standby.holder) is not None:
            return Resolved(holder.issue, f"node {holder.node!r} heals it")
        if (heal := await self._recorded_heal()) is not None:
            return await heal.withdraw(cause, actor)
        log = self._journal.log
        open_id = (await log.open_issues()).get(self.name)
        if open_id and NetworkIssue.replay(open_id, await log.stream(open_id)).cause == cause:
            raise StoreError(f"cannot withdraw issue {open_id}: it is not carried on yet")
        return Resolved(None, "no heal waits for it")

    @property
    def open_issue(self) -> NetworkIssue | None:
        """The issue that is carried, once the log knows it."""
        return self.heal.issue if self.heal is not None and self.heal.recorded else None

    async def _recorded_heal(self) -> Heal | None:
        """The heal under way, once the log knows its issue; None when none is."""
        try:
            async with asyncio.timeout(_KNOWN_WITHIN):
                while (heal := self.heal) is not None and not heal.recorded:
                    await heal.until_recorded()
        except TimeoutError:
            raise StoreError(f"cannot tell the issue of {self.name}: it is not written") from None
        return heal

    def maintenance_left(self) -> float:
        """Seconds that are left of the maintenance window; 0 when none is open."""
        return self._window.left(self.instance.component)

    def _measure(self) -> None:
        """A window that the component is in is measured from now on."""
        self.maintenance_left()
        self._measured.set()

    async def _end_windows(self) -> None:
        """Let it become a fact when the time of a window is over: no later healer holds it open
        then, whatever its clock says."""
        while True:
            self._measured.clear()
            left = self.maintenance_left()
            if self.instance.component.maintenance is not None and not left:
                try:
                    await self.decide(POLICY, self._end_window)
                except (IllegalCommandError, StoreError):
                    await asyncio.sleep(_SAID_AGAIN)
                    continue
            with suppress(TimeoutError):
                async with asyncio.timeout(left or None):
                    await self._measured.wait()

    def _end_window(self, component: Component, stamp: Stamp) -> None:
        """End the window whose time is over; somebody may have ended or replaced it meanwhile."""
        if component.maintenance is not None and not self._window.left(component):
            component.end_maintenance("elapsed", stamp=stamp)

    def _suggested(self, command: str) -> Heal:
        if self.heal is None:
            raise IllegalCommandError(command, f"nothing is suggested for {self.name}")
        return self.heal

    async def _current(self) -> Component:
        """The component, once it is known to be what the log says."""
        if (holder := self.standby.holder) is not None:
            why = f"node {holder.node!r} heals it (issue {holder.issue}): say it there"
            raise IllegalCommandError(f"change {self.name}", why)
        try:
            async with asyncio.timeout(_KNOWN_WITHIN):
                await self._known.wait()
        except TimeoutError:
            raise StoreError(f"cannot change {self.name}: the log is not read yet") from None
        return self.instance.component

    async def _durably(self, saving: Coroutine[Any, Any, None]) -> None:
        """Wait for a fact to be written. What could not be written is forgotten: the keeper reads
        the log again before anything else is decided."""
        try:
            await saving
        except IllegalCommandError:
            raise
        except BaseException:
            self._known.clear()
            if self.heal is not None:
                self.heal.abandon()
            self._doubted.set()
            raise

    async def outcome(self, issue_id: str) -> NetworkIssue:
        """Wait for the end of an issue that is open now."""
        future = self._ended.get(issue_id)
        if future is None:
            events = await self._journal.log.stream(issue_id)
            return NetworkIssue.replay(issue_id, events)
        return await told(future)

    async def run(self) -> None:
        """Watch and heal until the healer stops. While log or host fail, hold and say so."""
        windows = asyncio.create_task(self._end_windows(), name=f"windows {self.name}")
        try:
            await self._keep(windows)
        finally:
            windows.cancel()
            await asyncio.gather(windows, return_exceptions=True)

    async def _keep(self, windows: asyncio.Task[None]) -> None:
        begun = False
        self._lease.on_loss = self._lose
        while not self._stopping.is_set():
            if windows.done():
                windows.result()  # it ends by a defect only
            try:
                if self._doubted.is_set():
                    begun = False
                    self._doubted.clear()
                if not begun:
                    await self._begin()
                    begun = True
                    continue
                if self._outdated.is_set() and not await self._catch_up():
                    begun = False
                    continue
                await self._turn()
            except (StoreError, HostError) as error:
                if isinstance(error, IssueConflictError):
                    _log.warning("overtaken", component=self.name, error=str(error))
                else:
                    store = isinstance(error, StoreError)
                    word = "log_unavailable" if store else "host_unavailable"
                    _log.error(word, component=self.name, error=str(error))
                # What was decided and not written is forgotten; the log says what is true.
                begun = False
                self._known.clear()
                await self._sleep(_RETRY)
        while not self._requests.empty():
            _, opened = self._requests.get_nowait()
            opened.set_exception(HealWithheldError(self.name, None, "stopping", {}))
        self.instance.close()

    # From start to first watch

    async def _begin(self) -> None:
        """Read the component from the log, find its process, and finish what was left open."""
        log = self._journal.log
        await self._stand_by()
        if self._stopping.is_set():
            return
        fresh = await self._read()
        self.instance.component = fresh
        self._measure()
        launcher = self.instance.launcher
        fresh.register(
            self.instance.spec,
            launcher=launcher.kind if launcher else None,
            stamp=self._journal.stamp("config"),
        )
        await self._journal.save(fresh)
        self.watch.state = HealthState(epoch=fresh.epoch)
        self._known.set()
        if self.instance.process is None:
            await self.instance.reacquire()
        open_id = (await log.open_issues()).get(self.name)
        issue = None
        if open_id is not None:
            issue = NetworkIssue.replay(open_id, await log.stream(open_id))
        if issue is None or issue.state is not State.REMEDIATING:
            # Whatever was thought before the log failed: by the log no heal is under way.
            self._fleet.end(self.name, counts=await self._has_ended(issue))
        self._doubtful = None
        if issue is not None:
            _log.info("issue_resumed", component=self.name, issue=issue.id, state=str(issue.state))
            if not self._lease.covers(issue.id):
                await self._take_over(issue)
            # Whoever asked for it by hand is not forgotten: it overrules what it overruled.
            wishes = Wishes(actor="recovery", forced=issue.asked_by is not None)
            await self._heal(issue, wishes, first_seen=None, recorded=True)

    async def _has_ended(self, open_issue: NetworkIssue | None) -> bool:
        """Whether the issue that was left when the log failed is over by what the log says. If it
        is open its remediation has yet to begin; one that the log does not know has never been."""
        if self._doubtful is None:
            return True
        issue_id, former, issues = self._doubtful
        if open_issue is None and await self._journal.log.stream(issue_id):
            return True
        if open_issue is None and self.last_issue == issue_id:
            self.last_issue, self._issues = former, issues
        return False

    async def _read(self) -> Component:
        self._outdated.clear()
        stream = component_stream(self.name)
        return Component.replay(stream, await self._journal.log.stream(stream))

    async def _catch_up(self) -> bool:
        """Take in what another node wrote of the component; False when it has become another one
        meanwhile (healed, moved, no more), so that all has to begin anew."""
        known, fresh = self.instance.component, await self._read()
        if fresh.registered is None or fresh.port != known.port:
            return False
        if fresh.epoch > self.watch.state.epoch:
            return False
        if self.watch.state.health is Health.UNHEALTHY:
            # It is appended together with the issue that follows from it.
            fresh.change_health(
                Health.UNHEALTHY,
                epoch=self.watch.state.epoch,
                probe=self.watch.last_probe,
                stamp=self._journal.stamp("watchdog"),
            )
        self.instance.component = fresh
        self._measure()
        self._fleet.announce(self.name)
        return True

    async def _stand_by(self) -> None:
        """Look on for as long as another node heals the component."""
        holder = await self._lease.elsewhere()
        if holder is None:
            return
        self._known.clear()
        self._fleet.end(self.name)
        self.instance.component = await self._read()
        self.watch.state = HealthState(epoch=self.instance.component.epoch)
        if self.instance.process is None:
            await self.instance.reacquire()
        while not self._requests.empty():
            _, opened = self._requests.get_nowait()
            opened.set_exception(HealInProgressError(self.name, holder.issue, holder.node))
        await self.standby.until_free(holder)
        self._doubted.clear()

    async def _take_over(self, issue: NetworkIssue) -> None:
        """Hold an issue that nobody holds (any more); who did writes no more of it."""
        former = await self._lease.holder()
        node = former.node if former else None
        issue.take_over(node, stamp=self._journal.stamp("recovery"))
        await self._journal.save(issue)
        _log.warning("issue_taken_over", component=self.name, issue=issue.id, former=node)

    def carries(self, issue_id: str) -> bool:
        """Whether the issue is the component's last one that was heard of."""
        return self.last_issue == issue_id

    def overhear(self, event: Event) -> None:
        """Take in what another node has just written of the component or of its open issue."""
        match event:
            case IssueDetected():
                self._remember_issue(event)
                self._lose()
            case IssueTakenOver():
                self._lose()
            case RemediationStarted():
                # It is news: however late, and whatever their clock says, it counts from here.
                self._fleet.restore(self.name, event.attempt, age=0.0)
            case IssueVerified() | IssueFailed():
                self.standby.wake()
            case ComponentEvent():
                if isinstance(event, BudgetReset):
                    self._fleet.rearm(self.name)
                self._outdated.set()
            case _:
                pass

    def _lose(self) -> None:
        """What is done here is another node's to do now."""
        self._doubted.set()
        self.standby.wake()
        if self.heal is not None:
            self.heal.abandon()

    def remember(self, past: Past) -> None:
        """Take in, at start, what the log says of the component: back-off survives a restart, and
        what a person has refused is suggested no sooner."""
        if past.detected is not None:
            self._remember_issue(past.detected)
        if past.attempted is not None:
            age = past.attempted.age(self._clock.now())
            if age < self._fleet.budget.backoff.reset_after:
                self._fleet.restore(self.name, past.attempts, age)
        if past.denied is not None:
            self._fleet.deny(self.name, past.denied.age(self._clock.now()))

    def _remember_issue(self, detected: IssueDetected) -> None:
        self.last_issue, self._issues = detected.originator_id, detected.recurrence + 1

    # One turn: watch, then heal

    async def _turn(self) -> None:
        watching = asyncio.create_task(self.watch.next_detection())
        asked = asyncio.create_task(self._requests.get())
        stop = asyncio.create_task(self._stopping.wait())
        doubt = asyncio.create_task(self._doubted.wait())
        news = asyncio.create_task(self._outdated.wait())
        tasks: tuple[asyncio.Task[object], ...] = (watching, asked, stop, doubt, news)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # Nobody watches while a heal looks for itself: one look at a time.
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._outdated.is_set():
            # What another node wrote comes first: nothing is decided on what was before.
            if not asked.cancelled():
                self._requests.put_nowait(asked.result())
        elif not asked.cancelled():
            await self._by_request(*asked.result())
        elif not watching.cancelled() and not self._doubted.is_set():
            await self._open(watching.result(), Wishes(), severity=None)

    async def _by_request(self, wanted: HealRequest, opened: asyncio.Future[str]) -> None:
        try:
            probe = await self.watch.probe()
            evidence = await self.watch.evidence(probe)
            await self.refuse_needless(wanted, probe)
            detection = Detection(
                issue_type=wanted.issue_type or await self.watch.classify(evidence),
                evidence=evidence,
                first_seen=self._clock.monotonic(),
                epoch=self.watch.state.epoch,
            )
            await self._open(
                detection,
                wanted.wishes,
                severity=wanted.severity,
                reason=wanted.reason,
                cause=wanted.cause,
                opened=opened,
            )
        except asyncio.CancelledError:
            opened.cancel()
            raise
        except Exception as error:
            if not opened.done():
                opened.set_exception(error)
            if not isinstance(error, HealWithheldError):
                raise

    async def refuse_needless(self, wanted: HealRequest, probe: ProbeResult) -> None:
        """Refuse a heal that is asked for without saying of what, where there is nothing to see.

        Raises:
            HealWithheldError: the component is healthy, and neither type nor playbook is named.
        """
        unsaid = wanted.issue_type is None and wanted.playbooks is None
        if unsaid and probe.outcome is Outcome.HEALTHY and not await self.watch.usurped():
            hint = "name an issue type or a playbook to heal it all the same"
            raise HealWithheldError(self.name, None, "healthy", {}, hint=hint)

    async def _open(
        self,
        detection: Detection,
        wishes: Wishes,
        *,
        severity: Severity | None,
        reason: str | None = None,
        cause: str | None = None,
        opened: asyncio.Future[str] | None = None,
    ) -> None:
        spec = self.instance.spec
        issue = NetworkIssue.detect(
            self._ids.new(),
            component=self.name,
            host=spec.host,
            port=self.instance.port,
            issue_type=detection.issue_type,
            severity=severity or _SEVERITIES[spec.criticality],
            criticality=spec.criticality,
            epoch=detection.epoch,
            evidence=detection.evidence,
            seen_after=self._clock.monotonic() - detection.first_seen,
            previous=self.last_issue,
            recurrence=self._issues,
            reason=reason,
            stamp=self._journal.stamp(wishes.actor, cause),
        )
        recorded = opened is not None
        if opened is not None:
            # Who asked is told of an issue that is there to stay; a person, of one that says so.
            await self._journal.save(self.instance.component, issue)
            if not wishes.forced:
                opened.set_result(issue.id)
                opened = None
        await self._heal(
            issue, wishes, first_seen=detection.first_seen, recorded=recorded, asked=opened
        )

    async def _heal(
        self,
        issue: NetworkIssue,
        wishes: Wishes,
        *,
        first_seen: float | None,
        recorded: bool,
        asked: asyncio.Future[str] | None = None,
    ) -> None:
        ended: asyncio.Future[NetworkIssue] = asyncio.get_running_loop().create_future()
        self._ended[issue.id] = ended
        before = self.last_issue, self._issues
        self._doubtful = (issue.id, *before)
        self.last_issue, self._issues = issue.id, issue.recurrence + 1
        patient = Patient(
            issue,
            self.instance,
            self.watch,
            fleet=self._fleet,
            journal=self._journal,
            clock=self._clock,
            stopping=self._stopping,
            window=self._window,
            wishes=wishes,
            recorded=asyncio.get_running_loop().create_future(),
            first_seen=first_seen,
        )
        if recorded:
            patient.recorded.set_result(True)
        self.heal = Heal(patient)
        if asked is not None:
            self.heal.force(wishes, asked)
        try:
            await self._hand_over_requests(self.heal)
            # Whatever is logged while it goes on, at whatever depth, names the issue.
            with bound_contextvars(issue=issue.id):
                await self.heal.run()
            if issue.closed:
                self._doubtful = None
        except IssueConflictError:
            self.heal = None  # nobody's wish is for it any more
            self._doubtful = None
            if self.last_issue == issue.id and not await self._journal.log.stream(issue.id):
                # Another node was faster: this one has never been.
                self.last_issue, self._issues = before
            raise
        finally:
            self.heal = None
            if not patient.recorded.done():
                patient.recorded.set_result(False)
            del self._ended[issue.id]
            if not ended.done():
                ended.set_result(issue)
            ended.exception()

    async def _hand_over_requests(self, heal: Heal) -> None:
        """Whoever asked for a heal while the issue was being opened gets this one."""
        if not self._requests.empty():
            await heal.record()
        while not self._requests.empty():
            self._hand_over(heal, *self._requests.get_nowait())

    def _hand_over(self, heal: Heal, wanted: HealRequest, opened: asyncio.Future[str]) -> None:
        """Let an open issue carry what was asked for; one that is acted on takes no more wishes."""
        if heal.acting:
            opened.set_exception(HealInProgressError(self.name, heal.issue.id))
        elif wanted.forced:
            heal.force(wanted.wishes, opened)
        else:
            opened.set_result(heal.issue.id)

    # What the watch reports

    async def _health_changed(
        self, before: HealthState, after: HealthState, probe: ProbeResult | None
    ) -> None:
        component = self.instance.component
        if after.health in {Health.HEALTHY, Health.UNHEALTHY}:
            self._fleet.mark(self.name, healthy=after.health is Health.HEALTHY)
        if self.standby.holder is not None:
            return
        component.change_health(
            after.health, epoch=after.epoch, probe=probe, stamp=self._journal.stamp("watchdog")
        )
        _log.info(
            "health_changed",
            component=self.name,
            before=str(before.health),
            after=str(after.health),
        )
        if after.health is not Health.UNHEALTHY:
            # What makes an issue is appended together with it, so that neither waits.
            await self._journal.save(component)

    async def _adopted(self, process: ProcessIdentity, proof: OwnerProof | None) -> None:
        component = self.instance.component
        if self.standby.holder is not None:
            return
        if proof is None:
            _log.warning(
                "owner_unproven",
                component=self.name,
                process=str(process),
                consequence="it is watched, and will never be signalled",
            )
            return
        launch_id = next(
            (
                launch.launch_id
                for launch in self.instance.launches
                if launch.leader is not None and launch.leader.same_as(process)
            ),
            None,
        )
        component.adopt(
            process,
            proof=proof,
            port=self.instance.port,
            epoch=self.watch.state.epoch,
            launch_id=launch_id,
            stamp=self._journal.stamp("watchdog"),
        )
        await self._journal.save(component)

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return
