"""What the events of a log say, one after the other: readable, and legal.

Judging needs none of the hashes, and hashing none of the events. So a long log in a file is judged
by a second process, which reads the same rows for itself, while the first one follows the chain.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from typing import Any, Final

from healer.domain.events import Event, Fact, IssueDetected, IssueFailed, IssueVerified
from healer.errors import StoreError
from healer.store.codec import Codec
from healer.store.compiled import CompiledReader
from replay.archive import Archive, Row
from replay.audit import Audit, Problem

__all__ = ["KEPT", "NOT_A_ROW", "Judge", "Verdict", "judging"]

KEPT: Final = 100
"""Problems that are kept; of more than these only the number is told."""

NOT_A_ROW: Final = (AttributeError, TypeError, struct.error)
"""What a table that was made anew without its types leads to."""

Again = Callable[[], AbstractContextManager[Archive]]

_TOLD_ELSEWHERE: Final = {"gap", "out_of_order"}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(slots=True)
class Verdict:
    """The first problems, how many there are, what is open at the end (issue → component), and how
    many events were judged."""

    kept: list[Problem]
    found: int
    open: dict[str, str]
    events: int = 0


class Judge:
    """Judges batches of rows, in log order. `carried` are the issues that are open where they
    begin, whose own beginning stands in an archive that is not here: nobody can judge those."""

    def __init__(self, carried: Mapping[str, str], codec: Codec | None = None) -> None:
        self.verdict = Verdict([], 0, dict(carried))
        self._codec = codec or Codec()
        self._audit = Audit()
        # Another codec knows other events.
        self._light = None if codec else CompiledReader()
        self._unknown = frozenset(carried)

    def take(self, rows: Sequence[Row]) -> None:
        """Judge the next rows."""
        look, light_of, open_issues = self._audit.look, self._light, self.verdict.open
        self.verdict.events += len(rows)
        for row in rows:
            position, stream, version, topic, time, body, _ = row
            fields: Any = light_of.read(topic, body) if light_of else None
            if fields is None or _microseconds(fields.timestamp) != time:
                fields = self._read(row)
                if fields is None:
                    continue
            kind: type[Event] = getattr(fields, "REAL", None) or type(fields)
            if stream not in self._unknown:
                for problem in look(position, stream, version, kind, fields):
                    if problem.code not in _TOLD_ELSEWHERE:
                        self._add(problem)
            if kind is IssueDetected:
                open_issues[stream] = fields.component
            elif kind is IssueVerified or kind is IssueFailed:
                open_issues.pop(stream, None)

    def _read(self, row: Row) -> Fact | None:
        """The event by the codec, which decides; None where it cannot be read."""
        position, stream, version, topic, time, body, _ = row
        try:
            event = self._codec.decode(stream, version, topic, body, place=f"event {position}")
        except StoreError as error:
            self._add(Problem(position, f"{stream}/{version}", "unreadable", str(error)))
            return None
        if (event.timestamp - _EPOCH) // _MICROSECOND != time:
            why = f"its column time says {time}, its body {event.timestamp}"
            message = f"cannot accept event {position}: {why}"
            self._add(Problem(position, event.event_id, "time", message))
        return event

    def _add(self, problem: Problem) -> None:
        self.verdict.found += 1
        if len(self.verdict.kept) < KEPT:
            self.verdict.kept.append(problem)


def _microseconds(moment: datetime) -> int | None:
    return None if moment.tzinfo is None else (moment - _EPOCH) // _MICROSECOND


class judging:  # noqa: N801 - a context manager that reads as one
    """Judges the events of the log that `again` opens, up to position `head`, in a process of its
    own while the context lasts; `verdict` waits for what it found."""

    def __init__(self, again: Again, head: int, carried: Mapping[str, str]) -> None:
        self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        self._found: Future[Verdict] = self._pool.submit(_judge, again, head, dict(carried))

    def verdict(self) -> Verdict | None:
        """None: the process ended without one, so that nothing is known."""
        try:
            return self._found.result()
        except BrokenProcessPool:
            return None

    def __enter__(self) -> judging:
        return self

    def __exit__(self, *_error: object) -> None:
        self._found.cancel()
        self._pool.shutdown(wait=True, cancel_futures=True)


def _judge(again: Again, head: int, carried: Mapping[str, str]) -> Verdict:
    judge = Judge(carried)
    with again() as archive, closing(_until(archive.rows(), head)) as batches:
        try:
            for rows in batches:
                judge.take(rows)
        except (StoreError, *NOT_A_ROW):
            # The damage is told by who follows the chain; what lies behind it cannot be judged.
            return judge.verdict
    return judge.verdict


def _until(batches: Iterable[Sequence[Row]], head: int) -> Any:
    for rows in batches:
        if rows and rows[-1][0] > head:
            yield [row for row in rows if row[0] <= head]
            return
        yield rows
