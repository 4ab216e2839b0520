"""What a component's own record advises: `GET /network-healer/recommendations/{component}`.

What the last diagnosis recommended, what worked and what did not (with n), which issues recur, and
what to change in its thresholds. The log does not hold thresholds; who knows the component's spec
gives it, and is spared advice that is followed already.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from healer.domain.events import (
    BudgetReset,
    CheckRecorded,
    ComponentRegistered,
    ComponentRemoved,
    HealthChanged,
    IssueEscalated,
    IssueTakenOver,
    MaintenanceEnded,
    MaintenanceStarted,
    ModeChanged,
    PortRebound,
    ProcessAdopted,
    RouteChosen,
)
from healer.domain.health import Health
from healer.domain.spec import ComponentSpec
from projections.book import APPROVAL_EVENTS, FLEET_EVENTS, STEP_EVENTS, follow_issues
from projections.projection import Cases, Json, Projection
from projections.record import DiagnosedRecord, Outcome, instant
from projections.statistic import Sample, Tally

__all__ = ["RECOMMENDATIONS", "ComponentHistory", "Recommendations", "recommend"]

_ENOUGH: Final = 3
"""Fewer cases than this advise nothing."""
_FLAPPING: Final = 0.3
"""Share of issues that ended by themselves above which the healer is too quick. Nagios starts to
call a service flapping at 20 to 30% state changes (base/flapping.c, sample configuration)."""
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(slots=True)
class ComponentHistory:
    """One component. `worked` is keyed by issue type and playbook; `starts` are the times from the
    adoption of a process to healthy, by the log's clock; `false_alarms` are suspicions that a
    success ended, `early` issues of processes that had not been healthy yet."""

    worked: dict[tuple[str, str], Tally] = field(default_factory=dict)
    issues: Counter[str] = field(default_factory=Counter)
    recurred: Counter[str] = field(default_factory=Counter)
    recovered: int = 0
    failed: int = 0
    withheld: Counter[str] = field(default_factory=Counter)
    false_alarms: int = 0
    early: int = 0
    starts: Sample = field(default_factory=Sample)
    adopted: tuple[int, datetime] | None = None
    diagnosis: tuple[str, str, tuple[str, ...], tuple[str, ...], datetime] | None = None


@dataclass(slots=True)
class Recommendations:
    """Components by name, and the records of open issues."""

    open: dict[str, DiagnosedRecord] = field(default_factory=dict)
    components: dict[str, ComponentHistory] = field(default_factory=dict)

    def of(self, name: str) -> ComponentHistory:
        """The history of `name`, a new one where there is none."""
        history = self.components.get(name)
        if history is None:
            history = self.components[name] = ComponentHistory()
        return history


def _begun(state: Recommendations, record: DiagnosedRecord) -> None:
    history = state.of(record.component)
    if history.adopted is not None and history.adopted[0] == record.epoch:
        history.early += 1


def _finish(state: Recommendations, _position: int, record: DiagnosedRecord) -> None:
    history = state.of(record.component)
    history.issues[record.issue_type] += 1
    history.recurred[record.issue_type] += record.recurrence > 0
    history.recovered += record.outcome == Outcome.RECOVERED
    history.failed += record.outcome == Outcome.FAILED
    for event in record.withheld:
        history.withheld[event.reason] += 1
    for run in record.runs:
        key = (record.issue_type, run.playbook)
        history.worked.setdefault(key, Tally()).add(success=bool(run.success))
    if record.diagnosis is not None and record.diagnosis.success:
        history.diagnosis = (
            record.issue_id,
            record.issue_type,
            record.findings,
            record.recommendations,
            record.timestamp,
        )


_cases: Cases[Recommendations] = Cases()
_NOT_ADVISED_BY: Final = (
    *APPROVAL_EVENTS,
    *STEP_EVENTS,
    CheckRecorded,
    RouteChosen,
    IssueEscalated,
    IssueTakenOver,
)
"""What no advice is made from."""

follow_issues(_cases, DiagnosedRecord, _finish, _begun, ignore=_NOT_ADVISED_BY)


@_cases.on(ProcessAdopted)
def _adopted(state: Recommendations, _position: int, event: ProcessAdopted) -> None:
    state.of(event.component).adopted = (event.epoch, event.timestamp)


@_cases.on(HealthChanged)
def _health_changed(state: Recommendations, _position: int, event: HealthChanged) -> None:
    history = state.of(event.component)
    if event.after is not Health.HEALTHY:
        return
    if event.before is Health.SUSPECT:
        history.false_alarms += 1
    if history.adopted is not None:
        epoch, since = history.adopted
        took = (event.timestamp - since) // _MICROSECOND
        # A clock that was set back measures nothing.
        if epoch == event.epoch and took >= 0:
            history.starts.add(took)
        history.adopted = None


_cases.ignore(
    ComponentRegistered,
    PortRebound,
    MaintenanceStarted,
    MaintenanceEnded,
    ModeChanged,
    BudgetReset,
    ComponentRemoved,
    *FLEET_EVENTS,
)


def recommend(state: Recommendations, component: str, spec: ComponentSpec | None = None) -> Json:
    """What the record of `component` advises; of one without a record, nothing.

    With `spec`, advice on thresholds is given only where the present setting differs.
    """
    history = state.components.get(component) or ComponentHistory()
    advice = _advice(history, spec)
    latest: dict[str, Json] | None = None
    if history.diagnosis is not None:
        issue_id, issue_type, findings, words, moment = history.diagnosis
        latest = {
            "issue_id": issue_id,
            "timestamp": instant(moment),
            "issue_type": issue_type,
            "findings": list(findings),
            "recommendations": list(words),
        }
    return {
        "component": component,
        "recommendations": [
            *(latest["recommendations"] if latest else ()),
            *(entry["text"] for entry in advice),
        ],
        "diagnosis": latest,
        "what_worked": [
            {"issue_type": issue_type, "playbook": playbook, **tally.view()}
            for (issue_type, playbook), tally in sorted(
                history.worked.items(), key=lambda item: (item[0][0], -item[1].rate, item[0][1])
            )
        ],
        "recurring": {kind: count for kind, count in history.recurred.items() if count},
        "issues": dict(history.issues),
        "self_recovered": history.recovered,
        "failed": history.failed,
        "withheld": dict(history.withheld),
        "false_alarms": history.false_alarms,
        "time_to_healthy": history.starts.view(),
        "advice": advice,
    }


def _advice(history: ComponentHistory, spec: ComponentSpec | None) -> list[dict[str, Json]]:
    advice: list[dict[str, Json]] = []
    total = history.issues.total()
    quick = history.recovered >= _ENOUGH and history.recovered >= _FLAPPING * total
    if quick:
        present = None if spec is None else spec.failure_threshold
        advice.append(
            _entry(
                "failure_threshold",
                None if present is None else present + 1,
                history.recovered,
                f"raise failure_threshold: {history.recovered} of {total} issues ended before "
                "anything was done",
            )
        )
    slowest = history.starts.percentile(95)
    if slowest is not None and len(history.starts) >= _ENOUGH:
        needed = slowest / 1_000_000
        if history.early and (spec is None or spec.start_period < needed):
            advice.append(
                _entry(
                    "start_period",
                    needed,
                    len(history.starts),
                    f"set start_period to at least {needed:.3g}s: that is how long 95% of "
                    f"{len(history.starts)} starts took, and {history.early} issues began in one",
                )
            )
    for (issue_type, playbook), tally in sorted(history.worked.items()):
        if tally.failures >= _ENOUGH and tally.successes == 0:
            advice.append(
                _entry(
                    f"routes.{issue_type}",
                    None,
                    tally.n,
                    f"take {playbook} out of the route of {issue_type}: it cured none of "
                    f"{tally.n} here",
                )
            )
    for issue_type, count in sorted(history.recurred.items()):
        if count >= _ENOUGH:
            advice.append(
                _entry(
                    None,
                    None,
                    count,
                    f"look for the cause of {issue_type}: it recurred {count} times",
                )
            )
    return advice


def _entry(setting: str | None, value: float | None, n: int, text: str) -> dict[str, Json]:
    return {"setting": setting, "value": value, "n": n, "text": text}


def _view(state: Recommendations) -> Json:
    return {name: recommend(state, name) for name in state.components}


def _merge(left: Recommendations, right: Recommendations) -> Recommendations:
    left.open.update(right.open)
    left.components.update(right.components)
    return left


RECOMMENDATIONS = Projection("recommendations", 2, Recommendations, _cases, _view, _merge)
