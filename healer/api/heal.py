"""Healing by hand: one component, or all that fail."""

from __future__ import annotations

import asyncio

import structlog

from healer.api import answer
from healer.api.wish import HealWish
from healer.engine import Engine, HealRequest
from healer.errors import (
    HealerError,
    HealInProgressError,
    HealWithheldError,
    IllegalCommandError,
    UnknownNameError,
)
from projections.projection import Json

__all__ = ["dry_run", "heal", "heal_failing"]

_log = structlog.get_logger("healer.api")


async def dry_run(engine: Engine, wish: HealWish) -> dict[str, Json]:
    """What the heal would do now.

    Raises:
        UnknownNameError: there is no such component or playbook.
    """
    _check_port(engine, wish)
    issue_type, steps = await engine.plan(
        wish.component_name, issue_type=wish.issue_type, playbooks=wish.playbooks, skip=wish.skip
    )
    return answer.planned(wish.component_name, issue_type, steps)


async def heal(engine: Engine, wish: HealWish, actor: str) -> tuple[str, dict[str, Json] | None]:
    """Heal; the issue's id, and how it ended (None when the client does not wait for that).

    Raises:
        UnknownNameError: there is no such component or playbook.
        HealInProgressError: a playbook is acting on the component.
        HealWithheldError: everything is paused, the healer is stopping, or nothing is wrong and
            nothing was named.
        IllegalCommandError: components are not watched.
    """
    name = wish.component_name
    _check_port(engine, wish)
    request = HealRequest(
        actor=actor,
        issue_type=wish.issue_type,
        severity=wish.severity,
        playbooks=wish.playbooks,
        skip=wish.skip,
        reason=wish.reason,
    )
    _check_watching(engine)
    issue_id = await engine.heal(name, request)
    _log.info("heal_requested", component=name, issue=issue_id, actor=actor, reason=wish.reason)
    if not wish.wait:
        return issue_id, None
    return issue_id, answer.healed(await engine.outcome(name, issue_id))


async def heal_failing(engine: Engine, actor: str) -> dict[str, Json]:
    """Heal all components that fail and that nothing is acting on, at once; how each ended.

    `success` is false only when there were some and none of them was healed.

    Raises:
        IllegalCommandError: components are not watched.
    """
    _check_watching(engine)
    names = engine.failing()
    results = await asyncio.gather(*(_heal_one(engine, name, actor) for name in names))
    healed = sum(result["success"] is True for result in results)
    return {
        "success": healed > 0 or not results,
        "total_components": len(results),
        "components_healed": healed,
        "components_failed": len(results) - healed,
        "results": results,
    }


async def _heal_one(engine: Engine, name: str, actor: str) -> dict[str, Json]:
    """How the heal of `name` ended; an error is a result as well, since the others go on."""
    try:
        try:
            issue_id = await engine.heal(name, HealRequest(actor=actor))
        except HealInProgressError as error:
            issue_id = error.issue_id  # the watchdog was quicker; its heal is as good
        return answer.healed(await engine.outcome(name, issue_id))
    except HealerError as error:
        withheld = isinstance(error, HealWithheldError)
        return {
            "success": False,
            "component": name,
            "port": engine.status(name).port,
            "healing_result": {"playbooks_executed": [], "overall_success": False},
            "issue_id": getattr(error, "issue_id", None),
            "reason": getattr(error, "reason", None) if withheld else str(error),
        }


def _check_port(engine: Engine, wish: HealWish) -> None:
    """Refuse a port that is not the component's.

    Raises:
        UnknownNameError: there is no such component, or it has no such port.
    """
    status = engine.status(wish.component_name)
    ports = sorted({status.port, engine.fleet.specs[wish.component_name].port})
    if wish.port is not None and wish.port not in ports:
        raise UnknownNameError("port", str(wish.port), [str(port) for port in ports])


def _check_watching(engine: Engine) -> None:
    if not engine.running:
        raise IllegalCommandError(
            "heal", "components are not watched; POST /network-healer/initialize first"
        )
