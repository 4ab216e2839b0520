"""The statistics of `GET /network-healer/stats`.

A *healing* is an issue that reached RemediationStarted and ended verified by a playbook or failed;
one that recovered by itself is counted as such and not as healed. `active_healings` are those under
way. Times are in seconds and over finished issues: `time_to_detect` from the first evidence to the
detection (issues that a person reported have none), `time_to_resolution` from the first evidence to
the verdict of healed issues. By playbook they are those of the issues that the playbook healed.
Issue types are those after diagnosis.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from healer.domain.events import (
    CheckRecorded,
    IssueTakenOver,
    RouteChosen,
)
from projections.book import (
    APPROVAL_EVENTS,
    COMPONENT_EVENTS,
    FLEET_EVENTS,
    STEP_EVENTS,
    follow_issues,
)
from projections.projection import Cases, Json, Projection
from projections.record import IssueRecord, Outcome, Run
from projections.statistic import Sample, Tally, rounded

__all__ = ["STATS", "Stats"]


def _samples() -> defaultdict[str, Sample]:
    return defaultdict(Sample)


def _tallies() -> defaultdict[str, Tally]:
    return defaultdict(Tally)


@dataclass(slots=True)
class Grouped:
    """A sample of all issues, and of each group of them. Those of the types add up to that of all:
    it is counted nevertheless, since adding them up takes milliseconds for each answer."""

    overall: Sample = field(default_factory=Sample)
    by_issue_type: defaultdict[str, Sample] = field(default_factory=_samples)
    by_component: defaultdict[str, Sample] = field(default_factory=_samples)
    by_playbook: defaultdict[str, Sample] = field(default_factory=_samples)

    def add(self, record: IssueRecord, duration: int) -> None:
        place = rounded(duration)
        self.overall.count(duration, place)
        self.by_issue_type[record.issue_type].count(duration, place)
        self.by_component[record.component].count(duration, place)
        if record.healed_by is not None:
            self.by_playbook[record.healed_by].count(duration, place)

    def merge(self, other: Grouped) -> None:
        self.overall.merge(other.overall)
        for mine, theirs in (
            (self.by_issue_type, other.by_issue_type),
            (self.by_component, other.by_component),
            (self.by_playbook, other.by_playbook),
        ):
            for key, sample in theirs.items():
                mine[key].merge(sample)

    def view(self) -> Json:
        return {
            "overall": self.overall.view(),
            "by_issue_type": {key: item.view() for key, item in self.by_issue_type.items()},
            "by_component": {key: item.view() for key, item in self.by_component.items()},
            "by_playbook": {key: item.view() for key, item in self.by_playbook.items()},
        }


@dataclass(slots=True)
class Stats:
    """Figures of the finished issues, and the records of the open ones."""

    open: dict[str, IssueRecord] = field(default_factory=dict)
    issues: Counter[str] = field(default_factory=Counter)
    withheld: Counter[str] = field(default_factory=Counter)
    escalated: Counter[str] = field(default_factory=Counter)
    recovered: int = 0
    healings: Tally = field(default_factory=Tally)
    by_issue_type: defaultdict[str, Tally] = field(default_factory=_tallies)
    by_component: defaultdict[str, Tally] = field(default_factory=_tallies)
    playbooks: defaultdict[str, Tally] = field(default_factory=_tallies)
    detect: Grouped = field(default_factory=Grouped)
    resolve: Grouped = field(default_factory=Grouped)


def _runs(record: IssueRecord) -> Iterable[Run]:
    return record.runs if record.diagnosis is None else (record.diagnosis, *record.runs)


def _finish(state: Stats, _position: int, record: IssueRecord) -> None:
    state.issues[record.issue_type] += 1
    for withheld in record.withheld:
        state.withheld[withheld.reason] += 1
    for escalated in record.escalations:
        state.escalated[escalated.reason] += 1
    for run in _runs(record):
        state.playbooks[run.playbook].add(success=bool(run.success))
    if record.seen_after is not None:
        state.detect.add(record, record.seen_after)
    if record.outcome == Outcome.RECOVERED:
        state.recovered += 1
    healed = record.healing
    if healed is None:
        return
    state.healings.add(success=healed)
    state.by_issue_type[record.issue_type].add(success=healed)
    state.by_component[record.component].add(success=healed)
    if healed and record.resolved_in is not None:
        state.resolve.add(record, record.resolved_in)


def _playbooks(state: Stats) -> Json:
    """Finished executions, and those of open issues, judged or not."""
    tallies = {
        name: Tally(tally.successes, tally.failures) for name, tally in state.playbooks.items()
    }
    running: Counter[str] = Counter()
    for record in state.open.values():
        for run in _runs(record):
            tally = tallies.setdefault(run.playbook, Tally())
            if run.success is None:
                running[run.playbook] += 1
            else:
                tally.add(success=run.success)
    return {
        name: {
            "executions": tally.n + running[name],
            "successes": tally.successes,
            "failures": tally.failures,
            "success_rate": tally.rate,
            "success_interval": tally.interval,
        }
        for name, tally in tallies.items()
    }


def _view(state: Stats) -> Json:
    open_issues = state.open.values()
    issues = state.issues + Counter(record.issue_type for record in open_issues)
    withheld = state.withheld + Counter(
        event.reason for record in open_issues for event in record.withheld
    )
    escalated = state.escalated + Counter(
        event.reason for record in open_issues for event in record.escalations
    )
    return {
        "total_healings": state.healings.n,
        "successful_healings": state.healings.successes,
        "failed_healings": state.healings.failures,
        "success_rate": state.healings.rate,
        "success_interval": state.healings.interval,
        "active_healings": sum(1 for record in open_issues if record.remediated),
        "playbook_stats": _playbooks(state),
        "issues": issues.total(),
        "open_issues": len(open_issues),
        "issues_by_type": dict(issues),
        "withheld": withheld.total(),
        "withheld_by_reason": dict(withheld),
        "escalated": escalated.total(),
        "escalated_by_reason": dict(escalated),
        "self_recovered": state.recovered,
        "success_by_issue_type": {key: item.view() for key, item in state.by_issue_type.items()},
        "success_by_component": {key: item.view() for key, item in state.by_component.items()},
        "time_to_detect": state.detect.view(),
        "time_to_resolution": state.resolve.view(),
    }


def _merge(left: Stats, right: Stats) -> Stats:
    left.open.update(right.open)
    left.issues.update(right.issues)
    left.withheld.update(right.withheld)
    left.escalated.update(right.escalated)
    left.recovered += right.recovered
    left.healings.merge(right.healings)
    for mine, theirs in (
        (left.by_issue_type, right.by_issue_type),
        (left.by_component, right.by_component),
        (left.playbooks, right.playbooks),
    ):
        for key, tally in theirs.items():
            mine[key].merge(tally)
    left.detect.merge(right.detect)
    left.resolve.merge(right.resolve)
    return left


_cases: Cases[Stats] = Cases()
_NOT_COUNTED: Final = (
    *APPROVAL_EVENTS,
    *STEP_EVENTS,
    CheckRecorded,
    RouteChosen,
    IssueTakenOver,
)
"""What no figure is made from: more than half of a log."""

follow_issues(_cases, IssueRecord, _finish, ignore=_NOT_COUNTED)
_cases.ignore(*COMPONENT_EVENTS, *FLEET_EVENTS)

STATS = Projection("stats", 2, Stats, _cases, _view, _merge)
