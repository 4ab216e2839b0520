"""The dashboard: one page and its files, from this package and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fastapi import FastAPI
from fastapi.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

__all__ = ["add_dashboard"]

_FILES: Final = Path(__file__).parent / "static"


def add_dashboard(app: FastAPI) -> None:
    """Add `/` and `/static`."""

    @app.get("/", include_in_schema=False)
    async def dashboard() -> Response:
        """The page."""
        return FileResponse(_FILES / "index.html", media_type="text/html; charset=utf-8")

    app.mount("/static", StaticFiles(directory=_FILES), name="static")
