"""The hash chain over the log: each event's hash covers its own bytes and the hash before it.

An unkeyed chain finds accidents and edits by those who do not know of it; who can write the file
can recompute it. Signed checkpoints and an outside witness build on the hashes made here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from hashlib import sha256
from typing import Final, NamedTuple

__all__ = ["Link", "first_break", "genesis", "link"]

# A leading 0x00 as RFC 6962 gives its leaves, so that no tree node built on top can pass for one.
_PLACE: Final = struct.Struct(">B32sQI")
_VERSION: Final = struct.Struct(">QI")
_LENGTH: Final = struct.Struct(">I")


class Link(NamedTuple):
    """One stored event as the chain sees it: the bytes that are hashed, and the hash stored."""

    position: int
    stream: str
    version: int
    topic: str
    body: bytes
    hash: bytes


def genesis(log_id: str) -> bytes:
    """What stands for the hash before the first event: SHA-256 of the log's id in UTF-8."""
    return sha256(log_id.encode()).digest()


def link(
    previous: bytes, position: int, stream: str, version: int, *, topic: str, body: bytes
) -> bytes:
    """The hash of one event (32 bytes).

    SHA-256 over: 0x00, the previous hash (32 bytes), the position (8 bytes), the stream, the
    version (8 bytes), the topic, the body; numbers are big-endian, texts are UTF-8, and each of
    the three variable parts follows its length in 4 bytes.
    """
    stream_bytes = stream.encode()
    topic_bytes = topic.encode()
    return sha256(
        b"".join(
            (
                _PLACE.pack(0, previous, position, len(stream_bytes)),
                stream_bytes,
                _VERSION.pack(version, len(topic_bytes)),
                topic_bytes,
                _LENGTH.pack(len(body)),
                body,
            )
        )
    ).digest()


def first_break(links: Iterable[Link], *, after: int, previous: bytes) -> str | None:
    """The first event that does not follow from the one before it, as words; None when all do.

    `after` is the position in front of the first link, `previous` its hash.
    """
    for entry in links:
        after += 1
        if entry.position != after:
            return f"event {after} is missing"
        previous = link(
            previous, after, entry.stream, entry.version, topic=entry.topic, body=entry.body
        )
        if previous != entry.hash:
            return f"event {after} does not match its hash"
    return None
