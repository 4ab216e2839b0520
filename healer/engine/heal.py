"""Carries one issue through its life: asks what it needs next, does it, writes it down.

The decision is `next_move`, a pure function of the issue; here is what is done about it. Intent is
durable before the effect, the outcome follows, and only fresh probes end an issue as verified.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar, assert_never

import structlog

from healer.domain import decision
from healer.domain.aggregate import Stamp
from healer.domain.classification import is_conclusive
from healer.domain.diagnosis import conclude
from healer.domain.events import ApprovalRequested, StepSettled, StepStarted, StepSucceeded
from healer.domain.health import Health
from healer.domain.issue import NetworkIssue
from healer.domain.lifecycle import State
from healer.domain.playbook import Check, CheckStatus, PlaybookOutcome, Settlement, StepResult
from healer.domain.policy import Go, Withhold
from healer.domain.probe import ProbeResult
from healer.domain.process import OwnerProof, ProcessIdentity
from healer.domain.routing import (
    DIAGNOSE_NETWORK,
    RESTART_COMPONENT,
    choose_route,
    playbook_named,
)
from healer.domain.spec import Mode
from healer.engine.fleet import FleetBook
from healer.engine.journal import Journal
from healer.errors import HostError, IllegalCommandError, StoreError
from healer.playbooks import ACTIONS, Action, Instance, Plan, Skip, StepFailedError, probe_until
from healer.playbooks.action import Verdict
from healer.ports import Clock
from healer.watchdog.watch import Watch

__all__ = ["Heal", "Wishes"]

_PATIENCE: Final = 0.25
"""Seconds that slow checks may hold up a remediation whose evidence is not conclusive; those that
are not done by then go on beside it, and are recorded when they are."""

_PROMPT: Final = 0.02
"""Seconds for which facts may wait for a look to end, to be written together with what follows."""

_T = TypeVar("_T")

_log = structlog.get_logger("healer.heal")


@dataclass(slots=True)
class Wishes:
    """What an operator wants of a heal. `forced` overrules mode, maintenance and budget."""

    actor: str = "watchdog"
    forced: bool = False
    playbooks: tuple[str, ...] | None = None
    skip: tuple[str, ...] = ()


class _Answer:
    """What an operator says to a suggested heal; `recorded` ends when the log has it."""

    def __init__(self, actor: str, refusal: str | None = None) -> None:
        self.actor = actor
        self.refusal = refusal
        self.command = "approve the heal" if refusal is None else "refuse the heal"
        self.recorded: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Heal:
    """One issue under way. `run` returns when it has ended, or when the healer is to stop; then it
    stays open in the log and is resumed by the next start."""

    def __init__(
        self,
        issue: NetworkIssue,
        instance: Instance,
        watch: Watch,
        *,
        fleet: FleetBook,
        journal: Journal,
        clock: Clock,
        stopping: asyncio.Event,
        wishes: Wishes,
        first_seen: float | None = None,
    ) -> None:
        self.issue = issue
        self.wishes = wishes
        self._instance = instance
        self._watch = watch
        self._fleet = fleet
        self._journal = journal
        self._clock = clock
        self._stopping = stopping
        self._first_seen = first_seen
        self._late: dict[str, asyncio.Task[Check]] = {}
        self._deferred: list[str] = []
        self._go = asyncio.Event()
        self._abandoned = False
        self._approval_ends: float | None = None
        self._answers: deque[_Answer] = deque()
        self._answered = asyncio.Event()
        self.acting = False
        self._rerouted = False
        self._first_start = issue.recurrence == 0 and instance.component.process is None

    @property
    def _mode(self) -> Mode:
        return Mode.ACT if self.wishes.forced else self._instance.component.mode

    async def run(self) -> None:
        """Go on until the issue has ended or the healer is to stop.

        Raises:
            StoreError: a fact could not be made durable; nothing was done on the strength of it.
        """
        if self.issue.state is State.REMEDIATING:
            # A former healer began it: the same place and the same attempt, not one more.
            self.acting = True
            self._fleet.resume(self.issue.component)
        try:
            while not (self.issue.closed or self._stopping.is_set() or self._abandoned):
                await self._make(decision.next_move(self.issue, self._mode))
                self._record_late_checks()
        finally:
            for task in self._late.values():
                task.cancel()
            self._refuse_answers()
            if self.issue.closed or self._stopping.is_set():
                # Not where log or host failed: the heal goes on in a moment, in its old place.
                self._end_acting()
            if self.issue.closed:
                self._instance.release()

    def force(self, wishes: Wishes) -> None:
        """An operator wants it healed now, whatever it is withheld for."""
        self.wishes = wishes
        self._rerouted = wishes.playbooks is not None or bool(wishes.skip)
        self._go.set()

    def abandon(self) -> None:
        """Leave the issue open: what is remembered of it here may not be what the log says."""
        self._abandoned = True
        self._go.set()

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

    async def _answer(self, answer: _Answer) -> None:
        # The heal's own task records it: whoever else did would leave the issue knowing what the
        # log does not, when the append fails.
        if not isinstance(self.issue.approval, ApprovalRequested):
            raise IllegalCommandError(answer.command, "nothing is suggested")
        self._answers.append(answer)
        self._answered.set()
        await answer.recorded

    def _refuse_answers(self) -> None:
        while self._answers:
            answer = self._answers.popleft()
            if not answer.recorded.done():
                answer.recorded.set_exception(
                    IllegalCommandError(answer.command, "nothing is suggested any more")
                )

    async def _make(self, move: decision.Move) -> None:
        match move:
            case decision.Diagnose():
                await self._diagnose()
            case decision.RouteIssue():
                self._choose_route()
            case decision.AskApproval():
                await self._ask_approval()
            case decision.Remediate():
                await self._remediate()
            case decision.StartPlaybook():
                self.issue.start_playbook(stamp=self._stamp())
            case decision.RunStep():
                await self._run_step(move)
            case decision.SettleStep():
                await self._settle(move.intent)
            case decision.FinishPlaybook():
                self.issue.finish_playbook(stamp=self._stamp())
                self._instance.release()
            case decision.Verify():
                await self._verify()
            case decision.Verified():
                await self._close_verified()
            case decision.Fail():
                await self._close_failed(move.reason)
            case decision.Done():
                return
            case _:
                assert_never(move)

    # Diagnosis

    async def _diagnose(self) -> None:
        issue, host = self.issue, self._instance.host
        names = host.check_names()
        fast = host.fast_checks()
        slow = [name for name in names if name not in fast]
        if issue.state is State.DETECTED:
            issue.start_diagnosis(DIAGNOSE_NETWORK, names, stamp=self._stamp())
        if is_conclusive(issue.evidence, issue.issue_type):
            # Nothing is waited for but the fast checks: all this is written with the first intent,
            # so that the disk is waited for once.
            self._deferred = slow
            self._start_checks(fast)
            await asyncio.gather(*self._late.values())
        else:
            self._start_checks(names)
            # The log writes while the host looks: neither waits for the other.
            await asyncio.gather(self._save(), self._wait_for_checks())
        self._record_late_checks()
        found = conclude(
            issue.evidence, issue.issue_type, tuple(issue.checks.values()), self._instance.spec
        )
        issue.complete_diagnosis(
            issue_type=found.issue_type,
            findings=found.findings,
            recommendations=found.recommendations,
            pending=[name for name in names if name in self._late or name in self._deferred],
            stamp=self._stamp(),
        )

    def _start_checks(self, names: Sequence[str]) -> None:
        for name in names:
            self._late[name] = asyncio.create_task(self._check(name))

    async def _check(self, name: str) -> Check:
        """Make one check. A defect in it is a reading that says nothing, not the end of a heal."""
        begun = self._clock.monotonic()
        try:
            return await self._instance.host.check(name, self._instance.spec, self._instance.port)
        except Exception as error:
            _log.exception("check_defect", issue=self.issue.id, check=name)
            elapsed = self._clock.monotonic() - begun
            why: dict[str, Any] = {"why": type(error).__name__}
            return Check(name=name, status=CheckStatus.UNKNOWN, facts=why, elapsed=elapsed)

    def _start_deferred_checks(self) -> None:
        """Slow checks that could not have changed the decision run beside the verification, and
        not while the component needs the processors for its start."""
        self._start_checks(self._deferred)
        self._deferred = []

    async def _wait_for_checks(self) -> None:
        if self._late:
            await asyncio.wait(self._late.values(), timeout=_PATIENCE)

    def _record_late_checks(self) -> None:
        for name in [name for name, task in self._late.items() if task.done()]:
            check = self._late.pop(name).result()
            if not self.issue.closed:
                self.issue.record_check(check, stamp=self._stamp())

    async def _finish_checks(self) -> None:
        """Before the issue closes: wait a little for what still looks, and say what did not end."""
        self._start_deferred_checks()
        await self._wait_for_checks()
        self._record_late_checks()
        for name, task in self._late.items():
            task.cancel()
            unfinished = Check(
                name=name, status=CheckStatus.UNKNOWN, facts={"why": "not finished in time"}
            )
            self.issue.record_check(unfinished, stamp=self._stamp())
        self._late.clear()

    # Route, approval, budget

    def _choose_route(self) -> None:
        route = choose_route(
            self.issue.issue_type,
            self._instance.spec,
            forced=self.wishes.playbooks,
            skip=self.wishes.skip,
        )
        self.issue.choose_route(
            route.playbooks,
            candidates=route.candidates,
            probabilities=route.probabilities,
            chosen_by=route.chosen_by,
            skipped=route.skipped,
            stamp=self._stamp("policy"),
        )

    async def _ask_approval(self) -> None:
        if self.issue.approval is None:
            expires = self._fleet.budget.approval_expires
            self.issue.request_approval(expires_in=expires, stamp=self._stamp("policy"))
            await self._save()
            self._approval_ends = self._clock.monotonic() + expires
        if self._approval_ends is None:
            # The healer that asked is dead: its clock is gone, the label is all there is.
            asked = self.issue.approval
            assert isinstance(asked, ApprovalRequested)
            age = (self._clock.now() - asked.timestamp).total_seconds()
            self._approval_ends = self._clock.monotonic() + asked.expires_in - max(0.0, age)
        left = max(0.0, self._approval_ends - self._clock.monotonic())
        woken = await self._wait(left, self._answered_or_changed())
        if self._answers:
            await self._record_answer(self._answers.popleft())
        elif woken == "timeout":
            self.issue.deny_approval("expired", stamp=self._stamp("policy"))

    async def _answered_or_changed(self) -> None:
        """Until somebody has answered the suggestion, or none is needed any more."""
        while not self._answered.is_set() and self._mode is Mode.SUGGEST:
            changed = asyncio.create_task(self._fleet.changed())
            answered = asyncio.create_task(self._answered.wait())
            try:
                await asyncio.wait((changed, answered), return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (changed, answered):
                    task.cancel()
                await asyncio.gather(changed, answered, return_exceptions=True)

    async def _record_answer(self, answer: _Answer) -> None:
        stamp = self._journal.stamp(answer.actor)
        if answer.refusal is None:
            self.issue.grant_approval(stamp=stamp)
        else:
            self.issue.deny_approval(answer.refusal, stamp=stamp)
        try:
            await self._save()
        except BaseException as error:
            # Who waits for the answer is told; a cancelled heal is no failure of the log.
            lost = error if isinstance(error, StoreError) else StoreError("cannot record: stopped")
            answer.recorded.set_exception(lost)
            raise
        answer.recorded.set_result(None)
        self._refuse_answers()

    async def _remediate(self) -> None:
        """Wait for leave of the budget, then begin."""
        while True:
            if self._rerouted:
                self._rerouted = False
                self._choose_route()
            if isinstance(decision.next_move(self.issue, self._mode), decision.AskApproval):
                return  # an operator has made it a suggestion meanwhile
            verdict = self._fleet.ask(
                self.issue.component,
                self._mode,
                maintenance=self._instance.component.in_maintenance(self._stamp()),
                forced=self.wishes.forced,
            )
            if isinstance(verdict, Go):
                break
            if verdict.reason == "maintenance":
                # Nothing announces the end of a window.
                left = self._instance.component.maintenance_left(self._stamp())
                verdict = replace(verdict, retry_in=left)
            await self._withhold(verdict)
            patience = self._until_deadline(verdict)
            seconds = min((t for t in (verdict.retry_in, patience) if t is not None), default=None)
            woken = await self._wait(seconds, self._fleet.changed())
            if woken in {"stopping", "recovered"} or self._abandoned:
                return
        attempt = self._begin_acting(rearmed=verdict.rearmed)
        if self.issue.remaining:
            self.issue.start_remediation(attempt=attempt, stamp=self._stamp("policy"))
        else:
            await self._save()
            await self._verify()

    async def _withhold(self, verdict: Withhold) -> None:
        issue = self.issue
        last = issue.withheld
        if last is None or (last.reason, last.cause) != (verdict.reason, verdict.cause):
            issue.withhold(
                verdict.reason,
                arithmetic=verdict.arithmetic,
                cause=verdict.cause,
                retry_in=verdict.retry_in,
                stamp=self._stamp("policy"),
            )
        if verdict.page and verdict.reason not in issue.escalations:
            issue.escalate(verdict.reason, stamp=self._stamp("policy"))
        elif self._until_deadline(verdict) == 0:
            issue.escalate("deadline", stamp=self._stamp("policy"))
        await self._save()

    def _until_deadline(self, verdict: Withhold) -> float | None:
        """Seconds until a withheld heal is no longer waited for in silence; None: nobody waits.

        Escalation waits for the verdict of a heal, but not for ever. A pause and a maintenance
        window are somebody's own wish.
        """
        if self.issue.escalations or verdict.reason in {"paused", "maintenance"}:
            return None
        return max(0.0, self._fleet.budget.escalate_after - self._since_first_seen())

    async def _wait(self, seconds: float | None, event: Coroutine[Any, Any, object]) -> str:
        """Wait for the event, the time, the operator, the stop or the recovery of the component.

        Says which it was. A recovery is recorded: fresh probes, and the next move verifies.
        """
        recovery = asyncio.create_task(self._watch.until_healthy())
        waits: dict[str, asyncio.Task[Any]] = {
            "stopping": asyncio.create_task(self._stopping.wait()),
            "forced": asyncio.create_task(self._go.wait()),
            "event": asyncio.create_task(event),
            "recovered": recovery,
        }
        try:
            await asyncio.wait(waits.values(), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            woken = next((name for name, task in waits.items() if task.done()), "timeout")
            self._go.clear()
            if woken == "recovered":
                await self._record_verification(healthy=True, probes=recovery.result(), begun=None)
            return woken
        finally:
            for task in waits.values():
                task.cancel()
            await asyncio.gather(*waits.values(), return_exceptions=True)

    def _begin_acting(self, *, rearmed: bool) -> int:
        """Take a place among the heals under way; the number of this heal in a row."""
        self.acting = True
        return self._fleet.begin(self.issue.component, rearmed=rearmed)

    def _end_acting(self) -> None:
        if self.acting:
            self.acting = False
            self._fleet.end(self.issue.component)

    # Steps

    async def _run_step(self, move: decision.RunStep) -> None:
        action = ACTIONS[move.step.action]
        try:
            plan = await self._plan(action)
        except StepFailedError as error:
            # An intent that could not be stated is never carried out.
            self.issue.start_step(stamp=self._stamp())
            self.issue.fail_step(error.result, elapsed=0.0, stamp=self._stamp())
            return
        if isinstance(plan, Skip):
            self.issue.skip_step(plan.reason, stamp=self._stamp())
            return
        self.issue.start_step(
            targets=plan.targets,
            port=plan.port,
            launch_id=plan.launch_id,
            manager=plan.manager,
            stamp=self._stamp(),
        )
        if not action.looks:
            await self._save()
        begun = self._clock.monotonic()
        perform = self._perform_looking if action.looks else self._perform
        try:
            result = await perform(action, plan)
        except StepFailedError as error:
            elapsed = self._clock.monotonic() - begun
            self.issue.fail_step(error.result, elapsed=elapsed, stamp=self._stamp())
        else:
            elapsed = self._clock.monotonic() - begun
            self.issue.succeed_step(result, elapsed=elapsed, stamp=self._stamp())
            self._take_over(action.name, result)
        if not action.looks or action.name == "commit_port":
            await self._save()

    async def _plan(self, action: Action) -> Plan | Skip:
        """What the action would do; StepFailedError when that cannot be said."""
        return await self._guarded(action, action.plan(self._instance, self.issue))

    async def _perform_looking(self, action: Action, plan: Plan) -> StepResult:
        """Perform what has no effect. If it takes long, what led to it is told meanwhile."""
        looking = asyncio.create_task(self._perform(action, plan))
        try:
            done, _ = await asyncio.wait((looking,), timeout=_PROMPT)
            if not done:
                await self._save()
            return await looking
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def _perform(self, action: Action, plan: Plan) -> StepResult:
        return await self._guarded(action, action.perform(self._instance, self.issue, plan))

    async def _guarded(self, action: Action, work: Coroutine[Any, Any, _T]) -> _T:
        """The result of `work`; whatever it raises is a StepFailedError."""
        try:
            return await work
        except StepFailedError:
            raise
        except HostError as error:
            facts = StepResult(errno=error.errno)
            raise StepFailedError("host_error", facts, str(error)) from error
        except Exception as error:
            # A defect of ours: recorded as the step's failure, so that the issue goes on, and told.
            _log.exception("step_defect", issue=self.issue.id, action=action.name)
            raise StepFailedError("internal_error", detail=type(error).__name__) from error

    def _take_over(self, action: str, result: StepResult) -> None:
        """What the outcome of a step means for the component, appended together with it."""
        component = self._instance.component
        if result.started is not None:
            component.adopt(
                result.started,
                proof=OwnerProof.LAUNCHED,
                port=result.port or self._instance.port,
                epoch=self._watch.state.epoch,
                launch_id=result.launch_id,
                stamp=self._stamp(),
            )
        if action == "commit_port" and result.port is not None:
            component.rebind(result.port, stamp=self._stamp())

    async def _settle(self, intent: StepStarted) -> None:
        """Look at what became of a step whose healer died in the middle of it."""
        action = ACTIONS.get(intent.action)
        stamp = self._stamp("recovery")
        if action is None:
            unknown = StepResult(error="unknown_action")
            self.issue.settle_step(Settlement.UNKNOWABLE, unknown, stamp=stamp)
        else:
            settlement, result = await self._look_back(action, intent)
            self.issue.settle_step(settlement, result, stamp=stamp)
            if settlement is Settlement.OBSERVED:
                self._take_over(intent.action, result)
        await self._save()

    async def _look_back(self, action: Action, intent: StepStarted) -> Verdict:
        """What the world says of an intent; unknowable when it cannot be looked at."""
        try:
            return await self._guarded(action, action.settle(self._instance, self.issue, intent))
        except StepFailedError as error:
            return Settlement.UNKNOWABLE, error.result

    # Verification and the end

    async def _verify(self) -> None:
        begun = self._clock.monotonic()
        spec = self._instance.spec
        patient = self._awaits_start()
        if not patient and self._instance.process is not None and self._instance.process.gone():
            self._instance.hold(None)
        looking = probe_until(
            self._instance,
            self._instance.port,
            within=spec.start_period if patient else 0.0,
            patient=patient,
            answered=self._start_deferred_checks,
        )
        overdue = asyncio.get_running_loop().call_later(_PATIENCE, self._start_deferred_checks)
        try:
            seen = await self._unless_stopping(looking)
        finally:
            overdue.cancel()
        if seen is None:
            return
        self._start_deferred_checks()
        healthy, probes = seen
        if not await self._record_verification(healthy=healthy, probes=probes, begun=begun):
            await self._fill_cleared_port()

    def _awaits_start(self) -> bool:
        """Whether somebody is starting the component now, so that it deserves its start period."""
        if not self.issue.finished:
            return False
        _, last_outcome = self.issue.finished[-1]
        if last_outcome is not PlaybookOutcome.COMPLETED:
            return False
        for outcome in self.issue.outcomes.values():
            if outcome.action not in {"start", "start_reserved"}:
                continue
            if isinstance(outcome, StepSucceeded):
                return True
            if isinstance(outcome, StepSettled):
                return outcome.settlement is Settlement.OBSERVED
        return self._instance.launcher is None and not self.issue.remaining

    async def _record_verification(
        self, *, healthy: bool, probes: Sequence[ProbeResult], begun: float | None
    ) -> bool:
        """Take down what was seen; whether it is a cure. Strangers that answer are none."""
        foreign: tuple[ProcessIdentity, ...] = ()
        if healthy and await self._watch.usurped():
            async with self._instance.occupants(self._instance.port, members=False) as found:
                foreign = found.strangers
            healthy = False
        if healthy and self._instance.process is None:
            adopted = await self._instance.adopt()
            if adopted is not None and adopted[1] is not None:
                self._instance.component.adopt(
                    adopted[0],
                    proof=adopted[1],
                    port=self._instance.port,
                    epoch=self._watch.state.epoch,
                    launch_id=None,
                    stamp=self._stamp(),
                )
        self.issue.record_verification(
            healthy=healthy,
            probes=probes,
            epoch=self._watch.state.epoch,
            elapsed=0.0 if begun is None else self._clock.monotonic() - begun,
            foreign=foreign,
            stamp=self._stamp(),
        )
        return healthy

    async def _fill_cleared_port(self) -> None:
        """A cleared port with nothing on it is not a cure: the component's launcher comes next."""
        issue = self.issue
        if issue.state is not State.REMEDIATING or not issue.finished:
            return
        bind = await self._instance.host.bind_test(self._instance.spec.host, self._instance.port)
        if decision.wants_launcher(
            issue, port_free=bind.free, has_launcher=self._instance.launcher is not None
        ):
            restart = playbook_named(RESTART_COMPONENT)
            playbooks = (restart, *issue.remaining)
            issue.choose_route(
                playbooks,
                candidates=tuple(playbook.name for playbook in playbooks),
                probabilities=(1.0, *(0.0 for _ in issue.remaining)),
                chosen_by="cleared_port",
                stamp=self._stamp("policy"),
            )

    async def _close_verified(self) -> None:
        # The cure was seen by now; what still looks only completes the picture.
        resolved_in = self._since_first_seen()
        await self._finish_checks()
        self.issue.verify(resolved_in=resolved_in, stamp=self._stamp())
        self._watch.begin_epoch(Health.HEALTHY)
        self._instance.component.change_health(
            Health.HEALTHY,
            epoch=self._watch.state.epoch,
            probe=self.issue.verification.probes[-1] if self.issue.verification else None,
            stamp=self._stamp(),
        )
        await self._save()
        if self._first_start:
            # Bringing a component up for the first time is no heal in a row.
            self._fleet.rearm(self.issue.component)
        self._fleet.mark(self.issue.component, healthy=True)

    async def _close_failed(self, reason: str) -> None:
        await self._finish_checks()
        self.issue.escalate(reason, stamp=self._stamp("policy"))
        self.issue.fail(reason, resolved_in=self._since_first_seen(), stamp=self._stamp())
        self._watch.begin_epoch(Health.UNHEALTHY)
        await self._save()

    # Small things

    async def _unless_stopping(self, work: Coroutine[Any, Any, _T]) -> _T | None:
        """The result of `work`, or None when the healer is to stop first; then it is cancelled."""
        task = asyncio.create_task(work)
        stop = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait((task, stop), return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            for waiting in (task, stop):
                waiting.cancel()
            await asyncio.gather(task, stop, return_exceptions=True)

    def _since_first_seen(self) -> float:
        if self._first_seen is not None:
            return self._clock.monotonic() - self._first_seen
        # The healer that saw it is dead: its clock is gone, the label is all there is.
        age = (self._clock.now() - self.issue.opened_at).total_seconds()
        return max(0.0, age) + self.issue.seen_after

    def _stamp(self, actor: str | None = None) -> Stamp:
        return self._journal.stamp(actor or self.wishes.actor)

    async def _save(self) -> None:
        await self._journal.save(self.issue, self._instance.component)
