"""The switches of operators over HTTP: modes, maintenance, the pause, budgets, approvals."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.responses import Response

from healer.api import answer
from healer.api.actor import Actor
from healer.api.json import Json
from healer.api.wish import MaintenanceWish, ModeWish, ReasonWish
from healer.engine import Engine

__all__ = ["add_controls"]


def add_controls(app: FastAPI, prefix: str, engine: Engine) -> None:
    """Add the routes; each leaves a fact with the actor's name, durable before it is answered."""
    _add_pause(app, prefix, engine)
    _add_component(app, f"{prefix}/components/{{name}}", engine)
    _add_approvals(app, f"{prefix}/issues/{{issue_id}}", engine)


def _add_pause(app: FastAPI, prefix: str, engine: Engine) -> None:
    controls = engine.controls

    @app.post(f"{prefix}/pause")
    async def pause(actor: Actor, wish: ReasonWish | None = None) -> Response:
        """Hold all heals, also those by hand, until they are resumed. Those under way finish."""
        held = await controls.begin_pause(actor, _reason(wish))
        return Json({"paused": answer.pause(held)})

    @app.post(f"{prefix}/resume")
    async def resume(actor: Actor, wish: ReasonWish | None = None) -> Response:
        """Allow heals again."""
        ended = await controls.end_pause(actor, _reason(wish))
        return Json({"paused": None, "was_paused": answer.pause(ended)})

    @app.post(f"{prefix}/mode")
    async def mode_of_all(actor: Actor, wish: ModeWish) -> Response:
        """How far the healer may go by itself, for all components."""
        before = await controls.change_modes(wish.mode, actor, wish.reason)
        changed = [answer.mode(name, each, wish.mode) for name, each in before.items()]
        return Json({"mode": wish.mode.value, "components": changed})


def _add_component(app: FastAPI, path: str, engine: Engine) -> None:
    controls = engine.controls

    @app.post(f"{path}/mode")
    async def mode(name: str, actor: Actor, wish: ModeWish) -> Response:
        """How far the healer may go by itself: observe, suggest or act."""
        before = await controls.change_mode(name, wish.mode, actor, wish.reason)
        return Json(answer.mode(name, before, wish.mode))

    @app.post(f"{path}/maintenance")
    async def begin_maintenance(name: str, actor: Actor, wish: MaintenanceWish) -> Response:
        """Withhold heals for a while; an open window is replaced."""
        window = await controls.begin_maintenance(name, wish.duration, actor, wish.reason)
        return Json({"component": name, "maintenance": answer.maintenance(window)})

    @app.post(f"{path}/maintenance/end")
    async def end_maintenance(name: str, actor: Actor, wish: ReasonWish | None = None) -> Response:
        """Allow heals again."""
        await controls.end_maintenance(name, actor, _reason(wish))
        return Json({"component": name, "maintenance": None})

    @app.delete(f"{path}/maintenance")
    async def delete_maintenance(name: str, actor: Actor) -> Response:
        """Allow heals again."""
        await controls.end_maintenance(name, actor, _reason(None))
        return Json({"component": name, "maintenance": None})

    @app.post(f"{path}/rearm")
    async def rearm(name: str, actor: Actor, wish: ReasonWish | None = None) -> Response:
        """Give a component its whole budget of heals back."""
        attempts = await controls.rearm(name, actor, _reason(wish))
        return Json({"component": name, "attempts_forgotten": attempts})


def _add_approvals(app: FastAPI, path: str, engine: Engine) -> None:
    controls = engine.controls

    @app.post(f"{path}/approve")
    async def approve(issue_id: str, actor: Actor, wish: ReasonWish | None = None) -> Response:
        """Allow the heal that the issue suggests."""
        component = await controls.approve(issue_id, actor)
        return Json({"issue_id": issue_id, "component": component, "approved": True})

    @app.post(f"{path}/deny")
    async def deny(issue_id: str, actor: Actor, wish: ReasonWish | None = None) -> Response:
        """Refuse the heal that the issue suggests; it ends as failed."""
        component = await controls.deny(issue_id, actor, _reason(wish))
        return Json({"issue_id": issue_id, "component": component, "approved": False})


def _reason(wish: ReasonWish | None) -> str:
    return (wish or ReasonWish()).reason
