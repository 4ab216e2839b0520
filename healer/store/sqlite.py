"""The log in one SQLite file."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final, Self

from healer.domain.events import Event, Fact
from healer.errors import StoreError
from healer.ports import Recorded
from healer.store import tail
from healer.store.checkpoint import Cadence
from healer.store.codec import Codec
from healer.store.cold import Row
from healer.store.connection import check_directory, check_file
from healer.store.feed import Feed, Listener
from healer.store.ledger import Ledger, require_log
from healer.store.lock import Lock
from healer.store.notary import Sealing
from healer.store.reader import Reader
from healer.store.recall import recall_from
from healer.store.schema import require_schema
from healer.store.unshared import Unshared
from healer.store.witness import FileWitness, Witness
from healer.store.writer import Writer

__all__ = ["SqliteLog"]

_BATCH: Final = 500
_CADENCE: Final = Cadence()


class SqliteLog(Unshared):
    """An `EventLog` in a file: `SqliteLog.open` for the healer, `open_readonly` for everybody else.

    Opening blocks for some milliseconds; everything else is a coroutine that does not block. A log
    belongs to one event loop. Close it, or use it as an asynchronous context manager.
    """

    def __init__(
        self,
        file: Path,
        reader: Reader,
        feed: Feed,
        codec: Codec,
        *,
        broken: str | None = None,
        writer: Writer | None = None,
    ) -> None:
        """Not for callers: see `open` and `open_readonly`."""
        self._file = file
        self._reader = reader
        self._feed = feed
        self._codec = codec
        self._broken = broken
        self._writer = writer
        self._closed = False

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        new_log_id: Callable[[], str],
        codec: Codec | None = None,
        witness: Path | Witness | None = None,
        cadence: Cadence | None = _CADENCE,
        rotate_every: float | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> SqliteLog:
        """Open the log for reading and appending, create it where there is none.

        `new_log_id` names a log that is created: its hash chain begins there. Checkpoints are
        signed at `cadence` (None: never) with the key in `<path>.key`, which is made with the log;
        `witness` is the file that gains a line with each, or is called with its text. A
        key that has signed for `rotate_every` seconds hands over to a new one and is destroyed
        (None: only on demand).

        Raises:
            StoreBusyError: another healer has it open.
            StoreError: it cannot be opened, or is not a log that this version knows, or it cannot
                be signed.
        """
        file = path.resolve()
        codec = codec or Codec()
        check_directory(file)
        if file.exists():
            check_file(file, writing=True)
            require_log(file, new=True)
        sealing = None
        if cadence is not None:
            told = FileWitness(witness) if isinstance(witness, Path) else witness
            key = file.with_name(f"{file.name}.key")
            sealing = Sealing(key, cadence, told, monotonic, rotate_every)
        lock = Lock(file)
        try:
            ledger = Ledger(file, codec, new_log_id, sealing=sealing)
            try:
                reader = Reader(file, codec)
            except BaseException:
                ledger.close()
                raise
        except BaseException:
            lock.release()
            raise
        feed = Feed(lambda after: reader.read(after, _BATCH), poll=False)
        writer = Writer(
            file, ledger, lambda: Ledger(file, codec, sealing=sealing), feed, lock.release
        )
        return cls(file, reader, feed, codec, writer=writer)

    @classmethod
    def open_readonly(cls, path: Path, *, codec: Codec | None = None) -> SqliteLog:
        """Open the log for reading only, whether or not a healer has it open.

        Raises:
            StoreError: it is not there, cannot be read, or is not a log that this version knows.
        """
        file = path.resolve()
        codec = codec or Codec()
        check_directory(file)
        check_file(file, writing=False)
        reader = Reader(file, codec)
        try:
            broken = reader.now(lambda connection: _inspect(connection, file))
        except BaseException:
            reader.close()
            raise
        feed = Feed(lambda after: reader.read(after, _BATCH), poll=True)
        return cls(file, reader, feed, codec, broken=broken)

    @property
    def broken(self) -> str | None:
        """What is wrong with the log, in words; such a log can only be read. None: nothing."""
        return self._writer.broken if self._writer else self._broken

    @property
    def unavailable(self) -> str | None:
        """Why nothing can be appended now although the log is whole (a full disk, for instance);
        the next append tries again, once a second at most. None: it can."""
        return self._writer.unavailable if self._writer else None

    @property
    def known_head(self) -> int | None:
        """What `head` gives, without waiting; None where the log is only read."""
        return self._writer.head if self._writer else None

    @property
    def alive(self) -> bool:
        """Whether the thread that writes still works."""
        return self._writer is None or self._writer.alive

    @property
    def file(self) -> Path:
        """Where the log is."""
        return self._file

    @property
    def source(self) -> Path:
        """See `healer.store.lean.Lean`."""
        return self._file

    @property
    def unwitnessed(self) -> str | None:
        """Why the witness has not heard of the newest checkpoint; it is told again at the next
        one, and once a period. None: it has, or there is none."""
        return self._writer.unwitnessed if self._writer else None

    @property
    def unrotated(self) -> str | None:
        """Why the key that signs is older than it should be: the new one could not be kept. It is
        tried again with each checkpoint. None: it is not."""
        return self._writer.unrotated if self._writer else None

    async def change_key(self) -> bytes:
        """Let a new key sign from now on, which the old one vouches for before it is destroyed: who
        takes the new one cannot rewrite what was signed before. Its public half (32 bytes).

        Raises:
            StoreError: the log is not signed, or cannot be written.
        """
        if self._writer is None or self._closed:
            raise StoreError(f"cannot change the key of {self._file}: it is not open for writing")
        return await self._writer.change_key()

    async def append(self, events: Sequence[Event]) -> int:
        """See `healer.ports.EventLog.append`. Cancelling the wait does not take the events back."""
        if self._closed:
            raise StoreError(f"cannot append to {self._file}: the log is closed")
        if self._writer is None:
            raise StoreError(f"cannot append to {self._file}: it is open for reading only")
        encode = self._codec.encode
        return await self._writer.append([encode(event) for event in events])

    async def read(self, *, after: int = 0, limit: int = _BATCH) -> list[Recorded]:
        """See `healer.ports.EventLog.read`."""
        return await self._reader.read(after, limit)

    async def rows(self, *, after: int = 0, limit: int = _BATCH) -> list[Row]:
        """As `read`, and as stored: for who needs no objects, at many times the speed. May end
        early, where an archive ends."""
        return await self._reader.rows(after, limit)

    async def require_past(self) -> None:
        """See `healer.store.compiled.StoredEvents.require_past`."""
        await self._reader.require_past()

    async def recall(
        self, topics: Collection[str], *, refused: Callable[[StoreError], None]
    ) -> AsyncGenerator[Sequence[Any], None]:
        """See `healer.ports.EventLog.recall`."""
        until = await self.head()
        found = recall_from(self._file, topics, until=until, refused=refused)
        async with aclosing(found) as batches:
            async for facts in batches:
                yield facts

    async def stream(self, stream_id: str) -> list[Fact]:
        """See `healer.ports.EventLog.stream`."""
        return await self._reader.stream(stream_id)

    async def open_issues(self) -> dict[str, str]:
        """See `healer.ports.EventLog.open_issues`."""
        return await self._reader.open_issues()

    async def head(self) -> int:
        """See `healer.ports.EventLog.head`. Who writes the log knows it without asking the disk."""
        if self._writer is not None and not self._closed:
            return self._writer.head
        return await self._reader.head()

    def follow(self, *, after: int) -> AsyncGenerator[Recorded, None]:
        """See `healer.ports.EventLog.follow`. Ends when the log is closed.

        A log that is open for reading only is looked at once a second.
        """
        return self._feed.follow(after)

    def listen(self, callback: Listener) -> Callable[[], None]:
        """See `healer.ports.EventLog.listen`.

        Raises:
            StoreError: the log is open for reading only: nothing is committed through it.
        """
        if self._writer is None:
            raise StoreError(
                f"cannot listen to {self._file}: it is open for reading only; follow it"
            )
        return self._feed.listen(callback)

    async def close(self) -> None:
        """Commit what waits, bring the WAL into the file, let another healer have it.

        Harmless when done twice.

        Raises:
            StoreError: the last checkpoint failed; nothing is lost, the next opening does it.
        """
        if self._closed:
            return
        self._closed = True
        self._feed.close()
        self._reader.refuse()
        if self._writer is None:
            await asyncio.to_thread(self._reader.close)
        else:
            await self._writer.close(self._reader.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _inspect(connection: sqlite3.Connection, file: Path) -> str | None:
    connection.execute("BEGIN")
    try:
        if not require_schema(connection, file):
            raise StoreError(f"cannot open {file}: it is empty")
        return tail.inspect(connection).broken
    finally:
        connection.execute("ROLLBACK")
