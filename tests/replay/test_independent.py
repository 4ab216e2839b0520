"""What the second verifier says, to the letter, and what it takes for a signature."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sys
from collections.abc import Callable
from hashlib import sha512
from pathlib import Path

import pytest

from healer.store.chain import genesis
from healer.store.checkpoint import Stretch
from replay import independent
from replay.independent import ORDER, P, examine, point_of, signed, times
from tests.projections.build import Log
from tests.replay.on_disk import a_day, write
from tests.replay.sealed import KEY, LOG_ID, STRANGER, MemoryArchive, Notes, head, public, sealed
from tests.replay.tamper import Break, sql

OURS, THEIRS = public(KEY).hex(), public(STRANGER).hex()
EVENTS = len(a_day().facts)


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("empty") / "log.db"
    asyncio.run(write(file, []))
    return file


class Stored:
    """A log in memory, and the file that it is put into before it is looked at."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.log = sealed(a_day().facts)
        self.witness = file.with_name("witness")

    def write(self) -> None:
        there = Break(self.file)
        there.rows = self.log.stored  # type: ignore[assignment]
        there.notes = list(self.log.signed)
        there.write()

    def examined(
        self, *statements: str, witness: str | None = None, key: str | None = None
    ) -> list[str]:
        self.write()
        sql(self.file, *statements)
        if witness is not None:
            self.witness.write_text(witness)
        return examine(self.file, None if witness is None else self.witness, key)


@pytest.fixture
def log(empty: Path, tmp_path: Path) -> Stored:
    return Stored(Path(shutil.copy(empty, tmp_path / "log.db")))


def lines(*notes: str) -> str:
    return "".join(f"{json.dumps(note)}\n" for note in notes)


def test_a_log_that_nobody_touched_is_whole(log: Stored) -> None:
    told = lines(*log.log.signed)
    for key in (None, OURS, OURS.upper()):
        assert log.examined(key=key) == []
        assert log.examined(key=key, witness=told) == []
    # What a crash cut off, in the middle and at the end.
    assert log.examined(witness=f"{told[:50]}\n\n{told}{told[:70]}") == []


def test_a_log_whose_key_changed_is_whole(log: Stored) -> None:
    heads = [row[-1] for row in log.log.stored]
    ours, theirs = public(KEY), public(STRANGER)
    log.log.signed = (
        Notes()
        .say(3, head=heads[2], successor=theirs)
        .say(5, by=STRANGER, head=heads[4], epoch=2, key=theirs, successor=ours)
        .say(EVENTS, head=heads[-1], epoch=3)
    )
    assert log.examined(key=OURS) == []
    assert log.examined(key=THEIRS) == [
        "checkpoint of 3 is not of epoch 1",
        f"checkpoint of 3 is not signed by {THEIRS}",
    ]


# --- checkpoints ---------------------------------------------------------------------------------


def forged(note: str) -> str:
    return note.replace("time 2026", "time 2027")


def with_genesis() -> Notes:
    return Notes().say(0, head=genesis(LOG_ID))


SAID: dict[str, tuple[Notes, list[str]]] = {
    "none": (Notes(), ["there is no checkpoint at the end that any key signed"]),
    "out of order": (
        with_genesis().say(3, previous=head(1)),
        ["checkpoint of 3 does not follow from the one before"],
    ),
    "the first names another": (
        Notes().say(3, previous=head(1)),
        ["checkpoint of 3 does not follow from the one before"],
    ),
    "shorter": (
        with_genesis().say(3).say(2),
        ["checkpoint of 2 does not follow from the one before"],
    ),
    "another epoch": (
        with_genesis().say(3, epoch=2),
        ["checkpoint of 3 is not of epoch 1"],
    ),
    "another key": (
        with_genesis().say(3, key=public(STRANGER)),
        [
            "checkpoint of 3 is not of epoch 1",
            f"there is no checkpoint at the end that {OURS} signed",
        ],
    ),
    "contradicted": (
        with_genesis().say(3).say(3, head=head(9)),
        ["checkpoint of 3 contradicts another"],
    ),
    "contradicted by an archive": (
        with_genesis().say(3).say(4, archived=Stretch(1, 3, head(9), bytes(32))),
        ["checkpoint of 4 contradicts another"],
    ),
    "everything": (
        with_genesis().say(3).say(3, head=head(9), previous=None, epoch=4),
        [
            "checkpoint of 3 does not follow from the one before",
            "checkpoint of 3 is not of epoch 1",
            "checkpoint of 3 contradicts another",
        ],
    ),
    "handed over by another": (
        with_genesis().say(3, by=STRANGER, successor=public(STRANGER)),
        [f"checkpoint of 3 is not signed by {OURS}"],
    ),
    "signed by the one before": (
        with_genesis().say(3, successor=public(STRANGER)).say(3, epoch=2, key=public(STRANGER)),
        [f"there is no checkpoint at the end that {THEIRS} signed"],
    ),
    "of the epoch before": (
        with_genesis().say(3, successor=public(STRANGER)).say(3),
        [
            "checkpoint of 3 is not of epoch 2",
            f"there is no checkpoint at the end that {THEIRS} signed",
        ],
    ),
    "forged at the end": (
        with_genesis().put(forged(with_genesis().say(3)[1])),
        [f"there is no checkpoint at the end that {OURS} signed"],
    ),
    "of another log": (
        with_genesis().say(3, log_id="log-2"),
        [
            "cannot accept the log: a checkpoint is not one, or of another log: "
            f"{with_genesis().say(3, log_id='log-2')[1][:60]!r}"
        ],
    ),
    "nonsense": (
        with_genesis().put("x"),
        ["cannot accept the log: a checkpoint is not one, or of another log: 'x'"],
    ),
    "an empty log with another head": (
        Notes().say(0),
        ["the checkpoint of an empty log has another head"],
    ),
}


@pytest.mark.parametrize("name", SAID)
def test_what_is_wrong_with_checkpoints_is_said(log: Stored, name: str) -> None:
    log.log.signed, expected = SAID[name]
    assert log.examined() == expected


def test_the_signer_is_the_one_that_the_body_names(log: Stored) -> None:
    signed_by = log.log.signed[-1]
    end = [f"there is no checkpoint at the end that {OURS} signed"]
    log.log.signed[-1] = signed_by.replace("\u2014 network-healer/log-1", "\u2014 network-healer/x")
    assert log.examined() == end
    body, _, line = signed_by.partition("\u2014 network-healer/log-1 ")
    other = ("B" if line[0] == "A" else "A") + line[1:]
    log.log.signed[-1] = f"{body}\u2014 network-healer/log-1 {other}"
    assert log.examined() == end


def test_a_name_is_written_as_in_an_address(log: Stored) -> None:
    """What is no letter of a name is percent-encoded, the slash too."""
    log.write()
    sql(log.file, "UPDATE meta SET log_id = 'a/b c'")
    assert examine(log.file)[0].startswith("cannot accept the log: a checkpoint is not one, or of")
    log.log.log_id = "a/b c"
    there = Break(log.file)
    there.recompute()
    there.notes = list(Notes().say(EVENTS, log_id="a/b c", head=there.rows[-1].hash))
    there.write()
    assert examine(log.file) == []


# --- events --------------------------------------------------------------------------------------


def edited(log: MemoryArchive) -> list[str]:
    log.put(12, topic="x")
    _, stream, version, *_ = log.stored[11]
    return [
        f"cannot accept the log: event 12, {stream}/{version}, is not what was stored or signed"
    ]


def hashed_anew(log: MemoryArchive) -> list[str]:
    log.put(12, topic="x", link_it=True)
    _, stream, version, *_ = log.stored[19]
    return [
        f"cannot accept the log: event 20, {stream}/{version}, is not what was stored or signed"
    ]


def missing(log: MemoryArchive) -> list[str]:
    del log.stored[11]
    _, stream, version, *_ = log.stored[11]
    return [f"cannot accept the log: event 12 is missing: 13, {stream}/{version}, is next"]


def gap(log: MemoryArchive) -> list[str]:
    log.put(12, stream="x", version=7, link_it=True)
    log.seal()
    return ["cannot accept the log: event 12 is missing: 12, x/7, is next"]


def begun_late(log: MemoryArchive) -> list[str]:
    log.put(1, stream="x", version=2, link_it=True)
    log.seal()
    return ["cannot accept the log: event 1 is missing: 1, x/2, is next"]


def cut_off(log: MemoryArchive) -> list[str]:
    del log.stored[-2:]
    return [f"event {EVENTS - 1} is missing: the end was cut off"]


@pytest.mark.parametrize(
    "harm",
    [edited, hashed_anew, missing, gap, begun_late, cut_off],
    ids=lambda harm: harm.__name__,
)
def test_what_is_wrong_with_events_is_said(
    log: Stored, harm: Callable[[MemoryArchive], list[str]]
) -> None:
    expected = harm(log.log)
    assert log.examined() == expected


@pytest.mark.parametrize(
    ("given", "whole"), [(EVENTS - 1, True), (EVENTS, True), (EVENTS + 1, False)]
)
def test_what_was_given_out_is_there(log: Stored, given: int, *, whole: bool) -> None:
    said = log.examined(f"UPDATE sqlite_sequence SET seq = {given} WHERE name = 'event'")  # noqa: S608
    assert said == ([] if whole else [f"event {EVENTS + 1} is missing: the end was cut off"])


def test_what_is_no_row_is_said(log: Stored) -> None:
    assert log.examined(
        "CREATE TABLE loose AS SELECT * FROM event",
        "DROP TABLE event",
        "ALTER TABLE loose RENAME TO event",
        "UPDATE event SET body = 5 WHERE position = 12",
    ) == ["cannot accept the log: object of type 'int' has no len()"]


def test_a_log_without_events_is_whole(log: Stored) -> None:
    log.log.stored, log.log.signed = [], with_genesis()
    assert log.examined("DELETE FROM sqlite_sequence") == []


@pytest.mark.parametrize("behind", [200, 201])
def test_so_many_events_at_the_end_need_no_signature(log: Stored, behind: int) -> None:
    tale = Log()
    for _ in range(behind + 3):
        tale.adopt()
    log.log = sealed(tale.facts)
    log.log.signed = with_genesis().say(3, head=log.log.stored[2][-1])
    said = log.examined()
    assert said == ([] if behind == 200 else ["event 4 is missing a signature, as all that follow"])


def test_behind_archives_a_log_begins_at_what_was_signed(
    log: Stored, capsys: pytest.CaptureFixture[str]
) -> None:
    root, end = log.log.stored[11][-1], log.log.stored[-1][-1]
    moved = Stretch(1, 12, root, bytes(32))
    log.log.signed = with_genesis().say(EVENTS, head=end, archived=moved).say(EVENTS, head=end)
    del log.log.stored[:12]
    sequence = f"UPDATE sqlite_sequence SET seq = {EVENTS} WHERE name = 'event'"  # noqa: S608
    assert log.examined(sequence) == []
    assert capsys.readouterr().err == "events 1 to 12 are archived: not looked at\n"
    # A stream may go on from anywhere, and then goes on.
    stream = log.log.stored[0][1]
    again = next(row for row in log.log.stored[1:] if row[1] == stream)
    log.log.put(again[0], version=again[2] + 50)
    said = log.examined(sequence)
    where = f"{again[0]}, {stream}/{again[2] + 50}, is next"
    assert said == [f"cannot accept the log: event {again[0]} is missing: {where}"]
    assert log.examined("DELETE FROM event WHERE position = 13")[0].startswith(
        "cannot accept the log: event 13 is missing: 14, "
    )


# --- the witness ---------------------------------------------------------------------------------


def test_what_only_the_witness_has_is_said(log: Stored) -> None:
    theirs = forged(log.log.signed[0])
    told = lines(theirs, *log.log.signed)
    assert log.examined(witness=told) == [f"only the witness has {json.dumps(theirs)[:60]!r}"]
    assert log.examined(witness="7\nx\n") == [
        "only the witness has '7'",
        "only the witness has 'x'",
    ]


def test_a_witness_that_is_no_text_is_read_all_the_same(log: Stored) -> None:
    log.write()
    log.witness.write_bytes(b"\xff\n")
    assert examine(log.file, log.witness) == ["only the witness has '\ufffd'"]


@pytest.mark.parametrize("text", ["", "\n", '"\n', '"x'])
def test_a_witness_with_nothing_in_it_vouches_for_nothing(log: Stored, text: str) -> None:
    if text == '"\n':
        assert log.examined(witness=text) == ["only the witness has '\"'"]
    else:
        assert log.examined(witness=text) == ["the witness has no checkpoint"]


# --- signatures ----------------------------------------------------------------------------------


def encoded(number: int) -> bytes:
    return number.to_bytes(32, "little")


def test_a_point_has_one_name() -> None:
    assert point_of(encoded(1)) == (0, 1, 1, 0)
    assert point_of(encoded(1 | 1 << 255)) is None  # the other sign of nothing
    assert point_of(encoded(P)) is None
    assert point_of(encoded(P + 1)) is None
    assert point_of(encoded(2)) is None  # not on the curve
    minus = point_of(encoded(P - 1))
    assert minus == (0, P - 1, 1, 0)
    zero, other = point_of(encoded(0)), point_of(encoded(1 << 255))
    assert zero is not None
    assert other is not None
    assert (zero[0] % 2, other[0] % 2) == (0, 1)
    assert zero[0] + other[0] == P


def test_a_point_is_added_to_itself_so_often() -> None:
    base = independent.BASE
    assert times(0, base) == (0, 1, 1, 0)
    for factor, name in ((1, base), (2, independent.add(base, base))):
        x, y, z, _ = times(factor, base)
        assert (x * name[2] - name[0] * z) % P == 0
        assert (y * name[2] - name[1] * z) % P == 0
    x, y, z, _ = times(ORDER, base)
    assert (x % P, (y - z) % P) == (0, 0)


def test_what_is_no_point_signs_nothing() -> None:
    one, none = encoded(1), encoded(2)
    assert not signed(b"x", none + encoded(0), one)
    assert not signed(b"x", one + encoded(0), none)
    # As many times nothing as there are points, and once more.
    assert not signed(b"x", one + encoded(ORDER), one)


def named(point: independent.Point) -> bytes:
    x, y, z, _ = point
    x, y = x * pow(z, -1, P) % P, y * pow(z, -1, P) % P
    return encoded(y | (x & 1) << 255)


def test_half_a_point_is_none() -> None:
    """Who has the key can sign so that only one of the two coordinates fits."""
    factor, nonce = 5, times(7, independent.BASE)
    key = named(times(factor, independent.BASE))
    minus = (0, P - 1, 1, 0)
    for first, sound, sign in (
        (nonce, True, 1),
        (nonce, False, -1),
        (independent.add(nonce, minus), False, -1),
    ):
        name = named(first)
        h = int.from_bytes(sha512(name + key + b"x").digest(), "little")
        s = sign * (7 + h * factor) % ORDER
        assert signed(b"x", name + encoded(s), key) is sound


# --- the program ---------------------------------------------------------------------------------


def called(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["independent", *map(str, arguments)])
    return independent.main()


def test_the_program_says_what_it_found(
    log: Stored, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log.examined(witness=lines(*log.log.signed))
    options = ("--witness", log.witness, "--public-key", OURS)
    assert called(monkeypatch, log.file, *options) == 0
    assert capsys.readouterr() == (f"{log.file} is whole\n", "")
    assert called(monkeypatch, log.file, "--public-key", THEIRS) == 1
    said, _ = capsys.readouterr()
    assert said.splitlines()[0] == "checkpoint of 0 is not of epoch 1"
    assert said.splitlines()[-1] == f"there is no checkpoint at the end that {THEIRS} signed"
    assert said.endswith("signed\n")
    assert len(said.splitlines()) == len(log.log.signed) + 1
    log.witness.write_text("7\n")
    assert called(monkeypatch, log.file, "--witness", log.witness) == 1
    assert capsys.readouterr() == ("only the witness has '7'\n", "")
    nothing = log.file.with_name("nothing.db")
    assert called(monkeypatch, nothing) == 2
    assert capsys.readouterr() == (
        "",
        f"cannot verify {nothing}: unable to open database file\n",
    )


def test_the_program_never_says_a_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, "postgresql://me:secret@127.0.0.1:1/log?connect_timeout=5") == 2
    said = capsys.readouterr().err
    assert said.startswith("cannot verify the database: ")
    assert "secret" not in said


def test_the_program_says_how_to_call_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        called(monkeypatch, "--help")
    assert ended.value.code == 0
    said = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert " Verify a log without the healer's code. " in said
    assert " log a file, or the URL of a database " in said
    assert re.search(r" --public-key PUBLIC_KEY the first one, in hex$", said.strip())
    with pytest.raises(SystemExit) as ended:
        called(monkeypatch)
    assert ended.value.code == 2
