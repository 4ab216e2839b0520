"""What the events of a log say, one after the other: readable, and legal."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from healer.domain.events import Fact, IssueDetected, IssueFailed, IssueVerified
from healer.errors import StoreError
from healer.store.codec import Codec
from healer.store.compiled import CompiledReader
from replay.archive import Row
from replay.audit import Audit, Problem

__all__ = ["KEPT", "NOT_A_ROW", "Judge"]

KEPT: Final = 100
"""Problems that are kept; of more than these only the number is told."""

NOT_A_ROW: Final = (AttributeError, TypeError, struct.error)
"""What a table that was made anew without its types leads to."""

_TOLD_ELSEWHERE: Final = {"gap", "out_of_order"}
_BOUNDS: Final = frozenset({IssueDetected, IssueVerified, IssueFailed})
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Judge:
    """Judges batches of rows, in log order. `carried` are the issues that are open where they
    begin, whose own beginning stands in an archive that is not here: nobody can judge those.

    `problems` are the first ones and `found` says how many there are, `open` are the issues that
    are open (issue → component), `first` says where each component's first issue was detected.
    """

    def __init__(self, carried: Mapping[str, str], codec: Codec | None = None) -> None:
        self.problems: list[Problem] = []
        self.found = 0
        self.open = dict(carried)
        self.first: dict[str, int] = {}
        self._codec = codec or Codec()
        # Another codec knows other events: it is asked for each.
        self._light = CompiledReader() if codec is None else CompiledReader(types={})
        self._audit = Audit()
        self._unknown = frozenset(carried)

    def take(self, rows: Sequence[Row]) -> None:
        """Judge the next rows."""
        look, light, unknown = self._audit.look, self._light.read, self._unknown
        for row in rows:
            position, stream, version, topic, time, body, _ = row
            fields: Any = light(topic, body)
            if fields is None or _microseconds(fields.timestamp) != time:
                fields = self._read(row)
                if fields is None:
                    continue
                kind = type(fields)
            else:
                kind = fields.REAL
            if stream not in unknown:
                for problem in look(position, stream, version, kind, fields):
                    if problem.code not in _TOLD_ELSEWHERE:
                        self._add(problem)
            if kind not in _BOUNDS:
                continue
            if kind is IssueDetected:
                self.open[stream] = fields.component
                self.first.setdefault(fields.component, position)
            else:
                self.open.pop(stream, None)

    def _read(self, row: Row) -> Fact | None:
        """The event by the codec, which decides."""
        position, stream, version, topic, time, body, _ = row
        try:
            event = self._codec.decode(stream, version, topic, body, place=f"event {position}")
        except StoreError as error:
            self._add(Problem(position, f"{stream}/{version}", "unreadable", str(error)))
            return None
        if _microseconds(event.timestamp) != time:
            why = f"its column time says {time}, its body {event.timestamp}"
            message = f"cannot accept event {position}: {why}"
            self._add(Problem(position, event.event_id, "time", message))
        return event

    def _add(self, problem: Problem) -> None:
        self.found += 1
        if len(self.problems) < KEPT:
            self.problems.append(problem)


def _microseconds(moment: datetime) -> int | None:
    if moment.tzinfo is None:
        return None
    since = moment - _EPOCH  # by its parts: a division of two durations takes longer
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
