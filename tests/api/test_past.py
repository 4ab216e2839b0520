"""The world as it was, and the dashboard's files, over HTTP."""

from __future__ import annotations

import asyncio
from random import Random
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from healer.api import past as door
from healer.api.access import Access
from healer.api.app import create_app
from healer.bootstrap import Healer
from healer.domain.events import Event
from projections import ALL
from replay.moment import at
from tests.api.conftest import BEARER, ORIGIN, TOKEN
from tests.conftest import Until
from tests.projections.build import random_log

AT = "/network-healer/at"


@pytest.fixture
async def filled(healer: Healer) -> Healer:
    """Its log holds a past; it watches nothing."""
    await healer.log.append([each.event for each in random_log(Random(11), issues=40)])
    await healer.views.caught_up()
    return healer


async def test_a_moment_is_the_one_that_replay_shows(filled: Healer, client: Any) -> None:
    head = await filled.log.head()
    for position in (0, 1, head // 2, head):
        found = (await client.get(AT, params={"position": position})).json()
        moment = await at(filled.log, position, ALL)
        assert (found["position"], found["head"]) == (position, head)
        for name in ("components", "active", "stats", "playbook_stats"):
            assert found[name] == moment.fold.view(name)
        assert found["history"]["records"] == moment.fold.view("history")[:100]


async def test_the_history_of_then_is_filtered_and_paged(filled: Healer, client: Any) -> None:
    position = (await filled.log.head()) // 2
    query = {"position": position, "component_name": "component-1", "limit": 2}
    first = (await client.get(AT, params=query)).json()["history"]
    assert {each["component"] for each in first["records"]} == {"component-1"}
    assert len(first["records"]) == 2
    assert first["next"] is not None
    older = (await client.get(AT, params={**query, "cursor": first["next"]})).json()["history"]
    assert older["records"][0]["position"] < first["next"]


async def test_an_issue_is_told_as_far_as_it_had_come(filled: Healer, client: Any) -> None:
    history = (await client.get("/network-healer/history")).json()["records"]
    whole = history[len(history) // 2]
    begun = whole["position"]
    query = {"position": begun, "issue": whole["issue_id"]}
    told = (await client.get(AT, params=query)).json()["issue"]
    assert [each["type"] for each in told["events"]] == ["issue.detected.v1"]
    assert (told["outcome"], told["state"]) == ("open", "detected")
    before = {"position": begun - 1, "issue": whole["issue_id"]}
    assert (await client.get(AT, params=before)).json()["issue"] is None
    late = {"position": await filled.log.head(), "issue": whole["issue_id"]}
    ended = (await client.get(AT, params=late)).json()["issue"]
    assert ended == (await client.get(f"/network-healer/issues/{whole['issue_id']}")).json()


async def test_the_same_question_is_answered_from_what_is_kept(filled: Healer, client: Any) -> None:
    query = {"time": "2026-03-01T15:00:00Z", "limit": 5}
    first = await client.get(AT, params=query)
    assert first.content == (await client.get(AT, params=query)).content
    later = {**query, "time": "2026-03-02T15:00:00+00:00"}
    assert (await client.get(AT, params=later)).json()["position"] > first.json()["position"]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({}, "which moment is meant"),
        ({"time": "-1m", "position": 3}, "which moment is meant"),
        ({"time": "yesterday"}, "cannot read the time 'yesterday'"),
        ({"position": 10**9}, "the log ends at"),
        ({"position": -1}, "position"),
        ({"position": 1, "outcome": "cured"}, "allowed: healed, recovered, failed, open"),
        ({"position": 1, "limit": 0}, "allowed: 1 to 1000"),
        ({"posiiton": 1}, "there is no such field"),
    ],
)
async def test_a_bad_question_is_a_clear_error(
    filled: Healer, client: Any, query: dict[str, Any], said: str
) -> None:
    answer = await client.get(AT, params=query)
    assert answer.status_code == 422
    assert said in answer.json()["detail"]


async def test_a_long_log_is_read_in_the_background_and_says_how_far_it_is(
    filled: Healer, client: Any, monkeypatch: Any, until: Until
) -> None:
    monkeypatch.setattr(door, "_READ_WITHIN", 0.05)
    plain, gate = filled.log.read, asyncio.Event()

    async def slow(**asked: Any) -> Any:
        await gate.wait()
        return await plain(**asked)

    monkeypatch.setattr(filled.log, "read", slow)
    answer = await client.get(AT, params={"position": 1})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["head"] == await filled.log.head()
    gate.set()

    async def answered() -> bool:
        status: int = (await client.get(AT, params={"position": 1})).status_code
        return status == 200

    await until.soon(answered)


async def test_the_span_is_what_one_can_go_back_to(healer: Healer, client: Any) -> None:
    span = "/network-healer/span"
    assert (await client.get(span)).json() == {"first": None, "last": None, "head": 0}
    events: list[Event] = [each.event for each in random_log(Random(2), issues=3)]
    await healer.log.append(events)
    found = (await client.get(span)).json()
    assert found["head"] == len(events)
    assert found["first"].startswith("2026-03-01T12:00:00")


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/", "text/html"),
        ("/static/app.js", "text/javascript"),
        ("/static/dashboard.css", "text/css"),
        ("/static/vendor/uplot.js", "text/javascript"),
        ("/static/icon.svg", "image/svg+xml"),
    ],
)
async def test_the_page_comes_from_here_and_may_ask_nobody_else(
    client: Any, path: str, media_type: str
) -> None:
    answer = await client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"].partition(";")[0] == media_type
    policy = answer.headers.get_list("content-security-policy")
    assert len(policy) == 1
    rules = dict(rule.strip().split(" ", 1) for rule in policy[0].split(";"))
    assert rules["default-src"] == rules["frame-ancestors"] == rules["form-action"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_the_rest_keeps_the_strictest_policy(client: Any) -> None:
    for path in ("/network-healer/stats", "/static", "/nothing", "/livez"):
        policy = (await client.get(path)).headers["content-security-policy"]
        assert policy == "default-src 'none'; frame-ancestors 'none'"


@pytest.mark.parametrize(
    "path", ["/static/../app.py", "/static/%2e%2e/guard.py", "/static/..%2fguard.py", "/static/"]
)
async def test_nothing_but_the_pages_files_is_served(client: Any, path: str) -> None:
    assert (await client.get(path)).status_code == 404


async def test_the_page_needs_no_token_and_a_foreign_host_gets_none(healer: Healer) -> None:
    app = create_app(healer, access=Access(TOKEN))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=ORIGIN) as anybody:
        assert (await anybody.get("/")).status_code == 200
        foreign = await anybody.get("/", headers={"Host": "evil.example"})
        assert foreign.status_code == 421
        assert (await anybody.post("/", headers=BEARER)).status_code == 405


async def test_who_has_gone_is_not_answered(filled: Healer) -> None:
    desk = door._Desk(filled)

    async def gone() -> bool:
        return True

    request: Any = SimpleNamespace(is_disconnected=gone)
    answer = await desk.answer(request, door.PastWish(position=1))
    assert answer.status_code == 499
