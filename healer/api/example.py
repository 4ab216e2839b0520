"""What the API answers, by example. The description makes its schemas of these."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["ANSWERS", "EVENT_STREAM", "ByName", "Model"]


class Model(dict[str, Any]):
    """An object that has a name in the description."""

    def __init__(self, name: str, fields: Mapping[str, Any]) -> None:
        super().__init__(fields)
        self.name = name


class ByName(dict[str, Any]):
    """An object whose keys are names (of components, playbooks, words) and not fields."""


_ID: Final = "9439d383318c4e759f4b165b22de69fd"
_TIME: Final = "2026-03-01T12:00:00.000000Z"

FIGURES: Final = Model(
    "Durations", {"n": 2, "mean": 1.37, "p50": 0.374, "p95": 2.37, "min": 0.374, "max": 2.37}
)
TALLY: Final = Model(
    "Tally",
    {
        "n": 2,
        "successes": 2,
        "failures": 0,
        "success_rate": 100.0,
        "success_interval": [34.2, 100.0],
    },
)
PLAYBOOK_FIGURES: Final = Model(
    "PlaybookFigures",
    {
        "executions": 20,
        "successes": 19,
        "failures": 1,
        "success_rate": 95.0,
        "success_interval": [76.4, 99.1],
    },
)
ISSUE: Final = Model(
    "Issue",
    {
        "position": 99,
        "issue_id": _ID,
        "timestamp": _TIME,
        "ended": "2026-03-01T12:00:00.310000Z",
        "component": "chat_api",
        "host": "127.0.0.1",
        "port": 8220,
        "issue_type": "process_crashed",
        "detected_as": "process_crashed",
        "severity": "high",
        "criticality": "high",
        "node": "edge-1",
        "state": "verified",
        "outcome": "healed",
        "success": True,
        "reason": None,
        "healed_by": "restart_component",
        "chosen_by": "table",
        "approval": None,
        "playbooks_executed": ["restart_component"],
        "actions_taken": [],
        "time_to_detect": 0.004,
        "time_to_resolution": 0.31,
        "evidence": None,
        "findings": ["nothing_listens"],
        "recommendations": [],
        "withheld": [],
        "escalations": [],
        "attempt": 1,
        "recurrence": 0,
    },
)
ENTRY: Final = Model(
    "TimelineEntry",
    {
        "offset_ms": 4.2,
        "state": "remediating",
        "text": "step start: succeeded",
        "level": "info",
        "type": "issue.step_succeeded.v1",
        "event_id": f"{_ID}/9",
        "timestamp": _TIME,
        "actor": "watchdog",
        "facts": None,
    },
)
ACTIVE: Final = Model(
    "ActiveIssue",
    {
        "issue_id": _ID,
        "component": "chat_api",
        "host": "127.0.0.1",
        "port": 8220,
        "issue_type": "process_crashed",
        "severity": "high",
        "criticality": "high",
        "node": "edge-1",
        "state": "remediating",
        "playbook": "restart_component",
        "step": "start",
        "playbooks_executed": [],
        "since": _TIME,
        "updated": _TIME,
        "attempt": 1,
        "withheld": None,
        "escalated": False,
        "position": 91,
    },
)
WITHHELD: Final = Model(
    "Withheld",
    {"reason": "backoff", "cause": None, "arithmetic": {"attempts": 2}, "retry_in": 1.5},
)
PAUSE: Final = Model("Pause", {"since": _TIME, "reason": "storm", "actor": "api:alice"})
COMPONENT: Final = Model(
    "Component",
    {
        "name": "chat_api",
        "host": "127.0.0.1",
        "port": 8220,
        "configured_port": 8220,
        "criticality": "high",
        "mode": "act",
        "launcher": "command",
        "depends_on": ["message_bus"],
        "health": "healthy",
        "epoch": 3,
        "failures": 2,
        "last_change": _TIME,
        "last_probe": None,
        "last_look": _TIME,
        "process": None,
        "in_maintenance": False,
        "maintenance": None,
        "open_issue": None,
        "last_issue": _ID,
        "issues": 2,
        "issue_state": None,
        "awaits_approval": False,
        "healing": False,
        "withheld": WITHHELD,
    },
)
MODE: Final = Model(
    "ModeChange", {"component": "chat_api", "before": "act", "mode": "suggest", "changed": True}
)
VIEW: Final = Model(
    "ViewFingerprint",
    {"view": "stats", "version": 2, "bytes": 60570, "sha256": "5f" * 32, "stopped": None},
)
ALERT: Final = Model(
    "AlertOutcome",
    {
        "alert": "f@t",
        "component": "chat_api",
        "outcome": "resolved",
        "issue_id": _ID,
        "reason": "our own probe says refused",
    },
)
PLAYBOOK: Final = Model(
    "Playbook",
    {
        "name": "restart_component",
        "steps": [Model("PlaybookStep", {"action": "start", "undo": False})],
    },
)
ROUTE: Final = Model(
    "Route",
    {
        "component": "chat_api",
        "issue_type": "process_crashed",
        "playbooks": ["restart_component"],
        "chosen_by": "table",
        "skipped": [],
    },
)
HEALED: Final = {
    "success": True,
    "component": "librarian_kernel",
    "port": 8130,
    "healing_result": Model(
        "HealingResult",
        {"playbooks_executed": ["restart_component"], "overall_success": True},
    ),
    "issue_id": _ID,
    "issue_type": "process_crashed",
    "state": "verified",
    "reason": None,
}
STATS: Final = {
    "total_healings": 45,
    "successful_healings": 42,
    "failed_healings": 3,
    "success_rate": 93.3,
    "success_interval": [82.1, 97.7],
    "active_healings": 1,
    "playbook_stats": ByName(restart_component=PLAYBOOK_FIGURES),
    "success_by_issue_type": ByName(process_crashed=TALLY),
    "success_by_component": ByName(chat_api=TALLY),
}
PAGE: Final = {"records": [ISSUE], "next": 99}
MAINTENANCE: Final = {"component": "chat_api", "maintenance": None}

Kinds = Mapping[str, str]

ANSWERS: Final[Mapping[tuple[str, str], tuple[Kinds, Mapping[str, Any]]]] = {
    ("post", "/heal"): ({"component": "string"}, HEALED),
    ("post", "/auto-heal"): (
        {
            "success": "boolean",
            "total_components": "integer",
            "components_healed": "integer",
            "components_failed": "integer",
            "results": "array",
        },
        {
            "success": True,
            "total_components": 1,
            "components_healed": 1,
            "components_failed": 0,
            "results": [Model("HealResult", HEALED)],
        },
    ),
    ("post", "/initialize"): (
        {
            "success": "boolean",
            "monitoring": "boolean",
            "already_running": "boolean",
            "components": "integer",
        },
        {"success": True, "monitoring": True, "already_running": True, "components": 5},
    ),
    ("get", "/stats"): (
        {
            "total_healings": "integer",
            "successful_healings": "integer",
            "failed_healings": "integer",
            "active_healings": "integer",
            "playbook_stats": "object",
        },
        STATS,
    ),
    ("get", "/history"): ({"records": "array"}, PAGE),
    ("get", "/history/{component}"): ({"records": "array"}, PAGE),
    ("get", "/issues"): ({"records": "array"}, PAGE),
    ("get", "/issues/{issue_id}"): (
        {"issue_id": "string", "events": "array"},
        {**ISSUE, "events": [ENTRY]},
    ),
    ("get", "/active"): ({"count": "integer", "active": "array"}, {"count": 1, "active": [ACTIVE]}),
    ("get", "/playbook-stats"): (
        {"playbook_stats": "object"},
        {"playbook_stats": ByName(restart_component=PLAYBOOK_FIGURES)},
    ),
    ("get", "/recommendations/{component}"): (
        {"component": "string", "recommendations": "array"},
        {
            "component": "chat_api",
            "recommendations": ["component crashed"],
            "recurring": ByName(process_crashed=1),
            "time_to_healthy": FIGURES,
            "advice": [],
        },
    ),
    ("get", "/components"): (
        {"components": "array"},
        {"paused": PAUSE, "warnings": [], "components": [COMPONENT]},
    ),
    ("get", "/components/{name}"): (
        {"name": "string", "port": "integer", "health": "string", "mode": "string"},
        COMPONENT,
    ),
    ("get", "/playbooks"): ({"playbooks": "array"}, {"playbooks": [PLAYBOOK]}),
    ("get", "/routes"): ({"routes": "array"}, {"routes": [ROUTE]}),
    ("get", "/mttr"): (
        {"overall": "object", "by_issue_type": "object"},
        {
            "unit": "s",
            "overall": FIGURES,
            "by_issue_type": ByName(process_crashed=FIGURES),
            "by_playbook": ByName(restart_component=FIGURES),
        },
    ),
    ("post", "/pause"): ({"paused": "object"}, {"paused": PAUSE}),
    ("post", "/resume"): ({}, {"paused": None, "was_paused": PAUSE}),
    ("post", "/mode"): (
        {"mode": "string", "components": "array"},
        {"mode": "suggest", "components": [MODE]},
    ),
    ("post", "/components/{name}/mode"): (
        {"component": "string", "before": "string", "mode": "string", "changed": "boolean"},
        MODE,
    ),
    ("post", "/components/{name}/maintenance"): ({"component": "string"}, MAINTENANCE),
    ("delete", "/components/{name}/maintenance"): ({"component": "string"}, MAINTENANCE),
    ("post", "/components/{name}/maintenance/end"): ({"component": "string"}, MAINTENANCE),
    ("post", "/components/{name}/rearm"): (
        {"component": "string", "attempts_forgotten": "integer"},
        {"component": "chat_api", "attempts_forgotten": 5},
    ),
    ("post", "/issues/{issue_id}/approve"): (
        {"issue_id": "string", "component": "string", "approved": "boolean"},
        {"issue_id": _ID, "component": "chat_api", "approved": True},
    ),
    ("post", "/issues/{issue_id}/deny"): (
        {"issue_id": "string", "component": "string", "approved": "boolean"},
        {"issue_id": _ID, "component": "chat_api", "approved": False},
    ),
    ("post", "/webhooks/alertmanager"): ({"alerts": "array"}, {"alerts": [ALERT]}),
    ("post", "/webhooks/datadog"): ({"alerts": "array"}, {"alerts": [ALERT]}),
    ("get", "/views"): (
        {"position": "integer", "views": "array"},
        {"position": 4711, "views": [VIEW]},
    ),
    ("post", "/views/{view}/rebuild"): (
        {"view": "string", "version": "integer", "position": "integer"},
        {"view": "stats", "version": 1, "position": 4711},
    ),
    ("post", "/reload"): (
        {"reloaded": "boolean", "added": "array", "removed": "array", "changed": "array"},
        {"reloaded": True, "added": [], "removed": [], "changed": ["chat_api"]},
    ),
    ("get", "/span"): ({}, {"first": _TIME, "last": _TIME, "head": 130}),
    ("get", "/at"): (
        {},
        {
            "position": 130,
            "label": _TIME,
            "passed_over": 0,
            "paused": None,
            "components": [],
            "active": [],
            "stats": None,
            "history": None,
        },
    ),
    ("get", "/livez"): ({"alive": "boolean"}, {"alive": True}),
    ("get", "/readyz"): (
        {"ready": "boolean", "reasons": "array", "warnings": "array"},
        {"ready": True, "reasons": [], "warnings": []},
    ),
}
"""For each operation the kinds of the fields that every answer has, and an example."""

EVENT_STREAM: Final = (
    "id: 4711\nevent: fleet.paused.v1\n"
    'data: {"position": 4711, "type": "fleet.paused.v1", "reason": "storm"}\n\n'
)
