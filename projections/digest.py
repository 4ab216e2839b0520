"""A figure that two sets of rows share when they hold the same rows, in whatever order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from orjson import dumps

from projections.projection import Json

__all__ = ["Digest"]

_SIZE: Final = 32
_MODULUS: Final = 1 << (8 * _SIZE)


@dataclass(slots=True)
class Digest:
    """How many rows, and the sum of the SHA-256 of their values modulo 2^256.

    A sum, so that digests of parts add up to that of the whole. It compares what two programs of
    ours made of one log; it is no proof against somebody who chooses the rows (Wagner, "A
    generalized birthday problem", 2002).
    """

    rows: int = 0
    total: int = 0

    def add(self, values: Sequence[Json]) -> None:
        """Add a row; all of a set have the same columns in the same order."""
        self.total = (self.total + int.from_bytes(sha256(dumps(values)).digest())) % _MODULUS
        self.rows += 1

    def merge(self, other: Digest) -> None:
        self.rows += other.rows
        self.total = (self.total + other.total) % _MODULUS

    def copy(self) -> Digest:
        return Digest(self.rows, self.total)

    def view(self) -> Json:
        return {"rows": self.rows, "digest": self.total.to_bytes(_SIZE).hex()}
