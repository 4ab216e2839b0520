"""An incident of the log as a case for the simulator: what broke, how the host behaved, and when.

A case is data; nothing here plays it. `python -m tests.simulator --case FILE` does, with the real
engine on a machine in memory, and says whether the incident takes the same course there. What the
log does not know (the state letter of a hung process, say) is taken to be what is usual.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from healer.domain.events import (
    ApprovalDenied,
    ApprovalGranted,
    ApprovalRequested,
    ComponentRegistered,
    DiagnosisStarted,
    Event,
    HealWithheld,
    IssueDetected,
    IssueFailed,
    IssueVerified,
    PlaybookFinished,
    ProcessAdopted,
    RemediationStarted,
    StepFailed,
    StepSettled,
    StepStarted,
    StepSucceeded,
    VerificationRecorded,
)
from healer.domain.playbook import Evidence, Settlement
from healer.domain.routing import REBIND_PORT
from healer.domain.spec import IssueType
from projections.projection import Json

__all__ = ["BEGIN", "case_of", "course_of"]

BEGIN: Final = 300.0
"""The second of the case at which the incident begins: by then all is up."""

_AFTER: Final = 0.05
"""Seconds by which what ends a condition comes after the last time that it was met."""

_LONG: Final = 900.0
"""Seconds for which something goes on whose end the log does not tell."""

_BY_HAND: Final = {"suggest": "approve", "observe": "heal"}
"""What a person has to do before the incident, so that a component is up that nobody starts."""

_STARTS: Final = frozenset({"start", "start_reserved"})
_PATIENT: Final = 5.0
"""Seconds from which on a verification that met nobody had waited for a start."""


def course_of(issue: Iterable[Event]) -> tuple[str, ...]:
    """The course of an incident: its type, its states, and how its playbooks ended."""
    course: list[str] = []
    for event in issue:
        match event:
            case IssueDetected():
                course.append(f"detected {event.issue_type}")
            case DiagnosisStarted():
                course.append("diagnosing")
            case RemediationStarted():
                course.append("remediating")
            case PlaybookFinished():
                course.append(f"{event.playbook} {event.outcome}")
            case IssueVerified():
                course.append("verified")
            case IssueFailed():
                course.append(f"failed {event.reason}")
            case _:
                pass
    return tuple(course)


def case_of(issue: Sequence[Event], component: Sequence[Event]) -> dict[str, Json]:
    """The case of an issue, from its own facts and those of its component; JSON.

    Raises:
        ValueError: the first fact is not the issue's detection.
    """
    detected = issue[0] if issue else None
    if not isinstance(detected, IssueDetected):
        raise ValueError("cannot export a case: the issue was never detected")
    leans = _withheld(issue, "dependency")
    index = 1 if leans else 0
    # By epochs, which no clock that was set puts out of order.
    adopted = any(
        isinstance(event, ProcessAdopted) and event.epoch < detected.epoch for event in component
    )
    # Only where nothing listens may it be that nothing ever did: what cannot be reached, answers
    # badly or is a stranger broke, whoever ran it.
    unheard = detected.issue_type is IssueType.PORT_NOT_LISTENING
    ran = adopted or detected.evidence.process is not None or not unheard
    begins = BEGIN if ran else 0.0
    faults = [*_broken(issue, detected, index)] if ran else []
    faults += [*_host(issue, begins, index), *_healers(issue, begins)]
    faults += [*_people(issue, begins, index)]
    if leans:
        lasts = 10 + _seconds(issue[0], issue[-1])
        faults.append(_fault("bad_launch", begins - 10, lasts=lasts, component=0))
    profile = "leaning" if leans else _profile(issue, component)
    if ran and profile in _BY_HAND:
        faults.append(_fault(_BY_HAND[profile], 60.0 if profile == "observe" else 0.0))
    return {
        "seed": 0,
        "components": ["plain", profile] if leans else [profile],
        "faults": sorted(faults, key=lambda fault: fault["at"]),
        "incident": {
            "issue": detected.originator_id,
            "component": f"c{index}",
            "begins": begins,
            "course": list(course_of(issue)),
        },
    }


def _fault(kind: str, at: float, **fields: Any) -> dict[str, Any]:
    return {"kind": kind, "at": round(max(0.0, at), 3), **fields}


def _seconds(a: Event, b: Event) -> float:
    return max(0.0, (b.timestamp - a.timestamp).total_seconds())


def _withheld(issue: Sequence[Event], reason: str) -> bool:
    return any(isinstance(event, HealWithheld) and event.reason == reason for event in issue)


def _profile(issue: Sequence[Event], component: Sequence[Event]) -> str:
    """What the component is like, as far as it mattered."""
    if _withheld(issue, "observe"):
        return "observe"
    if any(isinstance(event, ApprovalRequested) for event in issue):
        return "suggest"
    if any(isinstance(event, StepStarted) and event.playbook == REBIND_PORT for event in issue):
        return "movable"
    registered = [event for event in component if isinstance(event, ComponentRegistered)]
    if registered and registered[-1].launcher not in {None, "command"}:
        return "managed"
    timed_out = isinstance(issue[0], IssueDetected) and _hung(issue, issue[0])
    if not timed_out and any(result.killed for _, result in _results(issue)):
        return "stubborn"
    return "plain"


def _results(issue: Sequence[Event]) -> Iterator[tuple[Event, Any]]:
    for event in issue:
        if isinstance(event, StepSucceeded | StepFailed | StepSettled):
            yield event, event.result


def _hung(issue: Sequence[Event], detected: IssueDetected) -> bool:
    """Whether it timed out and had to be killed, as a stopped process is."""
    timed_out = detected.issue_type is IssueType.CONNECTION_TIMEOUT
    return timed_out and any(result.killed for _, result in _results(issue))


def _broken(
    issue: Sequence[Event], detected: IssueDetected, index: int
) -> Iterator[dict[str, Any]]:
    """What broke, as it was seen."""

    def broken(kind: str, **fields: Any) -> dict[str, Any]:
        return _fault(kind, BEGIN, component=index, **fields)

    if any(result.unkillable for _, result in _results(issue)):
        yield broken("unkillable", lasts=_LONG)
        return
    match detected.issue_type:
        case IssueType.PROCESS_CRASHED:
            yield broken("crash")
        case IssueType.PORT_NOT_LISTENING:
            if _lives(detected.evidence):
                yield broken("deafen")
            else:
                # Nobody knew of a process: it ended while no healer lived.
                yield _fault("kill", BEGIN - 1, lasts=2.0)
                yield broken("crash")
        case IssueType.CONNECTION_TIMEOUT:
            yield broken("hang") if _hung(issue, detected) else broken("sicken", value=-1.0)
        case IssueType.CONNECTION_REFUSED:
            yield broken("sicken", value=1.0)
        case IssueType.NETWORK_UNREACHABLE:
            cured = isinstance(issue[-1], IssueVerified)
            yield broken("unreachable", lasts=_seconds(issue[0], issue[-1]) if cured else _LONG)
        case IssueType.PORT_CONFLICT:
            yield broken("rob", lasts=_foreign_until(issue))


def _lives(evidence: Evidence) -> bool:
    return evidence.alive is True or (evidence.alive is None and evidence.process is not None)


def _foreign_until(issue: Sequence[Event]) -> float:
    """How long a stranger kept the port."""
    if not isinstance(issue[-1], IssueVerified) or issue[-1].healed_by == REBIND_PORT:
        return _LONG
    seen = [0.0]
    for event in issue:
        foreign = (
            event.foreign
            if isinstance(event, VerificationRecorded)
            else event.result.foreign
            if isinstance(event, StepFailed)
            else ()
        )
        if foreign:
            seen.append(_seconds(issue[0], event))
    return seen[-1] + _AFTER


def _host(issue: Sequence[Event], begins: float, index: int) -> Iterator[dict[str, Any]]:
    """How starts went that did not go well: refused, ended at once, or never listening."""
    refused: list[Event] = []
    vain: list[tuple[Event, float]] = []
    started: Event | None = None
    for event in issue:
        if isinstance(event, StepFailed) and event.action in _STARTS:
            refused.append(event)
        elif isinstance(event, StepSucceeded) and event.action in _STARTS:
            started = event
        elif isinstance(event, VerificationRecorded) and started is not None:
            if not event.healthy and not event.foreign:
                vain.append((started, event.elapsed))
            started = None
    at_start = {"component": index, "trigger": "start"}
    if refused:
        lasts = _seconds(refused[0], refused[-1]) + _AFTER
        yield _fault("bad_launch", begins, lasts=lasts, **at_start)
    if vain:
        lasts = _seconds(vain[0][0], vain[-1][0]) + _AFTER
        kind = "mute_launch" if vain[0][1] >= _PATIENT else "crash_loop"
        yield _fault(kind, begins, lasts=lasts, **at_start)


def _healers(issue: Sequence[Event], begins: float) -> Iterator[dict[str, Any]]:
    """The deaths of healers in the middle of a step."""
    intent: Event = issue[0]
    for event in issue:
        if isinstance(event, StepStarted):
            intent = event
        elif isinstance(event, StepSettled):
            done = event.settlement is Settlement.OBSERVED
            before = "start" if event.action in _STARTS else "call:stop"
            trigger = "append:StepSucceeded" if done else before
            yield _fault("kill", begins, lasts=_seconds(intent, event), trigger=trigger)


def _people(issue: Sequence[Event], begins: float, index: int) -> Iterator[dict[str, Any]]:
    """What people said to it, and what they had wished before."""
    said = {"paused": "pause", "maintenance": "maintenance"}
    held: HealWithheld | None = None
    for event in issue:
        match event:
            case ApprovalGranted():
                yield _fault("approve", begins + _seconds(issue[0], event), component=index)
            case ApprovalDenied() if event.reason != "expired":
                # Not before it is suggested there.
                at = begins + max(60.0, _seconds(issue[0], event))
                yield _fault("deny", at, component=index)
            case HealWithheld() if event.reason in said and held is None:
                held = event
            case RemediationStarted() if held is not None:
                lasts = 70 + _seconds(held, event)
                yield _fault(said[held.reason], begins - 10, lasts=lasts, component=index)
            case _:
                pass
