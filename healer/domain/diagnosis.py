"""What the checks say together: findings, recommendations, perhaps another issue type. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Final

from healer.domain.classification import is_gone
from healer.domain.playbook import Check, CheckStatus, Evidence, Finding
from healer.domain.probe import Reason
from healer.domain.spec import ComponentSpec, IssueType

__all__ = ["RECOMMENDATIONS", "Diagnosis", "conclude"]

_SIGKILL: Final = 9

RECOMMENDATIONS: Final = MappingProxyType(
    {
        "process_exited": "Process exited → component crashed: restart {name} and read its log",
        "killed_for_memory": (
            "Killed while memory was short → probably an OOM kill: give {name} or this machine "
            "more memory"
        ),
        "port_not_listening": "Port not listening → component crashed: restart {name}",
        "wrong_interface": (
            "Listening, but not on {host} → wrong interface: correct the bind address of {name}"
        ),
        "foreign_holder": (
            "Port held by a foreign process, or by an orphan of {name} → port conflict: end it, or "
            "move {name} to another port"
        ),
        "several_users": (
            "Several users listen on the port → port conflict: only one of them should be {name}"
        ),
        "unresponsive": "No answer in time → component hangs or is overloaded: restart {name}",
        "bad_answer": "Answering, but not as it should → component is sick: restart {name}",
        "unresolvable_name": (
            "Name {host} not resolved → name service failure: check DNS, /etc/hosts and the host "
            "of {name}"
        ),
        "no_route": (
            "No route to {host} → network unreachable: check the routing table and the gateway"
        ),
        "localhost_unreachable": (
            "Localhost unreachable → network stack issue: check that lo is up"
        ),
        "interface_down": "No usable network interface → network stack issue: bring it up",
        "firewall_blocks": (
            "Port blocked by the firewall → connections cannot arrive: allow the port of {name}, "
            "or move it"
        ),
        "firewall_may_block": (
            "A firewall rule blocks some connections to the port → check it for {name}'s clients"
        ),
        "cpu_strained": "High CPU → performance degradation: find what uses it",
        "memory_strained": "High memory → risk of OOM kills: find what uses it",
        "swap_strained": "Swap nearly full → risk of OOM kills: find what uses memory",
        "disk_strained": "Disk nearly full → writes will fail: free space",
        "descriptors_strained": "Many open files → new files and sockets will fail: raise limits",
        "ports_strained": "Many ports in use → port exhaustion: widen ip_local_port_range",
        "rebind_range_full": (
            "Many ports of the rebind range in use → port exhaustion: widen it for {name}"
        ),
    }
)
"""Finding code → what a person should do about it."""

_TYPE_FINDINGS: Final[Mapping[IssueType, str]] = MappingProxyType(
    {
        IssueType.PORT_NOT_LISTENING: "port_not_listening",
        IssueType.PORT_CONFLICT: "foreign_holder",
        IssueType.CONNECTION_TIMEOUT: "unresponsive",
    }
)
_BAD_ANSWERS: Final = frozenset(
    {Reason.RESET, Reason.CLOSED, Reason.BAD_STATUS, Reason.BAD_RESPONSE}
)
_CUT_OFF: Final = frozenset({"unresolvable_name", "no_route", "localhost_unreachable"})
"""Findings of the fast checks that leave no way to the component, whoever listens."""

_SHUT: Final = frozenset({"interface_down", "firewall_blocks"})
"""Findings of the slow checks that explain a timeout or a refusal better than the component."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The type (perhaps refined), what was found, and what a person could do."""

    issue_type: IssueType
    findings: tuple[Finding, ...]
    recommendations: tuple[str, ...]


def conclude(
    evidence: Evidence, issue_type: IssueType, checks: Sequence[Check], spec: ComponentSpec
) -> Diagnosis:
    """What `evidence` and `checks` say together of an issue of `spec`.

    The type is refined only where acting on the component could not help: to network_unreachable,
    when there is no way to it. An ended process and a foreign holder are facts that no check
    disproves. Checks may be missing or unknown; no finding rests on those.
    """
    readings = {check.name: check for check in checks}
    findings = [*_from_evidence(evidence), *_from_checks(readings)]
    refined = _refine(issue_type, evidence, {finding.code for finding in findings})
    if refined is issue_type and issue_type in _TYPE_FINDINGS:
        findings.append(Finding(code=_TYPE_FINDINGS[issue_type]))
    if _killed(evidence) and any(each.code == "memory_strained" for each in findings):
        findings.append(Finding(code="killed_for_memory", checks=("system_resources",)))
    merged = _merge(findings)
    words = {"name": spec.name, "host": spec.host}
    return Diagnosis(
        issue_type=refined,
        findings=merged,
        recommendations=tuple(RECOMMENDATIONS[each.code].format(**words) for each in merged),
    )


def _refine(issue_type: IssueType, evidence: Evidence, codes: set[str]) -> IssueType:
    settled = {IssueType.PROCESS_CRASHED, IssueType.PORT_CONFLICT, IssueType.NETWORK_UNREACHABLE}
    if is_gone(evidence) or issue_type in settled:
        return issue_type
    causes = _CUT_OFF if issue_type is IssueType.PORT_NOT_LISTENING else _CUT_OFF | _SHUT
    if "wrong_interface" in codes:
        # The listener has to move whatever else is in the way, and that takes a restart.
        causes = _CUT_OFF
    probe = evidence.probe
    answered = probe is not None and probe.answered and probe.reason in _BAD_ANSWERS
    return IssueType.NETWORK_UNREACHABLE if codes & causes and not answered else issue_type


def _from_evidence(evidence: Evidence) -> Iterator[Finding]:
    if is_gone(evidence):
        yield Finding(code="process_exited")
    probe = evidence.probe
    reason = probe.reason if probe is not None else None
    if probe is not None and reason in _BAD_ANSWERS:
        # What a program says of a component that does not even listen is no answer.
        if probe.answered or evidence.listeners:
            yield Finding(code="bad_answer")
    elif reason is Reason.UNRESOLVABLE:
        yield Finding(code="unresolvable_name")
    elif reason is Reason.UNREACHABLE:
        yield Finding(code="no_route")


def _killed(evidence: Evidence) -> bool:
    return evidence.exit is not None and evidence.exit.signal == _SIGKILL


def _from_checks(readings: Mapping[str, Check]) -> Iterator[Finding]:
    for name, read in _READERS.items():
        check = readings.get(name)
        if check is not None and check.status in {CheckStatus.WARN, CheckStatus.FAIL}:
            for code in read(check):
                yield Finding(code=code, checks=(name,))


def _listening(check: Check) -> Iterator[str]:
    yield "wrong_interface" if check.facts.get("wrong_interface") else "port_not_listening"


def _conflicts(check: Check) -> Iterator[str]:
    if check.facts.get("several_users"):
        yield "several_users"
    if check.facts.get("rebind_exhausted"):
        yield "rebind_range_full"


def _resources(check: Check) -> Iterator[str]:
    strained = check.facts.get("strained")
    for each in strained if isinstance(strained, list) else ():
        if f"{each}_strained" in RECOMMENDATIONS:
            yield f"{each}_strained"


def _failed(code: str, otherwise: str | None, check: Check) -> Iterator[str]:
    if check.status is CheckStatus.FAIL:
        yield code
    elif otherwise is not None:
        yield otherwise


_READERS: Final[Mapping[str, Callable[[Check], Iterator[str]]]] = MappingProxyType(
    {
        "port_listening": _listening,
        "localhost_reachable": partial(_failed, "localhost_unreachable", None),
        "network_interfaces": partial(_failed, "interface_down", None),
        "firewall_rules": partial(_failed, "firewall_blocks", "firewall_may_block"),
        "port_conflicts": _conflicts,
        "system_resources": _resources,
        "name_resolution": partial(_failed, "unresolvable_name", None),
        "route": partial(_failed, "no_route", None),
    }
)


def _merge(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """One finding for each code, in order of appearance, with all checks that say it."""
    checks: dict[str, tuple[str, ...]] = {}
    for finding in findings:
        checks[finding.code] = tuple(
            dict.fromkeys((*checks.get(finding.code, ()), *finding.checks))
        )
    return tuple(Finding(code=code, checks=names) for code, names in checks.items())
