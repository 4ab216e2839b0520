"""When a log is signed, with which key, and who is told."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from healer.domain.events import Event
from healer.errors import IssueConflictError, StoreError
from healer.store import SqliteLog
from healer.store.checkpoint import (
    Cadence,
    Checkpoint,
    Stretch,
    digest,
    is_signed_by,
    read,
    sign,
)
from healer.store.codec import Codec
from healer.store.cold import Segment
from healer.store.key import KeyFile, public
from healer.store.ledger import Ledger
from healer.store.notary import Notary, Sealing
from healer.store.witness import FileWitness
from replay.verify import Report, verify
from tests import factory
from tests.conftest import ROOT, Until

CODEC = Codec()
NEVER = 3600.0
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SAID = Checkpoint("log 1", 7, bytes(32), "2026-03-01T12:00:00.000Z", 1, public(KEY), None, None)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


def key_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.key")


def opened(
    file: Path,
    *,
    witness: Path | Callable[[str], None] | None = None,
    cadence: Cadence | None = Cadence(period=NEVER),  # noqa: B008 - frozen
) -> SqliteLog:
    return SqliteLog.open(file, new_log_id=lambda: "log-1", witness=witness, cadence=cadence)


def started(first: int, count: int) -> Sequence[Event]:
    return [factory.playbook_started(stream="i1", version=first + n) for n in range(count)]


def contents(file: Path) -> bytes:
    return file.read_bytes()


def notes(file: Path) -> list[str]:
    with closing(sqlite3.connect(file)) as connection:
        found = connection.execute("SELECT note FROM checkpoint ORDER BY number")
        return [note for (note,) in found]


def sizes(file: Path) -> list[int]:
    return [read(note).size for note in notes(file)]


def ledger(file: Path, sealing: Sealing | None = None) -> Ledger:
    sealing = sealing or Sealing(key_of(file), Cadence(period=NEVER))
    return Ledger(file, CODEC, lambda: "log-1", sealing=sealing)


def verified(file: Path, *, witness: Path | None = None, public_key: str | None = None) -> Report:
    """What these tests append has no meaning: only its integrity is looked at."""
    return verify(file, witness=witness, public_key=public_key, deep=False)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


# --- the text -----------------------------------------------------------------------------------


def test_a_checkpoint_is_a_signed_note() -> None:
    # The format is a promise: a witness keeps these for years.
    assert sign(SAID, KEY) == (
        "network-healer/log%201\n"
        "7\n"
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
        "time 2026-03-01T12:00:00.000Z\n"
        "epoch 1\n"
        "key 03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8\n"
        "previous none\n"
        "\n"
        "— network-healer/log%201 Cj1BmD9GXd/cbaXBr6dgHiX1Ntr7/95Aipjs7X44xTOoK2HAkN"
        "qD8O33n0p/98S33a5mwWRIt8Gu/41b7ectXIAFcwI=\n"
    )


@pytest.mark.parametrize(
    "said",
    [
        SAID,
        replace(SAID, log_id="a/b+c é\n", size=0),
        replace(SAID, successor=bytes([7] * 32), previous=bytes([9] * 32), epoch=12),
    ],
)
def test_a_checkpoint_says_what_was_signed(said: Checkpoint) -> None:
    note = sign(said, KEY)
    assert read(note) == said
    assert is_signed_by(note, said, public(KEY))
    assert not is_signed_by(note, said, bytes(31) + b"\1")
    assert not is_signed_by(note.replace("time 2026", "time 2027"), said, public(KEY))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("7\n", "07\n"),
        ("7\n", "-7\n"),
        ("7\n", "\u0667\n"),
        ("epoch 1", "epoch 0"),
        ("epoch 1\n", ""),
        ("previous none", "previous "),
        ("previous none", "previous none\nprevious none"),
        ("previous none\n", "previous none\nx 1\n"),
        ("AAA=", "AA=="),
        ("network-healer/log", "network-dealer/log"),
        ("— ", "- "),
        ("\n\n", "\n"),
    ],
)
def test_what_is_not_quite_a_checkpoint_is_refused(before: str, after: str) -> None:
    note = sign(SAID, KEY)
    assert before in note
    with pytest.raises(StoreError, match=r"cannot read a checkpoint: .* is not one"):
        read(note.replace(before, after, 1))


def test_what_is_not_a_checkpoint_is_shown_as_far_as_it_fits() -> None:
    for note, shown in (("x" * 60, repr("x" * 60)), ("y" * 61, repr("y" * 60 + "..."))):
        with pytest.raises(StoreError) as refused:
            read(note)
        assert str(refused.value) == f"cannot read a checkpoint: {shown} is not one"


def test_a_signature_is_of_one_log_by_one_key() -> None:
    note = sign(SAID, KEY)
    line = note.splitlines()[-1]
    body = note.removesuffix(f"{line}\n")
    name, encoded = line.removeprefix("— ").split(" ")
    signature = base64.b64decode(encoded)
    assert is_signed_by(f"{body}— {name} {encoded}\n", SAID, public(KEY))
    for other_name, other in (
        (name.replace("log%201", "log%202"), signature),
        (name, bytes([signature[0] ^ 1]) + signature[1:]),
        (name, signature[:3] + bytes([signature[3] ^ 1]) + signature[4:]),
        (name, signature[:-1] + bytes([signature[-1] ^ 1])),
    ):
        forged = f"{body}— {other_name} {base64.b64encode(other).decode()}\n"
        assert not is_signed_by(forged, SAID, public(KEY))
    archived = Stretch(1, 5, bytes([1] * 32), bytes([2] * 32))
    moved = replace(SAID, archived=archived)
    assert f"\narchived 1 5 {'01' * 32} {'02' * 32}\nprevious none\n" in sign(moved, KEY)
    assert read(sign(moved, KEY)) == moved


@pytest.mark.parametrize("tail", ["\n", "x", " "])
def test_nothing_may_follow_a_checkpoint(tail: str) -> None:
    with pytest.raises(StoreError, match="is not one"):
        read(sign(SAID, KEY) + tail)


# --- when ---------------------------------------------------------------------------------------


async def test_a_new_log_is_signed_before_its_first_event(file: Path) -> None:
    async with opened(file):
        assert sizes(file) == [0]
        assert read(notes(file)[0]).previous is None


async def test_a_checkpoint_follows_a_hundred_events_and_the_close(
    file: Path, until: Until
) -> None:
    async with opened(file) as log:
        await log.append(started(1, 99))
        await log.append(started(100, 1))
        await until.soon(lambda: sizes(file) == [0, 100])
        await log.append(started(101, 99))
        assert sizes(file) == [0, 100]
    assert sizes(file) == [0, 100, 199]
    async with opened(file):
        pass
    assert sizes(file) == [0, 100, 199]
    first, second, third = notes(file)
    assert (read(second).previous, read(third).previous) == (digest(first), digest(second))


@pytest.mark.parametrize("end", [factory.issue_verified, factory.issue_failed])
async def test_a_checkpoint_follows_an_issue_that_ended(
    file: Path, until: Until, end: Callable[..., Event]
) -> None:
    async with opened(file) as log:
        await log.append([factory.issue_detected(stream="i1")])
        assert sizes(file) == [0]
        await log.append([end(stream="i1", version=2)])
        await until.soon(lambda: sizes(file) == [0, 2])
        await log.append([factory.issue_detected(stream="i2")])
    assert sizes(file) == [0, 2, 3]


async def test_a_checkpoint_follows_the_period(file: Path, until: Until) -> None:
    async with opened(file, cadence=Cadence(period=0.05)) as log:
        await log.append(started(1, 1))
        await until.soon(lambda: sizes(file) == [0, 1])
        await log.append(started(2, 1))
        await until.soon(lambda: sizes(file) == [0, 1, 2])


def test_the_period_begins_with_the_first_event_that_waits(file: Path) -> None:
    clock = Clock()
    sealing = Sealing(key_of(file), Cadence(period=60), monotonic=clock)
    with closing(ledger(file, sealing)) as log:
        assert log.until_seal() is None
        clock.now += 1000
        (refused,) = log.append([[CODEC.encode(event) for event in started(2, 1)]])
        assert isinstance(refused, IssueConflictError)
        clock.now += 1000
        log.append([[CODEC.encode(event) for event in started(1, 1)]])
        clock.now += 20
        log.append([[CODEC.encode(event) for event in started(2, 1)]])
        assert log.until_seal() == 40
        log.seal()
        assert sizes(file) == [0]
        clock.now += 40
        assert log.until_seal() == 0
        log.seal()
        assert sizes(file) == [0, 2]
        assert log.until_seal() is None


async def test_a_checkpoint_bears_the_time_of_its_making(file: Path) -> None:
    async with opened(file):
        pass
    label = read(notes(file)[0]).time
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", label)
    age = datetime.now(UTC) - datetime.fromisoformat(label)
    assert timedelta(minutes=-1) < age < timedelta(hours=1)


def test_what_is_late_is_due_now(file: Path) -> None:
    clock = Clock()
    with closing(ledger(file, Sealing(key_of(file), Cadence(period=60), monotonic=clock))) as log:
        log.append([[CODEC.encode(event) for event in started(1, 1)]])
        clock.now += 1000
        assert log.until_seal() == 0


async def test_a_log_need_not_be_signed(file: Path) -> None:
    async with opened(file, cadence=None) as log:
        await log.append(started(1, 200))
        with pytest.raises(StoreError, match=r"cannot change the key of .*: it is not signed"):
            await log.change_key()
    assert not key_of(file).exists()
    async with opened(file) as log:
        await log.append(started(201, 1))
    assert sizes(file) == [200, 201]
    assert verified(file).ok


# --- a crash ------------------------------------------------------------------------------------


def test_a_crash_between_commit_and_checkpoint_costs_nothing(file: Path) -> None:
    log = ledger(file)
    log.append([[CODEC.encode(event) for event in started(1, 150)]])
    log.close()
    assert sizes(file) == [0]
    assert verified(file).ok
    with closing(ledger(file)):
        assert sizes(file) == [0, 150]
    assert verified(file).ok


def test_what_a_crash_left_unsigned_is_signed_within_the_period(file: Path) -> None:
    log = ledger(file)
    log.append([[CODEC.encode(event) for event in started(1, 20)]])
    log.close()
    clock = Clock()
    with closing(ledger(file, Sealing(key_of(file), Cadence(period=60), monotonic=clock))) as log:
        assert log.until_seal() == 60
        clock.now += 60
        log.seal()
    assert sizes(file) == [0, 20]


async def test_a_checkpoint_that_fails_stops_the_log_and_takes_nothing_back(
    file: Path, until: Until
) -> None:
    async with opened(file, cadence=Cadence(events=3, period=NEVER)) as log:
        with closing(sqlite3.connect(file)) as other:
            other.execute(
                "CREATE TRIGGER full BEFORE INSERT ON checkpoint "
                "BEGIN SELECT RAISE(ABORT, 'no room'); END"
            )
        assert await log.append(started(1, 3)) == 3
        await until.soon(lambda: log.unavailable)
        assert "no room" in (log.unavailable or "")
        with closing(sqlite3.connect(file)) as other:
            other.execute("DROP TRIGGER full")

        async def appended() -> bool:
            try:
                return await log.append(started(4, 1)) == 4
            except StoreError:
                return False

        await until.soon(appended)
        await until.soon(lambda: sizes(file)[-1] >= 3)
    assert verified(file).ok


# --- what is never signed -----------------------------------------------------------------------


def edit(file: Path, *statements: str) -> None:
    with closing(sqlite3.connect(file)) as connection:
        for name in ("event_is_never_updated", "event_is_never_deleted"):
            connection.execute(f"DROP TRIGGER IF EXISTS {name}")
        for name in ("checkpoint_is_never_updated", "checkpoint_is_never_deleted"):
            connection.execute(f"DROP TRIGGER IF EXISTS {name}")
        for statement in statements:
            connection.execute(statement)
        connection.commit()


@pytest.mark.parametrize(
    ("statements", "finding"),
    [
        (["UPDATE event SET topic = 'x' WHERE position = 5"], "event 5 does not match its hash"),
        (
            [
                "DELETE FROM event WHERE position > 8",
                "UPDATE sqlite_sequence SET seq = 8 WHERE name = 'event'",
            ],
            "event 9 is missing: a checkpoint was signed of 10",
        ),
        (["UPDATE checkpoint SET note = 'x'"], "cannot read a checkpoint: 'x' is not one"),
        (
            ["UPDATE checkpoint SET note = replace(note, 'healer/log-1', 'healer/log-2')"],
            "its last checkpoint is of another log, 'log-2'",
        ),
        (
            [
                "UPDATE checkpoint SET note = replace(note, substr(note, 25, 43), "
                "'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA') WHERE size = 10"
            ],
            "event 10 is not the one that a checkpoint was signed of",
        ),
    ],
)
async def test_a_log_that_contradicts_its_checkpoint_is_neither_written_nor_signed(
    file: Path, statements: list[str], finding: str
) -> None:
    async with opened(file) as log:
        await log.append(started(1, 10))
    edit(file, *statements)
    before = notes(file)
    async with SqliteLog.open_readonly(file) as log:
        assert log.broken == finding
    async with opened(file) as log:
        assert log.broken == finding
        with pytest.raises(StoreError, match="cannot append to "):
            await log.append(started(11, 1))
        with pytest.raises(StoreError, match="cannot change the key of "):
            await log.change_key()
    assert notes(file) == before


@pytest.mark.parametrize("statement", ["UPDATE checkpoint SET size = 1", "DELETE FROM checkpoint"])
async def test_a_checkpoint_is_not_changed_by_accident(file: Path, statement: str) -> None:
    async with opened(file):
        pass
    with (
        closing(sqlite3.connect(file)) as connection,
        pytest.raises(sqlite3.IntegrityError, match="the log is immutable"),
    ):
        connection.execute(statement)


# --- the witness --------------------------------------------------------------------------------


async def test_the_witness_has_every_checkpoint_a_line_each(file: Path, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    async with opened(file, witness=witness) as log:
        await log.append(started(1, 100))
    lines = [json.loads(line) for line in witness.read_text().splitlines() if line]
    assert lines == notes(file)
    assert stat.S_IMODE(witness.stat().st_mode) == 0o600
    async with opened(file, witness=witness):
        pass
    assert verified(file, witness=witness).ok


async def test_a_line_that_a_crash_cut_short_is_ended(file: Path, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    witness.write_text('"network-healer/lo')
    async with opened(file, witness=witness) as log:
        await log.append(started(1, 1))
    assert witness.read_text().startswith('"network-healer/lo\n"network-healer/log-1')
    assert verified(file, witness=witness).ok


async def test_a_witness_in_trouble_is_not_the_logs_trouble(file: Path, until: Until) -> None:
    heard: list[str] = []
    deaf = True

    def witness(note: str) -> None:
        if deaf:
            raise ConnectionError("nobody is there")
        heard.append(note)

    async with opened(file, witness=witness, cadence=Cadence(events=3, period=0.05)) as log:
        assert log.unwitnessed == "cannot tell the witness of 0 events: nobody is there"
        assert await log.append(started(1, 3)) == 3
        await until.soon(lambda: "of 3 events" in (log.unwitnessed or ""))
        deaf = False
        await until.soon(lambda: log.unwitnessed is None)
    assert heard == [notes(file)[-1]]


async def test_a_witness_that_cannot_be_written_is_named(file: Path, tmp_path: Path) -> None:
    async with opened(file, witness=tmp_path / "nowhere" / "witness") as log:
        assert "No such file or directory" in (log.unwitnessed or "")
        await log.append(started(1, 1))
    os.mkfifo(tmp_path / "pipe")
    async with opened(file, witness=tmp_path / "pipe") as log:
        assert log.unwitnessed is not None


def test_a_line_that_did_not_fit_on_the_disk_is_ended_by_the_next(small_disk: Path) -> None:
    witness = FileWitness(small_disk / "witness")
    witness("first")
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(1 << 20))
    note = "x" * (2 << 20)
    with pytest.raises(
        OSError, match=r"^only a part of a checkpoint could be written to .*witness$"
    ):
        witness(note)
    with pytest.raises(OSError, match="No space left on device"):
        witness(note)
    ballast.unlink()
    witness("second")
    witness("third")
    first, torn, *rest = (small_disk / "witness").read_text().strip("\n").split("\n")
    assert (json.loads(first), torn[:3]) == ("first", '"xx')
    assert [json.loads(line) for line in rest] == ["second", "third"]


_OF_ANOTHER_USER = """
import asyncio, os, sys
from pathlib import Path
from tests.store.test_checkpoint import opened, started

user, place = int(sys.argv[1]), Path(sys.argv[2])
guarded, plain = place / "witness" / "guarded", place / "witness" / "plain"

async def witnessed(file, witness):
    async with opened(file, witness=witness) as log:
        await log.append(started(1, 3))
        if log.unwitnessed is not None:
            sys.exit(log.unwitnessed)

def refused(change, *given):
    try:
        change(*given)
    except PermissionError:
        return True
    return False

# First as root: whatever is imported late may not be readable for another user.
asyncio.run(witnessed(place / "root.db", None))
os.setgroups([])
os.setresgid(user, user, user)
os.setresuid(user, user, user)
asyncio.run(witnessed(place / "healer" / "log.db", guarded))
for file in (guarded, plain):
    tried = [(file.unlink,), (file.write_text, ""), (os.truncate, file, 0)]
    print(*(refused(*change) for change in tried))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_a_witness_of_another_user_can_be_added_to_and_not_rewritten() -> None:
    chattr = shutil.which("chattr")
    if chattr is None:
        pytest.skip("needs chattr")
    user, other = 65_001, 65_002
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        place.chmod(0o755)
        for name, owner in (("healer", user), ("witness", other)):
            (place / name).mkdir()
            os.chown(place / name, owner, owner)
        guarded, plain = place / "witness" / "guarded", place / "witness" / "plain"
        for witness in (guarded, plain):
            witness.touch()
            os.chown(witness, other, user)
            witness.chmod(0o660)
        if subprocess.run([chattr, "+a", guarded], capture_output=True, check=False).returncode:
            pytest.skip("this file system has no files that can only be added to")
        try:
            done = subprocess.run(
                [sys.executable, "-c", _OF_ANOTHER_USER, str(user), directory],
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        finally:
            subprocess.run([chattr, "-a", guarded], check=True)
        assert done.returncode == 0, done.stderr
        # It is the attribute that forbids it, and not the owner.
        assert done.stdout.splitlines() == ["True True True", "True False False"]
        lines = [json.loads(line) for line in guarded.read_text().splitlines() if line]
        assert lines == notes(place / "healer" / "log.db")
        assert verified(place / "healer" / "log.db", witness=guarded).ok


async def test_a_witness_that_joins_late_hears_of_the_newest(file: Path) -> None:
    async with opened(file) as log:
        await log.append(started(1, 3))
    heard: list[str] = []
    async with opened(file, witness=heard.append):
        assert heard == notes(file)[-1:]


def test_a_witness_hears_of_a_checkpoint_once(file: Path) -> None:
    heard: list[str] = []
    clock = Clock()
    sealing = Sealing(key_of(file), Cadence(period=60), heard.append, clock)
    with closing(ledger(file, sealing)) as log:
        log.append([[CODEC.encode(event) for event in started(1, 1)]])
        clock.now += 20
        log.seal()
        assert heard == notes(file)
        assert log.until_seal() == 40


def test_a_witness_that_did_not_hear_is_told_again_a_period_later(file: Path) -> None:
    def deaf(note: str) -> None:
        raise ConnectionError("nobody is there")

    clock = Clock()
    with closing(ledger(file, Sealing(key_of(file), Cadence(period=60), deaf, clock))) as log:
        clock.now += 20
        assert log.until_seal() == 40


def test_of_a_log_that_has_no_checkpoint_none_covers_anything(tmp_path: Path) -> None:
    notary = Notary(Sealing(tmp_path / "key"), "log-1", None)
    assert (notary.size, notary.unwitnessed, notary.unrotated) == (-1, None, None)
    assert notary.wait(0) == 0.0


# --- the key ------------------------------------------------------------------------------------


async def test_the_key_is_made_with_the_log_and_is_not_in_it(file: Path) -> None:
    before = os.umask(0)
    try:
        async with opened(file) as log:
            await log.append(started(1, 1))
    finally:
        os.umask(before)
    key = key_of(file)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    secret = KeyFile(key).create().private_bytes_raw()
    assert read(notes(file)[0]).key == public(KeyFile(key).create())
    content = contents(file)
    assert secret not in content
    assert secret.hex().encode() not in content


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
async def test_a_key_that_others_may_use_is_refused(file: Path, mode: int) -> None:
    async with opened(file):
        pass
    key_of(file).chmod(mode)
    with pytest.raises(StoreError, match=rf"its mode {mode:04o} lets others use .* allowed: 0600"):
        opened(file)
    key_of(file).chmod(0o600)
    async with opened(file):
        pass


def pem(key: object, encryption: KeySerializationEncryption | None = None) -> bytes:
    assert hasattr(key, "private_bytes")
    content: bytes = key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()
    )
    return content


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is not a PEM private key"),
        (b"garbage", "it is not a PEM private key"),
        (pem(KEY, BestAvailableEncryption(b"x")), "it is not a PEM private key"),
        (pem(generate_private_key(SECP256R1())), "it is not an Ed25519 key"),
        (pem(KEY), "it holds the key 03a107bf.*; allowed: .* signed last"),
    ],
)
async def test_a_key_that_is_not_the_logs_is_refused(file: Path, content: bytes, why: str) -> None:
    async with opened(file):
        pass
    key_of(file).write_bytes(content)
    for _ in range(2):
        with pytest.raises(StoreError, match=why):
            opened(file)


async def test_a_key_that_is_gone_is_not_made_anew(file: Path) -> None:
    async with opened(file):
        pass
    key_of(file).unlink()
    with pytest.raises(StoreError, match=r"log\.db\.key: No such file .*; without its key"):
        opened(file)
    key_of(file).symlink_to(file)
    with pytest.raises(StoreError, match="symbolic links"):
        opened(file)
    key_of(file).unlink()
    os.mkfifo(key_of(file), 0o600)
    with pytest.raises(StoreError, match=r"^cannot use .*log\.db\.key: it is not a regular file$"):
        opened(file)


async def test_a_key_is_not_kept_where_every_user_may_replace_it(tmp_path: Path) -> None:
    place = tmp_path / "open"
    place.mkdir()
    place.chmod(0o777)
    with pytest.raises(StoreError, match=r"its mode is 0777; allowed: 0700"):
        opened(place / "log.db")
    place.chmod(0o1777)
    async with opened(place / "log.db"):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
async def test_a_key_of_another_user_is_refused(file: Path) -> None:
    async with opened(file):
        pass
    os.chown(key_of(file), 12345, -1)
    with pytest.raises(StoreError, match="it belongs to user 12345; allowed: 0 or root"):
        opened(file)


def test_what_is_wrong_with_a_key_is_said_in_full(tmp_path: Path) -> None:
    path = tmp_path / "log.db.key"
    waiting = tmp_path / "log.db.key.next"
    kept = KeyFile(path)
    with pytest.raises(StoreError) as refused:
        kept.load(public(KEY))
    assert str(refused.value) == (
        f"cannot use {path}: No such file or directory; without its key the log cannot be signed"
    )
    for content, why in (
        (b"garbage", "it is not a PEM private key"),
        (pem(generate_private_key(SECP256R1())), "it is not an Ed25519 key"),
        (
            pem(KEY),
            f"it holds the key {public(KEY).hex()}; allowed: {bytes(32).hex()}, with which the log "
            "was signed last",
        ),
    ):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(StoreError) as refused:
            kept.load(bytes(32))
        assert str(refused.value) in {
            f"cannot use {path}: {why}",
            f"cannot sign with {path}: {why}",
        }
    path.chmod(0o644)
    with pytest.raises(StoreError) as refused:
        kept.load(public(KEY))
    assert str(refused.value) == (
        f"cannot use {path}: its mode 0644 lets others use the key; allowed: 0600"
    )
    path.unlink()
    path.mkdir()
    made = kept.prepare()
    assert stat.S_IMODE(waiting.stat().st_mode) == 0o600
    with pytest.raises(StoreError, match=rf"^cannot replace {path}: Is a directory$"):
        kept.switch()
    path.rmdir()
    kept.switch()
    assert kept.load(public(made)).private_bytes_raw() == made.private_bytes_raw()
    waiting.mkdir()
    with pytest.raises(StoreError, match=rf"^cannot write {waiting}: Is a directory$"):
        kept.prepare()
    elsewhere = KeyFile(tmp_path / "none" / "key")
    with pytest.raises(StoreError) as refused:
        elsewhere.create()
    assert str(refused.value) == f"cannot use {elsewhere.path}: No such file or directory"


# --- another key --------------------------------------------------------------------------------


async def test_a_new_key_is_named_by_the_old_one_which_is_gone(file: Path) -> None:
    old = None
    async with opened(file) as log:
        old = KeyFile(key_of(file)).create()
        await log.append(started(1, 1))
        new = await log.change_key()
        await log.append(started(2, 1))
    assert new != public(old)
    assert public(KeyFile(key_of(file)).create()) == new
    assert {path.name for path in file.parent.iterdir()} == {"log.db", "log.db.lock", "log.db.key"}
    said = [read(note) for note in notes(file)]
    assert [(each.size, each.epoch, each.key == new) for each in said] == [
        (0, 1, False),
        (1, 1, False),
        (2, 2, True),
    ]
    assert said[1].successor == new
    async with opened(file) as log:
        again = await log.change_key()
        await log.append(started(3, 1))
    assert [read(note).epoch for note in notes(file)] == [1, 1, 2, 2, 3]
    assert read(notes(file)[-1]).key == again
    assert verified(file, public_key=public(old).hex()).ok


async def test_a_change_of_keys_may_end_at_any_point(file: Path) -> None:
    async with opened(file):
        pass
    waiting = key_of(file).with_name("log.db.key.next")
    # Before it was named: the old one goes on.
    KeyFile(key_of(file)).prepare()
    async with opened(file) as log:
        await log.append(started(1, 1))
    assert [read(note).epoch for note in notes(file)] == [1, 1]
    # Named, and not yet in its place.
    old = key_of(file).read_bytes()
    async with opened(file) as log:
        await log.change_key()
    waiting.write_bytes(key_of(file).read_bytes())
    waiting.chmod(0o600)
    key_of(file).write_bytes(old)
    async with opened(file) as log:
        await log.append(started(2, 1))
    assert not waiting.exists()
    assert key_of(file).read_bytes() != old
    assert verified(file).ok
    # Only half of the new key was written.
    waiting.write_bytes(b"-----BEGIN PRIV")
    waiting.chmod(0o600)
    async with opened(file) as log:
        await log.append(started(3, 1))
        await log.change_key()
    assert verified(file).ok


def test_a_log_that_is_not_signed_is_not_archived(file: Path, tmp_path: Path) -> None:
    segment = Segment(1, 1, bytes(32), bytes(32), tmp_path / "events")
    with closing(Ledger(file, CODEC, lambda: "log-1")) as log:
        with pytest.raises(StoreError) as refused:
            log.archive(segment, segment.path, {})
        assert str(refused.value) == f"cannot archive {file}: it is not signed"
        with pytest.raises(StoreError) as refused:
            log.change_key()
        assert str(refused.value) == f"cannot change the key of {file}: it is not signed"


async def test_a_reader_changes_no_key(file: Path) -> None:
    async with opened(file) as log, SqliteLog.open_readonly(file) as reading:
        with pytest.raises(StoreError, match="it is not open for writing"):
            await reading.change_key()
    with pytest.raises(StoreError, match="it is not open for writing"):
        await log.change_key()


async def test_appends_and_changes_of_keys_may_meet(file: Path) -> None:
    async with opened(file) as log:
        await asyncio.gather(
            *(log.append([factory.playbook_started(stream=f"i{n}", version=1)]) for n in range(50)),
            log.change_key(),
            log.change_key(),
        )
    report = verified(file)
    assert (report.ok, report.events) == (True, 50)
    assert len([note for note in notes(file) if read(note).successor]) == 2


# --- a new key after so long ---------------------------------------------------------------------

DAY = 86_400.0


def labels(file: Path) -> list[tuple[int, int, bool]]:
    said = [read(note) for note in notes(file)]
    return [(each.size, each.epoch, each.successor is not None) for each in said]


class Dated(Ledger):
    """A log whose database has a clock of ours."""

    now = "2026-03-01T12:00:00.000Z"

    def _now(self) -> str:
        return self.now


def dated(file: Path, now: str) -> Dated:
    Dated.now = now
    sealing = Sealing(key_of(file), Cadence(events=1, period=NEVER), rotate_every=30 * DAY)
    return Dated(file, CODEC, lambda: "log-1", sealing=sealing)


def signed(log: Ledger, version: int) -> None:
    log.append([[CODEC.encode(event) for event in started(version, 1)]])
    log.seal()


def test_a_key_that_signed_for_its_time_hands_over_and_is_gone(file: Path) -> None:
    with closing(dated(file, "2026-03-01T12:00:00.000Z")) as log:
        first = key_of(file).read_bytes()
        signed(log, 1)
        Dated.now = "2026-03-31T11:59:59.999Z"
        signed(log, 2)
        assert key_of(file).read_bytes() == first
    # The time runs on over a restart: it began with the first checkpoint of the key.
    with closing(dated(file, "2026-03-31T12:00:00.000Z")) as log:
        signed(log, 3)
        second = key_of(file).read_bytes()
        assert second != first
        Dated.now = "2026-04-30T11:59:59.999Z"
        signed(log, 4)
        assert key_of(file).read_bytes() == second
    with closing(dated(file, "2026-04-30T12:00:00.000Z")) as log:
        signed(log, 5)
        signed(log, 6)
    assert labels(file) == [
        (0, 1, False),
        (1, 1, False),
        (2, 1, False),
        (3, 1, True),
        (4, 2, False),
        (5, 2, True),
        (6, 3, False),
    ]
    assert verified(file).ok
    assert not key_of(file).with_name("log.db.key.next").exists()


@pytest.mark.parametrize("now", ["2026-03-32T00:00:00Z", "2026-04-01T12:00:00.000"])
def test_a_key_whose_time_cannot_be_told_hands_over(file: Path, now: str) -> None:
    with closing(dated(file, "2026-03-01T12:00:00.000Z")) as log:
        Dated.now = now
        signed(log, 1)
    assert labels(file) == [(0, 1, False), (1, 1, True)]


def test_a_restart_behind_a_hand_over_begins_a_new_time(file: Path) -> None:
    with closing(dated(file, "2026-03-01T12:00:00.000Z")) as log:
        Dated.now = "2026-04-01T12:00:00.000Z"
        signed(log, 1)
    with closing(dated(file, "2026-04-30T12:00:00.000Z")) as log:
        signed(log, 2)
        # Since the hand-over, not since the restart.
        Dated.now = "2026-05-01T12:00:00.000Z"
        signed(log, 3)
    assert labels(file) == [(0, 1, False), (1, 1, True), (2, 2, False), (3, 2, True)]


def test_a_new_key_that_cannot_be_kept_leaves_the_old_one_signing(file: Path) -> None:
    with closing(dated(file, "2026-03-01T12:00:00.000Z")) as log:
        waiting = key_of(file).with_name("log.db.key.next")
        waiting.mkdir()
        Dated.now = "2026-04-01T12:00:00.000Z"
        signed(log, 1)
        assert "cannot write" in (log.unrotated or "")
        waiting.rmdir()
        signed(log, 2)
        assert log.unrotated is None
    assert labels(file) == [(0, 1, False), (1, 1, False), (2, 1, True)]
    assert verified(file).ok


async def test_a_log_is_opened_with_the_time_of_its_keys(file: Path) -> None:
    log = SqliteLog.open(file, new_log_id=lambda: "log-1", rotate_every=0.0)
    async with log:
        assert log.unrotated is None
    assert labels(file) == [(0, 1, True)]
