"""What Prometheus scrapes: gauges read from the healer when asked, counters of its own deeds.

A counter begins at 0 with the process, as Prometheus expects, and counts what *this node* recorded
since: with several nodes on one log a sum over the nodes counts each heal once. The whole past is
in the log, and `/network-healer/stats` tells it. Labels are names of the configuration and words of
the code, never what came from outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from healer.api.gauges import Now, Readers
from healer.api.reload import Reload
from healer.api.stream import EventStreams
from healer.bootstrap import Healer
from healer.domain.decision import ALERT_RESOLVED
from healer.domain.events import (
    HealWithheld,
    IssueDetected,
    IssueEscalated,
    IssueFailed,
    IssueVerified,
    StepFailed,
    StepSettled,
    StepSkipped,
    StepSucceeded,
)
from healer.errors import StoreError
from healer.ports import Recorded
from projections.history import Issues, shown
from projections.projection import ProjectionStoppedError
from projections.record import Outcome

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

# From what a bare restart takes to what a person takes.
_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
_WITHDRAWN: Final = "withdrawn"
"""What became of an issue that ended with its alert: nobody has to be told that it failed."""
_LAGS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)


class Metrics:
    """The figures of one healer, in a registry of their own."""

    def __init__(
        self,
        healer: Healer,
        reload: Reload | None = None,
        streams: EventStreams | None = None,
    ) -> None:
        self.registry = CollectorRegistry()
        self._healer = healer
        self._open: dict[str, tuple[str, str]] = {}
        self._heals = Counter(
            "healer_heals_total",
            "Issues that ended: healed by a playbook, recovered by themselves, failed, withdrawn.",
            ("component", "issue_type", "outcome"),
            registry=self.registry,
        )
        self._detected = Counter(
            "healer_issues_detected_total",
            "Issues that were opened.",
            ("component", "issue_type"),
            registry=self.registry,
        )
        self._withheld = Counter(
            "healer_withheld_total",
            "Heals that were due and not allowed.",
            ("reason",),
            registry=self.registry,
        )
        self._escalated = Counter(
            "healer_escalations_total",
            "Issues that a person has to know of.",
            ("reason",),
            registry=self.registry,
        )
        self._steps = Histogram(
            "healer_step_duration_seconds",
            "What a step of a playbook took.",
            ("playbook", "action", "outcome"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._skipped = Counter(
            "healer_steps_without_duration_total",
            "Steps that had nothing to do, or were settled by a look after a crash.",
            ("playbook", "action", "outcome"),
            registry=self.registry,
        )
        self._detect = Histogram(
            "healer_time_to_detect_seconds",
            "From the first evidence to the issue.",
            ("component",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._resolve = Histogram(
            "healer_time_to_resolution_seconds",
            "From the first evidence to the verdict.",
            ("component", "outcome"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._lag = Histogram(
            "healer_loop_lag_seconds",
            "How late the event loop ran what was due; it cannot look at components meanwhile.",
            buckets=_LAGS,
            registry=self.registry,
        )
        self.registry.register(Now(healer, reload))
        if streams is not None:
            self.registry.register(Readers(streams))
        ProcessCollector(registry=self.registry)
        self._stop = healer.log.listen(self._hear)

    def close(self) -> None:
        """Count no more."""
        self._stop()

    def lagged(self, seconds: float) -> None:
        """The event loop ran `seconds` too late."""
        self._lag.observe(max(0.0, seconds))

    def text(self) -> bytes:
        """All figures, in Prometheus' text format."""
        return generate_latest(self.registry)

    def _hear(self, facts: Sequence[Recorded]) -> None:
        node = self._healer.config.node
        for recorded in facts:
            if recorded.event.node == node:
                self._count(recorded.event)

    def _count(self, event: object) -> None:
        match event:
            case IssueDetected():
                told = (event.component, event.issue_type.value)
                self._open[event.originator_id] = told
                self._detected.labels(*told).inc()
                if not event.actor.startswith(("api", "cli")):  # a person measured nothing
                    self._detect.labels(event.component).observe(event.seen_after)
            case IssueVerified():
                outcome = Outcome.HEALED if event.healed_by else Outcome.RECOVERED
                self._ended(event.originator_id, outcome, event.resolved_in)
            case IssueFailed():
                outcome = _WITHDRAWN if event.reason == ALERT_RESOLVED else Outcome.FAILED
                self._ended(event.originator_id, outcome, event.resolved_in)
            case HealWithheld():
                self._withheld.labels(event.reason).inc()
            case IssueEscalated():
                self._escalated.labels(event.reason).inc()
            case StepSucceeded():
                self._steps.labels(event.playbook, event.action, "succeeded").observe(event.elapsed)
            case StepFailed():
                self._steps.labels(event.playbook, event.action, "failed").observe(event.elapsed)
            case StepSkipped():
                self._skipped.labels(event.playbook, event.action, "skipped").inc()
            case StepSettled():
                self._skipped.labels(event.playbook, event.action, "settled").inc()
            case _:
                pass

    def _ended(self, issue_id: str, outcome: str, resolved_in: float) -> None:
        told = self._open.pop(issue_id) if issue_id in self._open else self._remembered(issue_id)
        component, issue_type = told
        self._heals.labels(component, issue_type, outcome).inc()
        self._resolve.labels(component, outcome).observe(resolved_in)

    def _remembered(self, issue_id: str) -> tuple[str, str]:
        """An issue that was opened before this process was there."""
        try:
            issues: Issues = self._healer.views.state("history")
            found = issues.find(issue_id)
        except (ProjectionStoppedError, StoreError):
            return ("", "")
        return (found.component, shown(found)["detected_as"]) if found else ("", "")
