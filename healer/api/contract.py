"""The published description (OpenAPI) of what the routes answer, good and bad."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from healer.api.problem import MEDIA_TYPE

__all__ = ["describe_answers"]

Schema = dict[str, Any]

_PREFIX: Final = "/network-healer"
_PROBLEM: Final[Schema] = {
    "type": "object",
    "description": "A problem document (RFC 9457).",
    "required": ["type", "title", "status", "detail", "instance", "errors"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "Begins with: cannot."},
        "instance": {"type": "string"},
        "errors": {"type": "array", "items": {"type": "object", "required": ["detail"]}},
        "issue_id": {"type": ["string", "null"]},
        "reason": {"type": "string", "description": "Why a heal is withheld: a stable word."},
        "arithmetic": {"type": "object", "description": "The figures it was withheld on."},
        "retry_after": {"type": "integer"},
    },
    "example": {
        "type": "urn:network-healer:problem:heal-withheld",
        "title": "Heal withheld",
        "status": 409,
        "detail": "cannot heal 'chat_api' now: paused; by api:alice: storm",
        "instance": "/network-healer/heal",
        "errors": [{"detail": "cannot heal 'chat_api' now: paused; by api:alice: storm"}],
        "issue_id": None,
        "reason": "paused",
        "arithmetic": {},
    },
}
_ALWAYS: Final = {
    "400": "More or fewer than one Host header, or an absolute target",
    "401": "No token, or one that is not known (any more)",
    "403": "Asked from a page of another site, or the token's scope is too small",
    "404": "No such component or issue",
    "421": "A Host that is not the healer's",
    "422": "A value that cannot be used: which, and what is allowed",
    "429": "Too often; Retry-After says when to come again",
    "500": "A defect",
    "503": "The log cannot be read or written",
}
_ACTING: Final = {
    "409": "In progress, withheld (with the arithmetic), or not possible in this state",
    "413": "More than 64 KiB",
    "415": "Not application/json",
}
_TEXTS: Final = {"/events": "text/event-stream", "/metrics": "text/plain"}
"""Answers that are no JSON."""

_WITH_ANSWER: Final[Mapping[tuple[str, str], tuple[Schema, Any]]] = {
    ("post", "/heal"): (
        {"component": "string"},
        {
            "success": True,
            "component": "librarian_kernel",
            "port": 8130,
            "healing_result": {
                "playbooks_executed": ["restart_component"],
                "overall_success": True,
            },
            "issue_id": "9439d383318c4e759f4b165b22de69fd",
            "issue_type": "process_crashed",
            "state": "verified",
            "reason": None,
        },
    ),
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
            "total_components": 0,
            "components_healed": 0,
            "components_failed": 0,
            "results": [],
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
        {
            "total_healings": 45,
            "successful_healings": 42,
            "failed_healings": 3,
            "success_rate": 93.3,
            "active_healings": 1,
            "playbook_stats": {
                "restart_component": {
                    "executions": 20,
                    "successes": 19,
                    "failures": 1,
                    "success_rate": 95.0,
                }
            },
        },
    ),
    ("get", "/history"): ({"records": "array"}, {"records": [], "next": None}),
    ("get", "/history/{component}"): ({"records": "array"}, {"records": [], "next": None}),
    ("get", "/issues"): ({"records": "array"}, {"records": [], "next": None}),
    ("get", "/issues/{issue_id}"): ({"issue_id": "string", "events": "array"}, None),
    ("get", "/active"): ({"count": "integer", "active": "array"}, {"count": 0, "active": []}),
    ("get", "/playbook-stats"): ({"playbook_stats": "object"}, {"playbook_stats": {}}),
    ("get", "/recommendations/{component}"): (
        {"component": "string", "recommendations": "array"},
        {"component": "chat_api", "recommendations": []},
    ),
    ("get", "/components"): ({"components": "array"}, {"paused": None, "components": []}),
    ("get", "/components/{name}"): (
        {"name": "string", "port": "integer", "health": "string", "mode": "string"},
        None,
    ),
    ("get", "/playbooks"): ({"playbooks": "array"}, None),
    ("get", "/routes"): ({"routes": "array"}, None),
    ("get", "/mttr"): ({"overall": "object", "by_issue_type": "object"}, None),
    ("post", "/pause"): (
        {"paused": "object"},
        {"paused": {"since": "2026-01-01T12:00:00.000000Z", "reason": "storm", "actor": "api:a"}},
    ),
    ("post", "/components/{name}/mode"): (
        {"component": "string", "before": "string", "mode": "string", "changed": "boolean"},
        {"component": "chat_api", "before": "act", "mode": "suggest", "changed": True},
    ),
    ("post", "/webhooks/alertmanager"): (
        {"alerts": "array"},
        {
            "alerts": [
                {"alert": "f@t", "component": "chat_api", "outcome": "duplicate", "issue_id": None}
            ]
        },
    ),
    ("post", "/webhooks/datadog"): (
        {"alerts": "array"},
        {
            "alerts": [
                {"alert": "f@t", "component": "chat_api", "outcome": "duplicate", "issue_id": None}
            ]
        },
    ),
    ("post", "/views/{view}/rebuild"): (
        {"view": "string", "version": "integer", "position": "integer"},
        {"view": "stats", "version": 1, "position": 4711},
    ),
    ("post", "/reload"): (
        {"reloaded": "boolean", "added": "array", "removed": "array", "changed": "array"},
        {"reloaded": True, "added": [], "removed": [], "changed": ["chat_api"]},
    ),
}


def describe_answers(app: FastAPI) -> None:
    """Let the description of `app` say what is answered, which the routes themselves do not."""
    made: Schema | None = None

    def description() -> Schema:
        nonlocal made
        if made is None:
            made = _described(app)
        return made

    app.openapi = description  # type: ignore[method-assign]


def _described(app: FastAPI) -> Schema:
    described = get_openapi(title=app.title, version=app.version, routes=app.routes)
    described["components"]["schemas"]["Problem"] = _PROBLEM
    described["components"]["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "docs/security.md"}
    }
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            _describe(path.removeprefix(_PREFIX), method, operation)
    return described


def _describe(path: str, method: str, operation: Schema) -> None:
    answers = operation["responses"]
    operation["security"] = [{"token": []}]
    fields, example = _WITH_ANSWER.get((method, path), ({}, None))
    if path == "/cloudevents":
        batch: Schema = {"type": "array", "items": {"type": "object"}}
        answers["200"]["content"] = {"application/cloudevents-batch+json": {"schema": batch}}
    elif path in _TEXTS:
        answers["200"]["content"] = {_TEXTS[path]: {"schema": {"type": "string"}}}
    else:
        properties = {name: {"type": kind} for name, kind in fields.items()}
        schema = {"type": "object", "required": list(fields), "properties": properties}
        content: Schema = {"schema": schema}
        if example is not None:
            content["example"] = example
        answers["200"]["content"] = {"application/json": content}
    if (method, path) == ("post", "/heal"):
        answers["202"] = {
            "description": "It is open; Location names it",
            "headers": {"Location": {"schema": {"type": "string"}}},
            "content": answers["200"]["content"],
        }
    if path == "/readyz":
        answers["503"] = {**answers["200"], "description": "It cannot do its work; reasons say why"}
    for status, why in (_ALWAYS if method == "get" else _ALWAYS | _ACTING).items():
        if path == "/readyz" and status == "503":
            continue
        reference = {"schema": {"$ref": "#/components/schemas/Problem"}}
        answers[status] = {"description": why, "content": {MEDIA_TYPE: reference}}
