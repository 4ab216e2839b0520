"""One issue, found by its id or the beginning of it, and told with its component's facts."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from healer.domain.events import (
    ComponentEvent,
    Fact,
    IssueDetected,
    IssueFailed,
    IssueVerified,
)
from healer.errors import UnknownNameError
from healer.ports import EventLog, Recorded
from projections.feed import BATCH
from projections.fold import Fold
from projections.history import HISTORY
from projections.projection import Json
from replay.timeline import Entry, Timeline

__all__ = ["AmbiguousIssueError", "Told", "find", "follow", "record_of", "tell"]

Progress = Callable[[int, int], None]

_SHOWN: Final = 3


class AmbiguousIssueError(UnknownNameError):
    """The beginning of several issues' ids; `known` are some of them."""

    def __init__(self, prefix: str, known: Sequence[str]) -> None:
        super().__init__("issue", prefix, known)
        some = ", ".join(known[:_SHOWN])
        self.args = (f"cannot tell which issue {prefix!r} is: {len(known)} begin so ({some}, ...)",)


@dataclass(frozen=True, slots=True)
class Told:
    """A fact of the story with its place in the log."""

    position: int
    entry: Entry

    def view(self) -> Json:
        """The entry for a program, as JSON."""
        return {"position": self.position, **self.entry.view()}


async def find(
    log: EventLog, name: str, *, progress: Progress = lambda _done, _total: None
) -> Recorded:
    """The detection of the issue whose id is `name` or, of one issue only, begins with it.

    A whole id is found in some twenty looks at the log, a part of one by reading all of it.

    Raises:
        UnknownNameError: no id begins so.
        AmbiguousIssueError: several do.
        StoreError: the log cannot be read.
    """
    facts = await log.stream(name)
    if facts and isinstance(facts[0], IssueDetected):
        found = await _located(log, facts[0])
        if found is not None:
            return found
    matching, latest = await _search(log, name, progress)
    exact = [each for each in matching if each.event.originator_id == name]
    if len(matching) > 1 and not exact:
        raise AmbiguousIssueError(name, [each.event.originator_id for each in matching])
    if not matching:
        raise UnknownNameError("issue", name, latest)
    return (exact or matching)[0]


async def _located(log: EventLog, event: Fact) -> Recorded | None:
    """The place of a fact, by bisection; None where a clock that jumped led astray."""
    low, high = 0, await log.head()
    while low < high:
        middle = (low + high) // 2
        behind = await log.read(after=middle, limit=1)
        if behind and behind[0].event.timestamp < event.timestamp:
            low = behind[0].position
        else:
            high = middle
    near = await log.read(after=low, limit=BATCH)
    return next((each for each in near if each.event.event_id == event.event_id), None)


async def _search(
    log: EventLog, prefix: str, progress: Progress
) -> tuple[list[Recorded], list[str]]:
    """The detections of the issues that begin with `prefix`, and the ids of the latest issues."""
    matching: list[Recorded] = []
    latest: list[str] = []
    head = await log.head()
    read = 0
    while facts := await log.read(after=read, limit=BATCH):
        read = facts[-1].position
        for recorded in facts:
            if isinstance(recorded.event, IssueDetected):
                name = recorded.event.originator_id
                latest = [*latest[1 - _SHOWN :], name]
                if name.startswith(prefix):
                    matching.append(recorded)
        progress(read, max(head, read))
    return matching, latest


async def tell(log: EventLog, detection: Recorded) -> list[Told]:
    """The story of the issue so far: its facts and, until its end, those of its component.

    Raises:
        StoreError: the log cannot be read.
    """
    story = _Story(detection)
    last = len(await log.stream(story.issue_id))
    told: list[Told] = []
    read = detection.position - 1
    while not story.told_of(last) and (facts := await log.read(after=read, limit=BATCH)):
        read = facts[-1].position
        told += story.take(facts, until=last)
    return told


async def follow(log: EventLog, detection: Recorded) -> AsyncGenerator[Told, None]:
    """The story of the issue as it is told, from the detection to the end of the issue.

    Raises:
        StoreError: the log cannot be read.
    """
    story = _Story(detection)
    async with aclosing(log.follow(after=detection.position - 1)) as facts:
        async for recorded in facts:
            for told in story.take([recorded]):
                yield told
            if story.ended:
                return


def record_of(told: Sequence[Told], facts: Sequence[Fact]) -> Json:
    """The issue's record in the history, from its story and its own facts.

    Raises:
        ProjectionStoppedError: a fact that cannot be applied.
    """
    positions = {each.entry.event_id: each.position for each in told}
    fold = Fold([HISTORY])
    fold.apply(
        Recorded(positions[fact.event_id], fact) for fact in facts if fact.event_id in positions
    )
    [record] = fold.view("history")
    return record


class _Story:
    """What of the log belongs to one issue."""

    def __init__(self, detection: Recorded) -> None:
        assert isinstance(detection.event, IssueDetected)
        self.issue_id = detection.event.originator_id
        self.ended = False
        self._component = detection.event.component
        self._version = 0
        self._timeline = Timeline()

    def told_of(self, version: int) -> bool:
        return self._version >= version

    def take(self, facts: Sequence[Recorded], *, until: int | None = None) -> list[Told]:
        """What is told of `facts`, up to the issue's own fact number `until`."""
        told: list[Told] = []
        for recorded in facts:
            event = recorded.event
            if until is not None and self.told_of(until):
                break
            if event.originator_id == self.issue_id:
                self._version = event.originator_version
                self.ended = self.ended or isinstance(event, IssueVerified | IssueFailed)
            elif not self._in_between(event):
                continue
            told.append(Told(recorded.position, self._timeline.tell(event)))
        return told

    def _in_between(self, event: Fact) -> bool:
        if self.ended or not isinstance(event, ComponentEvent):
            return False
        return getattr(event, "component", None) == self._component
