"""A long log in two halves, each looked at by a process of its own, and whether they are sound.

A half is judged by what stands in it alone: its chain goes on from the stored hash in front of it,
and events of streams that began before it are put aside for whoever knows their beginning. Nothing
is told here of what is wrong, only whether something is: then one process looks at all of it again,
in order, and says what. So there is one account of a broken log, however it was looked at.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, Final

from healer.errors import StoreError
from healer.store.chain import link
from replay.archive import Archive, Row
from replay.judge import NOT_A_ROW, Judge

__all__ = ["Again", "Half", "Later", "Marks", "answer", "second_half"]

Again = Callable[[], AbstractContextManager[Archive]]
Marks = Mapping[int, Sequence[bytes]]
"""Size of the log → what it was said to hash to at that size."""

_NEVER: Final = 1 << 63


@dataclass(slots=True)
class Later:
    """What the later half leaves to who knows the earlier one: the streams that `began` in it, the
    rows of others, where each component's `first` issue was detected, which issues are `open` at
    its end; `position` is its last event, `events` how many there are."""

    sound: bool
    position: int = 0
    events: int = 0
    began: frozenset[str] = frozenset()
    others: list[Row] = field(default_factory=list)
    first: Mapping[str, int] = field(default_factory=dict)
    open: Mapping[str, str] = field(default_factory=dict)


class Half:
    """Looks at consecutive events behind `after`, whose hash is `previous`.

    `streams` says how far each stream had come, None that it is not known; `carried` as `Judge`
    has it, None not to judge at all.
    """

    def __init__(
        self,
        after: int,
        previous: bytes,
        *,
        marks: Marks,
        streams: Mapping[str, int] | None,
        carried: Mapping[str, str] | None,
    ) -> None:
        self.position = after
        self.others: list[Row] = []
        self.judge = None if carried is None else Judge(carried)
        self.streams = dict(streams or {})
        self._began = after
        self._previous = previous
        self._marks = marks
        self._knows = streams is not None
        self._whole = True

    @property
    def sound(self) -> bool:
        """Whether nothing was found."""
        return self._whole and (self.judge is None or not self.judge.found)

    @property
    def events(self) -> int:
        """How many events it has taken."""
        return self.position - self._began

    def take(self, rows: Sequence[Row]) -> bool:
        """Look at the next rows; whether all of them are sound."""
        try:
            self._whole = self._whole and self._follow(rows)
        except NOT_A_ROW:
            self._whole = False
        return self.sound

    def _follow(self, rows: Sequence[Row]) -> bool:
        streams, marks = self.streams, self._marks
        after, previous = self.position, self._previous
        own: list[Row] = []  # in the later half some are not
        for row in rows:
            position, stream, version, topic, _, body, stored = row
            if position != after + 1:
                return False
            after = position
            previous = link(previous, position, stream, version, topic=topic, body=body)
            if previous != stored:
                return False
            if position in marks and any(head != previous for head in marks[position]):
                return False
            if version == streams.get(stream, 0) + 1:
                streams[stream] = version
                own.append(row)
            elif self._knows or stream in streams:
                return False
            else:
                self.others.append(row)
        self.position, self._previous = after, previous
        if self.judge is not None:
            self.judge.take(own)
        return True

    def later(self) -> Later:
        """What is left to who knows what came before it."""
        judge = self.judge
        return Later(
            sound=self.sound,
            position=self.position,
            events=self.events,
            began=frozenset(self.streams),
            others=self.others,
            first=judge.first if judge else {},
            open=judge.open if judge else {},
        )

    def followed_by(self, later: Later) -> bool:
        """Whether `later` goes on where this one ends; takes what it left."""
        if not later.sound or not later.began.isdisjoint(self.streams):
            return False
        judge = self.judge
        waiting = dict(judge.open) if judge else {}
        ended: dict[str, int] = {}
        for row in later.others:
            position, stream, version, *_ = row
            if version != self.streams.get(stream, 0) + 1:
                return False
            self.streams[stream] = version
            if judge:
                judge.take([row])
                if stream in waiting and stream not in judge.open:
                    ended[waiting[stream]] = position
        # Until its open issue has ended a component has no other.
        return self.sound and all(
            ended.get(component, _NEVER) <= later.first.get(component, _NEVER)
            for component in waiting.values()
        )


class second_half:  # noqa: N801 - a context manager that reads as one
    """A process of its own for the later half of the log that `again` opens, while the context
    lasts. It begins to begin at once, which takes some tenths of a second: see `ready`."""

    def __init__(self, again: Again) -> None:
        context = get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=answer, args=(again, theirs), daemon=True)
        with theirs:
            self._process.start()

    @property
    def ready(self) -> bool:
        """Whether it has begun, and would look at events at once."""
        return self._ours.poll()

    def begin(self, seam: tuple[int, bytes], *, until: int, marks: Marks, deep: bool) -> None:
        """Look at the events behind `seam` (a position, its hash) up to `until`; what they say is
        looked at where it is `deep`."""
        with suppress(OSError):  # it has died, and `result` says so
            self._ours.send((seam, until, marks, deep))

    def result(self) -> Later:
        """What it found, once it was told to `begin`; not sound where it ended without finding
        anything."""
        try:
            self._ours.recv()  # that it is ready
            found: Later = self._ours.recv()
        except (EOFError, OSError):
            return Later(sound=False)
        return found

    def __enter__(self) -> second_half:
        return self

    def __exit__(self, *_error: object) -> None:
        # What it still does is of no use to anybody.
        self._process.kill()
        self._process.join()
        self._ours.close()


def answer(again: Again, asked: Connection[Any, Any]) -> None:
    """What the second process does: says that it is ready, is told what to look at, and says what
    it found."""
    # Nothing in a row or an event is a circle, and the process ends with it.
    gc.disable()
    asked.send(None)
    asked.send(_look(again, *asked.recv()))


def _look(again: Again, seam: tuple[int, bytes], until: int, marks: Marks, deep: bool) -> Later:
    half = Half(*seam, marks=marks, streams=None, carried={} if deep else None)
    try:
        with again() as archive:
            for rows in archive.rows(after=seam[0], until=until):
                if not half.take(rows):
                    return Later(sound=False)
    except StoreError:
        return Later(sound=False)
    return half.later()
