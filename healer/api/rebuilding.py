"""`GET views` says what each view is, to be compared with a rebuild; `POST views/{view}/rebuild`
folds one anew beside the running one, which it replaces."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI
from fastapi.responses import Response

from healer.api.actor import Actor
from healer.api.json import Json
from healer.api.wish import Nothing
from healer.bootstrap import Healer

__all__ = ["add_rebuilding"]


def add_rebuilding(app: FastAPI, prefix: str, healer: Healer) -> None:
    """Add the routes."""
    views = healer.views
    turn = asyncio.Lock()

    @app.get(f"{prefix}/views")
    async def fingerprints() -> Response:
        """What each view is at one position of the log: the size and the SHA-256 of its canonical
        JSON, which a rebuild up to there has to have too; null where the view has stopped."""
        async with turn:  # a long history is work for a while: for one who asks at a time
            found = await views.fingerprints()
        shown = []
        for projection in views.projections:
            view, stopped = found.views.get(projection.name), views.stopped.get(projection.name)
            shown.append(
                {
                    "view": projection.name,
                    "version": projection.version,
                    "bytes": None if view is None else view.size,
                    "sha256": None if view is None else view.sha256,
                    "stopped": None if stopped is None else str(stopped),
                }
            )
        return Json({"position": found.position, "views": shown})

    @app.post(f"{prefix}/views/{{view}}/rebuild")
    async def rebuild(view: str, actor: Actor, nothing: Nothing | None = None) -> Response:
        """Fold a view from nothing beside the running one, twice, and let it take its place when
        both folds agree. One that had stopped at an event is healed so, once it can be read."""
        made = await views.rebuild(view)
        return Json({"view": made.name, "version": made.version, "position": views.position})
