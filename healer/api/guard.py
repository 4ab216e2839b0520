"""Stands before routing, and lets no request through that a web page elsewhere could have caused.

DNS rebinding (a Host that is not ours), cross-site requests (an Origin that is not ours, a body
that a form could send) and everybody without the token are refused before any handler runs.
Reading needs no token: only this machine can connect.
"""

from __future__ import annotations

import hmac
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from healer.api.problem import MEDIA_TYPE, Problem

__all__ = ["Guard", "allowed_hosts", "refuse"]

_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
_PAGE_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-cache"),
    (b"referrer-policy", b"no-referrer"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        b"img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    ),
)
"""Those of the dashboard: its own files, this host, and nothing else."""
_HTTP_PORT: Final = 80


def allowed_hosts(host: str, port: int) -> frozenset[str]:
    """What a Host header may say when we listen on the loopback address `host`."""
    own = f"[{host}]" if ":" in host else host
    names = {own.lower(), "localhost", "127.0.0.1", "[::1]"}
    hosts = {f"{name}:{port}" for name in names}
    return frozenset(hosts | names if port == _HTTP_PORT else hosts)


class Guard:
    """An ASGI application that asks `app` only what it may be asked."""

    def __init__(self, app: ASGIApp, *, token: str, hosts: frozenset[str]) -> None:
        self._app = app
        self._token = token.encode()
        self._hosts = {host.encode() for host in hosts}
        self._allowed = ", ".join(sorted(hosts))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": "no WebSockets here"})
        else:
            problem = self._refusal(scope)
            if problem is None:
                await self._app(scope, receive, _hardened(send, str(scope["path"])))
            else:
                await refuse(problem, _hardened(send, str(scope["path"])))

    def _refusal(self, scope: Scope) -> Problem | None:
        path = str(scope["path"])
        if not path.startswith("/"):
            return Problem(400, "Bad request", "cannot serve an absolute target", "/")
        headers = _Headers(scope)
        hosts = headers.all(b"host")
        if len(hosts) != 1:
            detail = f"cannot serve a request with {len(hosts)} Host headers; allowed: one"
            return Problem(400, "Bad request", detail, path)
        if hosts[0].lower() not in self._hosts:
            detail = f"cannot serve this Host; allowed: {self._allowed}"
            return Problem(421, "Misdirected request", detail, path)
        if scope["method"] in _READING:
            return None
        return (
            self._by_origin(headers, hosts[0].lower(), path)
            or self._by_token(headers, path)
            or _by_media_type(headers, path)
        )

    def _by_origin(self, headers: _Headers, host: bytes, path: str) -> Problem | None:
        origins = headers.all(b"origin")
        sites = headers.all(b"sec-fetch-site")
        same_origin = all(origin.lower() == b"http://" + host for origin in origins)
        same_site = all(site == b"same-origin" for site in sites)
        if same_origin and same_site:
            return None
        detail = "cannot take this from a page of another site; allowed: same origin, or no page"
        return Problem(403, "Cross-site request", detail, path)

    def _by_token(self, headers: _Headers, path: str) -> Problem | None:
        given = headers.all(b"authorization")
        if len(given) == 1:
            scheme, _, token = given[0].partition(b" ")
            right = hmac.compare_digest(token.strip(), self._token)
            if scheme.lower() == b"bearer" and right:
                return None
        detail = "cannot act without the token; send Authorization: Bearer <token of healer.token>"
        return Problem(401, "Token required", detail, path)


def _by_media_type(headers: _Headers, path: str) -> Problem | None:
    lengths = headers.all(b"content-length")
    has_body = bool(headers.all(b"transfer-encoding")) or any(length != b"0" for length in lengths)
    media_types = headers.all(b"content-type")
    if not has_body and not media_types:
        return None
    if len(media_types) == 1:
        media_type = media_types[0].partition(b";")[0].strip().lower()
        if media_type == b"application/json":
            return None
    detail = "cannot read this body; allowed: Content-Type: application/json"
    return Problem(415, "Unsupported media type", detail, path)


class _Headers:
    """All values of each header: a second one must not hide behind the first."""

    def __init__(self, scope: Scope) -> None:
        self._pairs: list[tuple[bytes, bytes]] = list(scope["headers"])

    def all(self, name: bytes) -> list[bytes]:
        return [value for key, value in self._pairs if key.lower() == name]


def _hardened(send: Send, path: str) -> Send:
    added = _PAGE_HEADERS if path == "/" or path.startswith("/static/") else _HEADERS

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        await send(message)

    return sending


async def refuse(problem: Problem, send: Send) -> None:
    """Answer with `problem`."""
    body = problem.body()
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
    ]
    if problem.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="network-healer"'))
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
