"""Whether a history could have happened: its order, its transitions, its intents.

Events never refuse, so a log may hold what today's rules forbid; here it is said. The one table of
the lifecycle judges.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from healer.domain.events import (
    Fact,
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

__all__ = ["Problem", "legality", "problems"]


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
    intent: StepStarted | None = None
    acted: bool = False
    verification: VerificationRecorded | None = None


def legality(facts: Iterable[Recorded]) -> list[Problem]:
    """All problems of a log, or of a part that begins at its beginning, in log order."""
    return list(problems(facts))


def problems(facts: Iterable[Recorded]) -> Iterator[Problem]:
    """As `legality`, one by one as they are met; remembers one number per stream and the open
    issues, never the facts."""
    audit = _Audit()
    last = 0
    for recorded in facts:
        event = recorded.event
        found = list(audit.look(event))
        if recorded.position <= last:
            found.append(("out_of_order", f"position {recorded.position} comes after {last}"))
        last = max(last, recorded.position)
        for code, why in found:
            message = f"cannot accept {event.event_id} ({event.TOPIC}): {why}"
            yield Problem(recorded.position, event.event_id, code, message)


_Found = Iterator[tuple[str, str]]


class _Audit:
    def __init__(self) -> None:
        self._versions: dict[str, int] = {}
        self._open: dict[str, _Issue] = {}
        self._by_component: dict[str, str] = {}

    def look(self, event: Fact) -> _Found:
        stream = event.originator_id
        before = self._versions.get(stream, 0)
        if event.originator_version != before + 1:
            yield "gap", f"its stream stood at {before}, so {before + 1} is next"
        self._versions[stream] = max(before, event.originator_version)
        if isinstance(event, IssueDetected):
            yield from self._detected(event, known=before > 0)
        elif isinstance(event, IssueEvent):
            issue = self._open.get(stream)
            if issue is not None:
                yield from self._evolve(issue, event)
            elif before:
                yield "after_the_end", "its issue has ended"
            else:
                yield "undetected", "its issue was never detected"

    def _detected(self, event: IssueDetected, *, known: bool) -> _Found:
        issue_id = event.originator_id
        if known:
            yield "detected_twice", "its issue was detected before"
        if event.correlation_id != issue_id:
            yield "correlation", f"it is correlated with {event.correlation_id}, not with its issue"
        other = self._by_component.get(event.component)
        if other is not None and other != issue_id:
            yield "two_open_issues", f"{event.component} has the open issue {other} already"
        self._open[issue_id] = _Issue(event.component)
        self._by_component[event.component] = issue_id

    def _evolve(self, issue: _Issue, event: Fact) -> _Found:
        yield from self._transition(issue, event)
        match event:
            case StepStarted():
                if issue.intent is not None:
                    yield "two_intents", f"{_step(issue.intent)} has no outcome yet"
                issue.intent, issue.acted = event, True
            case StepSucceeded() | StepFailed() | StepSettled():
                intent = issue.intent
                if intent is None:
                    yield "no_intent", f"{_step(event)} has an outcome and no intent"
                elif _step(intent) != _step(event):
                    yield "other_intent", f"the intent was {_step(intent)}, not {_step(event)}"
                issue.intent, issue.acted = None, True
            case StepSkipped():
                if issue.intent is not None:
                    yield "two_intents", f"{_step(issue.intent)} has no outcome yet"
            case PlaybookFinished():
                if issue.intent is not None:
                    yield "open_intent", f"{_step(issue.intent)} has no outcome yet"
            case VerificationRecorded():
                issue.acted, issue.verification = False, event
            case IssueVerified():
                yield from _cured(issue, event)
            case _:
                pass
        if issue.state in TERMINAL:
            yield from self._ended(issue, event)

    def _transition(self, issue: _Issue, event: Fact) -> _Found:
        moved = TRANSITIONS.get(type(event))
        if moved is None:
            return
        trigger, state = moved
        try:
            destination(trigger, issue.state)
        except IllegalTransitionError as error:
            yield "illegal_transition", str(error)
        issue.state = state

    def _ended(self, issue: _Issue, event: Fact) -> _Found:
        if issue.intent is not None:
            yield "open_intent", f"{_step(issue.intent)} has no outcome yet"
        del self._open[event.originator_id]
        if self._by_component.get(issue.component) == event.originator_id:
            del self._by_component[issue.component]


def _cured(issue: _Issue, event: IssueVerified) -> _Found:
    seen = issue.verification
    if seen is None or not seen.healthy or issue.acted:
        yield "not_verified", "no healthy verification was recorded after its last step"
    elif event.healed_by is not None and event.healed_by != seen.after:
        yield "other_cure", f"the verification followed {seen.after}, not {event.healed_by}"


def _step(event: StepStarted | StepSucceeded | StepFailed | StepSettled) -> str:
    return f"step {event.step} {event.action} of {event.playbook}"
