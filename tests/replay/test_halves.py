"""A log that two processes look at is judged as by one, and never by nobody."""

from __future__ import annotations

import gc
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from multiprocessing import Pipe, active_children
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest

from healer.store.chain import genesis, link
from replay.archive import FileArchive, Row
from replay.halves import Half, Later, answer, second_half
from replay.judge import Judge
from replay.verify import verify
from replay.walk import Walk
from tests.conftest import Until
from tests.projections.build import Log
from tests.replay.on_disk import a_day, write
from tests.replay.sealed import MemoryArchive, rows_of, sealed

Spoil = Callable[[sqlite3.Connection], object]


def _nothing(_connection: sqlite3.Connection) -> None:
    """A sound log."""


def _unreadable(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE event SET body = ? WHERE position = 7", (b'{"actor": 1}',))


def _of_the_future(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE event SET topic = 'issue.detected.v9' WHERE position = 6")


def _illegal(connection: sqlite3.Connection) -> None:
    """The issue ends, and goes on."""
    stream, version = connection.execute(
        "SELECT stream, version FROM event WHERE topic = 'issue.verified.v1'"
    ).fetchone()
    connection.execute(
        "UPDATE event SET stream = ?, version = ? "
        "WHERE position = (SELECT max(position) FROM event)",
        (stream, version + 1),
    )


def _no_rows(connection: sqlite3.Connection) -> None:
    """A table of the same name without its types."""
    connection.execute("CREATE TABLE other AS SELECT * FROM event")
    connection.execute("DROP TABLE event")
    connection.execute("ALTER TABLE other RENAME TO event")
    connection.execute("UPDATE event SET body = 5, version = 'x' WHERE position = 9")


@pytest.mark.parametrize("spoil", [_nothing, _unreadable, _of_the_future, _illegal, _no_rows])
async def test_two_processes_find_what_one_finds(tmp_path: Path, spoil: Spoil) -> None:
    file = tmp_path / "log.db"
    await write(file, a_day().facts)
    with closing(sqlite3.connect(file)) as connection, connection:
        for (name,) in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        spoil(connection)
    alone, beside = verify(file), verify(file, beside=1)
    assert beside == alone
    assert alone.ok is (spoil is _nothing)


async def test_two_halves_of_a_sound_log_are_sound_wherever_it_is_cut(tmp_path: Path) -> None:
    rows = await _rows(tmp_path)
    assert all(_in_halves(rows, at) for at in range(1, len(rows)))
    assert _in_order(rows)


async def test_halves_are_sound_only_where_the_whole_is(tmp_path: Path) -> None:
    """Every event left out, told twice, told of another issue or earlier, with hashes that
    fit: cut anywhere, two halves pass what one look at all of it passes, and nothing else."""
    rows = await _rows(tmp_path)
    streams = sorted({stream for _, stream, *_ in rows})
    wrong = 0
    for at, row in enumerate(rows):
        changed = [
            [*rows[:at], *rows[at + 1 :]],
            [*rows[:at], row, *rows[at:]],
            [*rows[: at // 2], row, *rows[at // 2 : at], *rows[at + 1 :]],
            *(
                [*rows[:at], (row[0], stream, *row[2:]), *rows[at + 1 :]]
                for stream in streams
                if stream != row[1]
            ),
        ]
        for keeps_versions in (False, True):
            for attacked in changed:
                told = _fitting(attacked, keeps_versions=keeps_versions)
                expected = _in_order(told)
                wrong += not expected
                for cut in {1, at - 1, at, at + 1, len(told) // 2, len(told) - 1}:
                    if 0 < cut < len(told):
                        assert _in_halves(told, cut) is expected, (at, cut)
    assert wrong > len(rows)


async def _rows(directory: Path) -> list[Row]:
    await write(directory / "log.db", a_day().facts)
    with FileArchive(directory / "log.db") as archive:
        return [row for rows in archive.rows() for row in rows]


def _fitting(rows: list[Row], *, keeps_versions: bool) -> list[Row]:
    """The rows with positions and hashes that fit, and versions too unless they are kept."""
    versions: dict[str, int] = {}
    previous, told = genesis("log-1"), []
    for position, (_, stream, version, topic, time, body, _) in enumerate(rows, start=1):
        versions[stream] = version if keeps_versions else versions.get(stream, 0) + 1
        place = (previous, position, stream, versions[stream])
        previous = link(*place, topic=topic, body=body)
        told.append((position, stream, versions[stream], topic, time, body, previous))
    return told


def _in_order(rows: list[Row]) -> bool:
    """Whether one look at all of it finds nothing: the judge, and each stream's versions."""
    judge, versions = Judge({}), dict[str, int]()
    judge.take(rows)
    for _, stream, version, *_ in rows:
        if version != versions.get(stream, 0) + 1:
            return False
        versions[stream] = version
    return judge.found == 0


def _in_halves(rows: list[Row], cut: int) -> bool:
    one = Half(0, genesis("log-1"), marks={}, streams={}, carried={})
    two = Half(cut, rows[cut - 1][-1], marks={}, streams=None, carried={})
    one.take(rows[:cut])
    two.take(rows[cut:])
    whole = one.followed_by(two.later())
    if whole:
        judge = Judge({})
        judge.take(rows)
        assert one.judge is not None
        assert {**one.judge.open, **two.later().open} == judge.open
    return whole


@pytest.mark.parametrize("part", range(7))
async def test_a_half_whose_rows_do_not_fit_is_not_sound(tmp_path: Path, part: int) -> None:
    rows = await _rows(tmp_path)
    others = [(0, 3), (1, "another"), (2, 9), (3, "issue.detected.v9"), (5, b"{}"), (5, 5)]
    row = list(rows[1])
    column, value = [*others, (6, bytes(32))][part]
    row[column] = value
    half = Half(0, genesis("log-1"), marks={}, streams={}, carried={})
    assert half.take(rows[:1])
    assert not half.take([tuple(row)])  # type: ignore[list-item]
    assert not half.sound


async def test_a_half_is_what_was_signed(tmp_path: Path) -> None:
    rows = await _rows(tmp_path)
    for head, sound in ((rows[4][-1], True), (bytes(32), False)):
        half = Half(0, genesis("log-1"), marks={5: [head]}, streams={}, carried={})
        assert half.take(rows) is sound


async def test_two_processes_look_at_a_sound_log_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise they would find nothing, and cost more than one."""
    file = tmp_path / "log.db"
    await write(file, a_day().facts)
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(Walk, "_follow", None)
    report = verify(file, beside=1, on_progress=lambda *done: seen.append(done))
    assert report.ok
    assert report == replace(report, events=seen[-1][1])
    assert seen[-1][0] == seen[-1][1]


class _Deadly:
    def __reduce__(self) -> tuple[Callable[[int], None], tuple[int]]:
        return os._exit, (1,)


async def test_a_process_that_dies_has_found_nothing(tmp_path: Path) -> None:
    file = tmp_path / "log.db"
    await write(file, a_day().facts)
    with second_half(partial(FileArchive, file)) as second:
        second.begin((5, _Deadly()), until=9, marks={}, deep=True)  # type: ignore[arg-type]
        assert second.result() == Later(sound=False)
        second.begin((5, bytes(32)), until=9, marks={}, deep=True)
        assert second.result() == Later(sound=False)


# --- what a half leaves to the other -------------------------------------------------------------


def _first(rows: list[Row], **known: Any) -> Half:
    return Half(0, genesis("log-1"), **{"marks": {}, "streams": {}, "carried": {}, **known})


def _second(rows: list[Row], cut: int, **known: Any) -> Half:
    known = {"marks": {}, "streams": None, "carried": {}, **known}
    return Half(cut, rows[cut - 1][-1], **known)


def _tale() -> list[Row]:
    log = Log()
    first = log.detect("a").diagnose(complete=False)
    log.detect("b")
    log.adopt()
    log.detect("c").fail()
    first.escalate().fail()
    return rows_of(log.facts)


def test_the_later_half_leaves_what_it_cannot_judge() -> None:
    rows = _tale()
    left = Later(
        sound=True,
        position=len(rows),
        events=len(rows) - 3,
        began=frozenset({"issue-0002", "component:chat_api", "issue-0003"}),
        others=rows[-2:],
        first={"b": 4, "c": 6},
        open={"issue-0002": "b"},
    )
    half = _second(rows, 3)
    for row in rows[3:]:
        assert half.take([row])
    assert half.later() == left
    half = _second(rows, 3, carried=None)
    assert half.take(rows[3:])
    assert half.later() == replace(left, first={}, open={})


def test_what_the_earlier_half_knew_is_gone_on_with() -> None:
    """Streams and issues of which archives told."""
    rows = _tale()
    half = _second(rows, 3, streams={"issue-0001": 3}, carried={"issue-0001": "a"})
    assert half.take(rows[3:])
    assert half.later().others == []
    assert half.judge is not None
    assert half.judge.open == {"issue-0002": "b"}
    assert not _second(rows, 3, streams={"issue-0001": 2}).take(rows[3:])
    assert not _second(rows, 3, streams={}).take(rows[3:])


def test_a_half_that_is_not_sound_never_is_again() -> None:
    rows = _tale()
    half = _first(rows)
    assert half.take(rows[:2])
    assert not half.take(rows[3:])
    assert half.position == 2
    assert not half.take(rows[2:])
    assert not half.later().sound
    assert not half.followed_by(_second(rows, 2).later())


def test_every_signature_of_a_size_counts() -> None:
    rows = _tale()
    right, wrong = rows[2][-1], bytes(32)
    for heads, sound in (([right, right], True), ([right, wrong], False), ([wrong, right], False)):
        assert _first(rows, marks={3: heads}).take(rows) is sound


@pytest.mark.parametrize("again", [3, 4, 5, 6])
def test_until_its_issue_has_ended_a_component_has_no_other(again: int) -> None:
    """Ended and detected again behind the seam: in which order only both halves together know."""
    log = Log()
    first, other = log.detect("a"), log.detect("b")
    told = [first.escalate, first.fail, other.escalate, other.fail]
    told.insert(again - 3, partial(log.detect, "a"))
    for fact in told:
        fact()
    rows = rows_of(log.facts)
    half, later = _first(rows), _second(rows, 2)
    assert half.take(rows[:2])
    assert later.take(rows[2:])
    assert half.followed_by(later.later()) is (again > 4)
    assert _in_order(rows) is (again > 4)


# --- the process ---------------------------------------------------------------------------------


@pytest.fixture
def here() -> Iterator[None]:
    """In this process what belongs into one of its own."""
    yield
    gc.enable()


def _asked(
    log: MemoryArchive, *, marks: dict[int, list[bytes]] | None = None, deep: bool = True
) -> Later:
    seam, end = log.stored[9], log.stored[24][0]
    ours, theirs = Pipe()
    with ours, theirs:
        ours.send(((seam[0], seam[-1]), end, marks or {}, deep))
        answer(log.again(), theirs)
        assert ours.recv() is None
        found: Later = ours.recv()
    return found


def _log() -> MemoryArchive:
    log = sealed(a_day().facts)
    log.batch = 4
    return log


def test_the_process_begins_before_it_is_asked_and_ends_with_its_context(until: Until) -> None:
    before = set(active_children())
    with second_half(_log().again()) as second:
        (process,) = set(active_children()) - before
        until(lambda: second.ready, 60)
        assert process.daemon  # where the context has no end, the program has one
    assert process.exitcode == -SIGKILL


def test_the_process_has_nothing_open_of_what_is_open_here(until: Until) -> None:
    """No log, no lock, no socket: neither would it end with this one."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", 0) as end, second_half(_log().again()) as second:
        until(lambda: second.ready, 60)
        os.close(writing)
        os.set_blocking(reading, False)
        assert end.read() == b""


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("deep", [True, False])
def test_the_process_looks_at_what_it_was_asked_to(*, deep: bool) -> None:
    log = _log()
    half = _second(log.stored, 10, carried={} if deep else None)
    assert half.take(log.stored[10:25])
    marks = {10: [bytes(32)], 15: [log.stored[14][-1]], 26: [bytes(32)]}
    assert _asked(log, marks=marks, deep=deep) == half.later()


@pytest.mark.usefixtures("here")
def test_the_process_says_when_it_finds_something_and_not_what() -> None:
    log = _log()
    assert _asked(log, marks={15: [bytes(32)]}) == Later(sound=False)
    log.put(24, body=b"{}", link_it=True)
    assert _asked(log) == Later(sound=False)
    assert _asked(log, deep=False).sound
    log.put(18, hash=bytes(32))
    assert _asked(log, deep=False) == Later(sound=False)
    log.damaged = 15
    assert _asked(log, deep=False) == Later(sound=False)
