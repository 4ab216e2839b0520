"""The issues of a past moment: those that were open then as they were, the others as they are.

An issue that has ended does not change any more, so its record is taken from the live shelf.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from healer.domain.events import EVENT_TYPES, IssueEvent
from projections.book import COMPONENT_EVENTS, FLEET_EVENTS, follow_issues
from projections.history import FullRecord, History, in_memory
from projections.projection import Case, Cases, Json, Projection
from projections.shelf import Shelved, Wanted

__all__ = ["PAST_ISSUES", "IssuesThen", "PastIssues"]


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


@dataclass(frozen=True, slots=True)
class IssuesThen:
    """The issues of a moment, to be read and not changed: of those that ended in the `live` history
    the ones that were detected by the position `begun`, and those that `past` has; both as they
    were."""

    live: History
    begun: int
    past: PastIssues

    def newest(self, wanted: Wanted) -> Iterator[Shelved]:
        """See `projections.history.Issues.newest`."""
        known = {**self.past.ended, **self.past.open}
        below = self.begun + 1 if wanted.below is None else min(wanted.below, self.begun + 1)
        ended = self.live.shelf.newest(replace(wanted, below=below))
        return heapq.merge(
            in_memory(known.values(), wanted),
            (record for record in ended if record.issue not in known),
            key=_newest_first,
        )

    def find(self, issue_id: str) -> Shelved | None:
        """See `projections.history.Issues.find`."""
        known = self.past.open.get(issue_id) or self.past.ended.get(issue_id)
        if known is not None:
            return known.shelved()
        found = self.live.shelf.get(issue_id)
        return found if found is not None and found.position <= self.begun else None

    @property
    def components(self) -> set[str]:
        """See `projections.history.Issues.components`."""
        known = (*self.past.ended.values(), *self.past.open.values())
        before = (name for name, first in self.live.components.items() if first <= self.begun)
        return {*before, *(record.component for record in known)}


def _newest_first(record: Shelved) -> int:
    return -record.position
