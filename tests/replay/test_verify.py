"""A log that can be trusted: what a verifier finds, who it finds, and what nobody could find."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from healer.domain.health import Health
from healer.errors import StoreError
from healer.store import SqliteLog, checkpoint
from healer.store.chain import genesis
from replay import independent
from replay.archive import FileArchive
from replay.independent import examine
from replay.verify import Report, verify
from tests.conftest import ROOT
from tests.projections.build import Log, heal
from tests.replay import tamper
from tests.replay.tamper import ATTACKERS, ATTACKS, Break, notes_of, sql, stolen

HEALS = 45
LOG_ID = "log-1"


def open_log(file: Path, *, witness: Path | None = None) -> SqliteLog:
    return SqliteLog.open(file, new_log_id=lambda: LOG_ID, witness=witness)


async def _write(file: Path, *, change_key_after: int | None = None) -> None:
    log = Log()
    async with open_log(file, witness=file.with_name("witness")) as store:
        done = 0
        for count in range(HEALS):
            heal(log)
            log.health(Health.STARTING, Health.HEALTHY)
            await store.append([recorded.event for recorded in log.facts[done:]])
            done = len(log.facts)
            if count == change_key_after:
                await store.change_key()


class Case:
    """A log of its own, its witness, and the key that it was first signed with."""

    def __init__(self, template: Path, directory: Path) -> None:
        shutil.copytree(template, directory, dirs_exist_ok=True)
        self.file = directory / "log.db"
        self.witness = directory / "witness"
        self.key = checkpoint.read(notes_of(self.file)[0]).key.hex()

    def verified(self, *, witness: bool = True, deep: bool = True, key: bool = True) -> Report:
        told = self.witness if witness else None
        pinned = self.key if key else None
        report = verify(self.file, witness=told, public_key=pinned, deep=False)
        # The second opinion; what events say is not its business.
        second = examine(self.file, told, pinned)
        assert report.ok == (not second), (report.problems, second)
        return verify(self.file, witness=told, public_key=pinned) if deep else report

    def codes(self, *, witness: bool = True, deep: bool = True, key: bool = True) -> list[str]:
        report = self.verified(witness=witness, deep=deep, key=key)
        return list(dict.fromkeys(problem.code for problem in report.problems))


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sealed")
    asyncio.run(_write(directory / "log.db"))
    return directory


@pytest.fixture(scope="session")
def rotated_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("rotated")
    asyncio.run(_write(directory / "log.db", change_key_after=HEALS // 2))
    return directory


@pytest.fixture
def case(template: Path, tmp_path: Path) -> Case:
    return Case(template, tmp_path)


@pytest.fixture
def rotated(rotated_template: Path, tmp_path: Path) -> Case:
    return Case(rotated_template, tmp_path)


# --- the matrix ----------------------------------------------------------------------------------

UNSEEN_WITHOUT_A_WITNESS = {("B", "truncate"), *(("C", attack) for attack in ATTACKS)}


@pytest.mark.parametrize("witness", [True, False], ids=["witnessed", "alone"])
@pytest.mark.parametrize("attacker", ATTACKERS)
@pytest.mark.parametrize("attack", ATTACKS)
def test_six_attacks_by_three_attackers(
    case: Case, attack: str, attacker: str, *, witness: bool
) -> None:
    ATTACKERS[attacker](Break(case.file), ATTACKS[attack])
    hidden = not witness and (attacker, attack) in UNSEEN_WITHOUT_A_WITNESS
    for deep in (True, False):
        report = case.verified(witness=witness, deep=deep)
        assert report.ok is hidden, report.problems
        assert (report.first_problem is None) is hidden


def test_a_log_that_nobody_touched_is_whole(case: Case) -> None:
    heard: list[tuple[int, int]] = []
    events = len(Break(case.file).rows)
    report = verify(
        case.file,
        witness=case.witness,
        public_key=case.key,
        on_progress=lambda done, total: heard.append((done, total)),
    )
    assert (report.ok, report.first_problem, report.problems) == (True, None, [])
    assert report.events == report.witnessed == events
    assert report.checkpoints == len(notes_of(case.file)) > HEALS
    assert (report.log_id, report.public_key) == (LOG_ID, case.key)
    assert report.pinned
    assert heard[0] == (0, events)
    assert heard[-1] == (events, events)
    assert json.loads(json.dumps(report.view()))["events"] == events
    assert not verify(case.file).pinned
    assert case.verified(key=False).ok


async def test_a_log_that_is_being_written_is_whole(tmp_path: Path) -> None:
    file, witness = tmp_path / "log.db", tmp_path / "witness"
    log = Log()
    async with open_log(file, witness=witness) as store:
        for _ in range(5):
            done = len(log.facts)
            heal(log)
            log.detect("other").diagnose().fail()
            await store.append([recorded.event for recorded in log.facts[done:]])
            report = await asyncio.to_thread(verify, store, witness=witness)
            assert report.ok, report.problems
            assert report.events == len(log.facts)


async def test_an_empty_log_is_whole_and_signed(tmp_path: Path) -> None:
    async with open_log(tmp_path / "log.db", witness=tmp_path / "witness"):
        pass
    report = verify(tmp_path / "log.db", witness=tmp_path / "witness")
    assert (report.ok, report.events, report.checkpoints, report.witnessed) == (True, 0, 1, 0)
    assert examine(tmp_path / "log.db", tmp_path / "witness") == []
    sql(tmp_path / "log.db", "DELETE FROM checkpoint")
    report = verify(tmp_path / "log.db")
    assert report.first_problem is not None
    assert "no checkpoint was ever signed of it" in report.first_problem
    assert examine(tmp_path / "log.db") == ["there is no checkpoint at the end that any key signed"]


def test_the_file_is_only_read(case: Case) -> None:
    before = case.file.read_bytes()
    tamper.by_a(Break(case.file), tamper.edit)
    harmed = case.file.read_bytes()
    assert harmed != before
    assert not case.verified().ok
    assert case.file.read_bytes() == harmed


# --- which event ---------------------------------------------------------------------------------


def first(case: Case, attack: Callable[[list[tamper.Row]], list[tamper.Row]]) -> int:
    log = Break(case.file)
    log.attack(attack)
    return log.harmed


def test_the_first_bad_event_is_named(case: Case) -> None:
    harmed = first(case, tamper.edit)
    tamper.by_a(Break(case.file), tamper.edit)
    report = case.verified()
    assert report.problems[0].position == harmed
    assert (report.first_problem or "").startswith(
        f"cannot accept event {harmed}: it does not match its hash"
    )
    assert report.problems[0].event_id.startswith("issue-")


def test_an_edit_with_new_hashes_is_narrowed_down_to_what_one_checkpoint_covers(case: Case) -> None:
    harmed = first(case, tamper.edit)
    log = Break(case.file)
    log.attack(tamper.edit)
    log.recompute()
    log.write()
    sizes = [checkpoint.read(note).size for note in log.notes]
    covered = next(size for size in sizes if size >= harmed)
    before = max(size for size in sizes if size < harmed)
    report = case.verified(witness=False)
    assert [problem.position for problem in report.problems] == [covered]
    assert f"one of the events {before + 1} to {covered} is not" in (report.first_problem or "")


@pytest.mark.parametrize(
    ("statement", "code", "position"),
    [
        ("DELETE FROM event WHERE position = 300", "missing", 300),
        ("UPDATE event SET position = 0 WHERE position = 1", "missing", 1),
        ("UPDATE event SET position = 100000 WHERE position = 300", "missing", 300),
        ("UPDATE event SET hash = zeroblob(32) WHERE position = 300", "hash", 300),
        ("UPDATE event SET stream = 'x' WHERE position = 300", "gap", 300),
        ("UPDATE event SET version = 900 WHERE position = 300", "gap", 300),
        ("UPDATE event SET version = -1 WHERE position = 300", "gap", 300),
        ("UPDATE event SET topic = 'issue.foo.v9' WHERE position = 300", "hash", 300),
        ("UPDATE event SET body = x'00' WHERE position = 1", "hash", 1),
        ("DELETE FROM event WHERE position > 600", "cut_off", 601),
        ("UPDATE sqlite_sequence SET seq = 100000", "cut_off", None),
        ("UPDATE event SET stream = CAST(x'ff' AS TEXT) WHERE position = 300", "damaged", None),
    ],
)
@pytest.mark.parametrize("deep", [True, False])
def test_harm_to_a_row_is_named(
    case: Case, statement: str, code: str, position: int | None, *, deep: bool
) -> None:
    sql(case.file, statement)
    report = case.verified(witness=False, deep=deep)
    assert report.problems[0].code == code, report.problems
    if position is not None:
        assert report.problems[0].position == position


@pytest.mark.parametrize("column", ["stream", "version", "topic", "body", "hash", "time"])
@pytest.mark.parametrize("value", ["NULL", "'text'", "1.5"])
def test_a_table_made_anew_without_its_types_is_no_hiding_place(
    case: Case, column: str, value: str
) -> None:
    sql(
        case.file,
        "CREATE TABLE loose AS SELECT * FROM event",
        "DROP TABLE event",
        "ALTER TABLE loose RENAME TO event",
        f"UPDATE event SET {column} = {value} WHERE position = 300",  # noqa: S608 - constants
    )
    report = case.verified()
    assert report.problems[0].position == 300, report.problems


def test_checkpoints_without_their_types_are_not_believed(case: Case) -> None:
    sql(
        case.file,
        "CREATE TABLE loose AS SELECT * FROM checkpoint",
        "DROP TABLE checkpoint",
        "ALTER TABLE loose RENAME TO checkpoint",
        "UPDATE checkpoint SET note = NULL WHERE number = 5",
    )
    assert "checkpoint_unreadable" in case.codes()


def test_only_the_first_hundred_problems_are_kept_and_all_are_counted(case: Case) -> None:
    sql(case.file, "UPDATE event SET hash = zeroblob(32) WHERE position > 300")
    report = case.verified()
    assert len(report.problems) == 100
    assert report.found > 250


# --- what events say -----------------------------------------------------------------------------


def rewritten(case: Case, statement: str) -> Report:
    """C changed something, so that only what it says can tell."""
    sql(case.file, statement)
    log = Break(case.file)
    log.recompute()
    log.sign(stolen(case.file))
    log.write()
    assert case.verified(witness=False, deep=False).ok
    return case.verified(witness=False)


def test_an_event_of_a_version_to_come_is_refused_by_name(case: Case) -> None:
    report = rewritten(
        case, "UPDATE event SET topic = 'component.health_changed.v9' WHERE position = 15"
    )
    assert report.problems[0].code == "unreadable"
    assert "event 15: topic component.health_changed.v9 is not known to this version" in (
        report.first_problem or ""
    )


def test_a_body_that_does_not_fit_its_schema_is_named(case: Case) -> None:
    report = rewritten(
        case, "UPDATE event SET body = CAST('{\"a\":1}' AS BLOB) WHERE position = 15"
    )
    assert report.problems[0].code == "unreadable"
    assert report.problems[0].position == 15


def test_a_transition_that_the_lifecycle_forbids_is_found(case: Case) -> None:
    """C lets an issue be remediated that was never diagnosed."""
    log = Break(case.file)
    at = next(n for n, row in enumerate(log.rows) if row.topic == "issue.diagnosis_started.v1")
    log.attack(lambda rows: [*rows[:at], *rows[at + 1 :]])
    log.recompute()
    log.sign(stolen(case.file))
    log.write()
    assert case.verified(witness=False, deep=False).ok
    report = case.verified(witness=False)
    assert [problem.code for problem in report.problems] == ["illegal_transition"]
    assert "cannot remediate an issue that is detected" in (report.first_problem or "")


def test_a_time_that_is_not_the_events_own_is_found(case: Case) -> None:
    sql(case.file, "UPDATE event SET time = time + 1 WHERE position = 20")
    report = case.verified()
    assert [(problem.position, problem.code) for problem in report.problems] == [(20, "time")]


@pytest.mark.parametrize(
    "statement",
    ["INSERT INTO open_issue VALUES ('chat_api', 'issue-0001')", "DELETE FROM open_issue"],
)
async def test_a_claim_that_the_log_does_not_know_is_found(tmp_path: Path, statement: str) -> None:
    log = Log()
    if statement.startswith("DELETE"):
        log.detect()
    async with open_log(tmp_path / "log.db") as store:
        await store.append([log.detect("another").diagnose().log.facts[0].event])
    sql(tmp_path / "log.db", statement)
    report = verify(tmp_path / "log.db")
    assert [problem.code for problem in report.problems] == ["claim"]


# --- checkpoints ---------------------------------------------------------------------------------


def forged(case: Case, change: Callable[[list[str]], list[str]]) -> None:
    log = Break(case.file)
    log.notes = change(log.notes)
    log.write()


def test_a_checkpoint_taken_from_the_middle_is_missed(case: Case) -> None:
    forged(case, lambda notes: [*notes[:10], *notes[11:]])
    assert case.codes(witness=False) == ["checkpoint_order"]
    assert case.codes() == ["unseen", "checkpoint_order"]


def test_a_checkpoint_taken_from_the_front_is_missed(case: Case) -> None:
    forged(case, lambda notes: notes[1:])
    assert "checkpoint_order" in case.codes(witness=False)


def test_checkpoints_taken_from_the_end_are_missed_when_they_are_many(case: Case) -> None:
    forged(case, lambda notes: notes[:-20])
    assert case.codes(witness=False) == ["unsigned"]
    assert "unseen" in case.codes()


def test_checkpoints_in_another_order_are_noticed(case: Case) -> None:
    forged(case, lambda notes: [*notes[:10], notes[11], notes[10], *notes[12:]])
    assert case.codes(witness=False) == ["checkpoint_order"]


def test_a_checkpoint_that_says_otherwise_is_not_believed(case: Case) -> None:
    forged(case, lambda notes: [*notes[:-1], notes[-1].replace("epoch 1", "epoch 2")])
    assert {"checkpoint_key", "checkpoint_signature"} <= set(case.codes(witness=False))


BOTH = ["checkpoint_signature", "checkpoint_order"]


@pytest.mark.parametrize(("at", "codes"), [(0, BOTH), (10, BOTH), (-1, BOTH[:1])])
def test_a_signature_of_another_text_is_refused(case: Case, at: int, codes: list[str]) -> None:
    log = Break(case.file)
    lines = log.notes[at].split("\n")
    lines[3] = "time 2001-01-01T00:00:00.000Z"
    log.notes[at] = "\n".join(lines)
    log.write()
    assert case.codes(witness=False) == codes


def test_a_forged_checkpoint_does_not_hide_behind_one_that_cannot_be_read(case: Case) -> None:
    forged(
        case,
        lambda notes: [*notes[:9], notes[9].replace("time 2", "time 3"), "garbage", *notes[11:]],
    )
    assert "checkpoint_signature" in case.codes(witness=False)


@pytest.mark.parametrize("garbage", ["", "x", "a note\n\nof something else", "\0"])
def test_what_is_not_a_checkpoint_is_named(case: Case, garbage: str) -> None:
    forged(case, lambda notes: [*notes[:-1], garbage])
    assert "checkpoint_unreadable" in case.codes(witness=False)


def test_a_log_signed_with_another_key_from_the_start_is_not_this_one(case: Case) -> None:
    log = Break(case.file)
    log.attack(tamper.edit)
    log.recompute()
    log.sign(Ed25519PrivateKey.generate())
    log.write()
    assert case.codes(witness=False, key=False) == []
    assert case.codes(witness=False) == ["checkpoint_key", "checkpoint_signature"]
    assert case.codes(witness=True, key=False) == ["not_signed", "unseen"]


def test_a_public_key_that_is_not_the_logs_is_refused(case: Case) -> None:
    report = verify(case.file, public_key="00" * 32)
    assert report.problems[0].code == "checkpoint_key"
    assert examine(case.file, None, "00" * 32) != []


def test_a_forged_end_with_a_forged_checkpoint_is_refused(case: Case) -> None:
    """B continues the log, and signs with a key of their own in the log's name."""
    log = Break(case.file)
    last = checkpoint.read(log.notes[-1])
    note = checkpoint.sign(
        replace(last, previous=checkpoint.digest(log.notes[-1])), Ed25519PrivateKey.generate()
    )
    log.notes.append(note)
    log.write()
    assert case.codes(witness=False) == ["checkpoint_signature"]


async def test_checkpoints_of_another_log_are_refused(case: Case, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    async with SqliteLog.open(other, new_log_id=lambda: "log-2"):
        pass
    theirs = notes_of(other)
    forged(case, lambda _notes: list(theirs))
    assert "checkpoint_of_another_log" in case.codes(witness=False, key=False)


async def test_another_log_in_its_place_is_refused(case: Case, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    async with SqliteLog.open(other, new_log_id=lambda: "log-2"):
        pass
    assert verify(other).ok
    report = verify(other, log_id=LOG_ID)
    assert "it calls itself 'log-2'; 'log-1' is expected" in (report.first_problem or "")
    assert not verify(other, witness=case.witness).ok
    assert examine(other, case.witness) != []


def test_a_signed_lie_about_the_size_is_found(case: Case) -> None:
    """Signed by the right key, and still not what the log holds."""
    key = stolen(case.file)

    def add(notes: list[str], **change: object) -> list[str]:
        last = checkpoint.read(notes[-1])
        lie = replace(last, previous=checkpoint.digest(notes[-1]), **change)
        return [*notes, checkpoint.sign(lie, key)]

    original = notes_of(case.file)
    last = checkpoint.read(original[-1])
    forged(case, lambda notes: add(notes, size=last.size + 1))
    assert case.codes(witness=False) == ["cut_off"]
    forged(case, lambda _notes: add(list(original), size=last.size - 1))
    assert "checkpoint_order" in case.codes(witness=False)
    forged(case, lambda _notes: add(list(original), head=b"\1" * 32))
    assert case.codes(witness=False) == ["checkpoint_contradicted"]
    middle = checkpoint.read(original[20])
    forged(case, lambda _notes: add(list(original), size=middle.size, head=middle.head))
    assert case.codes(witness=False) == ["checkpoint_order", "unsigned"]
    forged(case, lambda _notes: add(list(original), epoch=2))
    assert case.codes(witness=False) == ["checkpoint_key"]
    forged(case, lambda _notes: add(list(original), key=bytes(32)))
    assert "checkpoint_key" in case.codes(witness=False)
    forged(case, lambda _notes: add(list(original), log_id="log-2"))
    assert case.codes(witness=False) == ["checkpoint_of_another_log"]


@pytest.mark.parametrize("part", ["name", "key"])
def test_what_the_signature_does_not_cover_has_to_fit(case: Case, part: str) -> None:
    """The name of the signer and the four bytes that name its key, in the line of the signature."""
    log = Break(case.file)
    body, line = log.notes[-1].split("\n\n")
    dash, name, signature = line.removesuffix("\n").split(" ")
    if part == "name":
        name += "x"
    else:
        signature = ("B" if signature[0] == "A" else "A") + signature[1:]
    log.notes[-1] = f"{body}\n\n{dash} {name} {signature}\n"
    log.write()
    assert case.codes(witness=False) == ["checkpoint_signature"]


def test_a_gap_that_was_hashed_and_signed_is_a_gap(case: Case) -> None:
    log = Break(case.file)
    log.rows = [row._replace(position=row.position + (row.position > 300)) for row in log.rows]
    log.recompute()
    log.sign(stolen(case.file))
    log.write()
    report = case.verified(witness=False)
    assert [(each.position, each.code) for each in report.problems] == [(301, "missing")]


def test_a_wrong_head_of_the_empty_log_is_found(case: Case) -> None:
    log = Break(case.file)
    log.notes[0] = log.notes[0].replace(log.notes[0].split("\n")[2], "A" * 43 + "=")
    key = stolen(case.file)
    notes: list[str] = []
    for note in log.notes:
        previous = checkpoint.digest(notes[-1]) if notes else None
        notes.append(checkpoint.sign(replace(checkpoint.read(note), previous=previous), key))
    log.notes = notes
    log.write()
    assert genesis(LOG_ID) != bytes(32)
    assert case.codes(witness=False) == ["not_signed"]


# --- keys ----------------------------------------------------------------------------------------


def test_a_log_whose_key_changed_is_whole(rotated: Case) -> None:
    report = rotated.verified()
    assert report.ok, report.problems
    epochs = {checkpoint.read(note).epoch for note in notes_of(rotated.file)}
    assert epochs == {1, 2}
    newest = checkpoint.read(notes_of(rotated.file)[-1])
    assert newest.key.hex() != rotated.key
    assert not verify(rotated.file, public_key=newest.key.hex()).ok


def test_who_takes_the_new_key_cannot_rewrite_what_the_old_one_signed(rotated: Case) -> None:
    """The old one is gone. journald once sealed old entries with a new key: CVE-2023-31439."""
    key = stolen(rotated.file)
    log = Break(rotated.file)
    log.attack(tamper.edit)
    log.recompute()
    resigned: list[str] = []
    for note in log.notes:
        said = checkpoint.read(note)
        size = said.size
        resigned.append(
            checkpoint.sign(
                replace(
                    said,
                    head=log.rows[size - 1].hash if size else said.head,
                    previous=checkpoint.digest(resigned[-1]) if resigned else None,
                ),
                key,
            )
        )
    log.notes = resigned
    log.write()
    assert rotated.codes(witness=False) == ["checkpoint_signature"]


def test_the_key_of_one_epoch_does_not_sign_for_another(rotated: Case) -> None:
    """The checkpoint that hands over is taken out: the new key was never named."""
    key = stolen(rotated.file)
    log = Break(rotated.file)
    log.notes = [note for note in log.notes if checkpoint.read(note).successor is None]
    again = []
    for note in log.notes:
        said = checkpoint.read(note)
        follows = replace(said, previous=checkpoint.digest(again[-1])) if again else said
        again.append(checkpoint.sign(follows, key) if said.epoch == 2 else note)
    log.notes = again
    log.write()
    assert set(rotated.codes(witness=False)) == {"checkpoint_key", "checkpoint_signature"}


# --- the witness ---------------------------------------------------------------------------------


def test_a_line_that_a_crash_cut_short_is_no_problem(case: Case) -> None:
    whole = case.witness.read_text()
    half = whole.splitlines()[-1][:100]
    case.witness.write_text(whole + half)
    assert case.verified().ok
    case.witness.write_text(f"{half}\n{whole}")
    assert case.verified().ok


@pytest.mark.parametrize("line", ["x", "{}", '"x"', "7", "\0", '"\ud800"'])
def test_another_line_that_cannot_be_read_is_one(case: Case, line: str) -> None:
    with case.witness.open("ab") as file:
        file.write(line.encode("utf-8", "surrogatepass") + b"\n")
    report = case.verified()
    assert [problem.code for problem in report.problems] == ["witness_unreadable"]
    assert f"of the witness {case.witness}" in (report.first_problem or "")


def test_the_witness_tells_where_an_end_was_cut_off(case: Case) -> None:
    events = len(Break(case.file).rows)
    end = first(case, tamper.truncate)
    tamper.by_b(Break(case.file), tamper.truncate)
    report = case.verified()
    assert report.problems[0].position == end
    assert report.first_problem == (
        f"cannot accept event {end}: it is missing: the witness saw up to {events}"
    )


def test_a_witness_with_nothing_in_it_vouches_for_nothing(case: Case) -> None:
    case.witness.write_text("")
    assert case.codes() == ["witness_empty"]


def test_a_witness_that_missed_some_is_enough(case: Case) -> None:
    lines = case.witness.read_text().splitlines()
    case.witness.write_text("\n".join(lines[10:-2:5]) + "\n")
    assert case.verified().ok
    tamper.by_c(Break(case.file), tamper.edit)
    assert not case.verified().ok


def test_who_has_the_key_is_seen_up_to_the_last_checkpoint_that_was_witnessed(case: Case) -> None:
    lines = [line for line in case.witness.read_text().splitlines() if line]
    case.witness.write_text("\n".join(lines[:20]) + "\n")
    seen = checkpoint.read(json.loads(lines[19])).size

    def change(at: int) -> None:
        log = Break(case.file)
        log.rows[at] = log.rows[at]._replace(
            body=log.rows[at].body.replace(b'"node":"edge-1"', b'"node":"edge-2"')
        )
        keep = [note for note in log.notes if checkpoint.read(note).size <= at]
        log.recompute()
        log.sign(stolen(case.file))
        log.notes = [*keep, *log.notes[len(keep) :]]
        log.write()

    change(seen)
    assert case.verified().ok
    change(seen - 1)
    assert case.codes() == ["not_signed", "unseen"]


# --- what cannot be verified ---------------------------------------------------------------------


def test_what_is_not_there_is_said(case: Case, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot open .*nothing\.db: No such file"):
        verify(tmp_path / "nothing.db")
    with pytest.raises(StoreError, match=r"cannot read the witness .*nobody: No such file"):
        verify(case.file, witness=tmp_path / "nobody")
    with pytest.raises(StoreError, match="cannot use 'zz' as a public key; allowed: 64 hex"):
        verify(case.file, public_key="zz")
    with pytest.raises(StoreError, match="allowed: 64 hex"):
        verify(case.file, public_key="00")
    (tmp_path / "text.db").write_text("not a database, but long enough to look like one" * 99)
    with pytest.raises(StoreError, match="not a database"):
        verify(tmp_path / "text.db")
    sqlite3.connect(tmp_path / "empty.db").close()
    (tmp_path / "empty.db").touch()
    with pytest.raises(StoreError, match=r"empty\.db: it is empty"):
        verify(tmp_path / "empty.db")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_file_cut_off_anywhere_is_not_whole(case: Case, share: float) -> None:
    whole = case.file.read_bytes()
    case.file.write_bytes(whole[: int(len(whole) * share) // 4096 * 4096])
    try:
        found = verify(case.file, witness=case.witness).found
    except StoreError:
        found = 1
    assert found


def test_an_archive_of_another_store_will_do(case: Case) -> None:
    with FileArchive(case.file) as archive:
        assert verify(archive, witness=case.witness).ok


# --- the second verifier -------------------------------------------------------------------------


def test_the_second_verifier_is_short_and_knows_nothing_of_the_first() -> None:
    source = Path(independent.__file__).read_text()
    assert len(source.splitlines()) < 200
    assert "healer" not in [
        word for line in source.splitlines() if "import" in line for word in line.split()
    ]


def test_the_second_verifier_is_a_program(case: Case, tmp_path: Path) -> None:
    script = shutil.copy(independent.__file__, tmp_path / "elsewhere.py")

    def run(*arguments: object) -> tuple[int, str]:
        ran = subprocess.run(
            [sys.executable, "-I", str(script), *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )
        return ran.returncode, ran.stdout + ran.stderr

    options = ("--witness", case.witness, "--public-key", case.key)
    assert run(case.file, *options) == (0, f"{case.file} is whole\n")
    tamper.by_a(Break(case.file), tamper.edit)
    status, said = run(case.file, *options)
    assert status == 1
    assert "is not what was stored or signed" in said
    assert run(tmp_path / "nothing.db")[0] == 2


@pytest.mark.parametrize(
    ("key", "message", "signature"),
    # RFC 8032, section 7.1, tests 1 to 3.
    [
        (
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e3970"
            "1cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613"
            "d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
        (
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760"
            "984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ),
    ],
)
def test_its_signatures_are_those_of_the_standard(key: str, message: str, signature: str) -> None:
    public, text, proof = map(bytes.fromhex, (key, message, signature))
    assert independent.signed(text, proof, public)
    for at in (0, 31, 32, 63):
        spoiled = proof[:at] + bytes([proof[at] ^ 1]) + proof[at + 1 :]
        assert not independent.signed(text, spoiled, public)
    assert not independent.signed(text + b"x", proof, public)
    assert not independent.signed(text, proof, public[::-1])
    # S must be less than the order of the group, or there are two signatures of one text.
    twice = int.from_bytes(proof[32:], "little") + independent.ORDER
    assert not independent.signed(text, proof[:32] + twice.to_bytes(32, "little"), public)
