"""The newest events of the log as server-sent events, encoded once for all who read them."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any, Final

import orjson

from healer.api import view
from healer.ports import Recorded

__all__ = ["CHUNK", "Ring", "encoded"]

CHUNK: Final = 64 * 1024
"""Bytes that are handed on at once, about; what a connection buffers before it asks for a pause."""


def encoded(recorded: Recorded) -> bytes:
    """One fact as a server-sent event. Its `id` is its position, so that a client that comes back
    says where it stood."""
    shown: dict[str, Any] = view.event(recorded)
    head = f"id: {recorded.position}\nevent: {shown['type']}\ndata: ".encode()
    return head + orjson.dumps(shown) + b"\n\n"


class Ring:
    """Holds all events behind the position `after` up to `last`, but no more than `events` of them
    and no more than `size` bytes: the oldest give way."""

    def __init__(self, position: int, *, events: int, size: int) -> None:
        self.after = position
        self.last = position
        self._events = events
        self._size = size
        self._bytes = 0
        self._positions: list[int] = []
        self._texts: list[bytes] = []

    def add(self, position: int, text: bytes) -> None:
        """Take one event in."""
        self._positions.append(position)
        self._texts.append(text)
        self._bytes += len(text)
        self.last = position

    def trim(self) -> None:
        """Let the oldest give way."""
        surplus = max(0, len(self._texts) - self._events)
        kept = self._bytes - sum(map(len, self._texts[:surplus]))
        while kept > self._size:
            kept -= len(self._texts[surplus])
            surplus += 1
        if surplus:
            self.after = self._positions[surplus - 1]
            self._bytes = kept
            del self._positions[:surplus], self._texts[:surplus]

    def behind(self, position: int) -> tuple[bytes, int]:
        """A chunk of what follows `position` (at least `after`), and the position that it ends at;
        empty when nothing follows yet."""
        first = at = bisect_right(self._positions, position)
        length = 0
        while at < len(self._texts) and length < CHUNK:
            length += len(self._texts[at])
            at += 1
        return b"".join(self._texts[first:at]), self._positions[at - 1] if at > first else position
