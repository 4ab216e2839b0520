"""NetworkIssue: each command records all that it was told, and nothing besides."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from healer.domain import events as fact
from healer.domain.events import POLICY, IssueEvent
from healer.domain.issue import NetworkIssue
from healer.domain.playbook import (
    Check,
    CheckStatus,
    Evidence,
    Finding,
    PlaybookOutcome,
    Settlement,
    Skipped,
    StepResult,
    Target,
)
from healer.domain.probe import Reason
from healer.domain.process import OwnerProof
from healer.domain.spec import Criticality, IssueType, Severity
from healer.errors import IllegalCommandError
from tests import factory
from tests.domain.walk import COMMANDS, PLAIN, UNDOABLE, given, stamp

DIAGNOSED = ("start_diagnosis", "complete_diagnosis")
ROUTED = (*DIAGNOSED, "choose_one")
PLAYING = (*ROUTED, "start_remediation", "start_playbook")
ACTING = (*PLAYING, "start_step")
DONE = (*ACTING, "succeed_step", "skip_step", "finish_playbook")
UNDOING = (*DIAGNOSED, "choose_two", "start_remediation", "start_playbook")

CHECK = Check(name="route", status=CheckStatus.WARN, facts={"hops": 3}, elapsed=0.2)
RESULT = StepResult(stopped=(factory.process(7),), port=8221, detail="as told")
FINDING = Finding(code="no_route", checks=("route",))
SKIPPED = Skipped(playbook="clear_port", why="nobody holds the port")
TARGET = Target(process=factory.process(8), proof=OwnerProof.UNIT, listening=True)
SICK = factory.probe(Reason.TIMEOUT)
WELL = factory.probe(Reason.OK)
STEP = {"playbook": "plain", "step": 0, "action": "stop"}

TOLD: dict[str, tuple[tuple[str, ...], str, dict[str, Any], type[IssueEvent], dict[str, Any]]] = {
    "start_diagnosis": (
        (),
        "start_diagnosis",
        {"playbook": "look", "checks": ["route", "port"]},
        fact.DiagnosisStarted,
        {"playbook": "look", "checks": ("route", "port")},
    ),
    "record_check": (
        ("start_diagnosis",),
        "record_check",
        {"check": CHECK},
        fact.CheckRecorded,
        {"check": CHECK},
    ),
    "complete_diagnosis": (
        ("start_diagnosis",),
        "complete_diagnosis",
        {
            "issue_type": IssueType.NETWORK_UNREACHABLE,
            "findings": [FINDING],
            "recommendations": ["call somebody"],
            "pending": ["firewall_rules"],
        },
        fact.DiagnosisCompleted,
        {
            "issue_type": IssueType.NETWORK_UNREACHABLE,
            "findings": (FINDING,),
            "recommendations": ("call somebody",),
            "pending": ("firewall_rules",),
        },
    ),
    "choose_route": (
        DIAGNOSED,
        "choose_route",
        {
            "playbooks": [PLAIN, UNDOABLE],
            "candidates": ["plain", "undoable"],
            "probabilities": [0.75, 0.25],
            "chosen_by": "operator",
            "skipped": [SKIPPED],
        },
        fact.RouteChosen,
        {
            "issue_type": IssueType.PORT_NOT_LISTENING,
            "playbooks": (PLAIN, UNDOABLE),
            "candidates": ("plain", "undoable"),
            "probabilities": (0.75, 0.25),
            "chosen_by": "operator",
            "skipped": (SKIPPED,),
        },
    ),
    "request_approval": (
        (*DIAGNOSED, "choose_two"),
        "request_approval",
        {"expires_in": 60.0},
        fact.ApprovalRequested,
        {"playbooks": ("undoable", "plain"), "expires_in": 60.0},
    ),
    "grant_approval": (
        (*ROUTED, "request_approval"),
        "grant_approval",
        {},
        fact.ApprovalGranted,
        {},
    ),
    "deny_approval": (
        (*ROUTED, "request_approval"),
        "deny_approval",
        {"reason": "not now"},
        fact.ApprovalDenied,
        {"reason": "not now"},
    ),
    "start_remediation": (
        ROUTED,
        "start_remediation",
        {"attempt": 3},
        fact.RemediationStarted,
        {"attempt": 3},
    ),
    "start_playbook": (
        (*DIAGNOSED, "choose_two", "start_remediation"),
        "start_playbook",
        {},
        fact.PlaybookStarted,
        {"playbook": "undoable"},
    ),
    "start_step": (
        PLAYING,
        "start_step",
        {"targets": [TARGET], "port": 8221, "launch_id": "l1", "manager": "systemd"},
        fact.StepStarted,
        STEP | {"targets": (TARGET,), "port": 8221, "launch_id": "l1", "manager": "systemd"},
    ),
    "start_step with nothing to say": (PLAYING, "start_step", {}, fact.StepStarted, STEP),
    "succeed_step": (
        ACTING,
        "succeed_step",
        {"result": RESULT, "elapsed": 0.5},
        fact.StepSucceeded,
        STEP | {"result": RESULT, "elapsed": 0.5},
    ),
    "fail_step": (
        ACTING,
        "fail_step",
        {"result": RESULT, "elapsed": 0.5},
        fact.StepFailed,
        STEP | {"result": RESULT, "elapsed": 0.5},
    ),
    "settle_step": (
        ACTING,
        "settle_step",
        {"settlement": Settlement.UNKNOWABLE, "result": RESULT},
        fact.StepSettled,
        STEP | {"settlement": Settlement.UNKNOWABLE, "result": RESULT},
    ),
    "skip_step": (
        (*ACTING, "succeed_step"),
        "skip_step",
        {"reason": "runs already"},
        fact.StepSkipped,
        {"playbook": "plain", "step": 1, "action": "start", "reason": "runs already"},
    ),
    "finish_playbook": (
        (*ACTING, "succeed_step", "skip_step"),
        "finish_playbook",
        {},
        fact.PlaybookFinished,
        {"playbook": "plain", "outcome": PlaybookOutcome.COMPLETED},
    ),
    "finish_playbook that failed": (
        (*ACTING, "fail_step"),
        "finish_playbook",
        {},
        fact.PlaybookFinished,
        {"playbook": "plain", "outcome": PlaybookOutcome.FAILED},
    ),
    "finish_playbook that was undone": (
        (*UNDOING, "start_step", "settle_unknowable", "skip_step"),
        "finish_playbook",
        {},
        fact.PlaybookFinished,
        {"playbook": "undoable", "outcome": PlaybookOutcome.UNDONE},
    ),
    "record_verification": (
        DONE,
        "record_verification",
        {"healthy": True, "probes": [SICK, WELL], "epoch": 7, "elapsed": 0.3},
        fact.VerificationRecorded,
        {"healthy": True, "probes": (SICK, WELL), "epoch": 7, "elapsed": 0.3, "after": "plain"},
    ),
    "record_verification of a stranger": (
        DIAGNOSED,
        "record_verification",
        {
            "healthy": False,
            "probes": [WELL],
            "epoch": 7,
            "elapsed": 0.3,
            "foreign": [factory.process(9)],
        },
        fact.VerificationRecorded,
        {
            "healthy": False,
            "probes": (WELL,),
            "epoch": 7,
            "elapsed": 0.3,
            "after": None,
            "foreign": (factory.process(9),),
        },
    ),
    "record_verification of nothing": (
        DONE,
        "record_verification",
        {"healthy": False, "probes": (), "epoch": 7, "elapsed": 0.3},
        fact.VerificationRecorded,
        {"healthy": False, "probes": (), "epoch": 7, "elapsed": 0.3, "after": "plain"},
    ),
    "withhold": (
        (),
        "withhold",
        {"reason": "quorum", "arithmetic": {"limit": 3.0}, "cause": "bus", "retry_in": 4.5},
        fact.HealWithheld,
        {"reason": "quorum", "arithmetic": {"limit": 3.0}, "cause": "bus", "retry_in": 4.5},
    ),
    "escalate": (
        DIAGNOSED,
        "escalate",
        {"reason": "budget_spent"},
        fact.IssueEscalated,
        {"reason": "budget_spent", "recommendations": ("x",)},
    ),
    "take_over": ((), "take_over", {"holder": "edge-2"}, fact.IssueTakenOver, {"holder": "edge-2"}),
    "verify": (
        (*DONE, "see_healthy"),
        "verify",
        {"resolved_in": 1.5},
        fact.IssueVerified,
        {"healed_by": "plain", "resolved_in": 1.5},
    ),
    "verify behind a playbook that failed": (
        (*ACTING, "fail_step", "finish_playbook", "see_healthy"),
        "verify",
        {"resolved_in": 1.5},
        fact.IssueVerified,
        {"healed_by": None, "resolved_in": 1.5},
    ),
    "verify what recovered by itself": (
        (*DIAGNOSED, "see_healthy"),
        "verify",
        {"resolved_in": 1.5},
        fact.IssueVerified,
        {"healed_by": None, "resolved_in": 1.5},
    ),
    "fail": (
        (),
        "fail",
        {"reason": "deadline", "resolved_in": 1.5},
        fact.IssueFailed,
        {"reason": "deadline", "resolved_in": 1.5},
    ),
}


@pytest.mark.parametrize(
    ("history", "command", "told", "kind", "facts"), TOLD.values(), ids=TOLD.keys()
)
def test_a_command_records_what_it_was_told_in_its_issue_s_stream(
    history: tuple[str, ...],
    command: str,
    told: dict[str, Any],
    kind: type[IssueEvent],
    facts: dict[str, Any],
) -> None:
    issue = given(*history)
    version = issue.version
    getattr(issue, command)(**told, stamp=stamp(77))
    assert issue.pending_events == (
        kind(
            originator_id=issue.id,
            originator_version=version + 1,
            timestamp=stamp(77).now,
            actor="test",
            node=factory.NODE,
            correlation_id=issue.id,
            causation_id=f"{issue.id}/{version}",
            **facts,
        ),
    )


def test_an_issue_opens_with_all_that_was_known_and_shows_it() -> None:
    facts: dict[str, Any] = {
        "component": "bus",
        "host": "127.0.0.2",
        "port": 9000,
        "issue_type": IssueType.CONNECTION_TIMEOUT,
        "severity": Severity.HIGH,
        "criticality": Criticality.CRITICAL,
        "epoch": 5,
        "evidence": Evidence(probe=SICK, alive=True),
        "seen_after": 0.25,
        "previous": "the one before",
        "recurrence": 2,
    }
    issue = NetworkIssue.detect("i1", **facts, reason="by hand", stamp=stamp(3))
    assert issue.pending_events == (
        fact.IssueDetected(
            originator_id="i1",
            originator_version=1,
            timestamp=stamp(3).now,
            actor="test",
            node=factory.NODE,
            correlation_id="i1",
            causation_id=None,
            reason="by hand",
            **facts,
        ),
    )
    assert {name: getattr(issue, name) for name in facts} == facts
    assert (issue.node, issue.age(stamp(4).now), issue.reason) == (factory.NODE, 1.0, None)


def test_a_new_issue_is_the_first_of_its_component_unless_told_otherwise() -> None:
    issue = given()
    assert (issue.seen_after, issue.previous, issue.recurrence) == (0.0, None, 0)


@pytest.mark.parametrize(
    ("history", "command", "said"),
    [
        ((), "record_check", "cannot record a check: the issue is detected"),
        ((), "complete_diagnosis", "cannot complete the diagnosis: the issue is detected"),
        (("start_diagnosis",), "choose_one", "cannot choose a route: it is not diagnosed"),
        (PLAYING, "choose_one", "cannot choose a route: a playbook is under way"),
        (DIAGNOSED, "request_approval", "cannot ask for approval: the issue is diagnosing"),
        (ROUTED, "grant_approval", "cannot approve the heal: the issue is diagnosing"),
        (ROUTED, "deny_approval", "cannot refuse the heal: the issue is diagnosing"),
        (
            (*DIAGNOSED, "choose_none"),
            "start_remediation",
            "cannot remediate: its route holds no playbook",
        ),
        (ROUTED, "start_playbook", "cannot start a playbook: the issue is diagnosing"),
        (PLAYING, "start_playbook", "cannot start a playbook: another one is under way"),
        (DONE, "start_playbook", "cannot start a playbook: the route is through"),
        (ROUTED, "start_step", "cannot start a step: the issue is diagnosing"),
        (ACTING, "start_step", "cannot start a step: another step is under way"),
        (DONE, "start_step", "cannot start a step: no playbook is under way"),
        (
            (*ACTING, "succeed_step", "skip_step"),
            "start_step",
            "cannot start a step: the playbook is through",
        ),
        (ROUTED, "skip_step", "cannot skip a step: the issue is diagnosing"),
        (PLAYING, "succeed_step", "cannot end a step: none is under way"),
        (DONE, "finish_playbook", "cannot finish a playbook: none is under way"),
        (PLAYING, "finish_playbook", "cannot finish a playbook: a step of it is still to do"),
        (ACTING, "finish_playbook", "cannot finish a playbook: a step of it is still to do"),
        (
            (*ACTING, "succeed_step", "start_step"),
            "finish_playbook",
            "cannot finish a playbook: a step of it is still to do",
        ),
        ((), "see_healthy", "cannot record a verification: the issue is detected"),
        (ACTING, "see_healthy", "cannot record a verification: a step is under way"),
        (
            DONE,
            "see_stranger",
            "cannot record a healthy verification: a stranger answered it",
        ),
        (ACTING, "fail", "cannot fail: a step is under way: settle it first"),
        (ACTING, "verify", "cannot verify: a step is under way"),
        (
            DONE,
            "verify",
            "cannot verify: no healthy verification was recorded after the last step",
        ),
        ((*DONE, "see_healthy", "verify"), "withhold", "cannot withhold the heal: the issue is"),
        ((*DONE, "see_healthy", "verify"), "escalate", "cannot escalate: the issue is verified"),
    ],
)
def test_a_refusal_says_what_cannot_be_done_and_why(
    history: tuple[str, ...], command: str, said: str
) -> None:
    with pytest.raises(IllegalCommandError) as refused:
        COMMANDS[command](given(*history), stamp(99))
    assert str(refused.value).startswith(said)


def test_a_healthy_verification_whose_last_probe_was_not_is_refused_and_told_so() -> None:
    for probes in ((), (WELL, SICK)):
        with pytest.raises(IllegalCommandError) as refused:
            given(*DONE).record_verification(
                healthy=True, probes=probes, epoch=1, elapsed=0.1, stamp=stamp(9)
            )
        assert str(refused.value) == (
            "cannot record a healthy verification: its last probe is not healthy"
        )


def test_an_issue_knows_who_asked_for_it_first() -> None:
    issue = given(*DIAGNOSED)
    assert issue.asked_by is None
    for actor, asked_by in ((POLICY, None), ("api:alice", "api:alice"), ("api:bob", "api:alice")):
        issue.choose_route(
            (),
            candidates=(),
            probabilities=(),
            chosen_by="table",
            stamp=replace(stamp(), actor=actor),
        )
        assert issue.asked_by == asked_by


def test_an_issue_of_which_nothing_is_known_has_no_age() -> None:
    assert NetworkIssue(factory.ISSUE).age(stamp().now) == 0.0
