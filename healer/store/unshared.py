"""What a lease is in a log that only one healer writes: given to whoever asks, for ever."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, Protocol

from healer.domain.events import Event, Fact
from healer.errors import IssueConflictError
from healer.ports import Claim, Holder

__all__ = ["NOTHING_SEEN", "Unshared", "moved"]

NOTHING_SEEN: Final[Mapping[str, int]] = MappingProxyType({})


def moved(stream: str, expected: int, version: int) -> IssueConflictError:
    """The error of a claim that rests on what is not so any more."""
    return IssueConflictError(
        f"cannot claim on what was seen of {stream} at version {expected}: the stream is at "
        f"version {version}"
    )


class _Log(Protocol):
    async def append(self, events: Sequence[Event]) -> int: ...
    async def stream(self, stream_id: str) -> list[Fact]: ...
    async def open_issues(self) -> dict[str, str]: ...


class Unshared:
    """The part of `healer.ports.EventLog` that is about leases, for a log of one healer."""

    shared = False

    async def claim(
        self: _Log,
        component: str,
        events: Sequence[Event],
        *,
        node: str,
        ttl: float,
        seen: Mapping[str, int] = NOTHING_SEEN,
    ) -> Claim:
        """See `healer.ports.EventLog.claim`; nobody else could want it, so that it is an append."""
        del ttl
        for stream, expected in seen.items():
            version = len(await self.stream(stream))
            if version != expected:
                raise moved(stream, expected, version)
        return Claim(component, node, await self.append(events))

    async def renew(self, *, ttl: float) -> list[Claim]:
        """See `healer.ports.EventLog.renew`; nothing ever runs out here."""
        del ttl
        return []

    async def holder(self: _Log, component: str) -> Holder | None:
        """See `healer.ports.EventLog.holder`."""
        issue = (await self.open_issues()).get(component)
        return None if issue is None else Holder(issue, None, 0.0)
