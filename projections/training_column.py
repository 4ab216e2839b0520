"""The columns of the two training tables, with all that their data card says of them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from healer.domain.diagnosis import RECOMMENDATIONS
from projections.column import Column, Kind, Role

__all__ = [
    "DECISION_COLUMNS",
    "DEPENDENCY_COLUMNS",
    "FAILURE_WINDOWS",
    "FINDINGS",
    "RESOURCES",
    "WINDOW_COLUMNS",
]

FAILURE_WINDOWS: Final[Mapping[str, int]] = MappingProxyType(
    {"5m": 300, "1h": 3_600, "24h": 86_400, "7d": 604_800}
)
"""Over how many seconds recent failures are counted, by the name that is in the column's."""

FINDINGS: Final = tuple(sorted(RECOMMENDATIONS))
"""Findings that have a column of their own; all others are in `findings` alone."""

RESOURCES: Final = MappingProxyType(
    {
        "cpu_percent": ("busy share of all cores since the reading before", "%"),
        "load_1m": ("load average of one minute", "tasks"),
        "cores": ("cores of the machine", "cores"),
        "cpu_pressure_percent": ("time in which some task waited for a CPU, over 10 s", "%"),
        "memory_available_percent": ("memory that is available", "%"),
        "swap_used_percent": ("swap that is used", "%"),
        "disk_root_free_percent": ("free space of the root file system", "%"),
        "files_open": ("open files of the machine", "files"),
        "ephemeral_used": ("ephemeral ports in use", "ports"),
    }
)
"""Facts of the check `system_resources` that become columns: meaning and unit."""

_K, _R = Kind, Role
_NEVER_READ = "there was no reading of this component before, or none of this figure"


def _text(name: str, role: Role, meaning: str, null: str = "") -> Column:
    return Column(name, _K.STRING, role, meaning, null=null)


def _seconds(name: str, role: Role, meaning: str, null: str = "") -> Column:
    return Column(name, _K.FLOAT, role, meaning, "s", null)


def _count(name: str, role: Role, meaning: str, unit: str = "count") -> Column:
    return Column(name, _K.INT, role, meaning, unit)


def _flag(name: str, role: Role, meaning: str, null: str = "") -> Column:
    return Column(name, _K.BOOL, role, meaning, null=null)


_PAST: Final = (
    _text(
        "criticality",
        _R.FEATURE,
        "how much the component matters",
        "never registered and no issue yet",
    ),
    _text(
        "mode", _R.FEATURE, "how far the healer may go by itself", "the component is not registered"
    ),
    *(
        _count(f"failures_{name}", _R.FEATURE, f"issues of the component in the last {name}")
        for name in FAILURE_WINDOWS
    ),
    _count("failures_total", _R.FEATURE, "issues of the component since the log began"),
    _seconds(
        "since_last_failure", _R.FEATURE, "since the issue before was detected", "there was none"
    ),
    _seconds(
        "since_last_heal",
        _R.FEATURE,
        "since a remediation of the component last began",
        "there was none",
    ),
    _seconds(
        "process_age",
        _R.FEATURE,
        "since the component's process was adopted",
        "no process is known, or its exit was recorded",
    ),
    _text(
        "previous_outcome",
        _R.FEATURE,
        "healed, recovered or failed: what became of the issue that ended last",
        "none has ended",
    ),
    _text("previous_issue_type", _R.FEATURE, "that issue's type", "none has ended"),
    _text(
        "previous_healed_by",
        _R.FEATURE,
        "the playbook that cured it",
        "none has ended, or no playbook cured it",
    ),
    *(
        Column(f"resource_{name}", _K.FLOAT, _R.FEATURE, meaning, unit, _NEVER_READ)
        for name, (meaning, unit) in RESOURCES.items()
    ),
    _seconds(
        "resource_age", _R.FEATURE, "since those readings were recorded", "there was no reading"
    ),
    Column("hour", _K.INT, _R.FEATURE, "hour of the day, UTC, 0 to 23", "h"),
    Column("weekday", _K.INT, _R.FEATURE, "day of the week, UTC, Monday is 0", "d"),
)
"""What is known of a component's past, at a decision or at a window's beginning."""

DEPENDENCY_COLUMNS: Final = (
    _count("dependencies", _R.FEATURE, "components that it depends on", "components"),
    _count(
        "dependencies_unhealthy",
        _R.FEATURE,
        "those of them whose health is unhealthy",
        "components",
    ),
    _text(
        "dependency_state",
        _R.FEATURE,
        "none (depends on nothing), unhealthy (one is), healthy (all are), unknown (otherwise)",
    ),
)

DECISION_COLUMNS: Final = (
    _text("decision_id", _R.KEY, "names the decision for ever: `issue/version` of the RouteChosen"),
    Column("position", _K.INT, _R.KEY, "position of the decision in the log"),
    Column("time", _K.TIME, _R.KEY, "when it was made"),
    _text("issue_id", _R.KEY, "the issue that it was made for"),
    _text("component", _R.KEY, "the component in need"),
    _text("node", _R.KEY, "the healer that decided"),
    _text("issue_type", _R.FEATURE, "the type after diagnosis"),
    _text("detected_as", _R.FEATURE, "the type at detection"),
    _text("severity", _R.FEATURE, "how bad the issue is"),
    _flag("reported", _R.FEATURE, "a person reported it, nothing was measured"),
    _seconds(
        "seen_after", _R.FEATURE, "from the first evidence to the detection", "a person reported it"
    ),
    _count("recurrence", _R.FEATURE, "issues in a row before this one"),
    _count("epoch", _R.FEATURE, "which life of the component this is"),
    _count("ordinal", _R.FEATURE, "decisions for this issue before this one"),
    _text(
        "probe_reason", _R.FEATURE, "what the probe of the evidence met", "no probe was in evidence"
    ),
    _flag("process_exited", _R.FEATURE, "the end of the component's process was seen"),
    Column("exit_code", _K.INT, _R.FEATURE, "its exit code", null="not seen, or by a signal"),
    Column("exit_signal", _K.INT, _R.FEATURE, "its signal", null="not seen, or it exited itself"),
    _count("listeners", _R.FEATURE, "sockets that listened on the component's port", "sockets"),
    *_PAST,
    *DEPENDENCY_COLUMNS,
    Column("findings", _K.STRINGS, _R.FEATURE, "codes of all findings of the diagnosis"),
    *(_flag(f"finding_{code}", _R.FEATURE, f"the diagnosis found `{code}`") for code in FINDINGS),
    Column("candidates", _K.STRINGS, _R.ACTION, "playbooks that could be chosen, in their order"),
    Column(
        "probabilities",
        _K.FLOATS,
        _R.ACTION,
        "how likely each of `candidates` was to be chosen first",
        "probability",
    ),
    Column("playbooks", _K.STRINGS, _R.ACTION, "the route: all playbooks that will run, in order"),
    Column("skipped", _K.STRINGS, _R.ACTION, "candidates that could not be used here"),
    _text("action", _R.ACTION, "the first playbook of the route; `none`: the route is empty"),
    Column(
        "propensity",
        _K.FLOAT,
        _R.ACTION,
        "the probability with which `action` was chosen",
        "probability",
        "`action` is not among the candidates",
    ),
    _text("chosen_by", _R.ACTION, "table, component, operator, cleared_port or a policy"),
    _text(
        "outcome",
        _R.LABEL,
        "cured, not_cured, recovered, withheld or superseded",
        "the decision was still open at the end of the log",
    ),
    _text(
        "reason",
        _R.LABEL,
        "the word that the issue failed with; `rerouted` where another decision took over",
        "it did not fail, or is open",
    ),
    _text("cured_by", _R.LABEL, "the playbook after which it was well", "not cured by a playbook"),
    _flag(
        "cured_by_action",
        _R.LABEL,
        "`cured_by` is `action` (or it recovered and `action` is none)",
        "the action was not carried out, or is not over",
    ),
    Column(
        "attempt",
        _K.INT,
        _R.LABEL,
        "heals in a row, this one included, from 1",
        "count",
        "no remediation began under this decision",
    ),
    _seconds(
        "waited",
        _R.LABEL,
        "from the decision to the beginning of the remediation",
        "it did not begin under this decision",
    ),
    _count("withholdings", _R.LABEL, "how often the heal was withheld under this decision"),
    _text("withheld_reason", _R.LABEL, "why it was withheld first", "it never was"),
    _seconds(
        "time_to_resolution",
        _R.LABEL,
        "from the first evidence to the end of the issue, by the monotonic clock",
        "the issue is open, or another decision took over",
    ),
    _seconds(
        "time_to_recurrence",
        _R.LABEL,
        "from the end of the issue to the component's next one",
        "there was none within the window, or another decision took over",
    ),
    _flag(
        "recurred",
        _R.LABEL,
        "the component had another issue within the recurrence window (30 minutes by default; in "
        "the file's metadata) of this one's end",
        "the issue is open, another decision took over, or the log ends before the window does",
    ),
)

WINDOW_COLUMNS: Final = (
    _text("window_id", _R.KEY, "names the window for ever: `stream/version` of the HealthChanged"),
    Column("position", _K.INT, _R.KEY, "position in the log of the change that began it"),
    Column("time", _K.TIME, _R.KEY, "when it began"),
    _text("component", _R.KEY, "the component"),
    _text("node", _R.KEY, "the healer that saw it"),
    _text("health", _R.FEATURE, "healthy, suspect, starting or unknown: the health in the window"),
    _text("health_before", _R.FEATURE, "the health before it"),
    _count("epoch", _R.FEATURE, "which life of the component this is"),
    _text("probe_reason", _R.FEATURE, "what the probe met that began it", "no probe did"),
    *_PAST,
    *DEPENDENCY_COLUMNS,
    _seconds(
        "length",
        _R.LABEL,
        "from its beginning to the next change of health",
        "it was open at the end of the log",
    ),
    _seconds(
        "time_to_failure",
        _R.LABEL,
        "from its beginning to the component's next issue",
        "censored: the log ends first",
    ),
    _flag("censored", _R.LABEL, "no failure was seen before the log ended"),
    _seconds(
        "observed",
        _R.LABEL,
        "how long it was looked for a failure: `time_to_failure`, or until the end of the log",
    ),
)
