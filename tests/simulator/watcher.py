"""What must hold at every event, signal and start, held against what is true of the machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from healer.domain.decision import ALERT_RESOLVED
from healer.domain.events import (
    POLICY,
    ApprovalGranted,
    BudgetReset,
    Event,
    FleetPaused,
    FleetResumed,
    HealthChanged,
    HealWithheld,
    IssueDetected,
    IssueEscalated,
    IssueFailed,
    IssueVerified,
    MaintenanceEnded,
    MaintenanceStarted,
    ModeChanged,
    PortRebound,
    RemediationStarted,
    RouteChosen,
    StepFailed,
    StepSettled,
    StepStarted,
    StepSucceeded,
    VerificationRecorded,
)
from healer.domain.health import Health
from healer.domain.probe import Outcome
from healer.domain.spec import Budget, ComponentSpec, Mode
from healer.ports import Recorded
from healer.testing import WorldProcess
from tests.simulator.machine import Machine, SimProber

__all__ = ["BrokenError", "Watcher"]

_ENDING: Final = frozenset({"terminate", "evict", "terminate_reserved"})
_SLACK: Final = 15.0
"""Virtual seconds that looks and their timeouts may take between a truth and its event, where the
machine did not stand still."""


class BrokenError(Exception):
    """An invariant does not hold. `code` is a stable word."""

    def __init__(self, code: str, detail: str) -> None:
        self.code = code
        super().__init__(code, detail)

    def __str__(self) -> str:
        return ": ".join(self.args)


@dataclass(slots=True)
class _Issue:
    component: str
    opened: float
    by_hand: bool
    cause: str | None = None
    intent: StepStarted | None = None
    intent_at: int = 0
    asked: bool = False
    approved: bool = False
    remediating: bool = False
    escalated: bool = False
    withheld: str | None = None


class Watcher:
    """Keeps what is needed to judge. `first` is the first invariant that did not hold."""

    def __init__(
        self,
        specs: dict[str, ComponentSpec],
        budget: Budget,
        machine: Machine,
        prober: SimProber,
        *,
        now: Callable[[], float],
    ) -> None:
        self._specs = specs
        self._budget = budget
        self._machine = machine
        self._prober = prober
        self._now = now
        self.first: BrokenError | None = None
        self.ports = {name: spec.port for name, spec in specs.items()}
        self.events = 0
        self.paused = False
        self.modes = {name: spec.mode for name, spec in specs.items()}
        self._windows: dict[str, tuple[float, MaintenanceStarted]] = {}
        self._ended: set[str] = set()
        self._begun: dict[str, float] = {}
        self.forced: dict[str, float] = {}
        self.resolved: set[str] = set()
        self.last_bad: dict[str, float] = {}
        self._open: dict[str, _Issue] = {}
        self._detected: set[str] = set()
        self._sent: set[tuple[int, int, int]] = set()
        self._launches: set[str] = set()
        self._answered: set[str] = set()
        self._known_bad: set[str] = set()
        self._acted: dict[str, float] = {}
        self._attempts: dict[str, tuple[float, int]] = {}
        self._healthy_since: dict[str, float] = {}
        self._rested: set[str] = set()
        self._stood_still = (-1e9, 0.0)

    def found(self, broken: BrokenError) -> None:
        """Keep the first."""
        self.first = self.first or broken

    def _require(self, holds: bool, code: str, detail: str) -> None:
        if not holds:
            self.found(BrokenError(code, f"{detail} (at {self._now():.3f} s)"))

    @property
    def open(self) -> dict[str, str]:
        """Open issue → its component."""
        return {name: issue.component for name, issue in self._open.items()}

    @property
    def windows(self) -> frozenset[str]:
        """Components of whose last window it is known when it ends."""
        return frozenset(self._windows)

    def doubt_labels(self, *, before: float) -> None:
        """A new healer knows the age of former attempts and windows only by their labels, and those
        from before then are of a clock that was set since."""
        for name in [name for name, at in self._acted.items() if at <= before]:
            self._attempts.pop(name, None)
            # How long it was well since is told by labels as well, and to each new healer anew: the
            # attempt counts.
            self._rested.discard(name)
        for name in [name for name, (at, _) in self._windows.items() if at <= before]:
            del self._windows[name]

    def reborn(self) -> None:
        """A new healer has yet to see for how long a component stays healthy."""
        self.doubt_health(0.0)

    def doubt_health(self, seconds: float) -> None:
        """For so long the healer may know of another health than the log."""
        for name in self._healthy_since:
            self._healthy_since[name] = self._now() + seconds

    def stands_still(self, seconds: float) -> None:
        """From now on, for so long, nobody gets to do anything."""
        self._stood_still = (self._now() + seconds, seconds)

    @property
    def _slack(self) -> float:
        """Seconds that looks and their timeouts may take between a truth and its event."""
        ended, seconds = self._stood_still
        return _SLACK + (seconds if self._now() - ended <= 2 * _SLACK else 0.0)

    def asked(self, name: str) -> None:
        """Somebody asked for a heal by hand."""
        self.forced[name] = self._now()

    def promised(self, issue_id: str) -> None:
        """Somebody who asked for a heal by hand was told that this issue carries it."""
        issue = self._open.get(issue_id)
        kept = issue is None or issue.asked
        self._require(kept, "promised_too_soon", f"issue {issue_id} does not say who asked")

    def shown(self, issue_id: str) -> None:
        """Somebody was told that this issue is open, or that it carries what they asked for."""
        self._require(issue_id in self._detected, "shown_too_soon", f"{issue_id} is in no log")

    # Truths

    def ended(self, process: WorldProcess) -> None:
        """A process is about to end."""
        owner = self._machine.owner(process)
        if owner is not None:
            self.last_bad[owner] = self._now()

    def signalled(self, process: WorldProcess, number: int) -> None:
        """A healer is about to signal a process."""
        owner = self._machine.owner(process)
        what = f"{process.identity} was sent signal {number}"
        self._require(owner is not None, "stranger_signalled", what)
        intents = [
            issue
            for issue in self._open.values()
            if issue.component == owner
            and issue.intent is not None
            and issue.intent.action in _ENDING
        ]
        self._require(bool(intents), "signal_without_intent", what)
        if intents:
            once = (id(process), number, intents[0].intent_at)
            self._require(once not in self._sent, "signalled_twice", what)
            self._sent.add(once)

    def started(self, component: str, launch_id: str, living: Sequence[WorldProcess]) -> None:
        """A healer has started a component; `living` were its processes right before."""
        known = launch_id in self._launches
        self._require(known, "start_without_intent", f"{component} was started as {launch_id}")
        moving = any(
            issue.intent is not None and issue.intent.action == "start_reserved"
            for issue in self._open.values()
            if issue.component == component
        )
        awake = [each for each in living if each.alive and not each.unkillable]
        self._require(
            not awake or moving, "started_twice", f"{component} was started beside {awake!r:.200}"
        )

    def launched(self, launch_id: str) -> None:
        """A launcher has said that this start is done."""
        self._answered.add(launch_id)

    # Facts

    def appended(self, facts: Sequence[Recorded]) -> None:
        """Facts have become durable."""
        for recorded in facts:
            self.events += 1
            self._take(recorded.position, recorded.event)

    def _take(self, position: int, event: Event) -> None:
        now = self._now()
        issue = self._open.get(event.originator_id)
        match event:
            case IssueDetected():
                by_alert = (event.causation_id or "").startswith("alert:")
                by_hand = event.actor.startswith("api:") and not by_alert
                issue = _Issue(event.component, now, by_hand, event.causation_id)
                self._open[event.originator_id] = issue
                self._detected.add(event.originator_id)
                if event.actor == "watchdog":
                    self._require_evidence(event)
            case StepStarted() if issue is not None:
                issue.intent, issue.intent_at = event, position
                if event.launch_id is not None:
                    self._launches.add(event.launch_id)
            case StepSucceeded() | StepFailed() | StepSettled() if issue is not None:
                if isinstance(event, StepSucceeded) and event.result.launch_id is not None:
                    self._require(
                        event.result.launch_id in self._answered,
                        "start_made_up",
                        f"{issue.component}: no launcher has said that it was started",
                    )
                issue.intent = None
            case RouteChosen() if issue is not None:
                issue.asked |= event.actor.startswith("api:")
            case ApprovalGranted() if issue is not None:
                issue.approved = True
            case HealWithheld() if issue is not None:
                issue.withheld = event.reason
            case IssueEscalated() if issue is not None:
                issue.escalated = True
            case RemediationStarted() if issue is not None:
                self._remediating(issue, event, now)
            case VerificationRecorded() if issue is not None:
                if event.healthy:
                    self._require_truth(issue.component)
            case IssueVerified() | IssueFailed() if issue is not None:
                self._require(
                    issue.intent is None, "ended_in_mid_step", f"{event.event_id} has an intent"
                )
                if isinstance(event, IssueFailed) and event.reason == ALERT_RESOLVED:
                    self._require_withdrawal(issue)
                self._begun[issue.component] = now
                # What has no remedy counts as well, and is not said to begin.
                self._rested.discard(issue.component)
                self._begin_to_count(issue.component)
                del self._open[event.originator_id]
            case FleetPaused():
                self.paused = True
            case FleetResumed():
                self.paused = False
            case ModeChanged():
                self.modes[event.component] = event.after
            case MaintenanceStarted():
                self._windows[event.component] = (now, event)
                self._ended.discard(event.component)
            case MaintenanceEnded():
                began, window = self._windows.pop(event.component, (0.0, None))
                early = window is not None and now < began + window.duration - self._slack
                asked = event.actor != POLICY
                self._require(asked or not early, "window_cut_short", event.component)
                self._ended.add(event.component)
            case BudgetReset():
                self._acted.pop(event.component, None)
                self._attempts.pop(event.component, None)
            case PortRebound():
                self.ports[event.component] = event.new_port
            case HealthChanged():
                bad = event.after is Health.UNHEALTHY
                self._measure_health(event, now)
                (self._known_bad.add if bad else self._known_bad.discard)(event.component)
            case _:
                pass

    def _measure_health(self, event: HealthChanged, now: float) -> None:
        name = event.component
        if event.after is Health.HEALTHY:
            self._healthy_since.setdefault(name, now)
        elif event.after is Health.UNHEALTHY:
            since = self._healthy_since.pop(name, now)
            if now - since >= self._budget.backoff.reset_after + self._slack:
                self._rested.add(name)

    def _begin_to_count(self, name: str) -> None:
        """What was healed has to stay healthy from now on."""
        if name in self._healthy_since:
            self._healthy_since[name] = self._now()

    def require_window(self, name: str, said: MaintenanceStarted | None) -> None:
        """No window is open for longer than it was wished to be; that it is over stands in the log,
        and is never taken back."""
        began, window = self._windows.get(name, (0.0, None))
        over = window is not None and self._now() > began + window.duration + self._slack
        self._require(said is None or not over, "window_without_end", name)
        self._require(not over, "window_end_unsaid", name)
        self._require(said is None or name not in self._ended, "window_open_again", name)

    def _require_evidence(self, event: IssueDetected) -> None:
        spec = self._specs[event.component]
        bad = self.last_bad.get(event.component)
        for time, truth in self._prober.truths.get(event.component, ())[-1:]:
            if not truth:
                bad = time
        recent = spec.failure_threshold * spec.interval + self._slack
        self._require(
            bad is not None and self._now() - bad <= recent,
            "healed_without_evidence",
            f"{event.component} was last not well at {bad}",
        )
        # Evidence has an epoch, which begins where the last issue ended: as many bad looks in it as
        # the threshold wants, or the end of a process (that it is dead is as true in the next one).
        begun = self._begun.get(event.component, -1.0)
        looks = self._prober.truths.get(event.component, ())
        seen = [truth for time, truth in looks if time > begun][-spec.failure_threshold :]
        ended = self.last_bad.get(event.component, -2.0) >= begun - 1.0
        ended |= not any(each.pid == each.sid for each in self._machine.owned(event.component))
        self._require(
            ended or (len(seen) >= spec.failure_threshold and not any(seen)),
            "healed_too_soon",
            f"{event.component}: its looks since {begun} were {seen}",
        )

    def _require_withdrawal(self, issue: _Issue) -> None:
        name = issue.component
        waits = not (issue.remediating or issue.approved)
        self._require(waits, "withdrew_too_much", f"{name}: it did not only wait")
        asked = issue.cause in self.resolved
        self._require(asked, "withdrew_unasked", f"{name}: {issue.cause} opened the issue")
        seen = self._prober.met.get(name)
        self._require(
            seen is not Outcome.UNHEALTHY, "withdrew_unhealthy", f"{name} was seen to be unhealthy"
        )

    def _require_truth(self, component: str) -> None:
        recent = [
            truth
            for time, truth in self._prober.truths.get(component, ())
            if time >= self._now() - self._slack
        ]
        self._require(any(recent), "unseen_cure", f"{component} was not seen to be well")

    def _remediating(self, issue: _Issue, event: RemediationStarted, now: float) -> None:
        name = issue.component
        spec = self._specs[name]
        issue.remediating = True
        acting = sum(1 for each in self._open.values() if each.remediating)
        self._require(
            acting <= self._budget.max_concurrent,
            "too_many_heals",
            f"{acting} at once, allowed {self._budget.max_concurrent}",
        )
        self._require(not self.paused, "acted_while_paused", name)
        self._acted[name] = now
        rested = name in self._rested
        self._rested.discard(name)
        self._begin_to_count(name)
        forced = (
            issue.by_hand or now - self.forced.get(name, -1e9) < now - issue.opened + self._slack
        )
        if forced:
            self._attempts.pop(name, None)
            return
        began, window = self._windows.get(name, (0.0, None))
        # What was decided in the instant before the window is no breach of it.
        in_window = window is not None and now < began + window.duration
        decided_before = window is not None and event.timestamp <= window.timestamp
        self._require(not in_window or decided_before, "acted_in_maintenance", name)
        mode = self.modes[name]
        self._require(mode is not Mode.OBSERVE, "acted_while_observing", name)
        self._require(mode is not Mode.SUGGEST or issue.approved, "acted_without_approval", name)
        blamed = sorted(self._known_bad.intersection(spec.depends_on))
        self._require(not blamed, "acted_before_dependency", f"{name} leans on {blamed}")
        anew = event.attempt == 1 or not rested
        self._require(anew, "counted_for_ever", f"{name}: attempt {event.attempt} after its rest")
        self._require_budget(name, event.attempt, now)

    def _require_budget(self, name: str, attempt: int, now: float) -> None:
        budget, backoff = self._budget, self._budget.backoff
        self._require(attempt <= budget.attempts, "budget_exceeded", f"{name}: attempt {attempt}")
        last = self._attempts.get(name)
        self._attempts[name] = (now, attempt)
        if last is None or attempt <= 1:
            return
        since, before = now - last[0], last[1]
        if before >= budget.attempts:
            due = budget.rearm_after
        else:
            full = min(backoff.max, backoff.initial * backoff.factor ** (before - 1))
            due = full * (1 - backoff.jitter)
        # Two seconds for the way between the decision and its event, which the log may refuse once.
        self._require(
            since >= due - 2.0,
            "healed_in_a_hurry",
            f"{name}: attempt {attempt} came {since:.3f} s after attempt {before}; due {due:.3f} s",
        )

    def require_noise(self) -> None:
        """Nobody waits in silence: what is withheld for long has been escalated."""
        for name, issue in self._open.items():
            waited = self._now() - issue.opened
            quiet = issue.withheld in {None, "paused", "maintenance"} or issue.escalated
            self._require(
                quiet or waited <= self._budget.escalate_after + 2 * self._slack,
                "silence",
                f"{issue.component} waits for {waited:.0f} s ({issue.withheld}), issue {name}",
            )
