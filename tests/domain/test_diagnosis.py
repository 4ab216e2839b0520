"""What checks and evidence say together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healer.domain.classification import is_conclusive
from healer.domain.diagnosis import RECOMMENDATIONS, Diagnosis, conclude
from healer.domain.playbook import Check, CheckStatus, Evidence
from healer.domain.probe import ProbeResult, Reason
from healer.domain.process import ExitStatus, Listener
from healer.domain.spec import ComponentSpec, IssueType

SPEC = ComponentSpec(name="chat_api", port=8220)
SLOW = ("network_interfaces", "firewall_rules", "port_conflicts", "system_resources")


def timed_out() -> Evidence:
    probe = ProbeResult(kind="tcp", target="127.0.0.1:8220", reason=Reason.TIMEOUT)
    listener = Listener(address="127.0.0.1", port=8220)
    return Evidence(probe=probe, listeners=(listener,), owned=True, alive=True)


def check(name: str, status: CheckStatus = CheckStatus.FAIL, **facts: object) -> Check:
    return Check.model_validate({"name": name, "status": status, "facts": facts})


def strained(*names: str) -> Check:
    return check("system_resources", CheckStatus.WARN, strained=list(names))


def diagnose(issue_type: IssueType, *checks: Check, evidence: Evidence | None = None) -> Diagnosis:
    return conclude(evidence or Evidence(), issue_type, checks, SPEC)


def codes(diagnosis: Diagnosis) -> set[str]:
    return {finding.code for finding in diagnosis.findings}


@pytest.mark.parametrize(
    ("reading", "code", "words"),
    [
        (check("port_listening"), "port_not_listening", "component crashed"),
        (check("port_listening", wrong_interface=True), "wrong_interface", "wrong interface"),
        (check("localhost_reachable"), "localhost_unreachable", "network stack issue"),
        (check("network_interfaces"), "interface_down", "network stack issue"),
        (check("firewall_rules"), "firewall_blocks", "firewall"),
        (check("firewall_rules", CheckStatus.WARN), "firewall_may_block", "firewall"),
        (check("port_conflicts", CheckStatus.WARN, several_users=True), "several_users", "users"),
        (
            check("port_conflicts", CheckStatus.WARN, rebind_exhausted=True),
            "rebind_range_full",
            "port exhaustion",
        ),
        (strained("cpu"), "cpu_strained", "performance degradation"),
        (strained("memory"), "memory_strained", "risk of OOM kills"),
        (strained("swap"), "swap_strained", "risk of OOM kills"),
        (strained("disk"), "disk_strained", "free space"),
        (strained("descriptors"), "descriptors_strained", "raise limits"),
        (strained("ports"), "ports_strained", "port exhaustion"),
        (check("name_resolution"), "unresolvable_name", "DNS"),
        (check("route"), "no_route", "routing table"),
    ],
)
def test_each_bad_reading_has_its_finding_and_recommendation(
    reading: Check, code: str, words: str
) -> None:
    diagnosis = diagnose(IssueType.CONNECTION_REFUSED, reading)

    found = {finding.code: finding.checks for finding in diagnosis.findings}
    assert found[code] == (reading.name,)
    assert any(words in sentence for sentence in diagnosis.recommendations)


@pytest.mark.parametrize("status", [CheckStatus.OK, CheckStatus.UNKNOWN])
def test_no_finding_rests_on_a_check_that_is_fine_or_was_not_made(status: CheckStatus) -> None:
    names = ("port_listening", "localhost_reachable", "firewall_rules", "route", *SLOW)
    checks = [check(name, status, strained=["cpu"], several_users=True) for name in names]

    assert not diagnose(IssueType.CONNECTION_REFUSED, *checks).findings


def test_a_foreign_holder_is_named_and_the_type_stays() -> None:
    diagnosis = diagnose(IssueType.PORT_CONFLICT, check("firewall_rules"), check("route"))

    assert diagnosis.issue_type is IssueType.PORT_CONFLICT
    assert "foreign_holder" in codes(diagnosis)
    assert any("port conflict" in sentence for sentence in diagnosis.recommendations)


def test_a_timeout_behind_a_firewall_is_not_blamed_on_the_component() -> None:
    diagnosis = diagnose(
        IssueType.CONNECTION_TIMEOUT, check("firewall_rules"), evidence=timed_out()
    )
    assert diagnosis.issue_type is IssueType.NETWORK_UNREACHABLE
    assert codes(diagnosis) == {"firewall_blocks"}


def test_a_hang_stays_a_timeout() -> None:
    diagnosis = diagnose(IssueType.CONNECTION_TIMEOUT, evidence=timed_out())

    assert diagnosis.issue_type is IssueType.CONNECTION_TIMEOUT
    assert codes(diagnosis) == {"unresponsive"}


def test_a_component_that_answers_is_not_cut_off_whatever_the_checks_say() -> None:
    probe = ProbeResult(kind="http", target="x", reason=Reason.BAD_STATUS, status=500)
    diagnosis = diagnose(
        IssueType.CONNECTION_REFUSED, check("firewall_rules"), evidence=Evidence(probe=probe)
    )
    assert diagnosis.issue_type is IssueType.CONNECTION_REFUSED
    assert "bad_answer" in codes(diagnosis)


def test_what_a_program_says_is_no_answer_of_a_component_that_is_cut_off() -> None:
    probe = ProbeResult(kind="exec", target="check", reason=Reason.BAD_STATUS, status=1)
    diagnosis = diagnose(
        IssueType.CONNECTION_REFUSED, check("firewall_rules"), evidence=Evidence(probe=probe)
    )
    assert diagnosis.issue_type is IssueType.NETWORK_UNREACHABLE
    assert "bad_answer" not in codes(diagnosis)


@pytest.mark.parametrize(
    ("reason", "code"),
    [(Reason.UNRESOLVABLE, "unresolvable_name"), (Reason.UNREACHABLE, "no_route")],
)
def test_a_probe_that_found_no_way_is_a_finding_without_any_check(
    reason: Reason, code: str
) -> None:
    evidence = Evidence(probe=ProbeResult(kind="tcp", target="x", reason=reason))
    diagnosis = diagnose(IssueType.NETWORK_UNREACHABLE, evidence=evidence)
    assert [(finding.code, finding.checks) for finding in diagnosis.findings] == [(code, ())]
    assert diagnosis.recommendations == (
        RECOMMENDATIONS[code].format(name="chat_api", host="127.0.0.1"),
    )


@pytest.mark.parametrize(
    ("issue_type", "refined"),
    [
        (IssueType.PORT_NOT_LISTENING, IssueType.PORT_NOT_LISTENING),
        (IssueType.CONNECTION_REFUSED, IssueType.NETWORK_UNREACHABLE),
    ],
)
def test_a_dead_interface_explains_a_refusal_and_not_that_nobody_listens(
    issue_type: IssueType, refined: IssueType
) -> None:
    assert diagnose(issue_type, check("network_interfaces")).issue_type is refined


def test_a_listener_on_the_wrong_interface_is_restarted_behind_a_firewall_too() -> None:
    wrong = check("port_listening", wrong_interface=True)
    diagnosis = diagnose(IssueType.CONNECTION_REFUSED, wrong, check("firewall_rules"))

    assert diagnosis.issue_type is IssueType.CONNECTION_REFUSED


def test_a_kill_while_memory_is_short_is_probably_an_oom_kill() -> None:
    killed = Evidence(exit=ExitStatus(signal=9))

    suspicious = diagnose(IssueType.PROCESS_CRASHED, strained("memory"), evidence=killed)
    plain = diagnose(IssueType.PROCESS_CRASHED, evidence=killed)

    assert {finding.code: finding.checks for finding in suspicious.findings} == {
        "process_exited": (),
        "memory_strained": ("system_resources",),
        "killed_for_memory": ("system_resources",),
    }
    assert codes(plain) == {"process_exited"}


def test_evidence_and_check_that_agree_make_one_finding() -> None:
    diagnosis = diagnose(IssueType.PORT_NOT_LISTENING, check("port_listening"))

    assert [(finding.code, finding.checks) for finding in diagnosis.findings] == [
        ("port_not_listening", ("port_listening",))
    ]
    assert len(diagnosis.recommendations) == 1


def test_every_recommendation_can_be_said_of_any_component() -> None:
    for sentence in RECOMMENDATIONS.values():
        assert "{" not in sentence.format(name="chat_api", host="127.0.0.1")


@given(
    issue_type=st.sampled_from(IssueType),
    gone=st.booleans(),
    statuses=st.lists(st.sampled_from(CheckStatus), min_size=len(SLOW), max_size=len(SLOW)),
)
def test_no_slow_check_changes_what_is_conclusive(
    issue_type: IssueType, gone: bool, statuses: list[CheckStatus]
) -> None:
    evidence = Evidence(exit=ExitStatus(code=1)) if gone else timed_out()
    slow = [check(name, status) for name, status in zip(SLOW, statuses, strict=True)]

    if is_conclusive(evidence, issue_type):
        with_slow = conclude(evidence, issue_type, slow, SPEC).issue_type
        assert with_slow is conclude(evidence, issue_type, (), SPEC).issue_type
