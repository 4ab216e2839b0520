"""Reads a request's body whole and strictly before a handler sees it.

JSON parsers disagree about duplicate keys and about NaN; here neither is JSON.
"""

from __future__ import annotations

import json
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from healer.api.guard import refuse
from healer.api.problem import Problem

__all__ = ["LIMIT", "Body"]

LIMIT: Final = 64 * 1024
"""Bytes that a request may hold."""


class Body:
    """An ASGI application that gives `app` bodies of well-formed JSON, or none."""

    def __init__(self, app: ASGIApp, *, limit: int = LIMIT) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        content = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            content += message.get("body", b"")
            more = message.get("more_body", False)
            if len(content) > self._limit:
                detail = f"cannot take more than {self._limit} bytes"
                await refuse(Problem(413, "Content too large", detail, scope["path"]), send)
                return
        why = _flaw(bytes(content)) if content else None
        if why is not None:
            detail = f"cannot read the body: {why}; allowed: one JSON object"
            await refuse(Problem(422, "Unusable body", detail, scope["path"]), send)
            return
        await self._app(scope, _replay(bytes(content), receive), send)


def _replay(content: bytes, receive: Receive) -> Receive:
    given = False

    async def receiving() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": content, "more_body": False}

    return receiving


def _flaw(content: bytes) -> str | None:
    """Why `content` is not one JSON object; None when it is."""
    try:
        read = json.loads(
            content.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant
        )
    except RecursionError:
        return "it is nested too deeply"
    except ValueError as error:
        return str(error)
    return None if isinstance(read, dict) else "it is not an object"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen = dict(pairs)
    if len(seen) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands there twice")
    return seen


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
