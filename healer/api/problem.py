"""The one table from error to HTTP status, and problem documents (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from healer.errors import (
    ConfigError,
    HealerError,
    HealInProgressError,
    HealWithheldError,
    HostError,
    IllegalCommandError,
    IllegalTransitionError,
    IssueConflictError,
    StoreError,
    UnknownNameError,
)
from projections.history import HistoryQueryError
from projections.projection import ProjectionStoppedError

__all__ = ["MEDIA_TYPE", "Problem", "problem_of"]

MEDIA_TYPE: Final = "application/problem+json"

_TABLE: Final[Mapping[type[HealerError], tuple[int, str]]] = {
    UnknownNameError: (422, "Unknown name"),
    HealInProgressError: (409, "Heal in progress"),
    HealWithheldError: (409, "Heal withheld"),
    IllegalTransitionError: (409, "Not possible in this state"),
    IllegalCommandError: (409, "Not possible in this state"),
    IssueConflictError: (409, "Conflict in the log"),
    ConfigError: (422, "Unusable configuration"),
    HistoryQueryError: (422, "Unusable query"),
    StoreError: (503, "Log unavailable"),
    ProjectionStoppedError: (503, "View unavailable"),
    HostError: (500, "The machine refused"),
    HealerError: (500, "Failed"),
}
"""The status and title of each error; of a class that is missing, its nearest base's."""

_LARGEST: Final = 2**53
_FOUND_BY_PATH: Final = frozenset({"component", "issue"})
"""Kinds of names that are things of their own: there is none of that name, so 404."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem document. `more` are members beyond the standard's, `errors` one entry for each
    mistake: `{detail, field, value, allowed}`."""

    status: int
    title: str
    detail: str
    instance: str
    errors: Sequence[Mapping[str, Any]] = ()
    more: Mapping[str, Any] = field(default_factory=dict)

    def body(self) -> bytes:
        """The document as it is sent."""
        return orjson.dumps(
            {
                "type": f"urn:network-healer:problem:{self.title.lower().replace(' ', '-')}",
                "title": self.title,
                "status": self.status,
                "detail": self.detail,
                "instance": self.instance,
                "errors": list(self.errors) or [{"detail": self.detail}],
                **self.more,
            }
        )


def problem_of(error: HealerError, instance: str) -> Problem:
    """What a client is told of `error`, met at the path `instance`."""
    status, title = next(_TABLE[kind] for kind in type(error).__mro__ if kind in _TABLE)
    errors: list[dict[str, Any]] = []
    more: dict[str, Any] = {}
    match error:
        case UnknownNameError():
            if error.kind in _FOUND_BY_PATH:
                status, title = 404, f"Unknown {error.kind}"
            errors.append(_entry(str(error), error.kind, error.name, list(error.known)))
        case HealInProgressError():
            more = {
                "component": error.component,
                "issue_id": error.issue_id,
                "node": error.node,
                "reason": "in_progress",
                "arithmetic": {},
            }
        case HealWithheldError():
            more = {
                "component": error.component,
                "issue_id": error.issue_id,
                "reason": error.reason,
                "arithmetic": error.arithmetic,
            }
        case HistoryQueryError():
            # The query calls its cursor by another name than the history does.
            name = "cursor" if error.field == "before" else error.field
            errors.append(_entry(str(error), name, error.value, error.allowed))
        case ConfigError():
            errors += [{"detail": problem} for problem in error.problems]
        case _:
            pass
    return Problem(status, title, str(error), instance, errors, more)


def _entry(detail: str, name: str, value: object, allowed: object) -> dict[str, Any]:
    if isinstance(value, int) and abs(value) > _LARGEST:
        value = str(value)  # JSON's readers have no such numbers
    return {"detail": detail, "field": name, "value": value, "allowed": allowed}
