"""Whether a history could have happened: its order, its transitions, its intents.

Events never refuse, so a log may hold what today's rules forbid; here it is said. The one table of
the lifecycle judges.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
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
from healer.domain.lifecycle import TERMINAL, State, Trigger, destination
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


_OF_ISSUES: Final = frozenset(kind for kind in EVENT_TYPES.values() if issubclass(kind, IssueEvent))


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


class Audit:
    """Judges one event after the other, each by its type, its stream and its fields. What holds the
    fields may be the event itself, or whatever has the same attributes."""

    def __init__(self) -> None:
        self._last = 0
        self._versions: dict[str, int] = {}
        self._open: dict[str, _Issue] = {}
        self._by_component: dict[str, str] = {}
        self._said: list[tuple[str, str]] = []

    def look(
        self, position: int, stream: str, version: int, kind: type[Event], event: Any
    ) -> Sequence[Problem]:
        """What is wrong with the next event."""
        before = self._versions.get(stream, 0)
        last = self._last
        if position > last:
            self._last = position
        issue = self._open.get(stream)
        if version == before + 1 and position > last:
            self._versions[stream] = version
            if kind in _INDIFFERENT if issue else kind not in _OF_ISSUES:
                return ()
        else:
            self._versions[stream] = max(before, version)
            if version != before + 1:
                self._say("gap", f"its stream stood at {before}, so {before + 1} is next")
        if kind is IssueDetected:
            self._detected(stream, event, known=before > 0)
        elif issue is not None:
            self._evolve(issue, stream, kind, event)
        elif kind in _OF_ISSUES and before:
            self._say("after_the_end", "its issue has ended")
        elif kind in _OF_ISSUES:
            self._say("undetected", "its issue was never detected")
        if position <= last:
            self._say("out_of_order", f"position {position} comes after {last}")
        if not self._said:
            return ()
        said, self._said = self._said, []
        name = f"{stream}/{version}"
        return [
            Problem(position, name, code, f"cannot accept {name} ({kind.TOPIC}): {why}")
            for code, why in said
        ]

    def _say(self, code: str, why: str) -> None:
        self._said.append((code, why))

    def _detected(self, issue_id: str, event: Any, *, known: bool) -> None:
        if known:
            self._say("detected_twice", "its issue was detected before")
        if event.correlation_id != issue_id:
            why = f"it is correlated with {event.correlation_id}, not with its issue"
            self._say("correlation", why)
        other = self._by_component.get(event.component)
        if other is not None and other != issue_id:
            self._say("two_open_issues", f"{event.component} has the open issue {other} already")
        self._open[issue_id] = _Issue(event.component)
        self._by_component[event.component] = issue_id

    def _evolve(self, issue: _Issue, stream: str, kind: type[Event], event: Any) -> None:
        moved = TRANSITIONS.get(kind)
        if moved is not None:
            self._move(issue, *moved)
        intent = issue.intent
        if kind is StepStarted:
            if intent is not None:
                self._say("two_intents", f"{_step(intent)} has no outcome yet")
            issue.intent, issue.acted = event, True
        elif kind in _OUTCOMES:
            if intent is None:
                self._say("no_intent", f"{_step(event)} has an outcome and no intent")
            elif _key(intent) != _key(event):
                self._say("other_intent", f"the intent was {_step(intent)}, not {_step(event)}")
            issue.intent, issue.acted = None, True
        elif kind is StepSkipped:
            if intent is not None:
                self._say("two_intents", f"{_step(intent)} has no outcome yet")
        elif kind is PlaybookFinished:
            if intent is not None:
                self._say("open_intent", f"{_step(intent)} has no outcome yet")
        elif kind is VerificationRecorded:
            issue.acted, issue.verification = False, event
        elif kind is IssueVerified:
            self._cured(issue, event)
        if moved is not None and issue.state in TERMINAL:
            self._ended(issue, stream)

    def _move(self, issue: _Issue, trigger: Trigger, state: State) -> None:
        if (trigger, issue.state) not in _ALLOWED:
            try:
                destination(trigger, issue.state)
            except IllegalTransitionError as error:
                self._say("illegal_transition", str(error))
        issue.state = state

    def _cured(self, issue: _Issue, event: Any) -> None:
        seen = issue.verification
        if seen is None or not seen.healthy or issue.acted:
            why = "no healthy verification was recorded after its last step"
            self._say("not_verified", why)
        elif event.healed_by is not None and event.healed_by != seen.after:
            why = f"the verification followed {seen.after}, not {event.healed_by}"
            self._say("other_cure", why)

    def _ended(self, issue: _Issue, stream: str) -> None:
        if issue.intent is not None:
            self._say("open_intent", f"{_step(issue.intent)} has no outcome yet")
        del self._open[stream]
        if self._by_component.get(issue.component) == stream:
            del self._by_component[issue.component]


def _allowed() -> Iterator[tuple[Trigger, State]]:
    """What the one table allows, asked once."""
    for trigger in Trigger:
        for state in State:
            with suppress(IllegalTransitionError):
                destination(trigger, state)
                yield trigger, state


_ALLOWED: Final = frozenset(_allowed())


def _key(event: Any) -> tuple[int, str, str]:
    return event.step, event.action, event.playbook


def _step(event: Any) -> str:
    return f"step {event.step} {event.action} of {event.playbook}"
