"""A checkpoint: how long the log was and what its head hashed to, signed and naming the one before.

The text is a C2SP signed note whose body is a C2SP checkpoint with extension lines:

    network-healer/<log id, percent-encoded>
    <size: events so far>
    <hash of the last of them, base64>
    time <UTC, a label>
    epoch <number of the signing key, from 1>
    key <that key, hex>
    next <the key of the next epoch, hex; only where this is the last checkpoint of its epoch>
    archived <first and last position, hash of the last and SHA-256 of the files, hex; only where
        these events were moved into an archive with this checkpoint, all on one line>
    previous <SHA-256 of the whole checkpoint before, hex; "none" in the first>

    — network-healer/<log id> <base64 of 4 bytes that name the key, and the Ed25519 signature>

The signature covers everything in front of the empty line. As each checkpoint names the one before
by its hash, the last signature of an epoch vouches for all the others of it.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Final
from urllib.parse import quote, unquote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from healer.errors import StoreError

__all__ = [
    "EVENTS",
    "PERIOD",
    "Cadence",
    "Checkpoint",
    "Stretch",
    "digest",
    "is_signed_by",
    "read",
    "sign",
]

EVENTS: Final = 100
PERIOD: Final = 60.0

_ORIGIN: Final = "network-healer/"
_ED25519: Final = b"\x01"
_NOTE: Final = re.compile(
    r"network-healer/(?P<log>[\w.~%-]+)\n"
    r"(?P<size>0|[1-9][0-9]{0,17})\n"
    r"(?P<hash>[A-Za-z0-9+/]{43}=)\n"
    r"time (?P<time>[0-9TZ:.-]+)\n"
    r"epoch (?P<epoch>[1-9][0-9]{0,8})\n"
    r"key (?P<key>[0-9a-f]{64})\n"
    r"(?:next (?P<next>[0-9a-f]{64})\n)?"
    r"(?:archived (?P<first>[1-9][0-9]{0,17}) (?P<last>[1-9][0-9]{0,17}) "
    r"(?P<root>[0-9a-f]{64}) (?P<files>[0-9a-f]{64})\n)?"
    r"previous (?P<previous>[0-9a-f]{64}|none)\n"
    r"\n"
    r"— network-healer/(?P<signer>[\w.~%-]+) (?P<signature>[A-Za-z0-9+/]{91}=)\n",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Cadence:
    """When a checkpoint is due: after so many `events`, or so many seconds (`period`) after an
    event that none covers; besides after each issue that ended, and at the close."""

    events: int = EVENTS
    period: float = PERIOD


@dataclass(frozen=True, slots=True)
class Stretch:
    """Events that stand in an archive: `head` is the hash of the last of them, `digest` that of
    the archive's files."""

    first: int
    last: int
    head: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint says. `head` is the hash of event `size`, or the genesis where it is 0;
    `key` and `successor` are raw public keys of 32 bytes; `previous` is the digest of the one
    before, None in the first; `archived` is what was moved into an archive with it."""

    log_id: str
    size: int
    head: bytes
    time: str
    epoch: int
    key: bytes
    successor: bytes | None
    previous: bytes | None
    archived: Stretch | None = None


def sign(checkpoint: Checkpoint, key: Ed25519PrivateKey) -> str:
    """The text of `checkpoint`, signed by `key`, which has to be the private half of its key."""
    body = _body(checkpoint)
    signature = _key_name(checkpoint.log_id, checkpoint.key) + key.sign(body.encode())
    return f"{body}\n— {_name(checkpoint.log_id)} {_base64(signature)}\n"


def read(note: str) -> Checkpoint:
    """What the text says; whether it is signed is another question.

    Raises:
        StoreError: it is not the text of a checkpoint.
    """
    found = _NOTE.fullmatch(note)
    if found is None:
        raise StoreError(f"cannot read a checkpoint: {_shown(note)} is not one")
    successor, previous = found["next"], found["previous"]
    return Checkpoint(
        log_id=unquote(found["log"]),
        size=int(found["size"]),
        head=base64.b64decode(found["hash"]),
        time=found["time"],
        epoch=int(found["epoch"]),
        key=bytes.fromhex(found["key"]),
        successor=bytes.fromhex(successor) if successor else None,
        previous=None if previous == "none" else bytes.fromhex(previous),
        archived=_stretch(found),
    )


def is_signed_by(note: str, checkpoint: Checkpoint, key: bytes) -> bool:
    """Whether `note`, which says `checkpoint`, was signed by the owner of the public `key`."""
    body, _, line = note.partition("\n\n")
    name, _, encoded = line.removeprefix("— ").removesuffix("\n").partition(" ")
    signature = base64.b64decode(encoded)
    if name != _name(checkpoint.log_id) or signature[:4] != _key_name(checkpoint.log_id, key):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature[4:], f"{body}\n".encode())
    except InvalidSignature:
        return False
    return True


def digest(note: str) -> bytes:
    """By what the next checkpoint names this one (32 bytes)."""
    return sha256(note.encode()).digest()


def _stretch(found: re.Match[str]) -> Stretch | None:
    if found["last"] is None:
        return None
    head, files = bytes.fromhex(found["root"]), bytes.fromhex(found["files"])
    return Stretch(int(found["first"]), int(found["last"]), head, files)


def _body(checkpoint: Checkpoint) -> str:
    lines = [
        _name(checkpoint.log_id),
        str(checkpoint.size),
        _base64(checkpoint.head),
        f"time {checkpoint.time}",
        f"epoch {checkpoint.epoch}",
        f"key {checkpoint.key.hex()}",
    ]
    if checkpoint.successor is not None:
        lines.append(f"next {checkpoint.successor.hex()}")
    moved = checkpoint.archived
    if moved is not None:
        lines.append(f"archived {moved.first} {moved.last} {moved.head.hex()} {moved.digest.hex()}")
    lines.append(f"previous {checkpoint.previous.hex() if checkpoint.previous else 'none'}")
    return "\n".join(lines) + "\n"


def _name(log_id: str) -> str:
    return _ORIGIN + quote(log_id, safe="")


def _key_name(log_id: str, key: bytes) -> bytes:
    # The key id of a C2SP signed note.
    return sha256(_name(log_id).encode() + b"\n" + _ED25519 + key).digest()[:4]


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _shown(note: str) -> str:
    return repr(note if len(note) <= 60 else f"{note[:60]}...")
