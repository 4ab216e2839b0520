"""What holds for every projection."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import projections
from healer.domain.events import EVENT_TYPES, IssueEscalated, IssueVerified, StepFailed
from healer.ports import Recorded
from projections import ALL
from projections.book import COMPONENT_EVENTS, FLEET_EVENTS, follow_issues
from projections.fold import Fold
from projections.history import HISTORY
from projections.projection import Cases, Projection, ProjectionStoppedError, canonical
from projections.record import IssueRecord
from tests.projections.build import Log, heal, logs

each_projection = pytest.mark.parametrize("projection", ALL, ids=lambda each: each.name)


def states_of(projection: Projection[Any], facts: list[Recorded]) -> Any:
    state = projection.initial()
    for recorded in facts:
        state = projection.apply(state, recorded)
    return state


def component_of(recorded: Recorded, owners: dict[str, str]) -> str:
    event = recorded.event
    name = getattr(event, "component", None)
    if name is not None:
        owners[event.originator_id] = name
    return owners[event.originator_id]


def test_no_projection_is_left_out_of_the_registry():
    found = set()
    for module in pkgutil.iter_modules(projections.__path__):
        contents = vars(importlib.import_module(f"projections.{module.name}"))
        found |= {value.name for value in contents.values() if isinstance(value, Projection)}
    assert found == {projection.name for projection in ALL}
    assert len(found) == len(ALL)


@each_projection
def test_the_table_is_total(projection):
    assert set(projection.cases.table()) == set(EVENT_TYPES.values())


def test_a_projection_with_a_hole_in_its_table_cannot_be_made():
    cases: Cases[list[int]] = Cases()
    cases.ignore(*(kind for kind in EVENT_TYPES.values() if kind is not StepFailed))
    with pytest.raises(TypeError, match="StepFailed"):
        Projection("holed", 1, list, cases, list)


def test_a_fact_cannot_have_two_cases():
    cases: Cases[list[int]] = Cases()
    cases.ignore(StepFailed)
    with pytest.raises(TypeError, match="second case"):
        cases.ignore(StepFailed)


@each_projection
@given(facts=logs(), where=st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_a_fold_that_is_looked_at_and_resumed_equals_one_pass(projection, facts, where):
    cut = int(where * len(facts))
    state = states_of(projection, facts[:cut])
    projection.view(state)
    for recorded in facts[cut:]:
        state = projection.apply(state, recorded)
    assert canonical(projection.view(state)) == canonical(
        projection.view(states_of(projection, facts))
    )


@each_projection
@given(facts=logs(), data=st.data())
@settings(max_examples=40, deadline=None)
def test_parts_merge_to_the_whole_however_they_are_put_together(projection, facts, data):
    parts: dict[str, list[Recorded]] = {}
    owners: dict[str, str] = {}
    for recorded in facts:
        parts.setdefault(component_of(recorded, owners), []).append(recorded)
    three: list[list[Recorded]] = [[], [], []]
    for part in parts.values():
        three[data.draw(st.integers(0, 2))] += part

    def states() -> list[Any]:
        return [
            states_of(projection, sorted(part, key=lambda each: each.position)) for part in three
        ]

    merge = projection.merge
    a, b, c = states()
    left = canonical(projection.view(merge(merge(a, b), c)))
    a, b, c = states()
    right = canonical(projection.view(merge(a, merge(b, c))))
    a, b, c = states()
    turned = canonical(projection.view(merge(c, merge(b, a))))
    whole = canonical(projection.view(states_of(projection, facts)))
    assert left == right == turned == whole


@given(facts=logs())
@settings(max_examples=30, deadline=None)
def test_the_fold_of_all_shows_what_each_shows_alone(facts):
    fold = Fold(ALL)
    fold.apply(facts)
    alone = {each.name: canonical(each.view(states_of(each, facts))) for each in ALL}
    assert dict(fold.snapshot().views) == alone
    assert fold.position == len(facts)


@given(facts=logs())
@settings(max_examples=30, deadline=None)
def test_facts_that_come_twice_count_once(facts):
    fold, twice = Fold(ALL), Fold(ALL)
    fold.apply(facts)
    twice.apply(facts)
    twice.apply(facts[len(facts) // 2 :])
    assert fold.snapshot() == twice.snapshot()


def test_facts_after_the_end_of_an_issue_change_nothing_and_stop_nothing():
    log = Log()
    issue = heal(log)
    fold = Fold(ALL)
    fold.apply(log.facts)
    before = fold.snapshot()
    issue.escalate().verify(None)
    fold.apply(log.facts)
    assert fold.snapshot().views == before.views
    assert not fold.stopped


def test_a_projection_that_cannot_apply_a_fact_stops_there_and_the_others_go_on():
    cases: Cases[list[int]] = Cases()
    cases.ignore(*(kind for kind in EVENT_TYPES.values() if kind is not IssueVerified))

    @cases.on(IssueVerified)
    def verified(state: list[int], position: int, event: IssueVerified) -> None:
        raise ArithmeticError("too good")

    fold = Fold([*ALL, Projection("picky", 1, list, cases, list)])
    log = Log()
    heal(log)
    at = log.facts[-1].position
    heal(log)
    fold.apply(log.facts)
    assert (fold.stopped["picky"].position, str(fold.stopped["picky"].cause)) == (at, "too good")
    assert fold.view("stats")["successful_healings"] == 2
    with pytest.raises(ProjectionStoppedError, match=f"stopped at position {at} .*too good"):
        fold.view("picky")


@dataclass
class Ended:
    """Issues that ended, and the records of the open ones."""

    open: dict[str, Any] = field(default_factory=dict)
    count: int = 0


def following(
    name: str, finish: Callable[..., None], begun: Callable[..., None] | None = None
) -> Projection[Ended]:
    cases: Cases[Ended] = Cases()
    follow_issues(cases, IssueRecord, finish, begun)
    cases.ignore(*COMPONENT_EVENTS, *FLEET_EVENTS)
    return Projection(name, 1, Ended, cases, lambda state: [state.count, sorted(state.open)])


def counted(state: Ended, _position: int, _record: IssueRecord) -> None:
    state.count += 1


def refused(*_arguments: Any) -> None:
    raise ArithmeticError("too good")


@pytest.mark.parametrize(
    ("picky", "place"),
    [
        (following("picky", refused), -1),
        (following("picky", counted, refused), 0),
    ],
    ids=["at the end of an issue", "at its beginning"],
)
def test_one_that_cannot_take_a_record_stops_alone_among_those_that_follow_issues(picky, place):
    log = Log()
    heal(log)
    at = log.facts[place].position
    heal(log)
    log.detect()
    healthy = [following("first", counted), following("last", counted), HISTORY]
    fold = Fold([healthy[0], picky, *healthy[1:]])
    fold.apply(log.facts)
    assert (list(fold.stopped), fold.stopped["picky"].position) == (["picky"], at)
    alone = {each.name: each.canonical(states_of(each, log.facts)) for each in healthy}
    assert dict(fold.snapshot().views) == alone


@given(facts=logs(), where=st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_a_fold_that_takes_in_another_shows_and_goes_on_as_one(facts, where):
    cut = int(where * len(facts))
    parts = [Fold(ALL[::2]), Fold(ALL[1::2])]
    for part in parts:
        part.apply(facts[:cut])
    fold, other = parts
    fold.adopt(other)
    fold.apply(facts)
    whole = Fold(ALL)
    whole.apply(facts)
    assert fold.snapshot() == whole.snapshot()


def test_a_fact_of_an_unknown_type_stops_all_and_is_named():
    class IssueForgotten(IssueEscalated):
        """From a newer healer."""

    log = Log()
    issue = heal(log)
    log.add(IssueForgotten, issue.id, reason="age")
    fold = Fold(ALL)
    fold.apply(log.facts)
    assert set(fold.stopped) == {each.name for each in ALL}
    assert "IssueForgotten" in str(fold.stopped["stats"])
