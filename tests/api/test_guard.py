"""Who may ask what: nothing that is refused reaches a handler."""

from __future__ import annotations

from typing import Any

import pytest

from healer.api.access import Access
from healer.api.guard import Guard, allowed_hosts
from tests.api.conftest import TOKEN

HOST = (b"host", b"127.0.0.1:8000")
BEARER = (b"authorization", b"Bearer " + TOKEN.encode())
JSON = (b"content-type", b"application/json")
BODY = (b"content-length", b"2")

Pairs = tuple[tuple[bytes, bytes], ...]


class Reached:
    """An application that says whether it was."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


async def ask(
    method: str, *headers: tuple[bytes, bytes], path: str = "/network-healer/heal"
) -> Any:
    """(status, whether a handler ran, headers)"""
    app = Reached()
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("the guard reads no body")

    guard = Guard(app, access=Access(TOKEN), hosts=allowed_hosts("127.0.0.1", 8000))
    scope = {"type": "http", "method": method, "path": path, "headers": list(headers)}
    await guard(scope, receive, send)
    return sent[0]["status"], app.calls == 1, dict(sent[0]["headers"])


@pytest.mark.parametrize(
    "headers",
    [
        (HOST, BEARER),
        (HOST, BEARER, (b"content-length", b"0")),
        (HOST, BEARER, JSON, BODY),
        (HOST, BEARER, (b"content-type", b"Application/JSON; charset=utf-8"), BODY),
        (HOST, BEARER, JSON, (b"transfer-encoding", b"chunked")),
        (HOST, (b"authorization", b"bearer " + TOKEN.encode()), JSON, BODY),
        ((b"host", b"localhost:8000"), BEARER, (b"origin", b"http://localhost:8000")),
        ((b"host", b"[::1]:8000"), BEARER, (b"sec-fetch-site", b"same-origin")),
        ((b"Host", b"LOCALHOST:8000"), BEARER),
    ],
)
async def test_who_holds_the_token_and_is_no_foreign_page_may_act(headers: Pairs) -> None:
    status, ran, _ = await ask("POST", *headers)
    assert (status, ran) == (200, True)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "BREW"])
@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ((HOST,), 401),
        ((HOST, (b"authorization", b"")), 401),
        ((HOST, (b"authorization", b"Bearer")), 401),
        ((HOST, (b"authorization", b"Bearer " + b"ab" * 31)), 401),
        ((HOST, (b"authorization", b"Bearer " + TOKEN.encode() + b"x")), 401),
        ((HOST, (b"authorization", b"Bearer \xff\xfe\xe9")), 401),
        ((HOST, (b"authorization", b"Basic " + TOKEN.encode())), 401),
        ((HOST, (b"authorization", TOKEN.encode())), 401),
        ((HOST, BEARER, BEARER), 401),
        ((HOST, (b"cookie", b"token=" + TOKEN.encode())), 401),
        ((HOST, BEARER, (b"origin", b"http://evil.example")), 403),
        ((HOST, BEARER, (b"origin", b"null")), 403),
        ((HOST, BEARER, (b"origin", b"")), 403),
        ((HOST, BEARER, (b"origin", b"https://127.0.0.1:8000")), 403),
        ((HOST, BEARER, (b"origin", b"http://127.0.0.1:8001")), 403),
        ((HOST, BEARER, (b"origin", b"http://localhost:8000")), 403),
        ((HOST, BEARER, (b"origin", b"http://127.0.0.1:8000"), (b"origin", b"http://e")), 403),
        ((HOST, BEARER, (b"sec-fetch-site", b"cross-site")), 403),
        ((HOST, BEARER, (b"sec-fetch-site", b"same-site")), 403),
        ((HOST, BEARER, (b"sec-fetch-site", b"none")), 403),
        ((HOST, BEARER, BODY), 415),
        ((HOST, BEARER, BODY, (b"content-type", b"text/plain")), 415),
        ((HOST, BEARER, (b"content-type", b"text/plain")), 415),
        ((HOST, BEARER, BODY, (b"content-type", b"application/x-www-form-urlencoded")), 415),
        ((HOST, BEARER, BODY, (b"content-type", b"text/plain;application/json")), 415),
        ((HOST, BEARER, BODY, JSON, (b"content-type", b"text/plain")), 415),
        ((HOST, BEARER, (b"transfer-encoding", b"chunked")), 415),
    ],
)
async def test_nobody_else_may(method: str, headers: Pairs, expected: int) -> None:
    status, ran, _ = await ask(method, *headers)
    assert (status, ran) == (expected, False)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST"])
@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ((), 400),
        ((HOST, HOST), 400),
        ((HOST, (b"Host", b"evil.example")), 400),
        (((b"host", b"evil.example:8000"),), 421),
        (((b"host", b"127.0.0.1"),), 421),
        (((b"host", b"127.0.0.1:8001"),), 421),
        (((b"host", b"localhost.:8000"),), 421),
        (((b"host", b"127.0.0.1.:8000"),), 421),
        (((b"host", b"127.0.0.1:8000.evil.example"),), 421),
        (((b"host", b"user@127.0.0.1:8000"),), 421),
        (((b"host", b"127.1:8000"),), 421),
        (((b"host", b"127.0.0.1:8000 "),), 421),
        (((b"host", b""),), 421),
        (((b"host", b"\xff"),), 421),
    ],
)
async def test_a_name_that_was_rebound_to_us_gets_nothing_at_all(
    method: str, headers: Pairs, expected: int
) -> None:
    status, ran, _ = await ask(method, *headers, BEARER)
    assert (status, ran) == (expected, False)


async def test_an_absolute_target_is_not_routed() -> None:
    status, ran, _ = await ask("GET", HOST, path="http://evil.example/network-healer/stats")
    assert (status, ran) == (400, False)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_reading_is_open_and_invites_no_other_site(method: str) -> None:
    status, ran, headers = await ask(method, HOST, (b"origin", b"http://evil.example"))
    assert (status, ran) == (200, True)
    assert not [name for name in headers if name.startswith(b"access-control")]
    assert headers[b"x-content-type-options"] == b"nosniff"


async def test_a_refusal_says_how_to_be_let_in() -> None:
    _, _, headers = await ask("POST", HOST)
    assert headers[b"www-authenticate"].startswith(b"Bearer")
    assert headers[b"content-type"] == b"application/problem+json"


def test_the_http_port_needs_no_number() -> None:
    assert "localhost" in allowed_hosts("127.0.0.1", 80)
    assert "localhost" not in allowed_hosts("127.0.0.1", 8000)
    assert "[::1]:8000" in allowed_hosts("::1", 8000)
