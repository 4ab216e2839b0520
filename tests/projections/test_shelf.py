"""Ended issues out of memory, and what a disk that refuses them costs."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from healer.errors import StoreError
from projections.fold import Fold
from projections.history import HISTORY, HistoryQuery, page
from projections.shelf import Shelf, Shelved, Wanted
from tests.projections.build import random_log

COMPONENTS = ("a", "b")
TYPES = ("port_conflict", "process_crashed")
OUTCOMES = ("healed", "failed")


@st.composite
def shelves(draw: st.DrawFn) -> list[Shelved]:
    """Records whose times mostly grow with their positions, put away in any order."""
    positions = draw(st.lists(st.integers(1, 60_000), unique=True, max_size=40))
    return [
        Shelved(
            position,
            f"issue-{position}",
            draw(st.sampled_from(COMPONENTS)),
            draw(st.sampled_from(TYPES)),
            draw(st.sampled_from(OUTCOMES)),
            position * 1000 + draw(st.sampled_from((0, 0, 0, 30_000_000, -30_000_000))),
            b"%d" % position,
        )
        for position in positions
    ]


def times() -> st.SearchStrategy[int | None]:
    return st.none() | st.integers(-40_000_000, 100_000_000)


@settings(max_examples=100, deadline=None)
@given(
    records=shelves(),
    wanted=st.builds(
        Wanted,
        component=st.sampled_from((None, *COMPONENTS)),
        issue_type=st.sampled_from((None, *TYPES)),
        outcome=st.sampled_from((None, *OUTCOMES)),
        since=times(),
        until=times(),
        below=st.none() | st.integers(1, 60_000),
    ),
)
def test_what_is_found_is_what_is_wanted_newest_first(records, wanted):
    shelf = Shelf()
    for record in records:
        shelf.add(record)
    expected = sorted(filter(wanted.fits, records), key=lambda each: -each.position)
    assert list(shelf.newest(wanted)) == expected
    for record in records:
        assert shelf.get(record.issue) == record
    assert shelf.get("nothing") is None


def test_every_condition_is_answered_from_an_index():
    """No question reads the whole shelf: what is looked at are the rows of one value, in order."""
    shelf = Shelf()
    shelf.add(Shelved(1, "i", "a", "port_conflict", "healed", 1, b"{}"))
    asked: list[str] = []
    shelf.prepare()
    connection = shelf._connection
    assert connection is not None
    connection.set_trace_callback(asked.append)
    for wanted in (
        Wanted(component="a"),
        Wanted(component="a", issue_type="port_conflict", outcome="healed", since=0, until=9),
        Wanted(issue_type="port_conflict", outcome="healed"),
        Wanted(outcome="healed", since=1),
        Wanted(since=1, until=5, below=7),
    ):
        assert list(shelf.newest(wanted))
    shelf.get("i")
    connection.set_trace_callback(None)
    assert len(asked) == 6
    for statement in asked:
        plan = " ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}"))
        assert "SCAN" not in plan, plan
        assert "TEMP B-TREE" not in plan, plan


REFUSED = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from projections.shelf import Shelf, Shelved, Wanted
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
shelf = Shelf()
def put(first, last):
    for n in range(first, last):
        shelf.add(Shelved(n, f"i{n}", "a", "port_conflict", "healed", n, b"x" * 2000))
put(1, 6000)
assert shelf.trouble is not None and "stay in memory" in shelf.trouble, shelf.trouble
found = [each.position for each in shelf.newest(Wanted())]
assert found == list(range(5999, 0, -1)), len(found)
assert [each.position for each in shelf.newest(Wanted(component="a"))] == found
assert shelf.get("i5999").position == 5999 and shelf.get("i1").position == 1
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
put(6000, 6600)
assert shelf.trouble is None, shelf.trouble
assert [each.position for each in shelf.newest(Wanted())] == list(range(6599, 0, -1))
"""


def test_a_disk_that_refuses_costs_memory_and_no_record():
    done = subprocess.run(
        [sys.executable, "-c", REFUSED], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_a_shelf_that_cannot_be_read_says_so():
    shelf = Shelf()
    shelf.add(Shelved(1, "i", "a", "port_conflict", "healed", 1, b"{}"))
    assert [each.issue for each in shelf.newest(Wanted())] == ["i"]
    assert isinstance(shelf._connection, sqlite3.Connection)
    shelf._connection.execute("DROP TABLE record")
    with pytest.raises(StoreError, match="cannot read the shelf of ended issues: "):
        list(shelf.newest(Wanted()))


def test_ended_issues_are_not_kept_in_memory():
    facts = random_log(Random(8), issues=300)
    fold = Fold([HISTORY])
    fold.apply(facts)
    state = fold.state("history")
    assert len(state.open) < 60
    assert len(page(state, HistoryQuery(limit=1000))["records"]) == 300
