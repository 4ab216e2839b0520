"""The issues of a past moment: those that were open then as they were, the others as they are.

An issue that has ended does not change any more, so its record is taken from the live history.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast, overload

from healer.domain.events import EVENT_TYPES, IssueEvent
from projections.book import COMPONENT_EVENTS, FLEET_EVENTS, follow_issues
from projections.history import FullRecord, History
from projections.projection import Case, Cases, Json, Projection

__all__ = ["PAST_ISSUES", "PastIssues", "history_then"]


@dataclass(slots=True)
class PastIssues:
    """Records of the open issues, and of those that ended since the last `settle`; `versions` has
    the last fact of each in its stream."""

    open: dict[str, FullRecord] = field(default_factory=dict)
    ended: dict[str, FullRecord] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)

    def settle(self) -> None:
        """Forget those that ended: the live history has them."""
        self.ended.clear()
        self.versions = {key: self.versions[key] for key in self.open}


def _finish(state: PastIssues, _position: int, record: FullRecord) -> None:
    state.ended[record.issue_id] = record


def _counted(case: Case[PastIssues]) -> Case[PastIssues]:
    def counting(state: PastIssues, position: int, event: Any) -> None:
        case(state, position, event)
        name = event.originator_id
        if name in state.open or name in state.ended:
            state.versions[name] = event.originator_version

    return counting


def _cases() -> Cases[PastIssues]:
    followed: Cases[PastIssues] = Cases()
    follow_issues(followed, FullRecord, _finish)
    followed.ignore(*COMPONENT_EVENTS, *FLEET_EVENTS)
    counted: Cases[PastIssues] = Cases()
    for kind in EVENT_TYPES.values():
        case = followed.table()[kind]
        if case is None or not issubclass(kind, IssueEvent):
            counted.ignore(kind)
        else:
            counted.on(kind)(_counted(case))
    return counted


def _view(state: PastIssues) -> Json:
    return [record.view() for record in state.open.values()]


PAST_ISSUES = Projection("past_issues", 1, PastIssues, _cases(), _view)


def history_then(live: History, begun: int, issues: PastIssues) -> History:
    """The history of a moment, to be read and not changed: of the issues that `live` knows, those
    that were detected by the position `begun`, and those that `issues` has; both as they were."""
    known = {**issues.ended, **issues.open}
    later = sorted(
        (record for record in known.values() if record.position > begun),
        key=lambda record: record.position,
    )
    return History(
        issues.open,
        cast(list[FullRecord], _Records(live.records, begun, known, later)),
        cast(dict[str, list[FullRecord]], _ByComponent(live, begun, known, later)),
        cast(dict[str, FullRecord], _ByIssue(live, begun, known)),
    )


class _Records(Sequence[FullRecord]):
    """The beginning of `live`, then `later`."""

    def __init__(
        self,
        live: list[FullRecord],
        begun: int,
        known: Mapping[str, FullRecord],
        later: list[FullRecord],
    ) -> None:
        self._live = live
        self._count = bisect_right(live, begun, key=lambda record: record.position)
        self._known = known
        self._later = later

    def __len__(self) -> int:
        return self._count + len(self._later)

    @overload
    def __getitem__(self, index: int) -> FullRecord: ...

    @overload
    def __getitem__(self, index: slice) -> list[FullRecord]: ...

    def __getitem__(self, index: int | slice) -> FullRecord | list[FullRecord]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        if index >= self._count:
            return self._later[index - self._count]
        record = self._live[index]
        return self._known.get(record.issue_id, record)


class _ByComponent(Mapping[str, Sequence[FullRecord]]):
    def __init__(
        self,
        live: History,
        begun: int,
        known: Mapping[str, FullRecord],
        later: list[FullRecord],
    ) -> None:
        self._live = live
        self._begun = begun
        self._known = known
        self._later = later

    def __getitem__(self, component: str) -> Sequence[FullRecord]:
        later = [record for record in self._later if record.component == component]
        live = self._live.by_component.get(component, [])
        records = _Records(live, self._begun, self._known, later)
        if not records:
            raise KeyError(component)
        return records

    def __iter__(self) -> Iterator[str]:
        for component in self._live.by_component:
            if component in self:
                yield component

    def __len__(self) -> int:
        return sum(1 for _ in self)


class _ByIssue(Mapping[str, FullRecord]):
    def __init__(self, live: History, begun: int, known: Mapping[str, FullRecord]) -> None:
        self._live = live
        self._begun = begun
        self._known = known

    def __getitem__(self, issue_id: str) -> FullRecord:
        record = self._known.get(issue_id) or self._live.by_issue[issue_id]
        if record.position > self._begun and issue_id not in self._known:
            raise KeyError(issue_id)
        return record

    def __iter__(self) -> Iterator[str]:
        for issue_id in self._live.by_issue:
            if issue_id in self:
                yield issue_id

    def __len__(self) -> int:
        return sum(1 for _ in self)
