"""One way through a log as it is stored: each event hashed, counted, decoded and judged."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from healer.domain.events import Event, Fact, IssueDetected, IssueFailed, IssueVerified
from healer.errors import StoreError
from healer.store.chain import genesis, link
from healer.store.codec import Codec
from healer.store.compiled import CompiledReader
from replay.archive import Archive, Row
from replay.audit import Audit, Problem
from replay.seal import UNSIGNED, Seals

__all__ = ["Progress", "Walk"]

Progress = Callable[[int, int], None]
"""Told how many events of how many are done."""

_KEPT: Final = 100
_TOLD_HERE: Final = {"gap", "out_of_order"}
_NOT_A_ROW: Final = (AttributeError, TypeError, struct.error)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class Walk:
    """Looks at a whole log once; remembers a number per stream and the open issues, not the events.

    `kept` holds the first problems, `found` counts all, `events` is how many events there were.
    """

    def __init__(
        self, archive: Archive, seals: Seals, codec: Codec | None, progress: Progress, *, deep: bool
    ) -> None:
        self.kept: list[Problem] = []
        self.found = 0
        self.events = 0
        self._archive = archive
        self._seals = seals
        self._codec = codec or Codec()
        self._progress = progress
        self._deep = deep
        self._audit = Audit()
        # Another codec knows other events.
        self._light = None if codec else CompiledReader()
        self._position = 0
        self._versions: dict[str, int] = {}
        self._open: dict[str, str] = {}
        # Issues whose beginning stands in an archive that is not here: nobody can judge them.
        self._unknown: frozenset[str] = frozenset()
        self._marks: dict[int, list[tuple[str, bytes]]] = {}
        self._believed: dict[str, int] = {}

    def add(self, problem: Problem) -> None:
        """Keep `problem`, or count it where there are too many."""
        self.found += 1
        if len(self.kept) < _KEPT:
            self.kept.append(problem)

    def _say(self, position: int, code: str, why: str, event_id: str = "") -> None:
        self.add(Problem(position, event_id, code, f"cannot accept event {position}: {why}"))

    def run(self, log_id: str) -> None:
        """The checkpoints, every event, and what is missing at the end. `log_id` is the name that
        the log should have."""
        if self._archive.log_id != log_id:
            why = f"it calls itself {self._archive.log_id!r}; {log_id!r} is expected"
            self.add(Problem(0, "", "another_log", f"cannot accept the log: {why}"))
        try:
            for problem in self._seals.look(self._archive.notes()):
                self.add(problem)
            self._mark("a checkpoint", self._seals.marks)
            seen = {each.checkpoint.size: each.checkpoint.head for each in self._seals.unseen}
            self._mark("the witness", seen)
            self._look(self._begin(genesis(log_id)))
            if self._deep:
                self._check_claims()
        except StoreError as error:
            # What lies behind the damage cannot be told from what was taken away.
            self._say(self._position + 1, "damaged", str(error))
        else:
            self._check_end()

    def _begin(self, start: bytes) -> bytes:
        """Where the events begin that are here, and the hash in front of them: where archives are
        elsewhere, what was signed when they were made stands for them."""
        ours = [(each.first, each.last, each.head, each.digest) for each in self._archive.segments]
        signed = [(each.first, each.last, each.head, each.digest) for each in self._seals.archived]
        if ours != signed:
            why = f"it says that {_spans(ours)} were archived; {_spans(signed)} is signed"
            self.add(Problem(0, "", "archive", f"cannot accept its table of archives: {why}"))
        self._compare(0, start)
        absent = self._archive.absent
        if absent:
            self._position, self._versions = absent, dict(self._archive.streams)
            self._open = dict(self._archive.carried)
            self._unknown = frozenset(self._open)
            start = next((head for _, last, head, _ in signed if last == absent), start)
        return start

    def _mark(self, who: str, heads: Mapping[int, bytes]) -> None:
        for size, head in heads.items():
            self._marks.setdefault(size, []).append((who, head))

    def _look(self, start: bytes) -> None:
        total = self._archive.head
        self._progress(self._position, total)
        previous = start
        for batch in self._archive.rows():
            previous = self._follow(batch, previous)
            if self._deep:
                self._judge(batch)
            self._progress(self._position, total)

    def _follow(self, batch: Sequence[Row], previous: bytes) -> bytes:
        versions, marks, after = self._versions, self._marks, self._position
        try:
            for position, stream, version, topic, _, body, stored in batch:
                before = versions.get(stream, 0)
                if version != before + 1:
                    why = f"its stream {stream} stood at {before}, so {before + 1} is next"
                    self._say(position, "gap", why, f"{stream}/{version}")
                if position != after + 1:
                    why = f"it is missing; event {position} is next"
                    self._say(after + 1, "missing", why)
                    previous = stored
                else:
                    previous = link(previous, position, stream, version, topic=topic, body=body)
                    if previous != stored:
                        why = "it does not match its hash, or does not follow from the one before"
                        self._say(position, "hash", why, f"{stream}/{version}")
                        previous = stored
                    if position in marks:
                        self._compare(position, previous)
                versions[stream] = version
                after = position
        except _NOT_A_ROW as error:
            # A table that was made anew without its types may hold anything.
            raise StoreError(f"its columns are not what a log keeps in them: {error}") from error
        finally:
            self._position = after
        self.events += len(batch)
        return previous

    def _compare(self, size: int, head: bytes) -> None:
        for who, expected in self._marks.get(size, ()):
            believed = self._believed.get(who, 0)
            if expected == head and believed >= 0:
                self._believed[who] = size
            elif believed >= 0:
                # Once is enough: no hash behind it can be the one that was signed.
                self._believed[who] = -1
                why = f"one of the events {believed + 1} to {size} is not the one that {who} covers"
                if size == 0:
                    why = f"it would not follow from the name of the log that {who} covers"
                self._say(max(size, 1), "not_signed", why)

    def _judge(self, batch: Sequence[Row]) -> None:
        look, light_of = self._audit.look, self._light
        for row in batch:
            position, stream, version, topic, time, body, _ = row
            fields: Any = light_of.read(topic, body) if light_of else None
            if fields is None or _microseconds(fields.timestamp) != time:
                fields = self._read(row)
                if fields is None:
                    continue
            kind: type[Event] = getattr(fields, "REAL", None) or type(fields)
            if stream not in self._unknown:
                for problem in look(position, stream, version, kind, fields):
                    if problem.code not in _TOLD_HERE:
                        self.add(problem)
            if kind is IssueDetected:
                self._open[stream] = fields.component
            elif kind is IssueVerified or kind is IssueFailed:
                self._open.pop(stream, None)

    def _read(self, row: Row) -> Fact | None:
        """The event by the codec, which decides; None where it cannot be read."""
        position, stream, version, topic, time, body, _ = row
        try:
            event = self._codec.decode(stream, version, topic, body, place=f"event {position}")
        except StoreError as error:
            self.add(Problem(position, f"{stream}/{version}", "unreadable", str(error)))
            return None
        if (event.timestamp - _EPOCH) // _MICROSECOND != time:
            why = f"its column time says {time}, its body {event.timestamp}"
            self._say(position, "time", why, event.event_id)
        return event

    def _check_claims(self) -> None:
        log = {component: issue for issue, component in self._open.items()}
        table = self._archive.claims()
        for component in sorted({*log, *table}):
            ours, theirs = log.get(component), table.get(component)
            if ours != theirs:
                why = (
                    f"its open issue is {ours} by the log and {theirs} by the table of open issues"
                )
                message = f"cannot accept the claim of {component!r}: {why}"
                self.add(Problem(self._position, "", "claim", message))

    def _check_end(self) -> None:
        end, seals = self._position, self._seals
        signed = seals.last.size if seals.last else 0
        if seals.last is None:
            why = "no checkpoint was ever signed of it, or they were taken away"
            self.add(Problem(0, "", "unsigned", f"cannot accept the log: {why}"))
        elif end - signed > UNSIGNED:
            why = (
                f"no checkpoint covers the {end - signed} events from here to the end; at most "
                f"{UNSIGNED} may be"
            )
            self._say(signed + 1, "unsigned", why)
        for reached, who in (
            (self._archive.given, "the store has given out positions"),
            (signed, "a checkpoint was signed"),
            (max((each.checkpoint.size for each in seals.unseen), default=0), "the witness saw"),
        ):
            if reached > end:
                self._say(end + 1, "cut_off", f"it is missing: {who} up to {reached}")
        if seals.unseen:
            size = max(each.checkpoint.size for each in seals.unseen)
            why = f"the witness has {len(seals.unseen)} checkpoints, up to {size}, that it has not"
            self.add(Problem(min(size, end + 1), "", "unseen", f"cannot accept the log: {why}"))


def _microseconds(moment: datetime) -> int | None:
    return None if moment.tzinfo is None else (moment - _EPOCH) // _MICROSECOND


def _spans(stretches: Sequence[tuple[int, int, bytes, bytes]]) -> str:
    return ", ".join(f"{first} to {last}" for first, last, _, _ in stretches) or "nothing"
