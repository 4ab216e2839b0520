"""What the events of a log say, one after the other: readable, and legal.

Judging needs none of the hashes, and hashing none of the events. So a long log in a file is judged
by a second process, which reads the same rows for itself, while the first one follows the chain and
reads what need only be readable, so that both are done at the same time.
"""

from __future__ import annotations

import gc
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from types import MappingProxyType
from typing import Any, Final

from healer.domain.events import (
    CheckRecorded,
    Event,
    Fact,
    IssueDetected,
    IssueFailed,
    IssueVerified,
)
from healer.errors import StoreError
from healer.store.codec import Codec
from healer.store.compiled import CompiledReader
from replay.archive import Archive, Row
from replay.audit import Audit, Problem

__all__ = ["ASIDE", "KEPT", "NOT_A_ROW", "Judge", "Schema", "Verdict", "judging"]

KEPT: Final = 100
"""Problems that are kept; of more than these only the number is told."""

NOT_A_ROW: Final = (AttributeError, TypeError, struct.error)
"""What a table that was made anew without its types leads to."""

ASIDE: Final[Mapping[str, type[Event]]] = MappingProxyType({CheckRecorded.TOPIC: CheckRecorded})
"""Topics of which the audit asks nothing but that they come while their issue is open: half of what
there is to read."""

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


class Schema:
    """Whether rows can be read, and say the same time twice."""

    def __init__(self, codec: Codec | None = None) -> None:
        self.problems: list[Problem] = []
        self.found = 0
        self._codec = codec or Codec()
        # Another codec knows other events.
        self._light = None if codec else CompiledReader()

    def look(self, row: Row) -> Any:
        """The event of a row; None where it cannot be read."""
        fields = self._light.read(row[3], row[5]) if self._light else None
        if fields is not None and _microseconds(fields.timestamp) == row[4]:  # type: ignore[attr-defined]
            return fields
        return self._read(row)

    def take(self, rows: Iterable[Row]) -> None:
        """Look at those of `rows` that a judge which reads `aside` leaves out."""
        look = self.look
        for row in rows:
            if row[3] in ASIDE:
                look(row)

    def add(self, problem: Problem) -> None:
        """Keep `problem`, or count it where there are too many."""
        self.found += 1
        if len(self.problems) < KEPT:
            self.problems.append(problem)

    def _read(self, row: Row) -> Fact | None:
        """The event by the codec, which decides."""
        position, stream, version, topic, time, body, _ = row
        try:
            event = self._codec.decode(stream, version, topic, body, place=f"event {position}")
        except StoreError as error:
            self.add(Problem(position, f"{stream}/{version}", "unreadable", str(error)))
            return None
        if (event.timestamp - _EPOCH) // _MICROSECOND != time:
            why = f"its column time says {time}, its body {event.timestamp}"
            message = f"cannot accept event {position}: {why}"
            self.add(Problem(position, event.event_id, "time", message))
        return event


class Judge:
    """Judges batches of rows, in log order. `carried` are the issues that are open where they
    begin, whose own beginning stands in an archive that is not here: nobody can judge those. With
    `aside` somebody else reads those that only have to be readable (see `ASIDE`)."""

    def __init__(
        self, carried: Mapping[str, str], codec: Codec | None = None, *, aside: bool = False
    ) -> None:
        self._open = dict(carried)
        self._events = 0
        self._schema = Schema(codec)
        self._audit = Audit()
        self._unknown = frozenset(carried)
        self._aside = aside

    @property
    def verdict(self) -> Verdict:
        """What was found so far."""
        schema = self._schema
        return Verdict(schema.problems, schema.found, self._open, self._events)

    def take(self, rows: Sequence[Row]) -> None:
        """Judge the next rows."""
        look, read, open_issues = self._audit.look, self._schema.look, self._open
        self._events += len(rows)
        for row in rows:
            position, stream, version, topic, _, _, _ = row
            kind = ASIDE.get(topic)
            fields: Any = None
            if kind is None or not self._aside:
                fields = read(row)
            if kind is None:
                if fields is None:
                    continue
                kind = getattr(fields, "REAL", None) or type(fields)
            if stream not in self._unknown:
                for problem in look(position, stream, version, kind, fields):
                    if problem.code not in _TOLD_ELSEWHERE:
                        self._schema.add(problem)
            if kind is IssueDetected:
                open_issues[stream] = fields.component
            elif kind is IssueVerified or kind is IssueFailed:
                open_issues.pop(stream, None)


def _microseconds(moment: datetime) -> int | None:
    return None if moment.tzinfo is None else (moment - _EPOCH) // _MICROSECOND


class judging:  # noqa: N801 - a context manager that reads as one
    """Judges the events of the log that `again` opens, up to position `head`, those of `ASIDE` not
    read, in a process of its own while the context lasts; `verdict` waits for what it found."""

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
    # Nothing in a row or an event is a circle, and the process ends with it.
    gc.disable()
    judge = Judge(carried, aside=True)
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
