"""Healing by hand: one component, or all that fail."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

import structlog

from healer.api import answer
from healer.api.wish import HealWish
from healer.engine import Engine, HealRequest
from healer.errors import (
    HealerError,
    HealInProgressError,
    HealWithheldError,
    IllegalCommandError,
    StoreError,
)
from projections.projection import Json

__all__ = ["ACTOR", "dry_run", "heal", "heal_failing"]

ACTOR: Final = "api:local"
"""Who acts: the holder of the one token of this machine."""

_log = structlog.get_logger("healer.api")
_T = TypeVar("_T")


async def dry_run(engine: Engine, wish: HealWish) -> dict[str, Json]:
    """What the heal would do now.

    Raises:
        UnknownNameError: there is no such component or playbook.
    """
    issue_type, steps = await engine.plan(
        wish.component_name, issue_type=wish.issue_type, playbooks=wish.playbooks, skip=wish.skip
    )
    return answer.planned(wish.component_name, issue_type, steps)


async def heal(
    engine: Engine, wish: HealWish, *, stopping: asyncio.Event
) -> tuple[str, dict[str, Json] | None]:
    """Heal; the issue's id, and how it ended (None when the client does not wait for that).

    Raises:
        UnknownNameError: there is no such component or playbook.
        HealInProgressError: a playbook is acting on the component.
        HealWithheldError: everything is paused.
        IllegalCommandError: components are not watched, or the healer is stopping.
    """
    name = wish.component_name
    engine.status(name)
    request = HealRequest(
        actor=ACTOR,
        issue_type=wish.issue_type,
        severity=wish.severity,
        playbooks=wish.playbooks,
        skip=wish.skip,
    )
    issue_id = await _opened(engine, name, request, stopping)
    _log.info("heal_requested", component=name, issue=issue_id, actor=ACTOR, reason=wish.reason)
    if not wish.wait:
        return issue_id, None
    return issue_id, answer.healed(await engine.outcome(name, issue_id))


async def heal_failing(engine: Engine, *, stopping: asyncio.Event) -> dict[str, Json]:
    """Heal all components that fail and that nothing is acting on, at once; how each ended.

    `success` is false only when there were some and none of them was healed.

    Raises:
        IllegalCommandError: components are not watched, or the healer is stopping.
    """
    _check_watching(engine)
    names = engine.failing()
    results = await asyncio.gather(*(_heal_one(engine, name, stopping) for name in names))
    healed = sum(result["success"] is True for result in results)
    return {
        "success": healed > 0 or not results,
        "total_components": len(results),
        "components_healed": healed,
        "components_failed": len(results) - healed,
        "results": results,
    }


async def _heal_one(engine: Engine, name: str, stopping: asyncio.Event) -> dict[str, Json]:
    """How the heal of `name` ended; an error is a result as well, since the others go on."""
    try:
        try:
            issue_id = await _opened(engine, name, HealRequest(actor=ACTOR), stopping)
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


def _check_watching(engine: Engine) -> None:
    if not engine.running:
        raise IllegalCommandError(
            "heal", "components are not watched; POST /network-healer/initialize first"
        )


async def _opened(engine: Engine, name: str, request: HealRequest, stopping: asyncio.Event) -> str:
    _check_watching(engine)
    opened = await _unless(stopping, engine.heal(name, request))
    if opened is None:
        raise StoreError(f"cannot heal {name!r}: the healer is stopping")
    return opened


async def _unless(stopping: asyncio.Event, work: Coroutine[Any, Any, _T]) -> _T | None:
    """The result of `work`; None when the healer is to stop first."""
    task = asyncio.create_task(work)
    stop = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait((task, stop), return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for waiting in (task, stop):
            waiting.cancel()
        await asyncio.gather(task, stop, return_exceptions=True)
