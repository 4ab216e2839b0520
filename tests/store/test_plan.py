"""What a group of appends would write, who may, and what is refused: decided without a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from healer.domain.events import Event
from healer.errors import IssueConflictError, StoreError
from healer.store import chain
from healer.store.codec import Codec
from healer.store.postgres.lease import Holding, Lease, check_ttl
from healer.store.postgres.plan import Entry, Plan, Row
from tests import factory

ROOT = b"r" * 32
CODEC = Codec()
HELD = Holding("chat_api", "i1", "a", 5, alive=True)
OTHER = Holding("other", "i9", "b", 7, alive=True)
SEEN: Mapping[str, int] = {}


def plan(
    *holdings: Holding, versions: Mapping[str, int] = SEEN, fences: Mapping[str, int] = SEEN
) -> Plan:
    return Plan(10, ROOT, {"i1": 3, **versions}, holdings, fences)


def entry(*events: Event, lease: Lease | None = None) -> Entry:
    return Entry([CODEC.encode(event) for event in events], lease)


def started(stream: str, version: int) -> Event:
    return factory.playbook_started(stream=stream, version=version)


def lease(node: str = "a", component: str = "chat_api", **seen: int) -> Lease:
    return Lease(component, node, 60.0, seen)


def added(wanted: Plan, *entries: Entry) -> Sequence[int | str]:
    """The outcomes, of refusals the words."""
    for each in entries:
        wanted.add(each)
    return [one if isinstance(one, int) else str(one) for one in wanted.outcomes]


def refused(wanted: Plan, one: Entry, kind: type[StoreError] = IssueConflictError) -> str:
    """Why `one` is refused; and the plan is as it was."""
    before = state(wanted)
    wanted.add(one)
    error = wanted.outcomes.pop()
    assert type(error) is kind
    assert state(wanted) == before
    return str(error)


def state(wanted: Plan) -> tuple[Any, ...]:
    return (
        wanted.position,
        wanted.hash,
        [*wanted.rows],
        dict(wanted.holdings),
        dict(wanted.fences),
        dict(wanted._versions),
        wanted.changed,
    )


# --- places in the log ---------------------------------------------------------------------------


def test_each_event_has_the_next_place_in_the_log_and_in_its_stream() -> None:
    events = [started("i1", 4), started("i2", 1), started("i1", 5), started("i2", 2)]
    wanted = plan()
    assert added(wanted, entry(*events[:2]), entry(), entry(*events[2:])) == [12, 12, 14]
    expected, previous = [], ROOT
    for position, event in enumerate(events, start=11):
        _, stream, version, topic, time, body = CODEC.encode(event)
        previous = chain.link(previous, position, stream, version, topic=topic, body=body)
        expected.append(Row(position, stream, version, topic, time, body, previous))
    assert wanted.rows == expected
    assert (wanted.start, wanted.root, wanted.position, wanted.hash) == (10, ROOT, 14, previous)
    assert wanted.changed == []


@pytest.mark.parametrize(
    ("stream", "version", "current"), [("i1", 3, 3), ("i1", 5, 3), ("new", 2, 0)]
)
def test_a_stream_that_stands_elsewhere_refuses_the_entry_wholly(
    stream: str, version: int, current: int
) -> None:
    wanted = plan()
    said = refused(wanted, entry(started("i2", 1), started(stream, version)))
    assert said == f"cannot append {stream}/{version}: the stream is at version {current}"
    assert added(wanted, entry(started("i2", 1), started(stream, current + 1))) == [12]


def test_what_the_database_has_no_text_for_is_refused_alone() -> None:
    wanted = plan()
    said = refused(wanted, entry(started("i\0", 1)), StoreError)
    assert said == "cannot store 'i\\x00': PostgreSQL has no NUL in a text"
    named = entry(factory.issue_detected(stream="i2", component="a\0"))
    said = refused(wanted, named, StoreError)
    assert said == "cannot store component 'a\\x00': PostgreSQL has no NUL in a text"


def test_what_was_given_is_left_as_it_was() -> None:
    versions, fences = {"i1": 3}, {"i1": 5, "i9": 7}
    wanted = Plan(10, ROOT, versions, [HELD], fences)
    added(wanted, entry(started("i1", 4), factory.issue_failed(stream="i1", version=5)))
    assert (versions, fences) == ({"i1": 3}, {"i1": 5, "i9": 7})
    assert wanted.before == {"chat_api": HELD}
    assert wanted.fences == {"i9": 7}


# --- one open issue a component ------------------------------------------------------------------


def test_an_issue_that_is_opened_holds_its_component() -> None:
    wanted = plan()
    assert added(wanted, entry(factory.issue_detected(stream="i2"))) == [11]
    assert wanted.holdings == {"chat_api": Holding("chat_api", "i2")}
    assert wanted.changed == ["chat_api"]
    again = entry(factory.issue_detected(stream="i3"))
    assert refused(wanted, again) == (
        "cannot open issue i3 for component 'chat_api': its issue i2 is open"
    )


@pytest.mark.parametrize("end", [factory.issue_verified, factory.issue_failed])
def test_an_issue_that_ends_lets_go_of_its_component_and_of_no_other(end: Any) -> None:
    wanted = plan(HELD, OTHER, fences={"i1": 5, "i9": 7})
    opened = factory.issue_detected(stream="i2")
    ended = end(stream="i1", version=4)
    assert added(wanted, entry(ended)) == [11]
    assert (wanted.holdings, wanted.fences) == ({"other": OTHER}, {"i9": 7})
    assert wanted.changed == ["chat_api"]
    assert added(plan(HELD, fences={"i1": 5}), entry(ended, opened)) == [12]
    assert "its issue i1 is open" in refused(plan(HELD, fences={"i1": 5}), entry(opened, ended))


# --- fences --------------------------------------------------------------------------------------


@pytest.mark.parametrize("fences", [{}, {"i1": 4}, {"i1": 6}, {"i2": 5}])
@pytest.mark.parametrize(
    ("event", "what"),
    [(started("i1", 4), "issue"), (factory.port_rebound(version=1), "component")],
    ids=["issue", "component"],
)
def test_what_another_heals_only_the_other_writes(
    event: Any, what: str, fences: dict[str, int]
) -> None:
    stream, version = event.originator_id, event.originator_version
    why = f"cannot append {stream}/{version}: the {what} is healed by node 'a' since event 5"
    assert refused(plan(OTHER, HELD, fences=fences), entry(event)) == why
    # A lease on another component is no lease on this one.
    beside = entry(started("i9", 1), event, lease=lease("b", "other"))
    assert refused(plan(OTHER, HELD, fences=fences), beside) == why
    assert added(plan(OTHER, HELD, fences={"i1": 5}), entry(event)) == [11]
    # It is not of that component.
    assert added(plan(OTHER, HELD), entry(started("i2", 1)))[-1] == 11
    assert added(plan(OTHER, HELD), entry(factory.port_rebound(component="x", version=1))) == [11]


def test_what_nobody_claimed_is_written_by_anybody() -> None:
    unclaimed = Holding("chat_api", "i1")
    both = entry(started("i1", 4), factory.port_rebound(version=1))
    assert added(plan(OTHER, unclaimed), both) == [12]


# --- leases --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "before",
    [
        None,
        Holding("chat_api", "i1"),
        Holding("chat_api", "i1", "b", 5, alive=False),
        Holding("chat_api", "i1", "a", 5, alive=True),
    ],
    ids=["new", "unclaimed", "ran out", "its own"],
)
def test_who_takes_an_issue_holds_it_since_the_entry_that_says_so(before: Holding | None) -> None:
    wanted = plan(*filter(None, (before, OTHER)), fences={"i1": 5, "i9": 7})
    event = started("i1", 4) if before else factory.issue_detected(stream="i1", version=4)
    claim = entry(started("i2", 1), event, started("i2", 2), lease=lease())
    assert added(wanted, claim) == [13]
    held = Holding("chat_api", "i1", "a", 13, alive=True, ttl=60.0)
    assert wanted.holdings == {"chat_api": held, "other": OTHER}
    assert wanted.fences == {"i1": 13, "i9": 7}
    assert wanted.changed == ["chat_api"]
    # And now nobody else does, in the same group.
    assert refused(wanted, entry(started("i1", 5), lease=lease("c"))) == (
        "cannot claim component 'chat_api' for node 'c': its issue i1 is healed by node 'a'"
    )
    assert added(wanted, entry(started("i1", 5)))[-1] == 14


def test_who_lost_the_issue_in_the_same_group_is_fenced_off() -> None:
    lost = Holding("chat_api", "i1", "b", 5, alive=False)
    wanted = plan(lost, fences={})
    outcomes = added(wanted, entry(started("i1", 4), lease=lease()))
    assert outcomes == [11]
    wanted.fences = {"i1": 5}  # as the one who lost it has it
    assert refused(wanted, entry(started("i1", 5))) == (
        "cannot append i1/5: the issue is healed by node 'a' since event 11"
    )


def test_what_is_held_by_another_that_lives_is_not_given() -> None:
    assert refused(plan(HELD), entry(started("i1", 4), lease=lease("b"))) == (
        "cannot claim component 'chat_api' for node 'b': its issue i1 is healed by node 'a'"
    )


def test_a_claim_needs_an_open_issue_and_a_fact_of_it() -> None:
    said = refused(plan(OTHER), entry(started("i1", 4), lease=lease()))
    assert said == "cannot claim component 'chat_api': it has no open issue"
    said = refused(plan(HELD), entry(started("i2", 1), lease=lease()), StoreError)
    assert said == "cannot claim component 'chat_api': no fact of its issue i1 says so"
    assert refused(plan(HELD), entry(lease=lease()), StoreError) == said
    # Of an issue that others open, and of one that was over before.
    ended = entry(factory.issue_failed(stream="i1", version=4), lease=lease())
    assert refused(plan(HELD), ended) == "cannot claim component 'chat_api': it has no open issue"


@pytest.mark.parametrize("begins", [factory.issue_detected, factory.issue_taken_over])
def test_an_issue_that_ends_in_the_same_breath_is_held_by_nobody(begins: Any) -> None:
    before = [] if begins is factory.issue_detected else [HELD]
    wanted = plan(*before, OTHER, fences={"i9": 7})
    both = [begins(stream="i1", version=4), factory.issue_failed(stream="i1", version=5)]
    assert added(wanted, entry(*both, lease=lease())) == [12]
    assert (wanted.holdings, wanted.fences) == ({"other": OTHER}, {"i9": 7})


def test_a_claim_rests_on_what_was_seen() -> None:
    wanted = plan(HELD, versions={"i2": 2})
    claim = entry(started("i1", 4), lease=lease(i1=3, i2=1))
    assert refused(wanted, claim) == (
        "cannot claim on what was seen of i2 at version 1: the stream is at version 2"
    )
    assert refused(wanted, entry(started("i1", 4), lease=lease(new=1))) == (
        "cannot claim on what was seen of new at version 1: the stream is at version 0"
    )
    assert added(wanted, entry(started("i1", 4), lease=lease(i1=3, i2=2, new=0))) == [11]
    # What the group wrote so far counts as well.
    assert refused(wanted, entry(started("i1", 5), lease=lease(i1=3))).endswith("at version 4")


def test_a_lease_of_no_or_of_endless_time_is_refused() -> None:
    check_ttl(0.1, "renew")
    check_ttl(86_400.0, "renew")
    for ttl in (0.09, 86_401.0, float("nan")):
        with pytest.raises(StoreError) as error:
            check_ttl(ttl, "renew")
        assert str(error.value) == f"cannot renew for {ttl:g} s: allowed: 0.1 to 86400 s"
