"""Small logs in memory, sealed by hand: what a verifier is told, row by row and note by note."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from healer.errors import StoreError
from healer.ports import Recorded
from healer.store.chain import genesis, link
from healer.store.checkpoint import Checkpoint, digest, sign
from healer.store.codec import Codec
from healer.store.cold import Segment
from replay.archive import Archive, Row

__all__ = [
    "KEY",
    "LOG_ID",
    "STRANGER",
    "MemoryArchive",
    "Notes",
    "chained",
    "head",
    "public",
    "rows_of",
    "sealed",
]

LOG_ID = "log-1"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
STRANGER = Ed25519PrivateKey.from_private_bytes(bytes(range(32, 64)))


def public(key: Ed25519PrivateKey) -> bytes:
    """The public half."""
    return key.public_key().public_bytes_raw()


def head(size: int) -> bytes:
    """A hash that nothing hashes to, another one for each size."""
    return sha256(b"%d" % size).digest()


class Notes(list[str]):
    """Checkpoints, one after the other."""

    def say(self, size: int, *, by: Ed25519PrivateKey = KEY, **changes: Any) -> Notes:
        """One that follows from what was said before, but for `changes`."""
        previous = digest(self[-1]) if self else None
        time = "2026-03-01T12:00:00.000Z"
        said = Checkpoint(LOG_ID, size, head(size), time, 1, public(KEY), None, previous)
        self.append(sign(replace(said, **changes), by))
        return self

    def put(self, text: str) -> Notes:
        """Whatever it is."""
        self.append(text)
        return self


@dataclass
class MemoryArchive:
    """What `Archive` is, in memory. A context manager."""

    stored: list[Row]
    signed: Notes
    log_id: str = LOG_ID
    head: int = 0
    given: int = 0
    segments: Sequence[Segment] = ()
    absent: int = 0
    streams: Mapping[str, int] = field(default_factory=dict)
    carried: Mapping[str, str] = field(default_factory=dict)
    table: dict[str, str] = field(default_factory=dict)
    batch: int = 1000
    damaged: int | None = None
    """From this position on nothing can be read."""
    cut: tuple[int, bytes] | str | None = ""
    """What `seam` says, where that is not what it should."""

    def again(self) -> Callable[[], AbstractContextManager[Archive]]:
        return partial(replace, self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def seam(self, middle: int) -> tuple[int, bytes] | None:
        if not isinstance(self.cut, str):
            return self.cut
        return next(((row[0], row[-1]) for row in self.stored if row[0] == middle), None)

    def rows(self, *, after: int = 0, until: int | None = None) -> Iterator[Sequence[Row]]:
        batch: list[Row] = []
        for row in self.stored:
            if self.damaged is not None and row[0] >= self.damaged:
                if batch:
                    yield batch
                raise StoreError("cannot read the log: database disk image is malformed")
            if row[0] > after and (until is None or row[0] <= until):
                batch.append(row)
            if len(batch) == self.batch:
                yield batch
                batch = []
        if batch:
            yield batch

    def notes(self) -> Iterator[str]:
        return iter(self.signed)

    def claims(self) -> dict[str, str]:
        return self.table

    def put(self, position: int, *, link_it: bool = False, **changes: Any) -> None:
        """Change columns of the event at `position`; `link_it` makes all hashes fit."""
        names = ("position", "stream", "version", "topic", "time", "body", "hash")
        at = next(n for n, row in enumerate(self.stored) if row[0] == position)
        row: Any = tuple((dict(zip(names, self.stored[at], strict=True)) | changes).values())
        self.stored[at] = row
        if link_it:
            self.stored = chained(self.stored)

    def seal(self, every: int = 10) -> MemoryArchive:
        """Sign what is stored, after each `every` events and at the end."""
        heads = {0: genesis(self.log_id), **{row[0]: row[-1] for row in self.stored}}
        end = max(heads)
        self.signed = Notes()
        for size in sorted({0, *range(every, end, every), end}):
            self.signed.say(size, head=heads[size])
        return self


def rows_of(facts: Iterable[Recorded]) -> list[Row]:
    """As they are stored."""
    codec = Codec()
    rows: list[Row] = []
    for recorded in facts:
        _, stream, version, topic, time, body = codec.encode(recorded.event)
        rows.append((recorded.position, stream, version, topic, time, body, b""))
    return chained(rows)


def chained(rows: Sequence[Row]) -> list[Row]:
    """The same with hashes that fit."""
    previous, told = genesis(LOG_ID), list[Row]()
    for position, stream, version, topic, time, body, _ in rows:
        previous = link(previous, position, stream, version, topic=topic, body=body)
        told.append((position, stream, version, topic, time, body, previous))
    return told


def sealed(facts: Sequence[Recorded], **fields: Any) -> MemoryArchive:
    """A log of these, that nobody touched; `fields` of it that are told otherwise."""
    rows = rows_of(facts)
    archive = MemoryArchive(rows, Notes(), head=len(rows), given=len(rows), **fields)
    return archive.seal()
