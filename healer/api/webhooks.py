"""Alerts of other systems: Alertmanager's webhook (version 4) and Datadog's, as docs/guardian.md.

An alert is no person: it heals what may be healed without one, and what it may not is answered
with why; resolved, it withdraws a heal that only waits. Every alert is answered with 200 and its
outcome; only a log that cannot be written, or a withdrawal that cannot be decided now, is an error,
so that the sender tries again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from typing import Annotated, Any, Final

import structlog
from fastapi import FastAPI
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from healer.api.actor import Actor
from healer.api.json import Json
from healer.bootstrap import Healer
from healer.domain.spec import IssueType, Mode
from healer.engine import HealRequest
from healer.errors import HealInProgressError, HealWithheldError, UnknownNameError

__all__ = ["add_webhooks"]

_REMEMBERED: Final = 4096
_TRIGGERS: Final = frozenset({"triggered", "re-triggered"})
_RECOVERED: Final = "recovered"
_LONGEST: Final = 200
"""Characters of a key that the log takes as it is."""

_log = structlog.get_logger("healer.api")

Text = Annotated[str, Field(max_length=4096)]


class _Foreign(BaseModel):
    """What others define: unknown fields are theirs to add."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Alert(_Foreign):
    """One alert of Alertmanager."""

    status: Text
    labels: dict[Text, Text] = Field(default_factory=dict)
    startsAt: Text = ""  # noqa: N815 - Alertmanager's name
    fingerprint: Text = ""


class Alerts(_Foreign):
    """A notification of Alertmanager, version 4."""

    alerts: Annotated[tuple[Alert, ...], Field(max_length=500)]


class DatadogAlert(_Foreign):
    """What the template in docs/guardian.md makes of a Datadog alert."""

    alert_transition: Text
    alert_cycle_key: Text = ""
    alert_id: Text = ""
    tags: Text = ""


class _Desk:
    """Takes alerts, one at a time: the same one twice at once must not heal twice."""

    def __init__(self, healer: Healer) -> None:
        self._healer = healer
        self._turn = asyncio.Lock()
        self._taken: OrderedDict[str, str | None] = OrderedDict()

    async def take(
        self, key: str, labels: Mapping[str, str], actor: str, *, firing: bool, resolved: bool
    ) -> dict[str, Any]:
        """Heal what the alert `key` is about, once, or withdraw that; what came of it. One that
        neither fires nor is resolved is forgotten.

        Raises:
            StoreError: nothing could be made durable.
        """
        async with self._turn:
            names = self._healer.config.alerts
            component = labels.get(names.component_label)
            said: dict[str, Any] = {"outcome": "resolved", "issue_id": None}
            if not firing:
                if resolved:
                    said = await self._withdraw(component, key, actor)
                self._taken.pop(key, None)
            elif key in self._taken:
                said = {"outcome": "duplicate", "issue_id": self._taken[key]}
            else:
                said = await self._heal(component, labels.get(names.issue_type_label), key, actor)
                if said["outcome"] in {"healing", "open"}:
                    self._taken[key] = said["issue_id"]
                    if len(self._taken) > _REMEMBERED:
                        self._taken.popitem(last=False)
            _log.info("alert", alert=key, component=component, actor=actor, **said)
            return {"alert": key, "component": component, **said}

    async def _withdraw(self, name: str | None, key: str, actor: str) -> dict[str, Any]:
        try:
            done = await self._healer.engine.withdraw(name or "", _cause(key), actor)
        except UnknownNameError as error:
            return _not("resolved", str(error))
        if done.kept is None:
            return {"outcome": "withdrawn", "issue_id": done.issue_id}
        return {**_not("resolved", done.kept), "issue_id": done.issue_id}

    async def _heal(
        self, name: str | None, kind: str | None, key: str, actor: str
    ) -> dict[str, Any]:
        engine = self._healer.engine
        if kind is not None and kind not in set(IssueType):
            allowed = ", ".join(IssueType)
            return _not("unknown_issue_type", f"{kind!r} is none; allowed: {allowed}")
        try:
            status = engine.status(name or "")
        except UnknownNameError as error:
            return _not("unknown_component", str(error))
        if status.issue is not None and not status.issue.closed:
            return {"outcome": "open", "issue_id": status.issue.id}
        if not engine.running:
            return _not("withheld", "components are not watched")
        if status.mode is not Mode.ACT:
            return _not("withheld", f"the mode is {status.mode.value}; allowed: act")
        if status.maintenance is not None:
            return _not("withheld", "a maintenance window is open")
        request = HealRequest(
            actor=actor,
            issue_type=IssueType(kind) if kind else None,
            reason="alert",
            forced=False,
            cause=_cause(key),
        )
        try:
            return {"outcome": "healing", "issue_id": await engine.heal(status.name, request)}
        except HealInProgressError as error:
            return {"outcome": "open", "issue_id": error.issue_id}
        except HealWithheldError as error:
            return {**_not("withheld", str(error)), "issue_id": error.issue_id}


def _cause(key: str) -> str:
    """What the log says of the alert that opened an issue; of a long key its digest."""
    if len(key) > _LONGEST:
        key = f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"
    return f"alert:{key}"


def _not(outcome: str, why: str) -> dict[str, Any]:
    return {"outcome": outcome, "issue_id": None, "reason": why}


def add_webhooks(app: FastAPI, prefix: str, healer: Healer) -> None:
    """Add the routes."""
    desk = _Desk(healer)

    @app.post(f"{prefix}/webhooks/alertmanager")
    async def alertmanager(notification: Alerts, actor: Actor) -> Response:
        """Heal what fires, once; withdraw what is resolved and was only waiting."""
        return Json(
            {
                "alerts": [
                    await desk.take(
                        f"{each.fingerprint or sorted(each.labels.items())}@{each.startsAt}",
                        each.labels,
                        actor,
                        firing=each.status == "firing",
                        resolved=each.status == "resolved",
                    )
                    for each in notification.alerts
                ]
            }
        )

    @app.post(f"{prefix}/webhooks/datadog")
    async def datadog(alert: DatadogAlert, actor: Actor) -> Response:
        """Heal what is triggered, once; withdraw what has recovered and was only waiting."""
        pairs = (tag.strip().partition(":") for tag in alert.tags.split(","))
        labels = {name: value for name, _, value in pairs}
        key = alert.alert_cycle_key or alert.alert_id
        transition = alert.alert_transition.lower()
        said = await desk.take(
            key or f"tags {alert.tags}",
            labels,
            actor,
            firing=transition in _TRIGGERS,
            resolved=transition == _RECOVERED,
        )
        return Json({"alerts": [said]})
