"""The routes, asked in this process."""

from __future__ import annotations

import asyncio
import socket
from datetime import UTC, datetime
from random import Random
from typing import Any

import httpx
import pytest

from healer.api import view
from healer.api.listener import ListenError, listen_on
from healer.bootstrap import Healer
from healer.domain.health import Health
from projections import ALL
from projections.record import instant
from replay.rebuild import rebuild
from tests.conftest import Until
from tests.projections.build import random_log

PREFIX = "/network-healer"
CRASHED = {"component_name": "chat_api", "issue_type": "process_crashed"}


async def post(client: httpx.AsyncClient, path: str, body: Any = None) -> httpx.Response:
    if body is None:
        return await client.post(f"{PREFIX}/{path}")
    return await client.post(f"{PREFIX}/{path}", json=body)


async def healthy(client: httpx.AsyncClient, healer: Healer, until: Until) -> None:
    assert (await post(client, "initialize")).json()["monitoring"] is True
    engine = healer.engine
    await until.soon(lambda: engine.status("chat_api").health.health is Health.HEALTHY)


async def caused_by_hand(healer: Healer) -> list[str]:
    """The types of the facts that a client of the API caused; others go on beside it."""
    facts = await healer.log.read(limit=10_000)
    return [each.event.TOPIC for each in facts if each.event.actor.startswith("api:")]


# Reading


async def test_statistics_have_the_fields_of_the_document(client: httpx.AsyncClient) -> None:
    stats = (await client.get(f"{PREFIX}/stats")).json()
    assert stats["total_healings"] == 0
    assert {
        "successful_healings", "failed_healings", "success_rate", "active_healings",
        "playbook_stats",
    } <= stats.keys()  # fmt: skip


async def test_what_is_shown_can_be_compared_with_a_rebuild(
    client: httpx.AsyncClient, healer: Healer
) -> None:
    await healer.log.append([each.event for each in random_log(Random(7), issues=30)])
    await healer.views.caught_up()
    shown = (await client.get(f"{PREFIX}/views")).json()
    rebuilt = (await rebuild(healer.log, until=shown["position"])).fingerprints()
    assert shown["views"] == [
        {
            "view": projection.name,
            "version": projection.version,
            "bytes": rebuilt.views[projection.name].size,
            "sha256": rebuilt.views[projection.name].sha256,
            "stopped": None,
        }
        for projection in ALL
    ]


async def test_every_view_answers_before_anything_happened(client: httpx.AsyncClient) -> None:
    assert (await client.get(f"{PREFIX}/history")).json() == {"records": [], "next": None}
    assert (await client.get(f"{PREFIX}/history/chat_api")).json()["records"] == []
    assert (await client.get(f"{PREFIX}/active")).json() == {"count": 0, "active": []}
    assert (await client.get(f"{PREFIX}/playbook-stats")).json() == {"playbook_stats": {}}
    advice = (await client.get(f"{PREFIX}/recommendations/chat_api")).json()
    assert advice["recommendations"] == []
    shown = (await client.get(f"{PREFIX}/components")).json()["components"]
    assert [component["name"] for component in shown] == ["chat_api", "librarian_kernel"]
    assert shown[0]["health"] == "unknown"


async def test_answers_that_are_kept_follow_the_log(
    healer: Healer, client: httpx.AsyncClient
) -> None:
    told = [each.event for each in random_log(Random(12), issues=10)]
    for part in (told[: len(told) // 2], told[len(told) // 2 :]):
        await healer.log.append(part)
        for _ in range(2):
            shown = (await client.get(f"{PREFIX}/playbook-stats")).json()
            assert shown == view.playbook_stats(healer.views)
            assert (await client.get(f"{PREFIX}/stats")).json() == healer.views.view("stats")
            assert (await client.get(f"{PREFIX}/active")).json() == view.active(healer.views)
    assert shown["playbook_stats"]


@pytest.mark.parametrize(
    ("path", "status", "field"),
    [
        ("history/nobody", 404, "component"),
        ("history?component_name=nobody", 404, "component"),
        ("recommendations/nobody", 404, "component"),
        ("issues/nothing", 404, "issue"),
        ("issues/component:chat_api", 404, "issue"),
        ("history?issue_type=tired", 422, "issue_type"),
        ("history?outcome=great", 422, "outcome"),
        ("history?limit=0", 422, "limit"),
        ("history?limit=1001", 422, "limit"),
        ("history?limit=x", 422, "limit"),
        ("issues?limit=-164714759722665534141425503961088", 422, "limit"),
        ("events?after=99999999999999999999", 422, "after"),
        ("history?cursor=0", 422, "cursor"),
        ("history?since=yesterday", 422, "since"),
        ("history?since=2026-01-01T00:00:00", 422, "since"),
        ("history?component=chat_api", 422, "component"),
        ("events?after=-1", 422, "after"),
        ("nowhere", 404, None),
        ("stats/", 404, None),
        ("", 404, None),
    ],
)
async def test_a_wrong_question_gets_a_problem_that_names_it(
    client: httpx.AsyncClient, path: str, status: int, field: str | None
) -> None:
    answer = await client.get(f"{PREFIX}/{path}")
    problem = answer.json()
    assert answer.status_code == problem["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["detail"].startswith("cannot")
    assert problem["errors"][0].get("field") == field


async def test_a_wrong_method_is_told_the_right_one(client: httpx.AsyncClient) -> None:
    for method, path, allowed in (("GET", "heal", "POST"), ("POST", "stats", "GET")):
        answer = await client.request(method, f"{PREFIX}/{path}")
        assert answer.status_code == 405
        assert answer.headers["allow"] == allowed
        assert answer.json()["detail"].startswith("cannot")


async def test_the_contract_is_published(client: httpx.AsyncClient) -> None:
    paths = (await client.get(f"{PREFIX}/openapi.json")).json()["paths"]
    assert f"{PREFIX}/heal" in paths


# Whether it can do its work


async def test_it_is_ready_when_it_watches(client: httpx.AsyncClient, healer: Healer) -> None:
    assert (await client.get("/livez")).json() == {"alive": True}
    before = await client.get("/readyz")
    assert before.status_code == 503
    assert "not watched" in before.json()["reasons"][0]
    await post(client, "initialize")
    after = await client.get("/readyz")
    assert (after.status_code, after.json()) == (
        200,
        {"ready": True, "reasons": [], "warnings": []},
    )


@pytest.mark.parametrize("ailment", ["broken", "unavailable"])
async def test_a_log_in_trouble_is_no_readiness(
    client: httpx.AsyncClient, healer: Healer, ailment: str
) -> None:
    await post(client, "initialize")
    setattr(healer.log, ailment, "event 7 does not continue the chain")
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert "event 7" in answer.json()["reasons"][0]


@pytest.mark.parametrize("ailment", ["unsigned", "unwitnessed", "unrotated"])
async def test_a_log_that_is_trusted_less_is_a_warning(
    client: httpx.AsyncClient, healer: Healer, ailment: str
) -> None:
    await post(client, "initialize")
    setattr(healer.log, ailment, "cannot tell the witness of 7 events: nobody is there")
    answer = await client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json()["warnings"] == ["cannot tell the witness of 7 events: nobody is there"]


async def test_monitoring_is_begun_once(client: httpx.AsyncClient) -> None:
    expected = {"success": True, "monitoring": True, "components": 2}
    assert (await post(client, "initialize")).json() == {**expected, "already_running": False}
    assert (await post(client, "initialize", {})).json() == {**expected, "already_running": True}


async def test_two_who_begin_it_at_once_begin_it_once(client: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(post(client, "initialize") for _ in range(4)))
    assert [answer.json()["already_running"] for answer in answers].count(False) == 1


# Healing


async def test_a_heal_answers_as_the_document_says(
    client: httpx.AsyncClient, healer: Healer, until: Until
) -> None:
    await healthy(client, healer, until)
    before = healer.engine.status("chat_api").process
    body = {"component_name": "chat_api", "issue_type": "process_crashed", "severity": "high"}
    answer = await post(client, "heal", body)
    assert answer.status_code == 200
    told = answer.json()
    assert told["success"] is True
    assert told["component"] == "chat_api"
    assert told["port"] == healer.config.components["chat_api"].port
    assert told["healing_result"] == {
        "playbooks_executed": ["restart_component"],
        "overall_success": True,
    }
    assert (told["issue_type"], told["state"]) == ("process_crashed", "verified")
    assert healer.engine.status("chat_api").process != before

    record = (await client.get(f"{PREFIX}/history?component_name=chat_api&limit=1")).json()
    assert record["records"][0]["issue_id"] == told["issue_id"]
    assert record["records"][0]["severity"] == "high"
    issue = (await client.get(f"{PREFIX}/issues/{told['issue_id']}")).json()
    assert issue["events"][0]["type"] == "issue.detected.v1"
    assert issue["events"][0]["actor"] == "api:local"
    assert issue["events"][-1]["type"] == "issue.verified.v1"
    stats = (await client.get(f"{PREFIX}/stats")).json()
    assert stats["successful_healings"] >= 1


async def test_who_does_not_wait_is_told_where_to_look(
    client: httpx.AsyncClient, healer: Healer, until: Until
) -> None:
    await healthy(client, healer, until)
    answer = await post(client, "heal", {**CRASHED, "wait": False})
    assert answer.status_code == 202
    issue = answer.headers["location"]
    assert issue == f"{PREFIX}/issues/{answer.json()['issue_id']}"

    async def ended() -> bool:
        shown = await client.get(issue)
        return shown.status_code == 200 and shown.json()["state"] == "verified"

    await until.soon(ended)


async def test_a_dry_run_says_what_it_would_do_to_whom_and_does_nothing(
    client: httpx.AsyncClient, healer: Healer, until: Until
) -> None:
    await healthy(client, healer, until)
    process = healer.engine.status("chat_api").process
    assert process is not None
    body = {"component_name": "chat_api", "issue_type": "connection_timeout", "dry_run": True}
    told = (await post(client, "heal", {**body, "skip": ["clear_port"]})).json()
    assert (told["dry_run"], told["issue_type"]) == (True, "connection_timeout")
    first = told["steps"][0]
    assert (first["playbook"], first["action"]) == ("restart_component", "terminate")
    assert first["targets"][0]["process"]["pid"] == process.pid
    assert {"playbook", "action", "does", "skipped", "targets"} == first.keys()
    assert await caused_by_hand(healer) == []
    assert healer.engine.status("chat_api").process == process


async def test_auto_heal_heals_what_fails_and_counts_it(
    client: httpx.AsyncClient, healer: Healer, until: Until
) -> None:
    await healthy(client, healer, until)
    # Nothing listens for librarian_kernel, which the healer may only observe.
    engine = healer.engine
    await until.soon(lambda: engine.status("librarian_kernel").issue is not None)
    assert engine.failing() == ("librarian_kernel",)
    told = (await post(client, "auto-heal")).json()
    assert told["total_components"] == 1
    assert told["components_healed"] + told["components_failed"] == 1
    assert told["success"] is (told["components_healed"] > 0)
    (result,) = told["results"]
    assert result["component"] == "librarian_kernel"
    assert {"success", "port", "healing_result"} <= result.keys()


async def test_auto_heal_of_nothing_is_nothing(
    client: httpx.AsyncClient, healer: Healer, until: Until
) -> None:
    port = healer.engine.status("librarian_kernel").port
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", port):
        await healthy(client, healer, until)
        assert healer.engine.failing() == ()
        told = (await post(client, "auto-heal", {})).json()
    assert told["success"] is True
    assert (told["total_components"], told["results"]) == (0, [])


@pytest.mark.parametrize("path", ["heal", "auto-heal"])
async def test_nothing_is_healed_while_nothing_is_watched(
    client: httpx.AsyncClient, path: str
) -> None:
    answer = await post(client, path, {"component_name": "chat_api"} if path == "heal" else None)
    assert answer.status_code == 409
    assert "initialize" in answer.json()["detail"]


async def test_a_pause_withholds_heals_and_says_so(
    client: httpx.AsyncClient, healer: Healer, until: Until
) -> None:
    await healthy(client, healer, until)
    await post(client, "pause", {"reason": "storm"})
    answer = await post(client, "heal", {"component_name": "chat_api"})
    assert answer.status_code == 409
    assert answer.json()["reason"] == "paused"
    assert answer.json()["arithmetic"] == {}
    assert "issue_id" in answer.json()


async def test_what_is_healthy_is_not_healed_without_a_word(
    client: httpx.AsyncClient, healer: Healer, until: Until
) -> None:
    await healthy(client, healer, until)
    process = healer.engine.status("chat_api").process
    answer = await post(client, "heal", {"component_name": "chat_api"})
    assert answer.status_code == 409
    assert "healthy" in answer.json()["reason"]
    assert healer.engine.status("chat_api").process == process


async def test_one_heal_at_a_time(client: httpx.AsyncClient, healer: Healer, until: Until) -> None:
    await healthy(client, healer, until)
    first = await post(client, "heal", {**CRASHED, "wait": False})
    await until.soon(lambda: healer.engine.status("chat_api").healing)
    answer = await post(client, "heal", CRASHED)
    assert answer.status_code == 409
    assert answer.json()["issue_id"] == first.json()["issue_id"]
    assert answer.json()["reason"] == "in_progress"
    await until.soon(lambda: healer.engine.status("chat_api").issue is None)


# Bad bodies


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"component_name": "nobody"}, 404, "component"),
        ({"component_name": "chat_api", "issue_type": "tired"}, 422, "issue_type"),
        ({"component_name": "chat_api", "severity": "very"}, 422, "severity"),
        ({"component_name": "chat_api", "playbooks": ["pray"]}, 422, "playbook"),
        ({"component_name": "chat_api", "playbooks": []}, 422, "playbooks"),
        ({"component_name": "chat_api", "skip": ["pray"]}, 422, "playbook"),
        ({"component_name": "chat_api", "skip": "clear_port"}, 422, "skip"),
        ({"component_name": "chat_api", "dryrun": True}, 422, "dryrun"),
        ({"component_name": "chat_api", "dry_run": "yes"}, 422, "dry_run"),
        ({"component_name": "chat_api", "pid": 1}, 422, "pid"),
        ({"component_name": 5}, 422, "component_name"),
        ({"component_name": ""}, 422, "component_name"),
        ({"component_name": None}, 422, "component_name"),
        ({}, 422, "component_name"),
    ],
)
async def test_a_wrong_wish_changes_nothing(
    client: httpx.AsyncClient, healer: Healer, body: Any, status: int, field: str
) -> None:
    await post(client, "initialize")
    answer = await post(client, "heal", {"dry_run": True, **body} if status == 404 else body)
    problem = answer.json()
    assert (answer.status_code, problem["status"]) == (status, status)
    assert problem["errors"][0]["field"] == field
    assert problem["errors"][0]["allowed"]
    assert problem["detail"].startswith("cannot")
    assert await caused_by_hand(healer) == []


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'"chat_api"',
        b"null",
        b"NaN",
        b'{"component_name": NaN}',
        b'{"component_name": "chat_api", "limit": Infinity}',
        b'{"component_name": "chat_api", "component_name": "librarian_kernel"}',
        b'{"component_name": {"a": 1, "a": 2}}',
        b"\xff\xfe{",
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b"[" * 60_000,
        b'{"component_name": "chat_api"} {}',
    ],
)
async def test_what_is_not_one_json_object_is_refused(
    client: httpx.AsyncClient, body: bytes
) -> None:
    answer = await client.post(
        f"{PREFIX}/heal", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("cannot")


async def test_an_unknown_issue_type_is_told_all_that_there_are(client: httpx.AsyncClient) -> None:
    answer = await post(client, "heal", {"component_name": "chat_api", "issue_type": "tired"})
    (entry,) = answer.json()["errors"]
    assert "tired" in entry["value"]
    assert "process_crashed" in entry["allowed"]
    assert "network_unreachable" in entry["allowed"]


@pytest.mark.parametrize("path", ["auto-heal", "initialize"])
async def test_a_misunderstood_wish_is_no_order(client: httpx.AsyncClient, path: str) -> None:
    answer = await post(client, path, {"dry_run": True})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "dry_run"


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_is_too_large_is_refused(
    client: httpx.AsyncClient, chunked: bool
) -> None:
    body = b'{"component_name": "' + b"x" * 65_536 + b'"}'

    async def chunks() -> Any:
        yield body

    answer = await client.post(
        f"{PREFIX}/heal",
        content=chunks() if chunked else body,
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 413


async def test_without_the_token_nothing_is_done(client: httpx.AsyncClient, healer: Healer) -> None:
    client.headers.pop("Authorization")
    for path in ("heal", "auto-heal", "initialize"):
        assert (await post(client, path)).status_code == 401
    assert not healer.engine.running
    assert await caused_by_hand(healer) == []


# Where it listens


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "8.8.8.8", "example.org", ""])
def test_the_network_is_not_listened_to(host: str) -> None:
    with pytest.raises(ListenError, match=r"cannot listen on .*; allowed: a loopback address"):
        listen_on(host, 8000)


def test_a_port_is_had_by_one_only(free_port: int) -> None:
    with listen_on("127.0.0.1", free_port), pytest.raises(ListenError, match="already in use"):
        listen_on("localhost", free_port)


def test_both_families_can_be_listened_on(free_port: int) -> None:
    with listen_on("127.0.0.1", free_port) as first:
        assert first.getsockname()[:2] == ("127.0.0.1", free_port)
    if socket.has_ipv6:
        with listen_on("::1", free_port) as second:
            assert second.getsockname()[:2] == ("::1", free_port)


async def test_the_healer_that_stops_answers_before_it_goes(
    client: httpx.AsyncClient, healer: Healer, until: Until
) -> None:
    await healthy(client, healer, until)
    asked = asyncio.create_task(post(client, "heal", CRASHED))
    await until.soon(lambda: healer.engine.status("chat_api").healing)
    await healer.engine.stop()
    answer = await asyncio.wait_for(asked, 60)
    assert answer.json()["state"] in {"verified", "remediating"}


# What there is


async def test_the_last_look_is_known_to_who_looks_and_not_to_the_log(
    client: httpx.AsyncClient, healer: Healer, until: Until
) -> None:
    async def looked() -> Any:
        return (await client.get(f"{PREFIX}/components/chat_api")).json()["last_look"]

    before = datetime.now(UTC)
    assert await looked() is None
    await healthy(client, healer, until)
    first = await looked()
    assert datetime.fromisoformat(first) >= before
    await until.soon(lambda: instant(healer.engine.status("chat_api").last_look) != first)
    assert await looked() > first
    assert all("last_look" not in each for each in healer.views.view("components"))


async def test_a_component_playbooks_routes_and_times_are_shown(
    client: httpx.AsyncClient, healer: Healer, until: Until
) -> None:
    await healthy(client, healer, until)
    await post(client, "heal", CRASHED)
    shown = (await client.get(f"{PREFIX}/components/chat_api")).json()
    assert (shown["name"], shown["health"], shown["mode"]) == ("chat_api", "healthy", "act")
    [adopted, *_] = healer.views.view("components")
    assert adopted["process"].items() <= shown["process"].items()
    missing = await client.get(f"{PREFIX}/components/nobody")
    assert (missing.status_code, missing.json()["title"]) == (404, "Unknown component")

    playbooks = (await client.get(f"{PREFIX}/playbooks")).json()["playbooks"]
    assert [each["name"] for each in playbooks] == [
        "diagnose_network", "restart_component", "clear_port", "rebind_port",
    ]  # fmt: skip
    assert {"action": "terminate", "undo": False} in playbooks[1]["steps"]
    routes = (await client.get(f"{PREFIX}/routes")).json()["routes"]
    conflict = next(
        each
        for each in routes
        if (each["component"], each["issue_type"]) == ("chat_api", "port_conflict")
    )
    assert conflict["playbooks"] == ["clear_port"]
    assert conflict["skipped"][0]["playbook"] == "rebind_port"

    times = (await client.get(f"{PREFIX}/mttr")).json()
    assert times["by_issue_type"]["process_crashed"]["n"] == 1
    assert times["by_playbook"]["restart_component"]["mean"] > 0
    issues = (await client.get(f"{PREFIX}/issues?component_name=chat_api&limit=1")).json()
    assert issues["records"][0]["issue_type"] == "process_crashed"


async def test_a_port_that_is_not_the_components_is_refused(
    client: httpx.AsyncClient, healer: Healer, until: Until
) -> None:
    await healthy(client, healer, until)
    port = healer.config.components["chat_api"].port
    for dry in (False, True):
        answer = await post(client, "heal", {**CRASHED, "port": 22, "dry_run": dry})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["allowed"] == [str(port)]
    assert await caused_by_hand(healer) == []
    answer = await post(client, "heal", {**CRASHED, "port": port})
    assert answer.json()["success"] is True
