"""An incident is exported from its log, and takes the same course when the simulator plays it."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from healer.domain.component import component_stream
from healer.domain.events import Event, IssueDetected
from healer.domain.lifecycle import State
from healer.domain.spec import IssueType
from replay.case import BEGIN, case_of, course_of
from tests.simulator.case import Case, Fault
from tests.simulator.simulation import run


def exported(facts: list[Event], detected: Event) -> Case:
    """The case of one issue of `facts`, as a file would have it."""
    assert isinstance(detected, IssueDetected)
    stream = component_stream(detected.component)
    issue = [event for event in facts if event.originator_id == detected.originator_id]
    component = [event for event in facts if event.originator_id == stream]
    return Case.load(orjson.dumps(case_of(issue, component)))


def incident(profile: str, *faults: Fault) -> Case:
    """A case with a component of this kind, to which something happens."""
    return Case(seed=1, components=(profile,), faults=faults)


YES = Fault(0, "approve")
"""... to its first start."""

INCIDENTS = {
    "crash": incident("plain", Fault(400, "crash")),
    "hang": incident("plain", Fault(400, "hang")),
    "sick": incident("plain", Fault(400, "sicken", value=1)),
    "slow": incident("plain", Fault(400, "sicken", value=-1)),
    "deaf": incident("plain", Fault(400, "deafen")),
    "stubborn": incident("stubborn", Fault(400, "sicken", value=1)),
    "robbed": incident("movable", Fault(400, "rob", lasts=600)),
    "robbed and rooted": incident("plain", Fault(400, "rob", lasts=300)),
    "unreachable": incident("plain", Fault(400, "unreachable", lasts=60)),
    "refused starts": incident("plain", Fault(400, "bad_launch", lasts=1)),
    "starts in vain": incident("plain", Fault(400, "mute_launch", lasts=5)),
    "unkillable": incident("plain", Fault(400, "unkillable", lasts=700)),
    "managed": incident("managed", Fault(400, "crash")),
    "approved": incident("suggest", YES, Fault(400, "crash"), Fault(410, "approve")),
    "refused": incident("suggest", YES, Fault(400, "crash"), Fault(460, "deny")),
    "observed": incident("observe", Fault(60, "heal", value=-1), Fault(400, "crash")),
    "paused": incident("plain", Fault(390, "pause", lasts=100), Fault(400, "crash")),
    "in a window": incident("plain", Fault(390, "maintenance", lasts=100), Fault(400, "crash")),
    "healer dies before its start": incident(
        "plain", Fault(400, "crash"), Fault(400, "kill", lasts=5, trigger="start")
    ),
    "healer dies after its stop": incident(
        "plain",
        Fault(400, "sicken", value=1),
        Fault(400, "kill", lasts=5, trigger="append:StepSucceeded"),
    ),
}


@pytest.mark.parametrize("name", INCIDENTS)
def test_an_exported_incident_takes_the_same_course(name: str) -> None:
    facts: list[Event] = []
    original = run(INCIDENTS[name], facts=facts)
    assert original.broken is None
    # The first issue is that the component has to be started.
    incidents = [event for event in facts if isinstance(event, IssueDetected) and event.recurrence]
    case = exported(facts, incidents[0])
    assert case.incident is not None
    assert len(case.incident.course) >= 2
    again = run(case)
    assert again.broken is None
    assert again.course == case.incident.course


def test_the_first_start_of_a_component_is_an_incident_too() -> None:
    facts: list[Event] = []
    run(incident("plain"), facts=facts)
    case = exported(facts, next(each for each in facts if isinstance(each, IssueDetected)))
    assert case.faults == ()
    assert case.incident is not None
    assert case.incident.begins == 0
    assert run(case).course == case.incident.course
    assert str(State.VERIFIED) == case.incident.course[-1]


@pytest.mark.parametrize(
    ("kind", "issue_type"),
    [("unreachable", IssueType.NETWORK_UNREACHABLE), ("rob", IssueType.PORT_CONFLICT)],
)
def test_what_broke_is_told_also_of_a_component_that_no_healer_had_seen_run(
    kind: str, issue_type: IssueType
) -> None:
    facts: list[Event] = []
    run(incident("plain", Fault(0, kind, lasts=600)), facts=facts)
    first = next(each for each in facts if isinstance(each, IssueDetected))
    assert (first.issue_type, first.evidence.process) == (issue_type, None)
    case = exported(facts, first)
    assert [fault.kind for fault in case.faults] == [kind]
    assert case.incident is not None
    assert run(case).course == case.incident.course


def test_an_incident_that_goes_another_way_is_told_apart() -> None:
    facts: list[Event] = []
    run(INCIDENTS["crash"], facts=facts)
    crash = exported(facts, [each for each in facts if isinstance(each, IssueDetected)][-1])
    assert crash.incident is not None
    other = replace(crash, faults=(Fault(BEGIN, "hang"),))
    assert run(other).course != crash.incident.course


def test_what_was_never_detected_is_no_incident() -> None:
    facts: list[Event] = []
    run(incident("plain"), facts=facts)
    with pytest.raises(ValueError, match="never detected"):
        case_of([], facts)
    with pytest.raises(ValueError, match="never detected"):
        case_of(facts[:1], facts)
    assert course_of([]) == ()
