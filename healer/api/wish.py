"""What a client may ask for, and how a wrong question is answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, StrictBool, model_validator
from pydantic_core import PydanticCustomError

from healer.api.problem import Problem
from healer.domain.duration import Duration
from healer.domain.spec import IssueType, Mode, Severity
from projections.history import HistoryQuery

__all__ = [
    "LAST_POSITION",
    "EventsWish",
    "HealWish",
    "HistoryWish",
    "MaintenanceWish",
    "ModeWish",
    "Nothing",
    "ReasonWish",
    "invalid",
]

_LONGEST_WINDOW: Final = 366 * 86_400.0
_SHOWN: Final = 80
"""Characters of a wrong value that are shown back."""

Names = Annotated[tuple[Annotated[str, Field(max_length=63)], ...], Field(max_length=16)]


class _Wish(BaseModel):
    """Unknown fields are refused: a misspelt `dry_run` must not act."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _known(cls, given: Any) -> Any:
        if isinstance(given, Mapping):
            allowed = [field.alias or name for name, field in cls.model_fields.items()]
            for name in given:
                if name not in allowed:
                    raise PydanticCustomError(
                        "unknown_field",
                        "there is no such field",
                        {"field": str(name)[:_SHOWN], "allowed": allowed},
                    )
        return given


class Nothing(_Wish):
    """A body with nothing in it."""


class HealWish(_Wish):
    """A heal. `port`, where it is given, has to be one of the component's: who means another one
    means another component. Without `issue_type` the evidence decides; `playbooks` forces these, in
    this order; `skip` leaves these out. With `dry_run` nothing is done; without `wait` the answer
    comes when the issue is open and not when it has ended."""

    component_name: Annotated[str, Field(min_length=1, max_length=63)]
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    issue_type: IssueType | None = None
    severity: Severity | None = None
    dry_run: StrictBool = False
    skip: Names = ()
    playbooks: Annotated[Names, Field(min_length=1)] | None = None
    reason: Annotated[str, Field(max_length=500)] | None = None
    wait: StrictBool = True


Reason = Annotated[str, Field(min_length=1, max_length=500)]
BY_HAND: Final = "by hand"
"""The reason of an operator who gives none."""


class ReasonWish(_Wish):
    """Why somebody does what the path says."""

    reason: Reason = BY_HAND


class ModeWish(_Wish):
    """A mode, and what for."""

    mode: Mode
    reason: Reason = BY_HAND


class MaintenanceWish(_Wish):
    """A maintenance window that opens now; `for` is a duration like 10m, or seconds."""

    duration: Annotated[Duration, Field(alias="for", gt=0, le=_LONGEST_WINDOW)]
    reason: Reason = BY_HAND


class HistoryWish(_Wish):
    """Which issues; `cursor` is the `next` of the page before."""

    component_name: str | None = None
    issue_type: IssueType | None = None
    outcome: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    limit: int = 100
    cursor: int | None = None

    def query(self, component: str | None = None) -> HistoryQuery:
        """The query of the history.

        Raises:
            HistoryQueryError: a value that is not allowed.
        """
        return HistoryQuery(
            component=component or self.component_name,
            issue_type=self.issue_type.value if self.issue_type else None,
            outcome=self.outcome,
            since=self.since,
            until=self.until,
            before=self.cursor,
            limit=self.limit,
        )


LAST_POSITION: Final = 2**63 - 1
"""No log has one behind it."""


class EventsWish(_Wish):
    """Events behind the position `after`; without it, those that come."""

    after: Annotated[int, Field(ge=0, le=LAST_POSITION)] | None = None


def invalid(found: Sequence[Mapping[str, Any]], instance: str) -> Problem:
    """The problem document for what validation found (the entries of pydantic's `errors()`)."""
    errors = [_entry(each) for each in found]
    detail = "cannot take this request: " + "; ".join(str(each["detail"]) for each in errors)
    return Problem(422, "Invalid request", detail, instance, errors)


def _entry(found: Mapping[str, Any]) -> dict[str, Any]:
    context = found.get("ctx") or {}
    if found["type"] == "unknown_field":
        name, allowed = context["field"], context["allowed"]
        detail = f"{name!r}: there is no such field; allowed: {', '.join(allowed) or 'none'}"
        return {"detail": detail, "field": name, "value": None, "allowed": allowed}
    # The first part says where (body, query), which the field's name makes clear enough.
    name = ".".join(str(part) for part in found["loc"][1:]) or str(found["loc"][0])
    missing = found["type"] == "missing"
    value = None if missing else repr(found.get("input"))[:_SHOWN]
    allowed = context.get("expected") or str(found["msg"])
    said = "is missing" if missing else f"{value} cannot be used; allowed: {allowed}"
    return {"detail": f"{name}: {said}", "field": name, "value": value, "allowed": allowed}
