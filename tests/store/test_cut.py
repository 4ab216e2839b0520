"""Where a log may be cut when a part of it has gone already."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from healer.domain.events import IssueDetected, IssueVerified, StepStarted
from healer.store.cut import Cut, cut_of

OLD, YOUNG = 1, 100


@pytest.mark.parametrize(
    ("ended", "goes_on"),
    [
        pytest.param(OLD, (6, None), id="at the cut"),
        pytest.param(YOUNG, (5, "chat_api"), id="behind the cut"),
    ],
)
def test_an_issue_that_an_archive_left_open_is_open_until_it_ends(
    ended: int, goes_on: tuple[int, str | None]
) -> None:
    rows = [
        (11, "other", 1, IssueDetected.TOPIC, OLD),
        (12, "carried", 5, StepStarted.TOPIC, OLD),
        (13, "carried", 6, IssueVerified.TOPIC, ended),
        (14, "other", 2, StepStarted.TOPIC, YOUNG),
    ]
    with closing(sqlite3.connect(":memory:")) as log:
        log.execute("CREATE TABLE event (position, stream, version, topic, time)")
        log.execute("CREATE TABLE open_issue (component, issue)")
        log.executemany("INSERT INTO event VALUES (?, ?, ?, ?, ?)", rows)
        log.execute("INSERT INTO open_issue VALUES ('billing_api', 'other')")
        found = cut_of(log.execute, before=50, carried={"carried": "chat_api"})
    last = 13 if ended == OLD else 12
    streams = {"other": (1, "billing_api"), "carried": goes_on}
    assert found == Cut(first=11, last=last, held_by=None, streams=streams)
