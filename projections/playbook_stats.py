"""What each playbook achieved: `GET /network-healer/playbook-stats`.

Over the runs of finished issues. What a success is stands in `projections.record.Run`. `duration`
is what the playbook's steps took, in seconds. `outcomes` is the playbook's own opinion, kept beside
`successes` so that the difference shows.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from projections.book import COMPONENT_EVENTS, FLEET_EVENTS, follow_issues
from projections.projection import Cases, Json, Projection
from projections.record import IssueRecord
from projections.statistic import Sample, Tally

__all__ = ["PLAYBOOK_STATS", "PlaybookRecord", "PlaybookStats"]


@dataclass(slots=True)
class PlaybookRecord:
    """The finished runs of one playbook. `runs` is keyed by issue type, then by component."""

    outcomes: Counter[str] = field(default_factory=Counter)
    failed_steps: Counter[str] = field(default_factory=Counter)
    duration: Sample = field(default_factory=Sample)
    runs: dict[tuple[str, str], Tally] = field(default_factory=dict)
    _shown: tuple[int, Json] | None = field(default=None, compare=False, repr=False)

    def merge(self, other: PlaybookRecord) -> None:
        self.outcomes.update(other.outcomes)
        self.failed_steps.update(other.failed_steps)
        self.duration.merge(other.duration)
        for key, tally in other.runs.items():
            self.runs.setdefault(key, Tally()).merge(tally)

    def view(self) -> Json:
        """All figures. Made once for each number of runs: it merges those of every component."""
        count = self.outcomes.total()
        if self._shown is None or self._shown[0] != count:
            self._shown = (count, self._view())
        return self._shown[1]

    def _view(self) -> Json:
        total = Tally()
        by_type: dict[str, Tally] = {}
        by_component: dict[str, Tally] = {}
        for (issue_type, component), tally in self.runs.items():
            total.merge(tally)
            by_type.setdefault(issue_type, Tally()).merge(tally)
            by_component.setdefault(component, Tally()).merge(tally)
        return {
            "executions": total.n,
            "successes": total.successes,
            "failures": total.failures,
            "success_rate": total.rate,
            "success_interval": total.interval,
            "outcomes": dict(self.outcomes),
            "failed_steps": dict(self.failed_steps),
            "duration": self.duration.view(),
            "by_issue_type": {key: tally.view() for key, tally in by_type.items()},
            "by_component": {key: tally.view() for key, tally in by_component.items()},
        }


@dataclass(slots=True)
class PlaybookStats:
    """Playbook name → its runs; and the records of open issues."""

    open: dict[str, IssueRecord] = field(default_factory=dict)
    playbooks: dict[str, PlaybookRecord] = field(default_factory=dict)


def _finish(state: PlaybookStats, _position: int, record: IssueRecord) -> None:
    for run in record.runs if record.diagnosis is None else (record.diagnosis, *record.runs):
        kept = state.playbooks.setdefault(run.playbook, PlaybookRecord())
        kept.outcomes["unfinished" if run.outcome is None else run.outcome.value] += 1
        kept.duration.add(run.elapsed)
        if run.failed_step is not None:
            kept.failed_steps[run.failed_step] += 1
        key = (record.issue_type, record.component)
        kept.runs.setdefault(key, Tally()).add(success=bool(run.success))


def _view(state: PlaybookStats) -> Json:
    return {name: record.view() for name, record in state.playbooks.items()}


def _merge(left: PlaybookStats, right: PlaybookStats) -> PlaybookStats:
    left.open.update(right.open)
    for name, record in right.playbooks.items():
        left.playbooks.setdefault(name, PlaybookRecord()).merge(record)
    return left


_cases: Cases[PlaybookStats] = Cases()
follow_issues(_cases, IssueRecord, _finish)
_cases.ignore(*COMPONENT_EVENTS, *FLEET_EVENTS)

PLAYBOOK_STATS = Projection("playbook_stats", 2, PlaybookStats, _cases, _view, _merge)
