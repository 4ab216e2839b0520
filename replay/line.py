"""One fact, told for a person in one short line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, assert_never

from healer.domain import events as fact
from healer.domain.duration import format_duration
from healer.domain.health import Health
from healer.domain.playbook import Check, CheckStatus, Evidence, PlaybookOutcome, Target
from healer.domain.probe import Outcome, ProbeResult
from healer.domain.process import ProcessIdentity
from projections.action import actions

__all__ = ["Level", "Line", "describe"]


class Level(StrEnum):
    """How a line is to be taken: INFO is progress, GOOD and BAD are outcomes, WARN is trouble."""

    INFO = "info"
    GOOD = "good"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Line:
    """`text` is one line without an end, without colours."""

    text: str
    level: Level


_TOLD: Final = 4
"""Facts of a check in its line; the others stand in its evidence."""

_CHECK_LEVEL: Mapping[CheckStatus, Level] = {
    CheckStatus.OK: Level.INFO,
    CheckStatus.WARN: Level.WARN,
    CheckStatus.FAIL: Level.WARN,
    CheckStatus.UNKNOWN: Level.INFO,
}


def describe(event: fact.Fact) -> Line:
    """What `event` says, in facts."""
    match event:
        case fact.IssueDetected():
            seen = f", seen after {format_duration(event.seen_after)}" if event.seen_after else ""
            why = _evidence(event.evidence)
            text = (
                f"{event.component} {event.host}:{event.port} {event.issue_type.value}{why}{seen}"
            )
            return Line(text, Level.WARN)
        case fact.DiagnosisStarted():
            return Line(f"{event.playbook}: {_list(event.checks)}", Level.INFO)
        case fact.CheckRecorded():
            return Line(_check(event.check), _CHECK_LEVEL[event.check.status])
        case fact.DiagnosisCompleted():
            found = _list([finding.code for finding in event.findings])
            later = f"; not waited for: {_list(event.pending)}" if event.pending else ""
            return Line(f"diagnosis: {event.issue_type.value} ({found}){later}", Level.INFO)
        case fact.RouteChosen():
            names = " → ".join(playbook.name for playbook in event.playbooks) or "no playbook"
            left_out = "".join(f"; not {each.playbook}: {each.why}" for each in event.skipped)
            return Line(f"route: {names}, chosen by {event.chosen_by}{left_out}", Level.INFO)
        case fact.ApprovalRequested():
            until = format_duration(event.expires_in)
            return Line(f"asks to run {_list(event.playbooks)}, for {until}", Level.WARN)
        case fact.ApprovalGranted():
            return Line(f"allowed by {event.actor}", Level.INFO)
        case fact.ApprovalDenied():
            return Line(f"refused by {event.actor}: {event.reason}", Level.WARN)
        case fact.RemediationStarted():
            return Line(f"remediation begins, attempt {event.attempt}", Level.INFO)
        case fact.PlaybookStarted():
            return Line(f"{event.playbook} begins", Level.INFO)
        case fact.StepStarted():
            return Line(f"{event.action}{_targets(event)} …", Level.INFO)
        case fact.StepSucceeded():
            took = format_duration(event.elapsed)
            return Line(f"{'; '.join(actions(event))} ({took})", Level.INFO)
        case fact.StepFailed():
            took = format_duration(event.elapsed)
            return Line(f"{'; '.join(actions(event))} ({took})", Level.WARN)
        case fact.StepSkipped():
            return Line(f"{event.action}: nothing to do ({event.reason})", Level.INFO)
        case fact.StepSettled():
            return Line("; ".join(actions(event)), Level.WARN)
        case fact.PlaybookFinished():
            completed = event.outcome is PlaybookOutcome.COMPLETED
            level = Level.INFO if completed else Level.WARN
            return Line(f"{event.playbook} {event.outcome.value}", level)
        case fact.VerificationRecorded():
            after = f" after {event.after}" if event.after else ""
            if event.healthy:
                return Line(f"healthy{after}{_last(event.probes)}", Level.GOOD)
            strangers = (
                f", answered by foreign {_list(_names(event.foreign))}" if event.foreign else ""
            )
            return Line(f"not healthy{after}{_last(event.probes)}{strangers}", Level.WARN)
        case fact.HealWithheld():
            figures = ", ".join(f"{name}={value:g}" for name, value in event.arithmetic.items())
            blame = f", because of {event.cause}" if event.cause else ""
            again = (
                f"; again in {format_duration(event.retry_in)}"
                if event.retry_in is not None
                else ""
            )
            arithmetic = f" ({figures})" if figures else ""
            return Line(f"heal withheld: {event.reason}{blame}{arithmetic}{again}", Level.WARN)
        case fact.IssueEscalated():
            advice = "".join(f"; {each}" for each in event.recommendations)
            return Line(f"escalated: {event.reason}{advice}", Level.BAD)
        case fact.IssueTakenOver():
            before = f" from {event.holder}" if event.holder else ""
            return Line(f"{event.node} takes it over{before}", Level.WARN)
        case fact.IssueVerified():
            by = f"healed by {event.healed_by}" if event.healed_by else "recovered by itself"
            return Line(f"{by} in {format_duration(event.resolved_in)}", Level.GOOD)
        case fact.IssueFailed():
            took = format_duration(event.resolved_in)
            return Line(f"not cured: {event.reason}, after {took}", Level.BAD)
        case fact.ComponentRegistered():
            where = f"{event.host}:{event.port}"
            return Line(f"{event.component} registered on {where}, {event.mode.value}", Level.INFO)
        case fact.HealthChanged():
            last = "" if event.probe is None else _last((event.probe,))
            text = f"{event.component}: {event.before.value} → {event.after.value}{last}"
            return Line(text, _health_level(event.after))
        case fact.PortRebound():
            text = f"{event.component} moved from port {event.old_port} to {event.new_port}"
            return Line(text, Level.WARN)
        case fact.MaintenanceStarted():
            duration = format_duration(event.duration)
            text = f"{event.component} in maintenance for {duration}: {event.reason}"
            return Line(text, Level.INFO)
        case fact.MaintenanceEnded():
            return Line(f"{event.component}: maintenance ended: {event.reason}", Level.INFO)
        case fact.ModeChanged():
            change = f"{event.before.value} → {event.after.value}"
            return Line(f"{event.component}: mode {change}: {event.reason}", Level.INFO)
        case fact.ProcessAdopted():
            text = f"{event.component} is {event.process} ({event.proof.value})"
            return Line(text, Level.INFO)
        case fact.BudgetReset():
            text = f"{event.component}: budget reset after {event.attempts}: {event.reason}"
            return Line(text, Level.INFO)
        case fact.ComponentRemoved():
            return Line(f"{event.component} is no longer in the configuration", Level.INFO)
        case fact.FleetPaused():
            return Line(f"all healing paused by {event.actor}: {event.reason}", Level.WARN)
        case fact.FleetResumed():
            return Line(f"healing resumed by {event.actor}: {event.reason}", Level.INFO)
        case _:
            assert_never(event)


def _list(words: tuple[str, ...] | list[str]) -> str:
    return ", ".join(words) or "nothing"


def _names(processes: tuple[ProcessIdentity, ...]) -> list[str]:
    return [str(process) for process in processes]


def _check(check: Check) -> str:
    told = [(name, value) for name, value in check.facts.items() if value not in (None, "", [])]
    facts = ", ".join(f"{name}={_fact(value)}" for name, value in told[:_TOLD])
    took = f" {format_duration(check.elapsed)}" if check.elapsed else ""
    return f"{check.name}: {check.status.value}{f' ({facts})' if facts else ''}{took}"


def _fact(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _evidence(evidence: Evidence) -> str:
    words = []
    if evidence.probe is not None:
        words.append(_probe(evidence.probe))
    if evidence.exit is not None:
        words.append(f"{evidence.process or 'process'} ended: {evidence.exit}")
    for listener in evidence.listeners:
        holders = ", ".join(map(str, listener.holders)) or "a hidden process"
        words.append(f"{listener.address}:{listener.port} is held by {holders}")
    return f" ({'; '.join(words)})" if words else ""


def _targets(event: fact.StepStarted) -> str:
    if event.targets:
        return " " + ", ".join(_target(target) for target in event.targets)
    if event.manager is not None:
        return f" by {event.manager}"
    return f" on port {event.port}" if event.port is not None else ""


def _target(target: Target) -> str:
    proof = target.proof.value if target.proof is not None else "foreign"
    return f"{target.process} ({proof})"


def _last(probes: tuple[ProbeResult, ...]) -> str:
    return f" ({_probe(probes[-1])})" if probes else ""


def _probe(probe: ProbeResult) -> str:
    if probe.outcome is Outcome.HEALTHY:
        return f"{probe.kind} {probe.target} in {format_duration(probe.elapsed)}"
    status = f" {probe.status}" if probe.status is not None else ""
    return f"{probe.kind} {probe.target}: {probe.reason.value}{status}"


def _health_level(health: Health) -> Level:
    match health:
        case Health.HEALTHY:
            return Level.GOOD
        case Health.UNHEALTHY | Health.SUSPECT:
            return Level.WARN
        case Health.UNKNOWN | Health.STARTING:
            return Level.INFO
