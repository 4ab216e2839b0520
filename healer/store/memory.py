"""The log in memory: the public twin of the one on disk, for tests and for trying things out."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from typing import Any, Final, Self

from healer.domain.events import Event, Fact, IssueDetected, IssueFailed, IssueVerified
from healer.errors import IssueConflictError, StoreError
from healer.ports import Recorded
from healer.store.claim import conflict
from healer.store.codec import Codec
from healer.store.feed import Feed, Listener
from healer.store.recall import recall_by_reading
from healer.store.unshared import Unshared

__all__ = ["MemoryLog"]

_BATCH: Final = 500


class MemoryLog(Unshared):
    """An `EventLog` that is gone with its process; it refuses what the one on disk refuses."""

    broken: str | None = None
    unavailable: str | None = None

    def __init__(self, *, codec: Codec | None = None) -> None:
        self._codec = codec or Codec()
        self._log: list[Recorded] = []
        self._streams: dict[str, list[Fact]] = {}
        self._open: dict[str, str] = {}
        self._feed = Feed(lambda after: self.read(after=after), poll=False)
        self._closed = False

    async def append(self, events: Sequence[Event]) -> int:
        """See `healer.ports.EventLog.append`."""
        if self._closed:
            raise StoreError("cannot append to memory: the log is closed")
        # Encoded only to refuse what the log on disk would refuse.
        facts = [self._codec.encode(event).event for event in events]
        self._check_versions(facts)
        claims = self._claims(facts)
        recorded = [
            Recorded(position, fact) for position, fact in enumerate(facts, len(self._log) + 1)
        ]
        self._open = claims
        self._log += recorded
        for fact in facts:
            self._streams.setdefault(fact.originator_id, []).append(fact)
        self._feed.publish(recorded)
        return len(self._log)

    def _check_versions(self, facts: Sequence[Fact]) -> None:
        versions: dict[str, int] = {}
        for fact in facts:
            stream = fact.originator_id
            current = versions.get(stream, len(self._streams.get(stream, ())))
            if fact.originator_version != current + 1:
                raise IssueConflictError(
                    f"cannot append {fact.event_id}: the stream is at version {current}"
                )
            versions[stream] = current + 1

    def _claims(self, facts: Sequence[Fact]) -> dict[str, str]:
        claims = dict(self._open)
        for fact in facts:
            match fact:
                case IssueDetected(component=component, originator_id=issue):
                    if component in claims:
                        raise conflict(component, issue, claims[component])
                    claims[component] = issue
                case IssueVerified(originator_id=issue) | IssueFailed(originator_id=issue):
                    claims = {name: held for name, held in claims.items() if held != issue}
        return claims

    async def read(self, *, after: int = 0, limit: int = _BATCH) -> list[Recorded]:
        """See `healer.ports.EventLog.read`."""
        self._check_open()
        start = max(after, 0)
        return self._log[start : start + limit]

    def recall(
        self, topics: Collection[str], *, refused: Callable[[StoreError], None]
    ) -> AsyncGenerator[Sequence[Any], None]:
        """See `healer.ports.EventLog.recall`."""
        del refused
        return recall_by_reading(self.read, topics)

    async def stream(self, stream_id: str) -> list[Fact]:
        """See `healer.ports.EventLog.stream`."""
        self._check_open()
        return list(self._streams.get(stream_id, ()))

    async def open_issues(self) -> dict[str, str]:
        """See `healer.ports.EventLog.open_issues`."""
        self._check_open()
        return dict(sorted(self._open.items()))

    async def head(self) -> int:
        """See `healer.ports.EventLog.head`."""
        self._check_open()
        return len(self._log)

    def follow(self, *, after: int) -> AsyncGenerator[Recorded, None]:
        """See `healer.ports.EventLog.follow`. Ends when the log is closed."""
        return self._feed.follow(after)

    def listen(self, callback: Listener) -> Callable[[], None]:
        """See `healer.ports.EventLog.listen`."""
        return self._feed.listen(callback)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("cannot read memory: the log is closed")

    async def close(self) -> None:
        """Take no more; harmless when done twice."""
        self._closed = True
        self._feed.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
