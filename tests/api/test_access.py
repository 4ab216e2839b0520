"""Tokens: what each may do, until when, how often; and that nothing keeps one."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from healer.api.access import Access, scope_of
from healer.api.app import create_app
from healer.api.guard import allowed_hosts
from healer.api.limit import Limit
from healer.api.stream import EventStreams
from healer.api.token_book import Scope, TokenBook, digest
from healer.bootstrap import Healer
from healer.errors import ConfigError, IllegalCommandError, UnknownNameError
from tests.api.conftest import ORIGIN, TOKEN
from tests.api.test_app import PREFIX

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Time:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def book(tmp_path: Path) -> TokenBook:
    return TokenBook(tmp_path / "healer.tokens")


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
async def guarded(healer: Healer, book: TokenBook) -> AsyncIterator[httpx.AsyncClient]:
    """Reading needs a token here; the client has none."""
    app = create_app(healer, access=Access(TOKEN, book, read_open=False, acting_per_minute=5))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=ORIGIN) as client:
        yield client


# The book


def test_a_token_is_kept_as_its_digest_for_its_owner_only(book: TokenBook) -> None:
    made, secret = book.create("ci", Scope.OPERATE, now=NOW, lasts=60)
    assert len(bytes.fromhex(secret)) == 32
    assert secret not in book.path.read_text()
    assert stat.S_IMODE(book.path.stat().st_mode) == 0o600
    other = TokenBook(book.path)
    assert other.find(secret.encode(), NOW) == made
    assert other.find(secret.encode(), NOW + timedelta(seconds=60)) is None
    assert other.find(bytes.fromhex(secret), NOW) is None
    assert other.find(made.sha256.encode(), NOW) is None
    assert other.find(b"\xff\xfe\xe9", NOW) is None


def test_a_name_stands_for_one_token(book: TokenBook) -> None:
    book.create("ci", Scope.READ, now=NOW, lasts=None)
    for name in ("ci", "local", "a b", ""):
        with pytest.raises(IllegalCommandError):
            book.create(name, Scope.READ, now=NOW, lasts=None)
    book.revoke("ci")
    with pytest.raises(UnknownNameError):
        book.revoke("ci")
    book.create("ci", Scope.ADMIN, now=NOW, lasts=None)
    assert [each.scope for each in book.tokens()] == [Scope.ADMIN]


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"tokens": 1}', '{"tokens": [{}]}', '{"tokens": [null]}']
)
def test_a_file_that_is_no_book_lets_nobody_in(book: TokenBook, content: str) -> None:
    book.path.write_text(content)
    book.path.chmod(0o600)
    with pytest.raises(ConfigError, match="cannot use the tokens file"):
        book.tokens()
    assert Access(TOKEN, book).caller(b"x") is None
    assert Access(TOKEN, book).caller(TOKEN.encode()) is not None


def test_a_file_that_others_may_read_is_refused(book: TokenBook) -> None:
    _, secret = book.create("ci", Scope.READ, now=NOW, lasts=None)
    book.path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        book.tokens()
    assert Access(TOKEN, book).caller(secret.encode()) is None


def test_a_digest_is_of_bytes() -> None:
    assert len(digest("é".encode("latin-1"))) == 32


# What needs what


async def test_every_route_needs_a_scope(healer: Healer) -> None:
    app = create_app(healer, access=Access(TOKEN))
    routes = [route for route in app.routes if isinstance(route, APIRoute)]
    assert len(routes) > 20
    for route in routes:
        for method in route.methods:
            scope = scope_of(method, route.path)
            if method in {"GET", "HEAD"}:
                assert scope is Scope.READ or route.path in {"/", "/livez", "/readyz"}
            else:
                assert scope in {Scope.OPERATE, Scope.ADMIN}
    assert scope_of("POST", f"{PREFIX}/reload") is Scope.ADMIN
    assert scope_of("POST", "/") is Scope.OPERATE
    assert scope_of("GET", "/static/page.js") is None


def test_each_scope_holds_those_before_it() -> None:
    assert Scope.ADMIN.holds(Scope.OPERATE)
    assert Scope.OPERATE.holds(Scope.READ)
    assert not Scope.READ.holds(Scope.OPERATE)
    assert not Scope.OPERATE.holds(Scope.ADMIN)


async def test_what_each_token_may_do(guarded: httpx.AsyncClient, book: TokenBook) -> None:
    now = datetime.now(UTC)
    secrets = {scope: book.create(scope, scope, now=now, lasts=None)[1] for scope in Scope}
    stats, act = f"{PREFIX}/stats", f"{PREFIX}/initialize"
    assert (await guarded.get(stats)).status_code == 401
    assert (await guarded.get("/livez")).status_code == 200
    for scope, secret in secrets.items():
        assert (await guarded.get(stats, headers=bearer(secret))).status_code == 200
        answer = await guarded.post(act, headers=bearer(secret))
        assert answer.status_code == (403 if scope is Scope.READ else 200)
    answer = await guarded.post(f"{PREFIX}/reload", headers=bearer(secrets[Scope.OPERATE]))
    assert (answer.status_code, answer.json()["title"]) == (403, "Scope too small")
    assert (await guarded.get(stats, headers=bearer(TOKEN))).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "doing"), [("GET", "stats", "read"), ("POST", "pause", "act")]
)
async def test_a_token_that_is_not_known_is_told_from_none(
    guarded: httpx.AsyncClient, method: str, path: str, doing: str
) -> None:
    async def detail(headers: dict[str, str]) -> str:
        answer = await guarded.request(method, f"{PREFIX}/{path}", headers=headers)
        assert answer.status_code == 401
        return str(answer.json()["detail"])

    assert await detail({}) == (
        f"cannot {doing} without a token; send Authorization: Bearer <token>"
    )
    assert await detail(bearer("cd" * 32)) == (
        f"cannot {doing} with a token that is not known here; allowed: that of the healer.token "
        "beside this healer's log, or of `healer token create`"
    )


async def test_the_actor_of_an_event_is_the_name_of_the_token(
    guarded: httpx.AsyncClient, book: TokenBook, healer: Healer
) -> None:
    _, secret = book.create("alice", Scope.OPERATE, now=datetime.now(UTC), lasts=None)
    await guarded.post(f"{PREFIX}/pause", headers=bearer(secret))
    (event,) = await healer.log.stream("fleet")
    assert event.actor == "api:alice"


async def test_a_revoked_or_expired_token_is_refused_at_once(
    guarded: httpx.AsyncClient, book: TokenBook
) -> None:
    now = datetime.now(UTC)
    _, revoked = book.create("ci", Scope.READ, now=now, lasts=None)
    _, expired = book.create("old", Scope.READ, now=now - timedelta(days=2), lasts=86_400)
    assert (await guarded.get(f"{PREFIX}/stats", headers=bearer(revoked))).status_code == 200
    assert (await guarded.get(f"{PREFIX}/stats", headers=bearer(expired))).status_code == 401
    TokenBook(book.path).revoke("ci")  # as another process does it
    assert (await guarded.get(f"{PREFIX}/stats", headers=bearer(revoked))).status_code == 401


async def test_a_token_expires_while_nobody_touches_the_file(book: TokenBook) -> None:
    time = Time()
    access = Access(TOKEN, book, now=time)
    _, secret = book.create("ci", Scope.READ, now=NOW, lasts=60)
    caller = access.caller(secret.encode())
    assert caller is not None
    assert caller.allowed()
    time.now += timedelta(seconds=61)
    assert not caller.allowed()
    assert access.caller(secret.encode()) is None


async def test_an_open_stream_ends_when_its_token_is_revoked(
    healer: Healer, book: TokenBook
) -> None:
    _, secret = book.create("ci", Scope.READ, now=datetime.now(UTC), lasts=None)
    caller = Access(TOKEN, book).caller(secret.encode())
    assert caller is not None
    streams = EventStreams(healer.log, stopping=asyncio.Event())
    stream = await streams.stream(0, allowed=caller.allowed)
    sent: asyncio.Queue[Any] = asyncio.Queue()
    reading = asyncio.create_task(stream({"type": "http"}, asyncio.Event().wait, sent.put))  # type: ignore[arg-type]
    assert (await sent.get())["status"] == 200
    assert (await sent.get())["body"].startswith(b":")
    book.revoke("ci")
    async with asyncio.timeout(60):
        await reading
    await healer.engine.controls.begin_pause("api:bob", "not for ci to see")
    assert not (await sent.get()).get("more_body")
    assert sent.empty()
    assert streams.dropped["revoked"] == 1


# How often


async def test_who_acts_too_often_is_told_when_to_come_again(
    guarded: httpx.AsyncClient,
) -> None:
    answers = [await guarded.post(f"{PREFIX}/initialize", headers=bearer(TOKEN)) for _ in range(6)]
    assert [each.status_code for each in answers[:5]] == [200] * 5
    assert answers[5].status_code == 429
    assert 1 <= int(answers[5].headers["retry-after"]) <= 12
    assert answers[5].json()["retry_after"] == int(answers[5].headers["retry-after"])
    # Reading is not acting.
    assert (await guarded.get(f"{PREFIX}/stats", headers=bearer(TOKEN))).status_code == 200


async def test_who_tries_many_tokens_is_slowed_down_and_locks_nobody_out(
    guarded: httpx.AsyncClient,
) -> None:
    tries = [await guarded.get(f"{PREFIX}/stats", headers=bearer("x")) for _ in range(11)]
    assert [each.status_code for each in tries] == [401] * 10 + [429]
    assert "retry-after" in tries[-1].headers
    assert (await guarded.get(f"{PREFIX}/stats", headers=bearer(TOKEN))).status_code == 200


def test_a_limit_is_refilled_evenly_and_per_key() -> None:
    clock = [0.0]
    limit = Limit(2, clock=lambda: clock[0])
    assert [limit.take("a"), limit.take("a"), limit.take("a")] == [None, None, 30]
    assert limit.take("b") is None
    clock[0] = 29.0
    assert limit.take("a") == 1
    clock[0] = 30.0
    assert limit.take("a") is None
    assert limit.take("a") == 30


# Pages


async def test_the_page_and_its_files_need_no_token_and_may_run_their_own_scripts_only(
    guarded: httpx.AsyncClient,
) -> None:
    for path in ("/", "/static/page.js"):
        answer = await guarded.get(path)
        assert answer.status_code in {200, 404}
        policy = answer.headers["content-security-policy"]
        assert "script-src 'self'" in policy
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
    policy = (await guarded.get(f"{PREFIX}/stats")).headers["content-security-policy"]
    assert "script-src" not in policy


def test_further_names_are_hosts_with_and_without_the_port() -> None:
    hosts = allowed_hosts("10.0.0.5", 8443, others=["Healer.example.org"])
    assert {"10.0.0.5:8443", "healer.example.org", "healer.example.org:8443"} <= hosts
