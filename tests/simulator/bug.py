"""Bugs to plant: what the simulator cannot find it does not prove.

Each is a mistake that somebody could make, or has made elsewhere; they are planted for the length
of a run only. Patching is for this: nothing else in the tests patches anything.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final
from unittest import mock

from healer.domain import decision, policy
from healer.domain.health import HealthState
from healer.domain.playbook import Settlement, StepResult
from healer.domain.policy import Ledger, Withhold
from healer.domain.probe import Outcome
from healer.domain.process import OwnerProof, ProcessIdentity
from healer.domain.spec import Mode
from healer.engine import Engine
from healer.engine import fleet as fleet_module
from healer.engine import verification as verification_module
from healer.engine import withdrawal as withdrawal_module
from healer.engine.fleet import FleetBook
from healer.engine.heal import Heal
from healer.engine.journal import Journal
from healer.engine.keeper import Keeper
from healer.engine.leave import Leave
from healer.engine.patient import Patient
from healer.engine.turn import Turns
from healer.engine.window import Window
from healer.engine.withdrawal import Withdrawal
from healer.errors import StoreError
from healer.playbooks import instance as instance_module
from healer.playbooks import stop as stop_module
from healer.playbooks.action import Plan, StepFailedError
from healer.playbooks.instance import Instance, Occupancy
from healer.playbooks.start import Start
from healer.playbooks.stop import Terminate
from healer.testing import FakeClock, FakeHost
from healer.watchdog.watch import Watch

__all__ = ["BUGS", "LONG_BUGS", "planted"]

_Planting = tuple[Any, str, Any]


def _gate_with(change: Callable[..., Any]) -> _Planting:
    """The policy's gate, changed."""
    return fleet_module, "gate", change(policy.gate)


def _of_fleet(**fields: Any) -> Callable[..., Any]:
    """A gate that is told something else of the fleet."""

    def change(gate: Callable[..., Any]) -> Callable[..., Any]:
        def changed(ledger: Any, budget: Any, fleet: Any, *rest: Any, **options: Any) -> Any:
            return gate(ledger, budget, replace(fleet, **fields), *rest, **options)

        return changed

    return change


def _one_too_many(gate: Callable[..., Any]) -> Callable[..., Any]:
    def changed(ledger: Any, budget: Any, fleet: Any, *rest: Any, **options: Any) -> Any:
        less = replace(fleet, healing=max(0, fleet.healing - 1))
        return gate(ledger, budget, less, *rest, **options)

    return changed


def _never_again(reason: str) -> Callable[..., Any]:
    """A gate that forgets to say when to ask again."""

    def change(gate: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*arguments: Any, **options: Any) -> Any:
            verdict = gate(*arguments, **options)
            if isinstance(verdict, Withhold) and verdict.reason == reason:
                return replace(verdict, retry_in=None)
            return verdict

        return changed

    return change


def _by_pid(self: ProcessIdentity, other: ProcessIdentity) -> bool:
    return self.pid == other.pid


def _by_pid_and_ticks(self: ProcessIdentity, other: ProcessIdentity) -> bool:
    return (self.pid, self.start_ticks) == (other.pid, other.start_ticks)


async def _says(_self: Any, *_arguments: Any) -> bool:
    return False


async def _is_well(_instance: Any, _port: int, **_options: Any) -> Any:
    result = await _instance.prober.probe(_instance.spec, _port)
    return True, [result]


async def _launch_and_believe(self: Start, instance: Instance, plan: Plan) -> StepResult:
    """Takes a start that was not done in time for one that goes on by itself."""
    try:
        return await _LAUNCH(self, instance, plan)
    except StepFailedError as error:
        if error.result.errno != errno.ETIMEDOUT:
            raise
        return StepResult(launch_id=plan.launch_id, manager=plan.manager, port=plan.port)


async def _launch_impatiently(self: Start, instance: Instance, plan: Plan) -> StepResult:
    """Gives a start up that takes long, and leaves it to itself."""
    try:
        async with asyncio.timeout(_IMPATIENT):
            return await _LAUNCH(self, instance, plan)
    except TimeoutError:
        raise StepFailedError("launch_failed", StepResult(launch_id=plan.launch_id)) from None


_LAUNCH = Start._launch
_IMPATIENT: Final = 20.0


async def _not_started(_self: Any, _instance: Any, _issue: Any, intent: Any) -> Any:
    return Settlement.ABSENT, StepResult(port=intent.port)


class _Forgetful:
    """A log that knows of no open issue."""

    def __init__(self, log: Any) -> None:
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def open_issues(self) -> dict[str, str]:
        return {}


async def _begin_anew(self: Keeper) -> None:
    """A keeper that forgets the issue that its predecessor left."""
    log = self._journal.log
    self._journal.log = _Forgetful(log)  # type: ignore[assignment]
    try:
        await _BEGIN(self)
    finally:
        self._journal.log = log


_BEGIN = Keeper._begin
_SAVE = Journal.save
_OBSERVE = HealthState.observe
_NEXT_EPOCH = HealthState.next_epoch


async def _save_and_hope(self: Journal, *aggregates: Any) -> None:
    try:
        await _SAVE(self, *aggregates)
    except StoreError:
        return


def _observe_unknown(
    self: HealthState, outcome: Outcome, thresholds: Any, *, starting: bool
) -> Any:
    seen = Outcome.UNHEALTHY if outcome is Outcome.UNKNOWN else outcome
    return _OBSERVE(self, seen, thresholds, starting=starting)


def _same_epoch(self: HealthState, health: Any) -> HealthState:
    return replace(_NEXT_EPOCH(self, health), failures=self.failures)


def _wall(self: FakeClock) -> float:
    return self._time() + self._moved + self._set


def _window_by_wall(self: Window, component: Any) -> float:
    window = component.maintenance
    if window is None:
        return 0.0
    return max(0.0, window.duration - (self._clock.now() - window.timestamp).total_seconds())


def _pages_nobody(gate: Callable[..., Any]) -> Callable[..., Any]:
    def changed(*arguments: Any, **options: Any) -> Any:
        verdict = gate(*arguments, **options)
        return replace(verdict, page=False) if isinstance(verdict, Withhold) else verdict

    return changed


def _unasked(issue: Any, mode: Mode) -> Any:
    move = _NEXT_MOVE(issue, mode)
    return decision.Remediate() if isinstance(move, decision.AskApproval) else move


_NEXT_MOVE = decision.next_move


async def _nothing(_self: Any) -> None:
    return


async def _waits_for_ever(_self: Any) -> None:
    await asyncio.Event().wait()


async def _is_known(instance: Instance, identity: ProcessIdentity) -> bool:
    held = await instance.host.reacquire(identity)
    if held is None:
        return False
    held.close()
    return True


async def _stop_without_end(self: FakeHost, processes: Any, *, grace: float) -> Any:
    """Says that they are gone as soon as they were told to go."""
    stopped = await _STOP(self, processes, grace=0.0)
    return replace(stopped, stopped=(*stopped.stopped, *stopped.unkillable), unkillable=())


_STOP = FakeHost.stop


async def _members_of_group_number(self: FakeHost, launch: Any) -> Any:
    leader = launch.leader
    if leader is None:
        return ()
    living = [each for each in self.world.processes.values() if leader.pid in {each.pgid, each.sid}]
    return tuple(self._take(each) for each in living)


def _force_and_answer(self: Leave, wishes: Any, asked: Any) -> None:
    _FORCE(self, wishes, asked)
    asked.set_result(self._issue.id)


_FORCE = Leave.force


# Bugs of long times

_DAY: Final = 86400.0
_BITS: Final = 2**32 / 1000
"""Seconds after which 32 bits of milliseconds begin again: 49.7 days."""


def _end_and_note(self: FleetBook, name: str, *, counts: bool = True) -> None:
    """Ends a heal, and keeps a note of it for ever."""
    self.__dict__.setdefault("_history", []).append(name)
    _END(self, name, counts=counts)


async def _run_and_leave(self: Heal) -> None:
    """Runs a heal, and leaves a task that waits for what does not come."""
    task = asyncio.create_task(self._patient.stopping.wait())
    self._patient.fleet.__dict__["_waiter"] = task
    await _RUN(self)


async def _run_and_remind(self: Heal) -> None:
    """Runs a heal, and sets a timer that nobody takes back."""
    asyncio.get_running_loop().call_later(1000 * _DAY, lambda: None)
    await _RUN(self)


def _rested_without_days(self: Ledger, now: float, reset_after: float) -> Ledger:
    """Takes the seconds of a duration for all of it."""
    if self.healthy_since is not None:
        stretch = timedelta(seconds=now - self.healthy_since)
        if stretch.seconds >= reset_after:
            return Ledger()
    return replace(self, healthy_since=None)


def _window_by_time_of_day(self: Window, component: Any) -> float:
    window = component.maintenance
    if window is None:
        return 0.0
    if window.event_id != self._known:
        age = max(timedelta(0), self._clock.now() - window.timestamp).seconds
        self._known = window.event_id
        self._ends = self._clock.monotonic() + window.duration - age
    return max(0.0, self._ends - self._clock.monotonic())


def _of_32_bits(self: FakeClock) -> float:
    return _MONOTONIC(self) % _BITS


_END = FleetBook.end
_RUN = Heal.run
_MONOTONIC = FakeClock.monotonic


BUGS: Final[dict[str, tuple[_Planting, ...]]] = {
    "identity is the pid": ((ProcessIdentity, "same_as", _by_pid),),
    "identity is pid and start tick": ((ProcessIdentity, "same_as", _by_pid_and_ticks),),
    "everybody on the port is ours": (
        (instance_module, "prove_owner", lambda *_: OwnerProof.CMDLINE),
    ),
    "a group number proves a member": ((FakeHost, "members", _members_of_group_number),),
    "the intent is not durable before the effect": (
        (Terminate, "looks", True),
        (Start, "looks", True),
    ),
    "a failed append is ignored": ((Journal, "save", _save_and_hope),),
    "an interrupted start is not looked for": ((Start, "settle", _not_started),),
    "a start that timed out is taken for started": ((Start, "_launch", _launch_and_believe),),
    "a start that takes long is left to itself": ((Start, "_launch", _launch_impatiently),),
    "an open issue is not resumed": ((Keeper, "_begin", _begin_anew),),
    "a stranger's 200 is a cure": ((Watch, "usurped", _says),),
    "a completed playbook is a cure": ((verification_module, "probe_until", _is_well),),
    "a blind prober blames the component": ((HealthState, "observe", _observe_unknown),),
    "evidence outlives the heal": ((HealthState, "next_epoch", _same_epoch),),
    "durations by the wall clock": ((FakeClock, "monotonic", _wall),),
    "one heal too many at once": (_gate_with(_one_too_many),),
    "whoever waits for a place is not woken": ((Turns, "offer", lambda _self: None),),
    "a place is never given back": ((FleetBook, "end", lambda _self, _name, **_: None),),
    "no back-off": ((policy, "backoff_delay", lambda *_: 0.0),),
    "a budget that is never spent": ((policy, "_by_ledger", lambda *_: None),),
    "a spent budget is never re-armed": (_gate_with(_never_again("budget_spent")),),
    "a pause is overlooked": (_gate_with(_of_fleet(paused=False)),),
    "a window is overlooked": (_gate_with(_of_fleet(maintenance=False)),),
    "nobody says that a window is over": ((Keeper, "_end_windows", _waits_for_ever),),
    "a dependency is overlooked": (_gate_with(_of_fleet(blocked_by=None)),),
    "observe acts": ((Patient, "mode", property(lambda _self: Mode.ACT)),),
    "suggest acts unasked": ((decision, "next_move", _unasked),),
    "nobody is told of a heal that waits": (
        _gate_with(_pages_nobody),
        (Leave, "_until_deadline", lambda _self, _verdict: None),
    ),
    "processes are never let go": ((Occupancy, "close", lambda _self, keep=None: None),),
    "a reservation is never given up": ((Instance, "release", lambda _self: None),),
    "nothing is remembered": ((Engine, "_remember", _nothing),),
    "who cannot be told from another is gone": ((stop_module, "_may_live", _is_known),),
    "gone means told to go": ((FakeHost, "stop", _stop_without_end),),
    "a resolved alert is believed more than our own probes": (
        (withdrawal_module, "_contradicts", lambda *_: None),
    ),
    "who asks is answered before the log knows": ((Leave, "force", _force_and_answer),),
    "an issue is shown before the log knows": (
        (Keeper, "open_issue", property(lambda self: self.heal and self.heal.issue)),
    ),
    "a resolved alert ends a heal that acts": ((Withdrawal, "_kept", lambda _self: None),),
}
"""Name → what is put in the place of what. Two hours of many seeds find these."""

LONG_BUGS: Final[dict[str, tuple[_Planting, ...]]] = {
    "a note is kept of each heal": ((FleetBook, "end", _end_and_note),),
    "a task is left by each heal": ((Heal, "run", _run_and_leave),),
    "a timer is left by each heal": ((Heal, "run", _run_and_remind),),
    "a healthy stretch is measured without its days": (
        (Ledger, "became_unhealthy", _rested_without_days),
    ),
    "a window is so long by the wall clock": ((Window, "left", _window_by_wall),),
    "a window is measured without its days": ((Window, "left", _window_by_time_of_day),),
    "a clock of 32 bits": ((FakeClock, "monotonic", _of_32_bits),),
}
"""Those that take months to show."""


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Plant a bug while it lasts."""
    with ExitStack() as stack:
        for target, attribute, value in (BUGS | LONG_BUGS)[name]:
            stack.enter_context(mock.patch.object(target, attribute, value))
        yield
