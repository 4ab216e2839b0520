"""What those who watch the healer ask: metrics, and whether it lives and can work."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, Response

from healer.api.json import Json
from healer.api.metrics import CONTENT_TYPE, Metrics
from healer.api.readiness import examined, warnings
from healer.api.reload import Reload
from healer.api.stream import EventStreams
from healer.bootstrap import Healer

__all__ = ["add_observation"]


def add_observation(
    app: FastAPI, healer: Healer, reload: Reload | None, streams: EventStreams
) -> None:
    """Add the routes; `app.state.metrics` is where the daemon tells of its loop's lag."""
    metrics = Metrics(healer, reload, streams)
    app.state.metrics = metrics

    @app.get("/metrics", response_class=PlainTextResponse)
    async def scrape() -> Response:
        """The figures that Prometheus scrapes."""
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    @app.get("/livez")
    async def livez() -> Response:
        """It answers, so it lives: the store is not asked."""
        return Json({"alive": True})

    @app.get("/readyz")
    async def readyz(request: Request) -> Response:
        """Whether it can do its work; with `?verbose` each thing that it needs for that."""
        found = examined(healer)
        reasons = [why for reasons in found.values() for why in reasons]
        told = warnings(healer)
        if reload is not None and reload.error is not None:
            told.append(f"the old configuration is in force: {reload.error}")
        shown: dict[str, Any] = {
            "ready": not reasons,
            "reasons": reasons,
            "warnings": told,
        }
        if "verbose" in request.query_params:
            shown["checks"] = {
                name: {"status": "fail" if why else "pass", "reasons": why}
                for name, why in found.items()
            }
        return Json(shown, status_code=503 if reasons else 200)
