"""One node at a time heals a component: a lease on its open issue, with a fencing number.

The number is the position of the fact by which the node took the issue, so it lives in the log and
only grows. Renewing leaves no trace in the log: the log holds transitions, not heartbeats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from healer.errors import StoreError

__all__ = ["Holding", "Lease", "check_ttl"]

# A shorter one runs out while it is being asked for; a longer one is no lease.
_SHORTEST: Final = 0.1
_LONGEST: Final = 86_400.0


def check_ttl(ttl: float, doing: str) -> None:
    """Refuse a lease of no or of endless time.

    Raises:
        StoreError: "cannot <doing> ...".
    """
    if not _SHORTEST <= ttl <= _LONGEST:
        raise StoreError(f"cannot {doing} for {ttl:g} s: allowed: {_SHORTEST:g} to {_LONGEST:g} s")


@dataclass(frozen=True, slots=True)
class Lease:
    """What a node asks for: the open issue of `component` for `ttl` seconds, while the streams of
    `seen` stand at the versions that it names."""

    component: str
    node: str
    ttl: float
    seen: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Holding:
    """An open issue as the database has it.

    `fence` None: nobody claimed it, and any node may append to it. `alive`: the lease has not run
    out by the database's clock. `ttl` is set while it has still to be written.
    """

    component: str
    issue: str
    node: str | None = None
    fence: int | None = None
    alive: bool = False
    ttl: float | None = None
