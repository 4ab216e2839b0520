"""Folding a file from its rows, here and in a second process."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest

from healer.domain.events import IssueEscalated
from healer.errors import StoreError
from healer.store import SqliteLog
from healer.store.archive import archive
from projections import ALL, beside
from projections.active import Active
from projections.beside import fold_file
from projections.book import COMPONENT_EVENTS, FLEET_EVENTS, follow_issues
from projections.fold import Fold
from projections.projection import Cases, Projection
from projections.record import IssueRecord
from projections.training import TRAINING
from tests.projections.build import random_log

FACTS = random_log(Random(11), issues=150)
MIDDLE = len(FACTS) // 2
three = [each for each in ALL if each.name in {"stats", "history", "training"}]
ways = pytest.mark.parametrize("long", [1, 1 << 40], ids=["two processes", "one"])


@pytest.fixture
async def file(tmp_path: Path) -> Path:
    path = tmp_path / "log.db"
    async with SqliteLog.open(path, new_log_id=lambda: "1" * 32) as log:
        await log.append([each.event for each in FACTS])
    return path


def folded(count: int) -> Fold:
    fold = Fold(ALL)
    fold.apply(FACTS[:count])
    return fold


@ways
@pytest.mark.parametrize("until", [MIDDLE, len(FACTS)])
async def test_rows_show_the_bytes_that_facts_show(file, long, until):
    steps: list[int] = []
    fold = await fold_file(file, until=until, progress=steps.append, long=long)
    assert fold.snapshot() == folded(until).snapshot()
    assert list(fold.names) == [each.name for each in ALL]
    assert steps[-1] == until


@ways
async def test_a_fold_of_rows_goes_on_with_facts(file, long):
    fold = await fold_file(file, until=MIDDLE, long=long)
    fold.apply(FACTS)
    assert fold.snapshot() == folded(len(FACTS)).snapshot()


@ways
async def test_some_projections_are_folded_without_decoding_what_they_do_not_need(file, long):
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("DROP TRIGGER event_is_never_updated")
        connection.execute("UPDATE event SET body = x'7b' WHERE topic = 'issue.step_skipped.v1'")
    fold = await fold_file(file, three, until=len(FACTS), long=long)
    views = folded(len(FACTS)).snapshot().views
    assert fold.snapshot().views == {each.name: views[each.name] for each in three}


@ways
async def test_what_cannot_be_read_stops_those_that_need_it_where_it_stands(file, long):
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("DROP TRIGGER event_is_never_updated")
        connection.execute("UPDATE event SET topic = 'issue.forgotten.v9' WHERE position = 40")
    fold = await fold_file(file, until=len(FACTS), long=long)
    assert {name: each.position for name, each in fold.stopped.items()} == {
        each.name: 40 for each in ALL
    }
    assert "issue.forgotten.v9" in str(fold.stopped["training"])


class Picky(IssueRecord, array_like=True, eq=False, gc=False):
    """The record of an issue that nobody may escalate."""

    def escalated(self, event: IssueEscalated) -> None:
        raise ArithmeticError("not this one")


async def test_a_record_that_cannot_take_a_fact_stops_whoever_follows_it_and_nobody_else(file):
    cases: Cases[Active] = Cases()
    follow_issues(cases, Picky, lambda *_: None)
    cases.ignore(*COMPONENT_EVENTS, *FLEET_EVENTS)
    picky = Projection("picky", 1, Active, cases, lambda state: sorted(state.open))
    fold = await fold_file(file, [picky, TRAINING], until=len(FACTS))
    first = next(each for each in FACTS if isinstance(each.event, IssueEscalated))
    stopped = fold.stopped["picky"]
    assert (stopped.position, str(stopped.cause)) == (first.position, "not this one")
    assert list(fold.stopped) == ["picky"]
    assert fold.canonical("training") == folded(len(FACTS)).canonical("training")


@ways
async def test_archived_events_are_folded_too(file, long):
    moved = archive(file, datetime(2100, 1, 1, tzinfo=UTC))
    assert moved.events > 0
    fold = await fold_file(file, until=len(FACTS), long=long)
    assert fold.snapshot() == folded(len(FACTS)).snapshot()


@pytest.mark.parametrize(
    ("script", "words"),
    [("kill -9 $$", "was ended by signal 9"), ("echo no room >&2; exit 3", r"ended with 3 \(no r")],
)
async def test_a_process_that_dies_is_an_error_and_no_part_of_a_world(
    file, tmp_path, monkeypatch, script, words
):
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)
    monkeypatch.setattr(beside.sys, "executable", str(program))
    with pytest.raises(StoreError, match=rf"the process beside {words}"):
        await fold_file(file, until=len(FACTS), long=1)


async def test_a_file_that_is_away_is_an_error(tmp_path):
    with pytest.raises(StoreError, match="cannot read"):
        await fold_file(tmp_path / "none.db", until=5, long=1)
