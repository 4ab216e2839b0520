"""Stands before routing, and lets no request through that a web page elsewhere could have caused.

DNS rebinding (a Host that is not ours), cross-site requests (an Origin that is not ours, a body
that a form could send) and everybody without a token of the right scope are refused before any
handler runs. Reading needs no token while only this machine can connect and nothing else is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from healer.api.access import Access, Caller, scope_of
from healer.api.actor import SCOPE_KEY
from healer.api.problem import MEDIA_TYPE, Problem

__all__ = ["ALLOWED_KEY", "Guard", "allowed_hosts", "refuse"]

ALLOWED_KEY: Final = "healer.allowed"
"""In the scope: a function that says whether the caller may still have what it asked for."""

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
_DEFAULT_PORTS: Final = frozenset({80, 443})


def allowed_hosts(host: str, port: int, *, others: Sequence[str] = ()) -> frozenset[str]:
    """What a Host header may say when we listen on the address `host`. `others` are further names,
    as a proxy or a certificate has them."""
    own = f"[{host}]" if ":" in host else host
    names = {own.lower(), "localhost", "127.0.0.1", "[::1]"}
    hosts = {f"{name}:{port}" for name in names}
    hosts |= {each.lower() for each in others} | {f"{each.lower()}:{port}" for each in others}
    return frozenset(hosts | names if port in _DEFAULT_PORTS else hosts)


class Guard:
    """An ASGI application that asks `app` only what it may be asked."""

    def __init__(
        self, app: ASGIApp, *, access: Access, hosts: frozenset[str], scheme: str = "http"
    ) -> None:
        self._app = app
        self._access = access
        self._origin = f"{scheme}://".encode()
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
            return self._by_token(scope, headers, path)
        return (
            self._by_origin(headers, hosts[0].lower(), path)
            or self._by_token(scope, headers, path)
            or _by_media_type(headers, path)
        )

    def _by_origin(self, headers: _Headers, host: bytes, path: str) -> Problem | None:
        origins = headers.all(b"origin")
        sites = headers.all(b"sec-fetch-site")
        same_origin = all(origin.lower() == self._origin + host for origin in origins)
        same_site = all(site == b"same-origin" for site in sites)
        if same_origin and same_site:
            return None
        detail = "cannot take this from a page of another site; allowed: same origin, or no page"
        return Problem(403, "Cross-site request", detail, path)

    def _by_token(self, scope: Scope, headers: _Headers, path: str) -> Problem | None:
        needed = scope_of(scope["method"], path)
        caller = self._caller(headers)
        reads = scope["method"] in _READING
        if needed is None or (reads and self._access.read_open):
            return None
        if caller is None:
            given = bool(headers.all(b"authorization"))
            return self._unknown(scope, path, given=given)
        if not caller.scope.holds(needed):
            detail = (
                f"cannot do this with a token for {caller.scope.value}; allowed: {needed.value}"
            )
            return Problem(403, "Scope too small", detail, path)
        wait = None if reads else self._access.acting(caller)
        if wait is not None:
            return _too_many(f"cannot act so often; allowed: again in {wait} s", wait, path)
        scope[SCOPE_KEY] = f"api:{caller.name}"
        scope[ALLOWED_KEY] = caller.allowed
        return None

    def _caller(self, headers: _Headers) -> Caller | None:
        given = headers.all(b"authorization")
        if len(given) != 1:
            return None
        kind, _, token = given[0].partition(b" ")
        return self._access.caller(token.strip()) if kind.lower() == b"bearer" else None

    def _unknown(self, scope: Scope, path: str, *, given: bool) -> Problem:
        wait = self._access.failed(str((scope.get("client") or ("",))[0]))
        if wait is not None:
            return _too_many(f"cannot try so many tokens; allowed: again in {wait} s", wait, path)
        doing = "read" if scope["method"] in _READING else "act"
        detail = f"cannot {doing} without a token; send Authorization: Bearer <token>"
        if given:
            detail = (
                f"cannot {doing} with a token that is not known here; allowed: that of the "
                "healer.token beside this healer's log, or of `healer token create`"
            )
        return Problem(401, "Token required", detail, path)


def _too_many(detail: str, wait: int, path: str) -> Problem:
    return Problem(429, "Too many requests", detail, path, more={"retry_after": wait})


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
    if "retry_after" in problem.more:
        headers.append((b"retry-after", str(problem.more["retry_after"]).encode()))
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
