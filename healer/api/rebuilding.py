"""`POST views/{view}/rebuild`: a view folded anew beside the running one, which it replaces."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.responses import Response

from healer.api.actor import Actor
from healer.api.json import Json
from healer.api.wish import Nothing
from healer.bootstrap import Healer

__all__ = ["add_rebuilding"]


def add_rebuilding(app: FastAPI, prefix: str, healer: Healer) -> None:
    """Add the route."""

    @app.post(f"{prefix}/views/{{view}}/rebuild")
    async def rebuild(view: str, actor: Actor, nothing: Nothing | None = None) -> Response:
        """Fold a view from nothing beside the running one, twice, and let it take its place when
        both folds agree. One that had stopped at an event is healed so, once it can be read."""
        made = await healer.views.rebuild(view)
        return Json({"view": made.name, "version": made.version, "position": healer.views.position})
