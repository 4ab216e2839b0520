"""The thread that owns the ledger: it commits whatever waits as one group, and outlives outages.

What was sent and not answered is not failed and not sent again: as soon as the database is back it
is looked up. Only when that takes longer than the patience are the waiting told that nobody knows.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from queue import Empty, SimpleQueue
from typing import Any, Final, NamedTuple, TypeVar

import psycopg

from healer.errors import StoreError
from healer.ports import Recorded
from healer.store.feed import Feed
from healer.store.postgres.connection import LOST, UnreachableError, words
from healer.store.postgres.ledger import Committed, Ledger
from healer.store.postgres.plan import Entry, Outcome

__all__ = ["PATIENCE", "Writer"]

PATIENCE: Final = 30.0
"""How long an outage may last before waiting appends are given up, in seconds: a server that
restarts after a crash, or another that takes its place, is back within that."""

# Waits between attempts to reconnect, in seconds: doubled each time, each made longer or shorter by
# half at random, so that the nodes do not all come at once.
_FIRST_WAIT: Final = 0.05
_LONGEST_WAIT: Final = 2.0
_BATCH: Final = 500
_SILENT: Final = 5.0
"""Seconds without an answer, from which on the database is said to be away."""

_T = TypeVar("_T")


class _Append(NamedTuple):
    entry: Entry
    future: asyncio.Future[int]


class _Look(NamedTuple):
    """Others may have appended. `skip`: nobody has to hear of what was there before."""

    loop: asyncio.AbstractEventLoop
    skip: bool


class _Job(NamedTuple):
    work: Callable[[Ledger], Any]
    future: asyncio.Future[Any]


class _Stop(NamedTuple):
    finish: Callable[[], None]
    future: asyncio.Future[None]


class _DefectError(StoreError):
    """What is neither the database's error nor the log's."""


class Writer:
    """Appends to a ledger from a thread of its own, and tells `feed` of every node's commits."""

    def __init__(
        self,
        ledger: Ledger,
        feed: Feed,
        *,
        name: str,
        monotonic: Callable[[], float],
        chance: Callable[[], float],
        patience: float,
    ) -> None:
        self._unavailable: str | None = None
        self._asked: float | None = None
        self._ledger = ledger
        self._feed = feed
        self._name = name
        self._monotonic = monotonic
        self._chance = chance
        self._patience = patience
        self._told = ledger.head
        self._lost_at: float | None = None
        self._attempts = 0
        self._retry_at = 0.0
        self._closing = threading.Event()
        self._waiting: SimpleQueue[_Append | _Look | _Job | _Stop] = SimpleQueue()
        # A daemon thread: a process that ends without closing its log loses nothing acknowledged.
        self._thread = threading.Thread(target=self._work, name="healer-log-writer", daemon=True)
        self._thread.start()

    @property
    def broken(self) -> str | None:
        """What is wrong with the log, in words; None: nothing."""
        return self._ledger.broken

    @property
    def unavailable(self) -> str | None:
        """Why the log cannot be written now; None: it can."""
        asked = self._asked
        silent = 0.0 if asked is None else self._monotonic() - asked
        if self._unavailable is None and silent > _SILENT:
            # No error yet, and no answer either: a cut wire, a server that was stopped.
            return f"the database has not answered for {silent:.0f} s"
        return self._unavailable

    @property
    def head(self) -> int:
        """The position of the last event that this node knows to be durable."""
        return self._ledger.head

    @property
    def alive(self) -> bool:
        """Whether the thread still works; without it no append is ever answered."""
        return self._thread.is_alive()

    @property
    def unsigned(self) -> str | None:
        """Why this node signs no checkpoints; None when it does, or was not told to."""
        return self._ledger.unsigned

    @property
    def unwitnessed(self) -> str | None:
        """Why the witness has not heard of the newest checkpoint; None when it has."""
        return self._ledger.unwitnessed

    @property
    def unrotated(self) -> str | None:
        """Why the key that signs is older than it should be; None when it is not."""
        return self._ledger.unrotated

    async def append(self, entry: Entry) -> int:
        """Append `entry` wholly or not at all; the position of its last event.

        Cancelling the wait does not take the entry back: it is in the queue, and will be committed.

        Raises:
            IssueConflictError: it lost a race.
            StoreError: it could not be made durable, or it is not known whether it is.
        """
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.put(_Append(entry, future))
        return await future

    async def run(self, work: Callable[[Ledger], _T]) -> _T:
        """Run `work` in the thread; it may be run again when the connection is lost meanwhile.

        Raises:
            StoreError: the database did not answer.
        """
        future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self._waiting.put(_Job(work, future))
        return await future

    def look(self, *, skip: bool = False) -> None:
        """Have the listeners told of what other nodes appended; on the event loop."""
        self._waiting.put(_Look(asyncio.get_running_loop(), skip))

    async def close(self, finish: Callable[[], None]) -> None:
        """Commit what waits, run `finish` (blocking) in the thread, disconnect, end the thread."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.put(_Stop(finish, future))
        self._closing.set()
        await future
        # Its last act was to say that it is done.
        self._thread.join()

    def _work(self) -> None:
        while True:
            group: list[_Append] = []
            joins: list[_Look] = []
            others: list[_Look | _Job] = []
            stop: _Stop | None = None
            try:
                item = self._waiting.get(timeout=self._until_seal())
            except Empty:
                self._seal()
                continue
            while stop is None:
                match item:
                    case _Append():
                        group.append(item)
                    case _Stop():
                        stop = item
                        break
                    case _Look(skip=True):
                        joins.append(item)
                    case _:
                        others.append(item)
                try:
                    item = self._waiting.get_nowait()
                except Empty:
                    break
            # Who begins to listen hears of the group that is committed now, and of nothing before.
            for join in joins:
                self._catch_up(join)
            if group:
                self._commit(group)
                # Behind the answers: nobody waits for a signature.
                self._seal()
            for other in others:
                if isinstance(other, _Look):
                    self._catch_up(other)
                else:
                    self._do(other)
            if stop is not None:
                self._end(stop)
                return

    # --- what is asked of the ledger -------------------------------------------------------------

    def _commit(self, group: Sequence[_Append]) -> None:
        entries = [append.entry for append in group]
        loop = group[0].future.get_loop()
        try:
            committed = self._persist(lambda ledger: ledger.append(entries))
        except StoreError as error:
            _tell(loop, self._settle, group, [error] * len(group))
            return
        news = self._news(loop, entries, committed)
        _tell(loop, self._settle, group, committed.outcomes, news)

    def _news(
        self, loop: asyncio.AbstractEventLoop, entries: Sequence[Entry], committed: Committed
    ) -> list[Recorded]:
        if not self._feed.heard:
            self._told = max(self._told, self._ledger.head)
            return []
        if not self._tell_of_others(loop, committed.start):
            return []
        own: list[Recorded] = []
        position = committed.start
        for entry, outcome in zip(entries, committed.outcomes, strict=True):
            if isinstance(outcome, int):
                for encoded in entry.events:
                    position += 1
                    own.append(Recorded(position, encoded.event))
        self._told = position
        return own

    def _catch_up(self, look: _Look) -> None:
        if self._monotonic() < self._retry_at:
            return
        try:
            reached = self._once(lambda ledger: ledger.reach())
        except StoreError as error:
            # The next look finds what this one would have.
            self._say(look.loop, error)
            return
        if look.skip or not self._feed.heard:
            self._told = max(self._told, reached)
        else:
            self._tell_of_others(look.loop, reached)
        _tell(look.loop, self._feed.publish, ())

    def _tell_of_others(self, loop: asyncio.AbstractEventLoop, last: int) -> bool:
        # In the order of the log: nothing behind `last` may be told before all up to it was.
        while self._told < last:
            upto = min(last, self._told + _BATCH)
            try:
                recorded, problems = self._once(
                    lambda ledger, upto=upto: ledger.between(self._told, upto)  # type: ignore[misc]
                )
            except StoreError as error:
                # Told by the next look or append that succeeds, before what is new then.
                self._say(loop, error)
                return False
            for problem in problems:
                self._say(loop, problem)
            _tell(loop, self._feed.publish, recorded)
            self._told = upto
        return True

    def _say(self, loop: asyncio.AbstractEventLoop, problem: StoreError) -> None:
        if isinstance(problem, UnreachableError):
            return  # `unavailable` says so
        context = {"message": "an event was not told to listeners", "exception": problem}
        _tell(loop, loop.call_exception_handler, context)

    def _do(self, job: _Job) -> None:
        try:
            answer = self._persist(job.work)
        except StoreError as error:
            _tell(job.future.get_loop(), _fail, job.future, error)
        else:
            _tell(job.future.get_loop(), _succeed, job.future, answer)

    def _until_seal(self) -> float | None:
        wait = self._ledger.until_seal()
        return None if wait is None else max(wait, self._retry_at - self._monotonic())

    def _seal(self) -> None:
        if self._monotonic() < self._retry_at:
            return
        try:
            self._once(lambda ledger: ledger.seal())
        except UnreachableError:
            # `unavailable` says so, and `_until_seal` when it is tried again.
            return
        except StoreError as error:
            # `unsigned` says it.
            self._ledger.postpone(words(error))

    # --- outages ---------------------------------------------------------------------------------

    def _persist(self, work: Callable[[Ledger], _T]) -> _T:
        """Do `work` however often the database is lost meanwhile, until the patience ends."""
        while True:
            ending, overdue = self._closing.is_set(), self._is_overdue()
            if overdue and self._monotonic() < self._retry_at:
                raise UnreachableError(f"cannot use {self._name}: {self.unavailable}")
            try:
                return self._once(work)
            except UnreachableError:
                if ending or overdue:
                    raise
            self._closing.wait(self._retry_at - self._monotonic())

    def _is_overdue(self) -> bool:
        return self._lost_at is not None and self._monotonic() - self._lost_at >= self._patience

    def _once(self, work: Callable[[Ledger], _T]) -> _T:
        self._asked = self._monotonic()
        try:
            answer = work(self._ledger)
        except LOST as error:
            self._lose(error)
            raise UnreachableError(f"cannot use {self._name}: {self.unavailable}") from error
        except StoreError:
            raise
        except Exception as error:
            # Not only the database's own: the thread must live, and never leave anybody waiting.
            self._ledger.drop()
            kind = StoreError if isinstance(error, psycopg.Error) else _DefectError
            sort = type(error).__name__
            raise kind(f"cannot use {self._name}: {words(error)} ({sort})") from error
        finally:
            self._asked = None
        self._unavailable = None
        self._lost_at = None
        self._attempts = 0
        self._retry_at = 0.0
        return answer

    def _lose(self, error: Exception) -> None:
        self._ledger.drop()
        now = self._monotonic()
        if self._lost_at is None:
            self._lost_at = now
        self._unavailable = f"the database does not answer: {words(error)}"
        wait = min(_FIRST_WAIT * 2**self._attempts, _LONGEST_WAIT) * (0.5 + self._chance())
        self._attempts = min(self._attempts + 1, 16)
        self._retry_at = now + wait

    # --- answers, on the event loop --------------------------------------------------------------

    def _settle(
        self, group: Sequence[_Append], outcomes: Sequence[Outcome], news: Sequence[Recorded] = ()
    ) -> None:
        for append, outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, int):
                _succeed(append.future, outcome)
            else:
                _fail(append.future, outcome)
        self._feed.publish(news)

    def _seal_last(self) -> None:
        if self._lost_at is not None:
            return
        try:
            self._once(lambda ledger: ledger.seal(closing=True))
        except _DefectError:
            raise
        except StoreError:
            # Who opens the log next signs what this one could not, and finds what is wrong with it.
            return

    def _end(self, stop: _Stop) -> None:
        try:
            with closing(self._ledger):
                stop.finish()
                self._seal_last()
        except Exception as error:
            _tell(stop.future.get_loop(), _fail, stop.future, error)
        else:
            _tell(stop.future.get_loop(), _succeed, stop.future, None)


def _tell(
    loop: asyncio.AbstractEventLoop, callback: Callable[..., None], *arguments: object
) -> None:
    try:
        loop.call_soon_threadsafe(callback, *arguments)
    except RuntimeError:
        # The loop was closed: nobody waits any more, and what was committed stays committed.
        if not loop.is_closed():
            raise


def _succeed(future: asyncio.Future[_T], answer: _T) -> None:
    if not future.done():
        future.set_result(answer)


def _fail(future: asyncio.Future[_T], problem: Exception) -> None:
    if future.done():
        return
    if isinstance(problem, StoreError):
        # Each waiter raises its own: one object raised in several tasks gathers their tracebacks.
        copy = type(problem)(*problem.args)
        copy.__cause__ = problem.__cause__
        problem = copy
    future.set_exception(problem)
