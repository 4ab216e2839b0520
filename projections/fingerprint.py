"""What views are compared by, where their bytes are too many to be sent or kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Self

__all__ = ["Fingerprint", "Fingerprints"]


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """How many bytes the canonical view has, and their SHA-256 in hexadecimal."""

    size: int
    sha256: str

    @classmethod
    def of(cls, view: bytes) -> Self:
        """That of these bytes."""
        return cls(len(view), sha256(view).hexdigest())


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """Those of the views at a position; stopped projections are absent."""

    position: int
    views: Mapping[str, Fingerprint]
