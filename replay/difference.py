"""What changed between two points: in components, in issues, in the figures."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from healer.ports import EventLog
from projections.active import ACTIVE
from projections.components import COMPONENTS
from projections.history import HISTORY, Issues
from projections.history import shown as shown_record
from projections.projection import Json
from projections.record import Outcome
from projections.shelf import Shelved, Wanted
from projections.stats import STATS
from replay.moment import Moment, moments
from replay.point import Point, shown

__all__ = ["Change", "Comparison", "IssueChange", "compare", "diff"]

_ABSENT: Final = None


@dataclass(frozen=True, slots=True)
class Change:
    """A value that is not the same: `of` names it (a component and its field, a figure's path with
    dots). None stands for what is not there."""

    of: str
    before: Json
    after: Json


@dataclass(frozen=True, slots=True)
class IssueChange:
    """An issue that was detected, ended or went on between two points. `before` and `after` are its
    states then (`healed`, `recovered` or `failed` once it has ended), None while there was none."""

    issue_id: str
    component: str
    issue_type: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two moments, and what is not the same in them; `issues` in the order of their detection."""

    before: Moment
    after: Moment
    components: tuple[Change, ...]
    issues: tuple[IssueChange, ...]
    stats: tuple[Change, ...]

    def view(self) -> Json:
        """The comparison for a program, as JSON."""
        return {
            "from": _moment(self.before),
            "to": _moment(self.after),
            "components": [_change(each, "component_field") for each in self.components],
            "issues": [
                {
                    "issue_id": each.issue_id,
                    "component": each.component,
                    "issue_type": each.issue_type,
                    "before": each.before,
                    "after": each.after,
                }
                for each in self.issues
            ],
            "stats": [_change(each, "figure") for each in self.stats],
        }


async def diff(
    log: EventLog,
    a: Point,
    b: Point,
    *,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Comparison:
    """What changed from `a` to `b`, which may be the earlier one; in one reading of the log.

    Raises:
        PointError: a position behind the end of the log.
        ProjectionStoppedError: the log holds a fact that cannot be applied.
        StoreError: the log cannot be read.
    """
    projections = (COMPONENTS, ACTIVE, HISTORY, STATS)
    before, after = await moments(log, [a, b], projections, progress=progress)
    return compare(before, after)


def compare(before: Moment, after: Moment) -> Comparison:
    """As `diff`, of two moments that are there."""
    return Comparison(
        before,
        after,
        tuple(_changes(_inventory(before), _inventory(after))),
        tuple(_issues(before.fold.state("history"), after.fold.state("history"))),
        tuple(_changes(_flat(before.fold.view("stats")), _flat(after.fold.view("stats")))),
    )


def _inventory(moment: Moment) -> dict[str, Json]:
    found = {}
    for component in moment.fold.view("components"):
        for field, value in component.items():
            if field != "name":
                found[f"{component['name']}.{field}"] = value
    return found


def _flat(tree: Mapping[str, Json], prefix: str = "") -> dict[str, Json]:
    found: dict[str, Json] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _changes(before: Mapping[str, Json], after: Mapping[str, Json]) -> Iterator[Change]:
    for of in dict.fromkeys([*before, *after]):
        was, now = before.get(of, _ABSENT), after.get(of, _ABSENT)
        if was != now:
            yield Change(of, was, now)


def _issues(before: Issues, after: Issues) -> list[IssueChange]:
    """Those whose states differ, by detection. Issues stand in both in the order of positions, so
    that two are compared at a time."""
    merged = heapq.merge(
        ((-each.position, 0, each) for each in before.newest(Wanted())),
        ((-each.position, 1, each) for each in after.newest(Wanted())),
    )
    changed: list[IssueChange] = []
    for _, pair in groupby(merged, key=lambda each: each[0]):
        found = {side: record for _, side, record in pair}
        was, now = _state(found.get(0)), _state(found.get(1))
        if was != now:
            record = found[max(found)]
            changed.append(IssueChange(record.issue, record.component, record.issue_type, was, now))
    return changed[::-1]


def _state(record: Shelved | None) -> str | None:
    if record is None:
        return None
    return shown_record(record)["state"] if record.outcome == Outcome.OPEN else record.outcome


def _moment(moment: Moment) -> Json:
    return {
        "point": shown(moment.point),
        "position": moment.position,
        "passed_over": moment.passed_over,
    }


def _change(change: Change, of: str) -> Json:
    return {of: change.of, "before": change.before, "after": change.after}
