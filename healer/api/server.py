"""Serves the application on a socket that is there already."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from healer.config.configuration import Tls

__all__ = ["Server"]

_CONNECTIONS: Final = 400
"""Event streams of many readers stay open; those who ask must still find a place."""
_STOP_WITHIN: Final = 5
"""Seconds that answers under way get when everything else has stopped."""


class Server(uvicorn.Server):
    """Uvicorn without its signal handling and its logging set-up: both belong to the daemon."""

    def __init__(self, app: ASGIApp, *, tls: Tls | None = None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                ssl_certfile=tls.certificate if tls else None,
                ssl_keyfile=tls.key if tls else None,
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                limit_concurrency=_CONNECTIONS,
                timeout_graceful_shutdown=_STOP_WITHIN,
            )
        )

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the signals to the daemon, which finishes what is in flight first."""
        yield
