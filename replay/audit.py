"""Whether a history could have happened: its order, its transitions, its intents.

Events never refuse, so a log may hold what today's rules forbid; here it is said. The one table of
the lifecycle judges.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from healer.domain.events import (
    EVENT_TYPES,
    Event,
    IssueDetected,
    IssueEvent,
    IssueVerified,
    PlaybookFinished,
    StepFailed,
    StepSettled,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    VerificationRecorded,
)
from healer.domain.lifecycle import TERMINAL, State, destination
from healer.errors import IllegalTransitionError
from healer.ports import Recorded
from replay.transition import TRANSITIONS

__all__ = ["Audit", "Problem", "legality", "problems"]

_OUTCOMES: Final = frozenset[type[Event]]((StepSucceeded, StepFailed, StepSettled))
_JUDGED: Final = frozenset(
    {
        IssueDetected,
        StepStarted,
        *_OUTCOMES,
        StepSkipped,
        PlaybookFinished,
        VerificationRecorded,
        *TRANSITIONS,
    }
)
# In an issue that is open these are always allowed.
_INDIFFERENT: Final = frozenset(EVENT_TYPES.values()) - _JUDGED


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that cannot have happened so. `code` is a stable word, `message` says it in full;
    `position` and `event_id` name the first fact that shows it."""

    position: int
    event_id: str
    code: str
    message: str


@dataclass(slots=True)
class _Issue:
    """What the audit remembers of an open issue."""

    component: str
    state: State = State.DETECTED
    intent: Any = None
    acted: bool = False
    verification: Any = None


def legality(facts: Iterable[Recorded]) -> list[Problem]:
    """All problems of a log, or of a part that begins at its beginning, in log order."""
    return list(problems(facts))


def problems(facts: Iterable[Recorded]) -> Iterator[Problem]:
    """As `legality`, one by one as they are met; remembers one number per stream and the open
    issues, never the facts."""
    audit = Audit()
    for recorded in facts:
        event = recorded.event
        place = recorded.position, event.originator_id, event.originator_version
        yield from audit.look(*place, type(event), event)


_Found = Iterator[tuple[str, str]]


class Audit:
    """Judges one event after the other, each by its type, its stream and its fields. What holds the
    fields may be the event itself, or whatever has the same attributes."""

    def __init__(self) -> None:
        self._last = 0
        self._versions: dict[str, int] = {}
        self._open: dict[str, _Issue] = {}
        self._by_component: dict[str, str] = {}

    def look(
        self, position: int, stream: str, version: int, kind: type[Event], event: Any
    ) -> Sequence[Problem]:
        """What is wrong with the next event."""
        before = self._versions.get(stream, 0)
        last, self._last = self._last, max(self._last, position)
        if version == before + 1 and position > last:
            self._versions[stream] = version
            issue = self._open.get(stream)
            if kind in _INDIFFERENT if issue else not issubclass(kind, IssueEvent):
                return ()
        found = list(self._judge(stream, version, kind, event, before))
        if position <= last:
            found.append(("out_of_order", f"position {position} comes after {last}"))
        return [
            Problem(
                position,
                f"{stream}/{version}",
                code,
                f"cannot accept {stream}/{version} ({kind.TOPIC}): {why}",
            )
            for code, why in found
        ]

    def _judge(
        self, stream: str, version: int, kind: type[Event], event: Any, before: int
    ) -> _Found:
        if version != before + 1:
            yield "gap", f"its stream stood at {before}, so {before + 1} is next"
        self._versions[stream] = max(before, version)
        if issubclass(kind, IssueDetected):
            yield from self._detected(stream, event, known=before > 0)
        elif issubclass(kind, IssueEvent):
            issue = self._open.get(stream)
            if issue is not None:
                yield from self._evolve(issue, stream, kind, event)
            elif before:
                yield "after_the_end", "its issue has ended"
            else:
                yield "undetected", "its issue was never detected"

    def _detected(self, issue_id: str, event: Any, *, known: bool) -> _Found:
        if known:
            yield "detected_twice", "its issue was detected before"
        if event.correlation_id != issue_id:
            yield "correlation", f"it is correlated with {event.correlation_id}, not with its issue"
        other = self._by_component.get(event.component)
        if other is not None and other != issue_id:
            yield "two_open_issues", f"{event.component} has the open issue {other} already"
        self._open[issue_id] = _Issue(event.component)
        self._by_component[event.component] = issue_id

    def _evolve(self, issue: _Issue, stream: str, kind: type[Event], event: Any) -> _Found:
        yield from self._transition(issue, kind)
        if kind is StepStarted:
            if issue.intent is not None:
                yield "two_intents", f"{_step(issue.intent)} has no outcome yet"
            issue.intent, issue.acted = event, True
        elif kind in _OUTCOMES:
            intent = issue.intent
            if intent is None:
                yield "no_intent", f"{_step(event)} has an outcome and no intent"
            elif _step(intent) != _step(event):
                yield "other_intent", f"the intent was {_step(intent)}, not {_step(event)}"
            issue.intent, issue.acted = None, True
        elif kind is StepSkipped:
            if issue.intent is not None:
                yield "two_intents", f"{_step(issue.intent)} has no outcome yet"
        elif kind is PlaybookFinished:
            if issue.intent is not None:
                yield "open_intent", f"{_step(issue.intent)} has no outcome yet"
        elif kind is VerificationRecorded:
            issue.acted, issue.verification = False, event
        elif kind is IssueVerified:
            yield from _cured(issue, event)
        if issue.state in TERMINAL:
            yield from self._ended(issue, stream)

    def _transition(self, issue: _Issue, kind: type[Event]) -> _Found:
        moved = TRANSITIONS.get(kind)
        if moved is None:
            return
        trigger, state = moved
        try:
            destination(trigger, issue.state)
        except IllegalTransitionError as error:
            yield "illegal_transition", str(error)
        issue.state = state

    def _ended(self, issue: _Issue, stream: str) -> _Found:
        if issue.intent is not None:
            yield "open_intent", f"{_step(issue.intent)} has no outcome yet"
        del self._open[stream]
        if self._by_component.get(issue.component) == stream:
            del self._by_component[issue.component]


def _cured(issue: _Issue, event: Any) -> _Found:
    seen = issue.verification
    if seen is None or not seen.healthy or issue.acted:
        yield "not_verified", "no healthy verification was recorded after its last step"
    elif event.healed_by is not None and event.healed_by != seen.after:
        yield "other_cure", f"the verification followed {seen.after}, not {event.healed_by}"


def _step(event: Any) -> str:
    return f"step {event.step} {event.action} of {event.playbook}"
