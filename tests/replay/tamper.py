"""Six attacks on a log by three attackers, made on the file or the database itself.

Each attacker is as careful as can be: positions, versions, the sequence of the database and the
table of open issues fit afterwards. A changes rows. B makes the hashes fit as well, and takes away
the checkpoints that do not. C has the key too and signs all of them again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from healer.store import checkpoint
from healer.store.chain import genesis, link

TRIGGERS = (
    "event_is_never_updated",
    "event_is_never_deleted",
    "checkpoint_is_never_updated",
    "checkpoint_is_never_deleted",
)


class Row(NamedTuple):
    position: int
    stream: str
    version: int
    topic: str
    time: int
    body: bytes
    hash: bytes


Rows = list[Row]
Attack = Callable[[Rows], Rows]


def edit(rows: Rows) -> Rows:
    at = _middle(rows)
    body = rows[at].body.replace(b'"node":"edge-1"', b'"node":"edge-2"')
    assert body != rows[at].body
    return [*rows[:at], rows[at]._replace(body=body), *rows[at + 1 :]]


def delete(rows: Rows) -> Rows:
    at = _middle(rows)
    return [*rows[:at], *rows[at + 1 :]]


def insert(rows: Rows) -> Rows:
    at = _middle(rows)
    return [*rows[:at], rows[at], *rows[at:]]


def reorder(rows: Rows) -> Rows:
    at = next(
        index
        for index in range(len(rows) // 3, len(rows))
        if rows[index].stream != rows[index + 1].stream
        and rows[index + 1].topic == "component.health_changed.v1"
    )
    return [*rows[:at], rows[at + 1], rows[at], *rows[at + 2 :]]


def truncate(rows: Rows) -> Rows:
    last = [index for index, row in enumerate(rows) if row.topic == "issue.verified.v1"][-4]
    return rows[: last + 1]


def drop_stream(rows: Rows) -> Rows:
    stream = rows[_middle(rows)].stream
    return [row for row in rows if row.stream != stream]


ATTACKS: dict[str, Attack] = {
    attack.__name__: attack for attack in (edit, delete, insert, reorder, truncate, drop_stream)
}


def _middle(rows: Rows) -> int:
    return next(
        index
        for index in range(len(rows) // 3, len(rows))
        if rows[index].topic == "issue.check_recorded.v1"
    )


class Break:
    """A log file in the hands of somebody who may write it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        with self.connected() as connection:
            self.rows = [
                Row(*row) for row in connection.execute("SELECT * FROM event ORDER BY position")
            ]
            self.notes = [
                note
                for (note,) in connection.execute("SELECT note FROM checkpoint ORDER BY number")
            ]
            (self.log_id,) = connection.execute("SELECT log_id FROM meta").fetchone()
        self._before = self.rows

    def connected(self) -> AbstractContextManager[Any]:
        """A connection to where the log is."""
        return closing(sqlite3.connect(self.file))

    def attack(self, attack: Attack) -> None:
        """What A does."""
        versions: dict[str, int] = {}
        rows = []
        for position, row in enumerate(attack(self.rows), start=1):
            versions[row.stream] = versions.get(row.stream, 0) + 1
            rows.append(row._replace(position=position, version=versions[row.stream]))
        self.rows = rows

    @property
    def harmed(self) -> int:
        """The first position that is not what it was."""
        pairs = zip(self._before, self.rows, strict=False)
        same = next((n for n, (a, b) in enumerate(pairs) if a[:6] != b[:6]), None)
        return min(len(self._before), len(self.rows)) + 1 if same is None else same + 1

    def recompute(self) -> None:
        """Make the hashes fit."""
        previous = genesis(self.log_id)
        rows = []
        for row in self.rows:
            previous = link(
                previous, row.position, row.stream, row.version, topic=row.topic, body=row.body
            )
            rows.append(row._replace(hash=previous))
        self.rows = rows

    def drop_notes(self) -> None:
        """Take away the checkpoints that would tell."""
        harmed = self.harmed
        self.notes = [note for note in self.notes if checkpoint.read(note).size < harmed]

    def sign(self, key: Ed25519PrivateKey) -> None:
        """Sign every checkpoint again, for a log of one epoch."""
        heads = {0: genesis(self.log_id), **{row.position: row.hash for row in self.rows}}
        notes: list[str] = []
        for note in self.notes:
            said = checkpoint.read(note)
            size = min(said.size, self.rows[-1].position)
            while size not in heads:
                size -= 1
            signed = replace(
                said,
                log_id=self.log_id,
                size=size,
                head=heads[size],
                key=key.public_key().public_bytes_raw(),
                previous=checkpoint.digest(notes[-1]) if notes else None,
            )
            notes.append(checkpoint.sign(signed, key))
        self.notes = notes

    def write(self) -> None:
        """Put it all back into the file."""
        with closing(sqlite3.connect(self.file)) as connection:
            for trigger in TRIGGERS:
                connection.execute(f"DROP TRIGGER IF EXISTS {trigger}")
            connection.execute("DELETE FROM event")
            connection.execute("DELETE FROM checkpoint")
            connection.executemany("INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?)", self.rows)
            connection.executemany(
                "INSERT INTO checkpoint (size, note) VALUES (?, ?)",
                [(_size(note), note) for note in self.notes],
            )
            connection.execute(
                "UPDATE sqlite_sequence SET seq = ? WHERE name = 'event'", (len(self.rows),)
            )
            connection.commit()


def _size(note: str) -> int:
    try:
        return checkpoint.read(note).size
    except Exception:
        return 0


def by_a(log: Break, attack: Attack) -> None:
    log.attack(attack)
    log.write()


def by_b(log: Break, attack: Attack) -> None:
    log.attack(attack)
    log.recompute()
    log.drop_notes()
    log.write()


def by_c(log: Break, attack: Attack) -> None:
    log.attack(attack)
    log.recompute()
    log.sign(stolen(log.file))
    log.write()


def stolen(file: Path) -> Ed25519PrivateKey:
    """The key beside the file."""
    key = load_pem_private_key(file.with_name(f"{file.name}.key").read_bytes(), password=None)
    assert isinstance(key, Ed25519PrivateKey)
    return key


ATTACKERS: dict[str, Callable[[Break, Attack], None]] = {"A": by_a, "B": by_b, "C": by_c}


def sql(file: Path, *statements: str, with_triggers: bool = False) -> None:
    """Run `statements` on the file, without the triggers that guard against accidents."""
    with closing(sqlite3.connect(file)) as connection:
        for trigger in () if with_triggers else TRIGGERS:
            connection.execute(f"DROP TRIGGER IF EXISTS {trigger}")
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def notes_of(file: Path) -> Sequence[str]:
    """The checkpoints in the file."""
    return Break(file).notes
