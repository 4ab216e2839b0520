"""What a verifier says of a log that was harmed: each problem, in order, to the letter."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from healer.domain.events import EVENT_TYPES
from healer.store.chain import genesis
from healer.store.checkpoint import Stretch
from healer.store.codec import Codec
from healer.store.cold import Segment
from replay import walk
from replay.halves import Again, Half, Later, Marks
from replay.judge import KEPT
from replay.seal import UNSIGNED
from replay.verify import Report, verify
from tests.projections.build import Log
from tests.replay.on_disk import a_day
from tests.replay.sealed import KEY, LOG_ID, MemoryArchive, Notes, head, public, sealed

Told = tuple[int, str, str, str]

EVENTS = len(a_day().facts)
NOT_FOLLOWING = "it does not match its hash, or does not follow from the one before"


@pytest.fixture
def log() -> MemoryArchive:
    """A day's log, signed after each ten events and at its end."""
    return sealed(a_day().facts, table={"chat_api": "issue-0003"})


class Beside:
    """The second half, looked at in this process."""

    asked: ClassVar[list[tuple[tuple[int, bytes], int, bool]]] = []
    begun: ClassVar[int] = 0
    busy: ClassVar[int] = 0
    """How many times it is not ready yet when it is asked."""

    def __init__(self, again: Again) -> None:
        type(self).begun += 1
        self._again = again
        self._later = Later(sound=False)
        self._busy = self.busy

    @property
    def ready(self) -> bool:
        self._busy -= 1
        return self._busy < 0

    def begin(self, seam: tuple[int, bytes], *, until: int, marks: Marks, deep: bool) -> None:
        self.asked.append((seam, until, deep))
        half = Half(*seam, marks=marks, streams=None, carried={} if deep else None)
        with self._again() as archive:
            if all(half.take(rows) for rows in archive.rows(after=seam[0], until=until)):
                self._later = half.later()

    def result(self) -> Later:
        return self._later

    def __enter__(self) -> Beside:
        return self

    def __exit__(self, *_error: object) -> None:
        pass


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> type[Beside]:
    monkeypatch.setattr(walk, "second_half", Beside)
    monkeypatch.setattr(Beside, "asked", [])
    monkeypatch.setattr(Beside, "begun", 0)
    return Beside


def told(report: Report) -> list[Told]:
    return [(each.position, each.event_id, each.code, each.message) for each in report.problems]


def event(position: int, code: str, why: str, event_id: str = "") -> Told:
    return position, event_id, code, f"cannot accept event {position}: {why}"


def name_of(log: MemoryArchive, position: int) -> str:
    row = next(row for row in log.stored if row[0] == position)
    return f"{row[1]}/{row[2]}"


def test_a_log_that_nobody_touched_is_whole(log: MemoryArchive) -> None:
    heard: list[tuple[int, int]] = []
    report = verify(replace(log, batch=12), on_progress=lambda *done: heard.append(done))
    assert report == Report(
        ok=True,
        first_problem=None,
        problems=[],
        events=EVENTS,
        checkpoints=len(log.signed),
        witnessed=None,
        found=0,
        log_id=LOG_ID,
        public_key=public(KEY).hex(),
        pinned=False,
        deep=True,
        unseen=0,
    )
    assert heard == [(done, EVENTS) for done in (0, 12, 24, EVENTS)]
    assert replace(report, deep=False) == verify(log, deep=False)
    assert report.view()["public_key"] == public(KEY).hex()


def test_a_log_is_told_with_what_was_known_of_it(log: MemoryArchive, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    witness.write_text("".join(f"{json.dumps(note)}\n" for note in log.signed[1:3]))
    report = verify(log, witness=witness)
    assert (report.ok, report.witnessed, report.pinned) == (True, 20, True)
    report = verify(log, public_key=public(KEY).hex().upper(), log_id=LOG_ID)
    assert (report.ok, report.witnessed, report.pinned) == (True, None, True)
    assert report.public_key == public(KEY).hex()


# --- rows ----------------------------------------------------------------------------------------


def edited(log: MemoryArchive) -> list[Told]:
    log.put(12, topic="x")
    return [event(12, "hash", NOT_FOLLOWING, name_of(log, 12))]


def edited_twice(log: MemoryArchive) -> list[Told]:
    log.put(12, topic="x")
    log.put(14, topic="x")
    return [event(at, "hash", NOT_FOLLOWING, name_of(log, at)) for at in (12, 14)]


def edited_at_a_checkpoint(log: MemoryArchive) -> list[Told]:
    """Its hash is what was signed: the one that was stored is gone on with."""
    log.put(20, topic="x")
    return [event(20, "hash", NOT_FOLLOWING, name_of(log, 20))]


def hashed_anew(log: MemoryArchive) -> list[Told]:
    log.put(12, topic="x", link_it=True)
    why = "one of the events 11 to 20 is not the one that a checkpoint covers"
    return [event(20, "not_signed", why)]


def hashed_anew_from_the_start(log: MemoryArchive) -> list[Told]:
    log.put(1, topic="x", link_it=True)
    why = "one of the events 1 to 10 is not the one that a checkpoint covers"
    return [event(10, "not_signed", why)]


def missing(log: MemoryArchive) -> list[Told]:
    stream, version = log.stored[11][1:3]
    del log.stored[11]
    after = next(row for row in log.stored[11:] if row[1] == stream)
    why = f"its stream {stream} stood at {version - 1}, so {version} is next"
    return [
        event(12, "missing", "it is missing; event 13 is next"),
        event(after[0], "gap", why, f"{stream}/{version + 1}"),
    ]


def two_are_missing(log: MemoryArchive) -> list[Told]:
    """Twice, and one of them at a checkpoint: which is not compared then."""
    for each in log.stored:
        log.put(each[0], stream=f"s{each[0]}", version=1)
    log.put(1, link_it=True)
    log.seal()
    del log.stored[19], log.stored[11]
    return [
        event(12, "missing", "it is missing; event 13 is next"),
        event(20, "missing", "it is missing; event 21 is next"),
    ]


def twice(log: MemoryArchive) -> list[Told]:
    log.stored.insert(12, log.stored[11])
    stream, version = log.stored[11][1:3]
    why = f"its stream {stream} stood at {version}, so {version + 1} is next"
    return [
        event(12, "gap", why, f"{stream}/{version}"),
        event(13, "missing", "it is missing; event 12 is next"),
    ]


def a_stream_from_its_middle(log: MemoryArchive) -> list[Told]:
    log.put(12, stream="x", version=7, link_it=True)
    log.seal()
    stream, version = sealed(a_day().facts).stored[11][1:3]
    after = next(row for row in log.stored[12:] if row[1] == stream)
    why = f"its stream {stream} stood at {version - 1}, so {version} is next"
    return [
        event(12, "gap", "its stream x stood at 0, so 1 is next", "x/7"),
        event(after[0], "gap", why, f"{stream}/{version + 1}"),
    ]


def a_stream_without_its_first(log: MemoryArchive) -> list[Told]:
    log.put(14, stream="x", version=2, link_it=True)
    log.seal()
    return [event(14, "gap", "its stream x stood at 0, so 1 is next", "x/2")]


def cut_off(log: MemoryArchive) -> list[Told]:
    del log.stored[-2:]
    gone = EVENTS - 1
    return [
        event(gone, "cut_off", f"it is missing: the store has given out positions up to {EVENTS}"),
        event(gone, "cut_off", f"it is missing: a checkpoint was signed up to {EVENTS}"),
    ]


def given_out(log: MemoryArchive) -> list[Told]:
    log.given = EVENTS + 1
    why = f"it is missing: the store has given out positions up to {EVENTS + 1}"
    return [event(EVENTS + 1, "cut_off", why)]


def no_rows(log: MemoryArchive) -> list[Told]:
    log.put(12, body=5)
    why = "its columns are not what a log keeps in them: object of type 'int' has no len()"
    return [event(12, "damaged", why)]


def damaged(log: MemoryArchive) -> list[Told]:
    """What lies behind it is not said to be cut off."""
    log.batch, log.damaged = 4, 12
    return [event(12, "damaged", "cannot read the log: database disk image is malformed")]


ROWS: list[Callable[[MemoryArchive], list[Told]]] = [
    edited,
    edited_twice,
    edited_at_a_checkpoint,
    hashed_anew,
    hashed_anew_from_the_start,
    missing,
    two_are_missing,
    twice,
    a_stream_from_its_middle,
    a_stream_without_its_first,
    cut_off,
    given_out,
    no_rows,
    damaged,
]


@pytest.mark.parametrize("harm", ROWS, ids=lambda harm: harm.__name__)
def test_harm_to_rows_is_told(log: MemoryArchive, harm: Callable[[MemoryArchive], Any]) -> None:
    expected = harm(log)
    report = verify(log, deep=False)
    assert told(report) == expected
    assert report.found == len(expected)
    assert report.first_problem == expected[0][3]
    assert not report.ok


def test_so_many_events_as_could_be_read_are_counted(log: MemoryArchive) -> None:
    damaged(log)
    assert verify(log).events == 11
    no_rows(log)
    assert verify(replace(log, damaged=None), deep=False).events == 8


def test_where_a_log_is_damaged_what_was_seen_until_then_is_told(log: MemoryArchive) -> None:
    """Its hashes, and what its events say."""
    log.put(2, version=9)
    log.put(3, body=b"{}", link_it=True)
    log.batch, log.damaged = 4, 12
    codes = [(each.position, each.code) for each in verify(log).problems]
    assert codes[0] == (2, "gap")
    assert (3, "unreadable") in codes
    assert (12, "damaged") in codes


def test_hundreds_of_problems_are_counted_and_the_first_are_told(log: MemoryArchive) -> None:
    issue = Log().detect()
    for _ in range(KEPT + 30):
        issue.remediate()
    log = sealed(issue.log.facts, table={"chat_api": issue.id}).seal(50)
    report = verify(log)
    assert (len(report.problems), report.found) == (KEPT, KEPT + 30)
    for at in (3, 4, 5):
        log.put(at, hash=bytes(32))
    report = verify(log)
    assert (len(report.problems), report.found) == (KEPT, KEPT + 30 + 4)


# --- names ---------------------------------------------------------------------------------------


def test_another_log_is_named(log: MemoryArchive) -> None:
    report = verify(log, log_id="log-2")
    assert told(report)[0] == (
        0,
        "",
        "another_log",
        "cannot accept the log: it calls itself 'log-1'; 'log-2' is expected",
    )
    of_another = [each for each in report.problems if each.code == "checkpoint_of_another_log"]
    assert len(of_another) == len(log.signed)
    assert (1, "not_signed", True) in [
        (each.position, each.code, "it would not follow from the name" in each.message)
        for each in report.problems
    ]


def test_a_first_checkpoint_of_another_name_is_told_once(log: MemoryArchive) -> None:
    log.signed = Notes().say(0).say(10).say(20).say(EVENTS, head=log.stored[-1][-1])
    why = "it would not follow from the name of the log that a checkpoint covers"
    assert told(verify(log)) == [event(1, "not_signed", why)]


# --- checkpoints ---------------------------------------------------------------------------------


def test_after_one_that_was_not_signed_the_others_are_not_compared(log: MemoryArchive) -> None:
    log.put(12, topic="x", link_it=True)
    log.put(25, topic="y", link_it=True)
    assert told(verify(log, deep=False)) == [
        event(
            20, "not_signed", "one of the events 11 to 20 is not the one that a checkpoint covers"
        )
    ]


def test_one_that_cannot_be_read_is_told_with_the_rest(log: MemoryArchive) -> None:
    log.signed.append("x")
    log.put(12, topic="x")
    assert [(each.position, each.code) for each in verify(log, deep=False).problems] == [
        (12, "hash"),
        (EVENTS, "checkpoint_unreadable"),
    ]


def test_a_log_that_was_never_signed_is_not_believed(log: MemoryArchive) -> None:
    log.signed = Notes()
    why = "no checkpoint was ever signed of it, or they were taken away"
    report = verify(log)
    assert told(report) == [(0, "", "unsigned", f"cannot accept the log: {why}")]
    assert (report.public_key, report.checkpoints) == (None, 0)


def test_an_empty_log_is_whole_when_it_was_signed() -> None:
    empty = sealed([])
    assert told(verify(empty)) == []
    empty.signed = Notes()
    assert [each.code for each in verify(empty).problems] == ["unsigned"]


@pytest.mark.parametrize("behind", [UNSIGNED, UNSIGNED + 1])
def test_so_many_events_at_the_end_need_no_signature(behind: int) -> None:
    tale = Log()
    for _ in range(behind + 3):
        tale.adopt()
    log = sealed(tale.facts)
    log.signed = Notes().say(0, head=genesis(LOG_ID)).say(3, head=log.stored[2][-1])
    found = told(verify(log))
    why = (
        f"no checkpoint covers the {behind} events from here to the end; at most {UNSIGNED} may be"
    )
    assert UNSIGNED == 200
    assert found == ([] if behind == UNSIGNED else [event(4, "unsigned", why)])


# --- the witness ---------------------------------------------------------------------------------


def witnessed(log: MemoryArchive, directory: Path, *notes: str) -> Report:
    witness = directory / "witness"
    witness.write_text("".join(f"{json.dumps(note)}\n" for note in notes))
    return verify(log, witness=witness, deep=False)


def unseen(position: int, count: int, size: int) -> Told:
    why = f"the witness has {count} checkpoints, up to {size}, that it has not"
    return position, "", "unseen", f"cannot accept the log: {why}"


def test_what_only_the_witness_saw_is_missed(log: MemoryArchive, tmp_path: Path) -> None:
    theirs = Notes(log.signed).say(EVENTS + 4).say(EVENTS + 2)
    report = witnessed(log, tmp_path, *theirs)
    assert told(report) == [
        event(EVENTS + 1, "cut_off", f"it is missing: the witness saw up to {EVENTS + 4}"),
        unseen(EVENTS + 1, 2, EVENTS + 4),
    ]
    assert report.witnessed == EVENTS + 4


def test_where_the_witness_saw_other_events_is_told(log: MemoryArchive, tmp_path: Path) -> None:
    """The log was written anew from its eighth event on, and all of it signed again."""
    theirs = list(log.signed)
    log.put(8, topic="x", link_it=True)
    log.seal(5)
    report = witnessed(log, tmp_path, *theirs)
    assert told(report) == [
        event(10, "not_signed", "one of the events 1 to 10 is not the one that the witness covers"),
        unseen(EVENTS, len(theirs) - 1, EVENTS),
    ]


def test_a_witness_of_another_name_is_told(log: MemoryArchive, tmp_path: Path) -> None:
    [theirs] = Notes().say(0)
    why = "it would not follow from the name of the log that the witness covers"
    assert told(witnessed(log, tmp_path, theirs)) == [
        unseen(0, 1, 0),
        event(1, "not_signed", why),
    ]


def test_a_witness_that_says_nothing_or_nonsense_is_told(
    log: MemoryArchive, tmp_path: Path
) -> None:
    witness = tmp_path / "witness"
    report = witnessed(log, tmp_path, "x")
    assert told(report) == [
        (
            0,
            "",
            "witness_unreadable",
            f"cannot accept line 1 of the witness {witness}: "
            "cannot read a checkpoint: 'x' is not one",
        ),
        (0, "", "witness_empty", f"cannot trust log-1: the witness {witness} has no checkpoint"),
    ]
    assert (report.witnessed, report.pinned) == (None, False)


def test_what_events_say_is_read_by_the_codec_that_was_given(log: MemoryArchive) -> None:
    topic = log.stored[4][3]
    log.put(5, topic="issue.found.v1", link_it=True)
    log.seal()
    assert verify(log, codec=Codec(upcasters={"issue.found.v1": lambda body: (topic, body)})).ok
    first = verify(log).problems[0]
    assert (first.position, first.code) == (5, "unreadable")


# --- claims --------------------------------------------------------------------------------------


def claim(component: str, ours: str | None, theirs: str | None) -> Told:
    why = f"its open issue is {ours} by the log and {theirs} by the table of open issues"
    return EVENTS, "", "claim", f"cannot accept the claim of {component!r}: {why}"


@pytest.mark.parametrize("two", [True, False])
@pytest.mark.usefixtures("beside")
def test_a_claim_that_the_log_does_not_know_is_told(log: MemoryArchive, *, two: bool) -> None:
    log.table = {"z": "issue-0009", "a": "issue-0008"}
    assert told(verify(log, beside=1 if two else EVENTS + 1)) == [
        claim("a", None, "issue-0008"),
        claim("chat_api", "issue-0003", None),
        claim("z", None, "issue-0009"),
    ]
    assert verify(log, deep=False).ok


# --- archives ------------------------------------------------------------------------------------


def archived(log: MemoryArchive, *lasts: int) -> MemoryArchive:
    """The log with its beginning moved away, in stretches that end at `lasts`, and not here."""
    log.signed, first = Notes(log.signed[:2]), 1
    segments = []
    for last in lasts:
        root = log.stored[last - 1][-1]
        moved = Stretch(first, last, root, head(last))
        log.signed.say(EVENTS, head=log.stored[-1][-1], archived=moved)
        segments.append(Segment(first, last, root, head(last), Path("nowhere")))
        first = last + 1
    streams = {stream: version for _, stream, version, *_ in log.stored[: lasts[-1]]}
    return replace(
        log,
        segments=segments,
        absent=lasts[-1],
        stored=log.stored[lasts[-1] :],
        streams=streams,
        carried={"issue-0001": "chat_api"} if lasts[-1] in range(5, 17) else {},
    )


@pytest.mark.parametrize("lasts", [(12,), (7, 12)])
@pytest.mark.parametrize("two", [True, False])
@pytest.mark.usefixtures("beside")
def test_what_was_signed_stands_for_archives_that_are_elsewhere(
    log: MemoryArchive, lasts: tuple[int, ...], *, two: bool
) -> None:
    heard: list[tuple[int, int]] = []
    log = archived(log, *lasts)
    least = 1 if two else EVENTS + 1
    report = verify(log, beside=least, on_progress=lambda *done: heard.append(done))
    assert told(report) == []
    assert (report.events, report.unseen) == (EVENTS - 12, 12)
    if not two:
        assert heard == [(12, EVENTS), (EVENTS, EVENTS)]


def test_an_account_of_archives_that_was_not_signed_is_told(log: MemoryArchive) -> None:
    table = "cannot accept its table of archives: it says that"
    log = archived(log, 7, 12)
    moved = replace(log, segments=log.segments[1:])
    assert told(verify(moved)) == [
        (0, "", "archive", f"{table} 8 to 12 were archived; 1 to 7, 8 to 12 is signed"),
    ]
    for part in ({"first": 7}, {"last": 11}, {"head": bytes(32)}, {"digest": bytes(32)}):
        forged = replace(log, segments=[log.segments[0], log.segments[1]._replace(**part)])
        assert [each.code for each in verify(forged).problems] == ["archive"]
    log.signed = Notes(log.signed[:2]).say(EVENTS, head=log.stored[-1][-1])
    assert told(verify(log)) == [
        (0, "", "archive", f"{table} 1 to 7, 8 to 12 were archived; nothing is signed"),
        event(13, "hash", NOT_FOLLOWING, name_of(log, 13)),
    ]


def test_what_stands_in_no_archive_is_missed(log: MemoryArchive) -> None:
    """The table says that nothing was archived, and the events are gone."""
    log = archived(log, 7)
    log = replace(log, segments=[], absent=0, streams={}, carried={})
    found = told(verify(log, deep=False))
    assert found[0] == (
        0,
        "",
        "archive",
        "cannot accept its table of archives: it says that nothing were archived; 1 to 7 is signed",
    )
    assert event(1, "missing", "it is missing; event 8 is next") in found


# --- by two --------------------------------------------------------------------------------------


def test_from_so_many_events_on_two_look(log: MemoryArchive, beside: type[Beside]) -> None:
    verify(log, beside=EVENTS + 1)
    verify(log, beside=1, codec=Codec(EVENT_TYPES))
    verify(log)
    assert beside.begun == 0
    verify(log, beside=EVENTS)
    assert beside.begun == 1
    elsewhere = archived(log, 12)
    verify(elsewhere, beside=EVENTS - 11)
    assert beside.begun == 1
    verify(elsewhere, beside=EVENTS - 12)
    assert beside.begun == 2


@pytest.mark.parametrize("deep", [True, False])
def test_two_look_at_a_half_each(log: MemoryArchive, beside: type[Beside], *, deep: bool) -> None:
    heard: list[tuple[int, int]] = []
    log.batch = 5
    alone = verify(log, deep=deep)
    report = verify(log, deep=deep, beside=1, on_progress=lambda *done: heard.append(done))
    assert report == alone
    assert report.ok
    middle = EVENTS // 2
    assert beside.asked == [((middle, log.stored[middle - 1][-1]), EVENTS, deep)]
    assert heard == [
        (min(done, EVENTS), EVENTS) for done in (*range(10, 2 * middle, 10), 2 * middle, EVENTS)
    ]


@pytest.mark.parametrize("busy", range(EVENTS // 4 + 2))
def test_what_is_left_is_shared_when_the_second_one_is_ready(
    log: MemoryArchive, beside: type[Beside], monkeypatch: pytest.MonkeyPatch, busy: int
) -> None:
    """It may never be. Who asks for two where that is to be expected gets them all the same."""
    heard: list[tuple[int, int]] = []
    log.batch = 4
    monkeypatch.setattr(beside, "busy", busy)
    monkeypatch.setattr(walk, "BESIDE", EVENTS)
    report = verify(log, beside=1, on_progress=lambda *done: heard.append(done))
    assert report == verify(log)
    done = 4 * busy
    assert [seam for (seam, _), _, _ in beside.asked] == [(done + EVENTS) // 2] * (done < EVENTS)
    assert heard == sorted(heard)
    assert heard[:busy] == [(min(at, EVENTS), EVENTS) for at in range(4, done + 1, 4)]
    assert (0, EVENTS) not in heard  # so says who looks at all of it
    monkeypatch.setattr(walk, "BESIDE", EVENTS + 1)
    assert verify(log, beside=1) == report
    assert beside.asked[-1][0][0] == EVENTS // 2


@pytest.mark.parametrize("busy", range(EVENTS // 4 + 2))
@pytest.mark.parametrize("harm", ROWS, ids=lambda harm: harm.__name__)
def test_harm_is_told_whenever_the_second_one_is_ready(
    log: MemoryArchive,
    beside: type[Beside],
    monkeypatch: pytest.MonkeyPatch,
    harm: Callable[[MemoryArchive], Any],
    busy: int,
) -> None:
    harm(log)
    log.batch = 4
    monkeypatch.setattr(beside, "busy", busy)
    monkeypatch.setattr(walk, "BESIDE", EVENTS)
    assert verify(log, beside=1) == verify(log)


@pytest.mark.usefixtures("beside")
def test_two_do_not_look_at_what_events_say_where_nobody_asked(log: MemoryArchive) -> None:
    heard: list[tuple[int, int]] = []
    log.put(3, body=b"{}", link_it=True)
    log.seal()
    report = verify(log, deep=False, beside=1, on_progress=lambda *done: heard.append(done))
    assert told(report) == []
    assert (0, EVENTS) not in heard  # so says who looks at all of it


def test_two_look_at_what_is_not_elsewhere(log: MemoryArchive, beside: type[Beside]) -> None:
    heard: list[tuple[int, int]] = []
    log = archived(log, 12)
    log.batch = 5
    report = verify(log, beside=1, on_progress=lambda *done: heard.append(done))
    assert told(report) == []
    assert report.events == EVENTS - 12
    [((seam, _), _, _)] = beside.asked
    assert seam == (12 + EVENTS) // 2
    assert heard[0] == (12 + 2 * 5, EVENTS)
    assert heard[-1] == (EVENTS, EVENTS)


@pytest.mark.parametrize("least", [EVENTS - 12, EVENTS - 11])
def test_what_is_elsewhere_makes_no_log_long(
    log: MemoryArchive, beside: type[Beside], monkeypatch: pytest.MonkeyPatch, least: int
) -> None:
    """Nobody waits for the second one where what is here ends before it is ready."""
    monkeypatch.setattr(beside, "busy", EVENTS)
    monkeypatch.setattr(walk, "BESIDE", least)
    verify(archived(log, 12), beside=1)
    assert len(beside.asked) == (least > EVENTS - 12)


@pytest.mark.parametrize("at", [0, EVENTS, None])
def test_a_log_that_cannot_be_cut_is_looked_at_by_one(
    log: MemoryArchive, beside: type[Beside], at: int | None
) -> None:
    log.cut = None if at is None else (at, log.stored[at - 1][-1])
    heard: list[tuple[int, int]] = []
    report = verify(log, beside=1, on_progress=lambda *done: heard.append(done))
    assert told(report) == []
    assert report.events == EVENTS
    assert (beside.begun, beside.asked) == (1, [])
    assert (0, EVENTS) not in heard  # so says who looks at all of it again


@pytest.mark.parametrize("harm", ROWS, ids=lambda harm: harm.__name__)
@pytest.mark.usefixtures("beside")
def test_two_tell_of_harm_what_one_tells(
    log: MemoryArchive, harm: Callable[[MemoryArchive], Any]
) -> None:
    harm(log)
    for deep in (True, False):
        assert verify(log, beside=1, deep=deep) == verify(log, deep=deep)


def test_what_the_second_one_finds_is_told(log: MemoryArchive, beside: type[Beside]) -> None:
    """And what it did not see is not taken for seen."""
    log.put(EVENTS - 1, topic="x")
    report = verify(log, beside=1, deep=False)
    assert told(report) == [event(EVENTS - 1, "hash", NOT_FOLLOWING, name_of(log, EVENTS - 1))]
    assert len(beside.asked) == 1


def test_a_half_without_its_end_is_not_believed(
    log: MemoryArchive, beside: type[Beside], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says that it is sound, and saw less than it was asked to."""
    report = verify(log)
    real = beside.result
    monkeypatch.setattr(
        beside, "result", lambda self: replace(real(self), position=EVENTS - 1, events=3)
    )
    assert verify(log, beside=1) == report


def test_what_the_witness_saw_in_the_second_half_is_compared(
    log: MemoryArchive, tmp_path: Path, beside: type[Beside]
) -> None:
    theirs = list(log.signed)
    log.put(EVENTS - 2, topic="x", link_it=True)
    log.seal()
    witness = tmp_path / "witness"
    witness.write_text("".join(f"{json.dumps(note)}\n" for note in theirs))
    report = verify(log, witness=witness, deep=False, beside=1)
    assert [each.code for each in report.problems] == ["not_signed", "unseen"]
    assert len(beside.asked) == 1


def test_a_witness_and_a_checkpoint_may_say_the_same(log: MemoryArchive, tmp_path: Path) -> None:
    """What the witness alone has and the log keeps to is missed, and not contradicted."""
    theirs = log.signed[2].replace("time 2026", "time 2027")
    report = witnessed(log, tmp_path, theirs)
    assert told(report) == [unseen(20, 1, 20)]
