"""The thread that owns the ledger: it commits whatever waits as one group, with one fsync.

Fail-stop: when a commit fails, nobody knows what the file holds and what the kernel only pretends
to hold. The ledger is closed and every append refused, until one opened anew has verified its tail.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, NamedTuple

from healer.errors import StoreError
from healer.ports import Recorded
from healer.store.answer import Bell, copy_of, resolve
from healer.store.codec import Encoded
from healer.store.connection import refusals
from healer.store.feed import Feed
from healer.store.ledger import Ledger
from healer.store.place import Place

__all__ = ["Writer"]

# The least time between two attempts to open a log that failed, in seconds.
_RETRY: Final = 1.0

_Outcome = int | StoreError


class _Append(NamedTuple):
    entry: Sequence[Encoded]
    future: asyncio.Future[int]


class _Change(NamedTuple):
    future: asyncio.Future[bytes]


class _Stop(NamedTuple):
    future: asyncio.Future[None]
    finish: Callable[[], None]


class Writer:
    """Appends to a ledger from a thread of its own.

    `reopen` opens the log again after a failure, with its last connection still open elsewhere;
    `release` lets go of its lock when the thread ends.
    """

    def __init__(
        self,
        file: Path,
        ledger: Ledger,
        reopen: Callable[[], Ledger],
        feed: Feed,
        release: Callable[[], None],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.broken = ledger.broken
        self._failure: str | None = None
        self._place = Place(file)
        self._lost: str | None = None
        self._file = file
        self._ledger: Ledger | None = ledger
        self._head = ledger.head
        self._reopen = reopen
        self._feed = feed
        self._release = release
        self._monotonic = monotonic
        self._tried = 0.0
        self._bells: dict[asyncio.AbstractEventLoop, Bell] = {}
        self._waiting: SimpleQueue[_Append | _Change | _Stop] = SimpleQueue()
        # A daemon thread: a process that ends without closing its log loses nothing acknowledged.
        self._thread = threading.Thread(target=self._work, name="healer-log-writer", daemon=True)
        self._thread.start()

    async def append(self, entry: Sequence[Encoded]) -> int:
        """Append `entry` wholly or not at all; the position of its last event.

        Cancelling the wait does not take the entry back: it is in the queue, and will be committed.

        Raises:
            IssueConflictError: it lost a race.
            StoreError: it could not be made durable.
        """
        future: asyncio.Future[int] = self._answer()
        self._waiting.put(_Append(entry, future))
        return await future

    @property
    def unavailable(self) -> str | None:
        """Why the log cannot be written now; None while it can."""
        return self._failure or self._place.problem()

    @property
    def head(self) -> int:
        """The position of the last event that is known to be durable."""
        return self._head

    @property
    def alive(self) -> bool:
        """Whether the thread still works; without it no append is ever answered."""
        return self._thread.is_alive()

    @property
    def unwitnessed(self) -> str | None:
        """Why the witness has not heard of the newest checkpoint; None when it has."""
        return self._ledger.unwitnessed if self._ledger else None

    @property
    def unrotated(self) -> str | None:
        """Why the key that signs is older than it should be; None when it is not."""
        return self._ledger.unrotated if self._ledger else None

    async def change_key(self) -> bytes:
        """Commit what waits, then sign with a new key; its public half.

        Raises:
            StoreError: it could not be changed, or was changed and could not be kept.
        """
        future: asyncio.Future[bytes] = self._answer()
        self._waiting.put(_Change(future))
        return await future

    async def close(self, finish: Callable[[], None]) -> None:
        """Commit what waits, run `finish` (blocking) in the thread, checkpoint, end the thread."""
        future: asyncio.Future[None] = self._answer()
        self._waiting.put(_Stop(future, finish))
        await asyncio.wait([future])
        # Its last act was to say that it is done.
        self._thread.join()
        for bell in self._bells.values():
            bell.close()
        future.result()

    def _answer(self) -> asyncio.Future[Any]:
        """What the running loop waits for, and the thread gives by the loop's bell.

        Raises:
            StoreError: there is no descriptor left for a bell.
        """
        loop = asyncio.get_running_loop()
        if loop not in self._bells:
            with refusals(f"write to {self._file}"):
                self._bells[loop] = Bell(loop)
        return loop.create_future()

    def _tell(
        self, loop: asyncio.AbstractEventLoop, callback: Callable[..., None], *arguments: object
    ) -> None:
        self._bells[loop].ring(callback, *arguments)

    def _work(self) -> None:
        while True:
            group: list[_Append] = []
            then: _Change | _Stop | None = None
            try:
                item = self._waiting.get(timeout=self._pause())
            except Empty:
                if self._failure is None and self._lost is None:
                    self._seal()
                else:
                    self._recover()
                continue
            while True:
                if not isinstance(item, _Append):
                    then = item
                    break
                group.append(item)
                if self._waiting.empty():
                    break
                item = self._waiting.get_nowait()
            if group:
                self._commit(group)
                # Behind the answers: nobody waits for a signature.
                self._seal()
            match then:
                case _Change():
                    self._change(then)
                case _Stop():
                    self._end(then)
                    return

    def _pause(self) -> float | None:
        """For how long there is nothing to do but to wait; None: until somebody asks."""
        if self._failure is not None or self._lost is not None:
            return _RETRY if self.broken is None else None
        return self._ledger.until_seal() if self._ledger else None

    def _recover(self) -> None:
        """See whether what failed works again, though nobody appends: who waits for that holds."""
        try:
            self._available().prove()
        except StoreError:
            return  # `unavailable` goes on saying why
        except Exception as error:
            self._fail(error)
        else:
            self._failure = None

    def _seal(self) -> None:
        if self._ledger is None or self._lost is not None:
            return
        try:
            self._ledger.seal()
        except Exception as error:
            self._fail(error)

    def _change(self, change: _Change) -> None:
        problem: Exception | None = None
        key = b""
        try:
            key = self._available().change_key()
        except StoreError as error:
            problem = error
        except Exception as error:
            problem = self._fail(error)
        self._tell(change.future.get_loop(), resolve, change.future, key, problem)

    def _commit(self, group: Sequence[_Append]) -> None:
        outcomes: Sequence[_Outcome]
        try:
            ledger = self._available()
            if ledger.head > self._head and ledger.broken is None:
                # A commit that had failed was on the disk after all: its waiters were told that it
                # could not be made durable, but whoever listens has to hear of it, once.
                self._tell(group[0].future.get_loop(), self._feed.publish, ledger.since(self._head))
                self._head = ledger.head
            outcomes = ledger.append([append.entry for append in group])
            self._look()
            self._head = ledger.head
            self._failure = None
        except StoreError as error:
            outcomes = [error] * len(group)
        except Exception as error:
            # Not only the database's own errors: the thread must never leave anybody waiting.
            outcomes = [self._fail(error)] * len(group)
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Append, _Outcome]]] = {}
        for append, outcome in zip(group, outcomes, strict=True):
            by_loop.setdefault(append.future.get_loop(), []).append((append, outcome))
        for loop, settled in by_loop.items():
            self._tell(loop, self._settle, settled)

    def _look(self) -> None:
        """The files are still those that were opened.

        Raises:
            StoreError: naming the one that is not.
        """
        self._lost = self._place.problem()
        if self._lost is None:
            return
        if self._ledger is not None and self._place.has_file:
            # What was acknowledged is in the file that was taken away: bring it into the other one.
            self._ledger.checkpoint()
        raise StoreError(f"cannot append to {self._file}: {self._lost}")

    def _available(self) -> Ledger:
        self._look()
        if self._ledger is not None:
            return self._ledger
        now = self._monotonic()
        if now - self._tried < _RETRY:
            raise StoreError(f"cannot append to {self._file}: {self._failure}")
        self._tried = now
        try:
            ledger = self._reopen()
        except StoreError as error:
            raise StoreError(
                f"cannot append to {self._file}: {self._failure}; opening it again: {error}"
            ) from error
        if ledger.head < self._head:
            self._failure = f"event {ledger.head + 1} was acknowledged and is missing"
            ledger.close()
            raise StoreError(f"cannot append to {self._file}: {self._failure}")
        self._ledger = ledger
        self.broken = ledger.broken
        return ledger

    def _fail(self, error: Exception) -> StoreError:
        word = getattr(error, "sqlite_errorname", type(error).__name__)
        self._failure = f"the last write failed: {error} ({word})"
        self._tried = self._monotonic()
        ledger, self._ledger = self._ledger, None
        if ledger is not None:
            try:
                ledger.close()
            except sqlite3.Error as problem:
                self._failure += f"; closing it: {problem}"
        failure = StoreError(f"cannot append to {self._file}: {self._failure}")
        failure.__cause__ = error
        return failure

    def _settle(self, settled: Sequence[tuple[_Append, _Outcome]]) -> None:
        recorded: list[Recorded] = []
        for append, outcome in settled:
            if isinstance(outcome, int):
                if self._feed.heard:
                    first = outcome - len(append.entry) + 1
                    recorded += [
                        Recorded(first + index, encoded.event)
                        for index, encoded in enumerate(append.entry)
                    ]
                if not append.future.done():
                    append.future.set_result(outcome)
            elif not append.future.done():
                append.future.set_exception(copy_of(outcome))
        self._feed.publish(recorded)

    def _end(self, stop: _Stop) -> None:
        problem: Exception | None = None
        try:
            stop.finish()
            if self._ledger is not None:
                self._ledger.seal(closing=True)
                self._ledger.checkpoint()
        except sqlite3.Error as error:
            problem = StoreError(f"cannot checkpoint {self._file}: {error}")
        except Exception as error:
            problem = error
        finally:
            if self._ledger is not None:
                self._ledger.close()
            self._release()
        self._tell(stop.future.get_loop(), resolve, stop.future, None, problem)
