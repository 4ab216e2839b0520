"""The published description (OpenAPI) of what the routes answer, good and bad."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from healer.api.example import ANSWERS, EVENT_STREAM, ByName, Model
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
_PROBLEMS: Final = {
    status: {
        "type": f"urn:network-healer:problem:{title.lower().replace(' ', '-')}",
        "title": title,
        "detail": detail,
        "errors": [{"detail": detail}],
    }
    for status, title, detail in (
        ("400", "Bad request", "cannot serve a request with 2 Host headers; allowed: one"),
        ("401", "Token required", "cannot act without a token; send Authorization: Bearer <token>"),
        ("403", "Scope too small", "cannot do this with a token for read; allowed: operate"),
        ("404", "Unknown component", "cannot find component 'chta_api'; known: chat_api"),
        ("413", "Content too large", "cannot take more than 65536 bytes"),
        ("415", "Unsupported media type", "cannot read this body; allowed: application/json"),
        ("421", "Misdirected request", "cannot serve this Host; allowed: 127.0.0.1:8000"),
        ("422", "Unusable query", "cannot search history with limit 0; allowed: 1 to 1000"),
        ("429", "Too many requests", "cannot act so often; allowed: again in 1 s"),
        ("500", "Defect", "cannot answer: a defect of the healer; its log says more"),
        ("503", "Log unavailable", "cannot read the log: the disk is full"),
    )
}
"""In the example of 409 and these the rest is that of the schema."""
_ACCEPTED: Final = {
    "accepted": True,
    "component": "chat_api",
    "issue_id": "9439d383318c4e759f4b165b22de69fd",
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
_TEXTS: Final = {
    "/events": ("text/event-stream", EVENT_STREAM),
    "/metrics": ("text/plain", "healer_log_head 4711.0\n"),
}
"""Answers that are no JSON."""


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
    models: Schema = described["components"]["schemas"]
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            _describe(path.removeprefix(_PREFIX), method, operation, models)
    return described


def _describe(path: str, method: str, operation: Schema, models: Schema) -> None:
    answers = operation["responses"]
    operation["security"] = [{"token": []}]
    if path == "/cloudevents":
        batch: Schema = {
            "type": "array",
            "items": {"type": "object", "required": ["specversion", "id", "source", "type"]},
        }
        content: Schema = {"application/cloudevents-batch+json": {"schema": batch, "example": []}}
    elif path in _TEXTS:
        media_type, example = _TEXTS[path]
        content = {media_type: {"schema": {"type": "string"}, "example": example}}
    else:
        kinds, answer = ANSWERS.get((method, path), ({}, {}))
        schema = {
            "type": "object",
            "required": list(kinds),
            "properties": {
                name: _field(value, kinds.get(name), models) for name, value in answer.items()
            },
        }
        content = {"application/json": {"schema": schema, "example": answer}}
    answers["200"]["content"] = content
    if (method, path) == ("post", "/heal"):
        answers["202"] = {
            "description": "It is open; Location names it",
            "headers": {"Location": {"schema": {"type": "string"}}},
            "content": {"application/json": {**content["application/json"], "example": _ACCEPTED}},
        }
    if path == "/readyz":
        answers["503"] = {**answers["200"], "description": "It cannot do its work; reasons say why"}
    for status, why in (_ALWAYS if method == "get" else _ALWAYS | _ACTING).items():
        if path == "/readyz" and status == "503":
            continue
        reference = {
            "schema": {"$ref": "#/components/schemas/Problem"},
            "example": {**_PROBLEM["example"], **_PROBLEMS.get(status, {}), "status": int(status)},
        }
        answers[status] = {"description": why, "content": {MEDIA_TYPE: reference}}


def _field(value: Any, kind: str | None, models: Schema) -> Schema:
    """The schema of a field that is `value` in the example. What is not of a `kind` that it always
    has may be null."""
    if isinstance(value, Model):
        reference = {"$ref": f"#/components/schemas/{value.name}"}
        if value.name not in models:
            models[value.name] = {
                "type": "object",
                "properties": {name: _field(each, None, models) for name, each in value.items()},
                "example": value,
            }
        return reference if kind is not None else {"anyOf": [reference, {"type": "null"}]}
    if value is None:
        return {}
    schema: Schema = {"type": kind or [_kind(value), "null"]}
    if isinstance(value, list) and value:
        schema["items"] = _field(value[0], _kind(value[0]), models)
    elif isinstance(value, ByName):
        each = next(iter(value.values()))
        schema["additionalProperties"] = _field(each, _kind(each), models)
    return schema


def _kind(value: Any) -> str:
    match value:
        case bool():
            return "boolean"
        case str():
            return "string"
        case int() | float():
            return "number"
        case list():
            return "array"
        case _:
            return "object"
