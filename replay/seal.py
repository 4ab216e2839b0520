"""The signatures of a log: its checkpoints, the keys that signed them, and what a witness saw.

Nothing that the log says of itself is believed where somebody else said it before: the first key
may be given, and each checkpoint that the witness has must be in the log, to the letter.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from healer.errors import StoreError
from healer.store.checkpoint import EVENTS, Checkpoint, Stretch, digest, is_signed_by, read
from replay.audit import Problem

__all__ = ["UNSIGNED", "Seals", "sightings"]

UNSIGNED: Final = 2 * EVENTS
"""Events at the end that no checkpoint may cover yet: what a crash can leave between a commit of
many at once and the signature behind it."""


class _Segment(NamedTuple):
    """A checkpoint whose signature vouches for those in front of it, back to the last break."""

    number: int
    note: str
    checkpoint: Checkpoint


def sightings(witness: Path) -> tuple[dict[bytes, Checkpoint], list[Problem]]:
    """Digest → the checkpoint that the witness saw, and which of its lines nobody could have
    written so.

    A line without its end is what a crash leaves; the checkpoint was told again after it.

    Raises:
        StoreError: the file cannot be read.
    """
    seen: dict[bytes, Checkpoint] = {}
    problems: list[Problem] = []
    try:
        with witness.open("rb") as file:
            for number, line in enumerate(file, start=1):
                text = line.removesuffix(b"\n")
                if not text or (text.startswith(b'"') and not text.endswith(b'"')):
                    continue
                try:
                    note = json.loads(text)
                    checkpoint = read(note)
                except (StoreError, TypeError, ValueError, RecursionError) as error:
                    why = f"cannot accept line {number} of the witness {witness}: {error}"
                    problems.append(Problem(0, "", "witness_unreadable", why))
                else:
                    seen[digest(note)] = checkpoint
    except OSError as error:
        raise StoreError(f"cannot read the witness {witness}: {error.strerror}") from error
    return seen, problems


class Seals:
    """All checkpoints of a log, looked at in order.

    Afterwards `marks` says what the log hashed to at which size, `last` is the newest checkpoint
    that can be read, `key` the first public key, `archived` what was moved into archives.
    """

    def __init__(self, log_id: str, key: bytes | None, seen: Mapping[bytes, Checkpoint]) -> None:
        self.count = 0
        self.marks: dict[int, bytes] = {}
        self.last: Checkpoint | None = None
        self.key = key
        self.archived: list[Stretch] = []
        self._seen = dict(seen)
        self._log_id = log_id
        self._epoch = 1
        self._current = key
        self._previous: bytes | None = None
        self._vouching: _Segment | None = None

    @property
    def unseen(self) -> list[Checkpoint]:
        """What the witness saw and the log does not have, in the witness's order."""
        return list(self._seen.values())

    def look(self, notes: Iterable[str]) -> Iterator[Problem]:
        """What is wrong with the checkpoints, in their order. One that cannot be read, or does not
        follow from the one before, ends a segment; the last signature of each is checked."""
        for note in notes:
            self.count += 1
            yield from self._look(self.count, note)
        yield from self._vouch()

    def _look(self, number: int, note: str) -> Iterator[Problem]:
        name = digest(note)
        self._seen.pop(name, None)
        try:
            checkpoint = read(note)
        except StoreError as error:
            yield from self._vouch()
            self._previous = name
            yield _problem(number, self.last, "checkpoint_unreadable", str(error))
            return
        if self._current is None:
            self.key = self._current = checkpoint.key
        if checkpoint.previous != self._previous:
            yield from self._vouch()
            why = "it does not name the one before it: one is missing, or was changed"
            yield _problem(number, checkpoint, "checkpoint_order", why)
        if checkpoint.log_id != self._log_id:
            why = f"it is of another log, {checkpoint.log_id!r}"
            yield _problem(number, checkpoint, "checkpoint_of_another_log", why)
        if (checkpoint.epoch, checkpoint.key) != (self._epoch, self._current):
            why = (
                f"it is of epoch {checkpoint.epoch} and key {checkpoint.key.hex()}; epoch "
                f"{self._epoch} with key {self._current.hex()} is due"
            )
            yield _problem(number, checkpoint, "checkpoint_key", why)
        if checkpoint.size < (self.last.size if self.last else 0):
            why = f"it covers {checkpoint.size} events, fewer than the one before it"
            yield _problem(number, checkpoint, "checkpoint_order", why)
        if checkpoint.archived is not None:
            yield from self._moved(number, checkpoint, checkpoint.archived)
        if self.marks.setdefault(checkpoint.size, checkpoint.head) != checkpoint.head:
            why = f"another one says otherwise of the same {checkpoint.size} events"
            yield _problem(number, checkpoint, "checkpoint_contradicted", why)
        self._previous, self.last = name, checkpoint
        self._vouching = _Segment(number, note, checkpoint)
        if checkpoint.successor is not None:
            yield from self._vouch()
            self._epoch, self._current = self._epoch + 1, checkpoint.successor

    def _moved(self, number: int, checkpoint: Checkpoint, stretch: Stretch) -> Iterator[Problem]:
        before = self.archived[-1].last if self.archived else 0
        if stretch.first != before + 1 or not before < stretch.last <= checkpoint.size:
            why = f"it archives {stretch.first} to {stretch.last} after {before}"
            yield _problem(number, checkpoint, "checkpoint_order", why)
        if self.marks.setdefault(stretch.last, stretch.head) != stretch.head:
            why = f"another one says otherwise of the {stretch.last} events that it archives"
            yield _problem(number, checkpoint, "checkpoint_contradicted", why)
        self.archived.append(stretch)

    def _vouch(self) -> Iterator[Problem]:
        segment, self._vouching = self._vouching, None
        if segment is None or self._current is None:
            return
        number, note, checkpoint = segment
        if not is_signed_by(note, checkpoint, self._current):
            why = f"it was not signed by the key of epoch {self._epoch}, {self._current.hex()}"
            yield _problem(number, checkpoint, "checkpoint_signature", why)


def _problem(number: int, near: Checkpoint | None, code: str, why: str) -> Problem:
    size = near.size if near else 0
    return Problem(size, "", code, f"cannot accept checkpoint {number} ({size} events): {why}")
