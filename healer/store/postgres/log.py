"""The log in PostgreSQL: what several nodes share."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final, Self

from healer.domain.events import Event, Fact
from healer.errors import StoreError
from healer.ports import Claim, Holder, Recorded
from healer.store.checkpoint import Cadence
from healer.store.codec import Codec
from healer.store.cold import Row
from healer.store.feed import Feed, Listener
from healer.store.notary import Sealing
from healer.store.postgres import inspection
from healer.store.postgres.connection import Connection
from healer.store.postgres.lease import Lease, check_ttl
from healer.store.postgres.ledger import Ledger
from healer.store.postgres.place import Place, locate
from healer.store.postgres.plan import Entry
from healer.store.postgres.reader import Reader
from healer.store.postgres.schema import require_schema
from healer.store.postgres.watch import watch
from healer.store.postgres.writer import PATIENCE, Writer
from healer.store.recall import recall_from
from healer.store.unshared import NOTHING_SEEN
from healer.store.witness import FileWitness, Witness

__all__ = ["PostgresLog"]

_BATCH: Final = 500
_CADENCE: Final = Cadence()


class PostgresLog:
    """An `EventLog` in the schema `healer` of a database: `PostgresLog.open` for a healer,
    `open_readonly` for everybody else.

    Opening blocks for as long as connecting takes; everything else is a coroutine that does not
    block. A log belongs to one event loop. Close it, or use it as an asynchronous context manager.

    An outage of the database needs nobody: appends wait for it (`unavailable` says so meanwhile),
    followers go on where they were, reads fail with a StoreError until it is over.
    """

    shared = True

    def __init__(
        self,
        place: Place,
        reader: Reader,
        codec: Codec,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        broken: str | None = None,
        writing: Callable[[Feed], Writer] | None = None,
    ) -> None:
        """Not for callers: see `open` and `open_readonly`."""
        self._place = place
        self._reader = reader
        self._feed = Feed(self._news, poll=True)
        self._codec = codec
        self._monotonic = monotonic
        self._broken = broken
        self._writer = writing(self._feed) if writing else None
        self._watch: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def source(self) -> str:
        """See `healer.store.lean.Lean`; it may have a password in it."""
        return self._place.url

    @classmethod
    def open(
        cls,
        url: str,
        *,
        new_log_id: Callable[[], str],
        node: str | None = None,
        codec: Codec | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        patience: float = PATIENCE,
        key: Path | None = None,
        witness: Path | Witness | None = None,
        cadence: Cadence = _CADENCE,
        rotate_every: float | None = None,
    ) -> PostgresLog:
        """Open the log for reading and appending, create it where there is none.

        `new_log_id` names a log that is created: its hash chain begins there. `node` is a name that
        no other log object may use while this one is open; None asks for none. An outage that lasts
        longer than `patience` seconds fails the appends that wait; `chance` spreads reconnections.

        With the file `key`, which is made where the log has no checkpoint yet, this node signs
        checkpoints at `cadence`; see `SqliteLog.open` for `witness` and `rotate_every`. Where the
        log was signed with another key than is in the file, it does not, and `unsigned` says so.

        Raises:
            NodeBusyError: a healer of that node name uses it.
            StoreError: it cannot be reached or opened, or is not a log that this version knows.
        """
        place = locate(url)
        codec = codec or Codec()
        sealing = None
        if key is not None:
            try:
                key.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(f"cannot keep {key}: {error.strerror}") from error
            told = FileWitness(witness) if isinstance(witness, Path) else witness
            sealing = Sealing(key, cadence, told, monotonic, rotate_every)
        ledger = Ledger(place, codec, new_log_id, sealing, node)
        return cls(
            place,
            Reader(place, codec),
            codec,
            monotonic=monotonic,
            writing=lambda feed: Writer(
                ledger,
                feed,
                name=str(place),
                monotonic=monotonic,
                chance=chance,
                patience=patience,
            ),
        )

    @classmethod
    def open_readonly(cls, url: str, *, codec: Codec | None = None) -> PostgresLog:
        """Open the log for reading only; a standby will do.

        Raises:
            StoreError: it cannot be reached or read, or is not a log that this version knows.
        """
        place = locate(url)
        codec = codec or Codec()
        reader = Reader(place, codec)

        def inspect(connection: Connection) -> str | None:
            if not require_schema(connection, place):
                raise StoreError(f"cannot open {place}: it is empty")
            end, _ = inspection.inspect(connection, codec)
            return end.broken

        try:
            broken = reader.now(inspect)
        except BaseException:
            reader.close()
            raise
        return cls(place, reader, codec, broken=broken)

    @property
    def broken(self) -> str | None:
        """What is wrong with the log, in words; such a log can only be read. None: nothing."""
        return self._writer.broken if self._writer else self._broken

    @property
    def unavailable(self) -> str | None:
        """Why nothing can be appended now although the log is whole. None: it can."""
        return self._writer.unavailable if self._writer else None

    @property
    def known_head(self) -> int | None:
        """The position of the last event that this node knows of, without asking the database;
        None where the log is only read."""
        return self._writer.head if self._writer else None

    @property
    def alive(self) -> bool:
        """Whether the thread that writes still works."""
        return self._writer is None or self._writer.alive

    @property
    def unsigned(self) -> str | None:
        """Why this node signs no checkpoints although it was told to; None: it does. Once a period
        it is tried again."""
        return self._writer.unsigned if self._writer else None

    @property
    def unwitnessed(self) -> str | None:
        """See `SqliteLog.unwitnessed`; of this node's witness."""
        return self._writer.unwitnessed if self._writer else None

    @property
    def unrotated(self) -> str | None:
        """See `SqliteLog.unrotated`."""
        return self._writer.unrotated if self._writer else None

    async def change_key(self) -> bytes:
        """See `SqliteLog.change_key`. Other nodes that sign need the new key file as well.

        Raises:
            StoreError: this node does not sign the log, or it cannot be written.
        """
        if self._writer is None or self._closed:
            raise StoreError(f"cannot change the key of {self._place}: it is not open for writing")
        return await self._writer.run(lambda ledger: ledger.change_key())

    async def append(self, events: Sequence[Event]) -> int:
        """See `healer.ports.EventLog.append`. Cancelling the wait does not take the events back.

        Raises:
            IssueConflictError: also when another node claimed the issue that the events belong to.
            StoreError: also after an outage, when it is not known whether they were written.
        """
        encode = self._codec.encode
        return await self._appending().append(Entry([encode(event) for event in events]))

    async def claim(
        self,
        component: str,
        events: Sequence[Event],
        *,
        node: str,
        ttl: float,
        seen: Mapping[str, int] = NOTHING_SEEN,
    ) -> Claim:
        """Append `events` and take the component's open issue for `node`, in one commit.

        The first claim can come with IssueDetected itself; a later one needs a fact of the issue,
        which then says who took it. From here on only this log object, not another of the same node
        and not one that claimed before, can append to the issue, until it ends or another claim
        succeeds: by the same node at any time, by another when `ttl` seconds have passed without
        `renew`. Time is the database's, so that the nodes' clocks need not agree; the end of the
        claim is counted from before the database was asked: here it comes sooner, never later.

        Raises:
            IssueConflictError: another node holds it, it has no open issue, or a stream has moved.
            StoreError: as `append`; also for a `ttl` that is not between 0.1 s and a day.
        """
        check_ttl(ttl, f"claim component {component!r}")
        asked = self._monotonic()
        encode = self._codec.encode
        encoded = [encode(event) for event in events]
        fence = await self._appending().append(Entry(encoded, Lease(component, node, ttl, seen)))
        return Claim(component, node, fence, asked + ttl)

    async def renew(self, *, ttl: float) -> list[Claim]:
        """Prolong every claim of this log object to `ttl` seconds from now, without a trace in the
        log; gives those that it still holds. What is missing was lost, or its issue has ended.

        Raises:
            StoreError: the database did not answer within the patience.
        """
        check_ttl(ttl, "renew the claims")
        asked = self._monotonic()
        held = await self._appending().run(lambda ledger: ledger.renew(ttl))
        return [Claim(component, node, fence, asked + ttl) for component, node, fence in held]

    def _appending(self) -> Writer:
        if self._closed:
            raise StoreError(f"cannot append to {self._place}: the log is closed")
        if self._writer is None:
            raise StoreError(f"cannot append to {self._place}: it is open for reading only")
        return self._writer

    async def read(self, *, after: int = 0, limit: int = _BATCH) -> list[Recorded]:
        """See `healer.ports.EventLog.read`."""
        return await self._reader.read(after, limit)

    async def recall(
        self, topics: Collection[str], *, refused: Callable[[StoreError], None]
    ) -> AsyncGenerator[Sequence[Any], None]:
        """See `healer.ports.EventLog.recall`."""
        until = await self.head()
        found = recall_from(self.source, topics, until=until, refused=refused)
        async with aclosing(found) as batches:
            async for facts in batches:
                yield facts

    async def rows(self, *, after: int = 0, limit: int = _BATCH) -> list[Row]:
        """As `read`, and as stored: for who needs no objects, at many times the speed."""
        return await self._reader.rows(after, limit)

    async def require_past(self) -> None:
        """See `healer.store.compiled.StoredEvents.require_past`."""
        await self._reader.require_past()

    async def stream(self, stream_id: str) -> list[Fact]:
        """See `healer.ports.EventLog.stream`."""
        return await self._reader.stream(stream_id)

    async def open_issues(self) -> dict[str, str]:
        """See `healer.ports.EventLog.open_issues`."""
        return await self._reader.open_issues()

    async def holder(self, component: str) -> Holder | None:
        """See `healer.ports.EventLog.holder`; asks and locks nothing."""
        return await self._reader.holder(component)

    async def head(self) -> int:
        """See `healer.ports.EventLog.head`."""
        return await self._reader.head()

    def follow(self, *, after: int) -> AsyncGenerator[Recorded, None]:
        """See `healer.ports.EventLog.follow`; of all nodes. Ends when the log is closed, and waits
        while the database does not answer."""
        return self._feed.follow(after)

    def listen(self, callback: Listener) -> Callable[[], None]:
        """See `healer.ports.EventLog.listen`; of all nodes, in the order of the log.

        Raises:
            StoreError: the log is open for reading only: follow it.
        """
        if self._writer is None:
            raise StoreError(
                f"cannot listen to {self._place}: it is open for reading only; follow it"
            )
        if not self._feed.heard:
            self._writer.look(skip=True)
        stop = self._feed.listen(callback)
        self._start_watching()
        return stop

    async def _news(self, after: int) -> list[Recorded]:
        self._start_watching()
        return await self._reader.news(after, _BATCH)

    def _start_watching(self) -> None:
        if self._watch is None and not self._closed:
            self._watch = asyncio.create_task(
                watch(self._place, self._grown), name=f"watch {self._place}"
            )

    def _grown(self) -> None:
        if self._writer is None:
            self._feed.publish(())
        else:
            self._writer.look()

    async def close(self) -> None:
        """Commit what waits, and disconnect; harmless when done twice."""
        if self._closed:
            return
        self._closed = True
        self._feed.close()
        self._reader.refuse()
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        if self._writer is None:
            await asyncio.to_thread(self._reader.close)
        else:
            await self._writer.close(self._reader.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
