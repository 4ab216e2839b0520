"""What the doors show of the log, as JSON: the same over HTTP and from a log that is only read."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, Protocol

from healer.domain.events import Fact
from healer.domain.spec import ComponentSpec
from healer.errors import UnknownNameError
from healer.ports import Recorded
from projections.history import HistoryQuery, Issues, Page, find, shown
from projections.projection import Json
from projections.recommendations import recommend
from projections.shelf import Wanted
from replay.line import describe
from replay.timeline import timeline

__all__ = [
    "Views",
    "active",
    "event",
    "history",
    "issue",
    "mttr",
    "playbook_stats",
    "recommendations",
]


class Views(Protocol):
    """Projections that are current (`LiveViews`) or of one reading of the log (`Fold`)."""

    def view(self, name: str) -> Json: ...

    def state(self, name: str) -> Any: ...


def history(views: Views, query: HistoryQuery, *, known: Sequence[str] = ()) -> Page:
    """A page of issues, newest first, and the cursor of the next page.

    Raises:
        UnknownNameError: the query names a component that neither `known` nor the log has.
    """
    issues: Issues = views.state("history")
    if query.component is not None:
        _check_component(query.component, {*known, *issues.components})
    return find(issues, query)


def issue(views: Views, issue_id: str, facts: Sequence[Fact]) -> dict[str, Json]:
    """One issue and its story.

    Raises:
        UnknownNameError: there is no such issue.
    """
    issues: Issues = views.state("history")
    record = issues.find(issue_id)
    if record is None:
        latest = [each.issue for each in islice(issues.newest(Wanted()), 3)]
        raise UnknownNameError("issue", issue_id, latest)
    return {**shown(record), "events": [entry.view() for entry in timeline(facts)]}


def active(views: Views) -> dict[str, Json]:
    """The open issues, oldest first."""
    issues = views.view("active")
    return {"count": len(issues), "active": issues}


def playbook_stats(views: Views) -> dict[str, Json]:
    """What each playbook achieved."""
    return {"playbook_stats": views.view("playbook_stats")}


def mttr(views: Views) -> dict[str, Json]:
    """Mean (and median) seconds from the first evidence to the verified cure."""
    times = views.view("stats")["time_to_resolution"]
    return {
        "unit": "s",
        "overall": times["overall"],
        "by_issue_type": times["by_issue_type"],
        "by_playbook": times["by_playbook"],
    }


def recommendations(
    views: Views, name: str, spec: ComponentSpec | None, *, known: Sequence[str] = ()
) -> dict[str, Json]:
    """What the record of a component advises.

    Raises:
        UnknownNameError: neither `known` nor the log has such a component.
    """
    state = views.state("recommendations")
    _check_component(name, {*known, *state.components})
    advised: dict[str, Json] = recommend(state, name, spec)
    return advised


def event(recorded: Recorded) -> dict[str, Json]:
    """One fact with its place in the log, and in words."""
    line = describe(recorded.event)
    return {
        "position": recorded.position,
        "type": recorded.event.TOPIC,
        "event_id": recorded.event.event_id,
        "text": line.text,
        "level": line.level.value,
        **recorded.event.model_dump(mode="json"),
    }


def _check_component(name: str, known: set[str]) -> None:
    if name not in known:
        raise UnknownNameError("component", name, sorted(known))
