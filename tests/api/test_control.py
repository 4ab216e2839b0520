"""What operators change over HTTP, and what is shown of it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from healer.bootstrap import Healer
from healer.domain.events import ApprovalRequested
from tests.api.test_app import PREFIX, healthy, post
from tests.conftest import Until


async def shown(client: httpx.AsyncClient, name: str = "chat_api") -> dict[str, Any]:
    components = (await client.get(f"{PREFIX}/components")).json()["components"]
    found: dict[str, Any] = next(each for each in components if each["name"] == name)
    return found


async def actors(healer: Healer, topic: str) -> list[str]:
    facts = await healer.log.read(limit=10_000)
    return [each.event.actor for each in facts if topic == each.event.TOPIC]


async def test_a_mode_is_set_shown_and_remembered_with_its_actor(
    client: httpx.AsyncClient, healer: Healer, until: Until
) -> None:
    await healthy(client, healer, until)
    wish = {"mode": "suggest", "reason": "release"}
    answer = await post(client, "components/chat_api/mode", wish)
    assert answer.json() == {
        "component": "chat_api", "before": "act", "mode": "suggest", "changed": True,
    }  # fmt: skip
    assert (await shown(client))["mode"] == "suggest"
    again = await post(client, "components/chat_api/mode", wish)
    assert again.json()["changed"] is False
    assert await actors(healer, "component.mode_changed.v1") == ["api:local"]


async def test_the_modes_of_all_are_set_at_once(
    client: httpx.AsyncClient, healer: Healer, until: Until
) -> None:
    await healthy(client, healer, until)
    told = (await post(client, "mode", {"mode": "observe"})).json()
    assert told["mode"] == "observe"
    assert [each["changed"] for each in told["components"]] == [True, False]
    assert {(await shown(client, name))["mode"] for name in healer.engine.names} == {"observe"}


async def test_a_maintenance_window_is_opened_shown_and_ended(
    client: httpx.AsyncClient, healer: Healer, until: Until
) -> None:
    await healthy(client, healer, until)
    path = "components/chat_api/maintenance"
    answer = await post(client, path, {"for": "10m", "reason": "deploy"})
    window = answer.json()["maintenance"]
    assert (window["reason"], window["actor"]) == ("deploy", "api:local")
    component = await shown(client)
    assert component["in_maintenance"] is True
    assert component["maintenance"] == window
    assert component["withheld"]["reason"] == "maintenance"
    assert 590 < component["withheld"]["retry_in"] <= 600
    assert (await post(client, f"{path}/end")).json()["maintenance"] is None
    assert (await shown(client))["in_maintenance"] is False
    assert (await post(client, path, {"for": 60})).status_code == 200
    assert (await client.delete(f"{PREFIX}/{path}")).json()["maintenance"] is None
    problem = await client.delete(f"{PREFIX}/{path}")
    assert problem.status_code == 409
    assert problem.json()["detail"] == "cannot end the maintenance: chat_api is in none"


async def test_a_pause_is_shown_and_ended(
    client: httpx.AsyncClient, healer: Healer, until: Until
) -> None:
    await healthy(client, healer, until)
    paused = (await post(client, "pause", {"reason": "storm"})).json()["paused"]
    assert (paused["reason"], paused["actor"]) == ("storm", "api:local")
    assert (await client.get(f"{PREFIX}/components")).json()["paused"] == paused
    assert (await post(client, "resume")).json() == {"paused": None, "was_paused": paused}
    assert (await client.get(f"{PREFIX}/components")).json()["paused"] is None
    assert (await post(client, "resume")).json() == {"paused": None, "was_paused": None}


async def test_a_budget_is_reset(client: httpx.AsyncClient, healer: Healer, until: Until) -> None:
    await healthy(client, healer, until)
    await post(client, "heal", {"component_name": "chat_api", "issue_type": "process_crashed"})
    told = (await post(client, "components/chat_api/rearm", {"reason": "fixed"})).json()
    assert told == {"component": "chat_api", "attempts_forgotten": 1}
    assert healer.engine.fleet.ledger("chat_api").attempts == 0


@pytest.mark.parametrize("word", ["approve", "deny"])
async def test_a_suggestion_is_answered(
    client: httpx.AsyncClient, healer: Healer, until: Until, word: str
) -> None:
    await post(client, "initialize")
    await post(client, "components/librarian_kernel/mode", {"mode": "suggest"})

    async def asked() -> str | None:
        for recorded in await healer.log.read(limit=10_000):
            if isinstance(recorded.event, ApprovalRequested):
                return recorded.event.originator_id
        return None

    issue = await until.soon(asked)
    assert (await shown(client, "librarian_kernel"))["awaits_approval"] is True
    answer = await post(client, f"issues/{issue}/{word}", {"reason": "sure"})
    assert answer.json() == {
        "issue_id": issue,
        "component": "librarian_kernel",
        "approved": word == "approve",
    }
    kind = "granted" if word == "approve" else "denied"
    assert await actors(healer, f"issue.approval_{kind}.v1") == ["api:local"]
    again = await post(client, f"issues/{issue}/{word}")
    assert again.status_code == 409
    assert again.json()["detail"].startswith("cannot")


@pytest.mark.parametrize(
    ("path", "body", "status", "field"),
    [
        ("components/nobody/mode", {"mode": "act"}, 404, "component"),
        ("components/nobody/maintenance", {"for": "1m"}, 404, "component"),
        ("components/nobody/maintenance/end", None, 404, "component"),
        ("components/nobody/rearm", None, 404, "component"),
        ("issues/nothing/approve", None, 404, "issue"),
        ("issues/fleet/deny", None, 404, "issue"),
        ("components/chat_api/mode", {"mode": "sleep"}, 422, "mode"),
        ("components/chat_api/mode", {}, 422, "mode"),
        ("components/chat_api/maintenance", {"for": "soon"}, 422, "for"),
        ("components/chat_api/maintenance", {"for": 0}, 422, "for"),
        ("components/chat_api/maintenance", {"for": "400d"}, 422, "for"),
        ("components/chat_api/maintenance", {"duration": "1m"}, 422, "duration"),
        ("components/chat_api/maintenance", {}, 422, "for"),
        ("pause", {"reason": ""}, 422, "reason"),
        ("pause", {"reason": "x" * 501}, 422, "reason"),
        ("pause", {"because": "x"}, 422, "because"),
        ("mode", {"mode": "act", "component": "x"}, 422, "component"),
    ],
)
async def test_a_wrong_wish_changes_nothing(
    client: httpx.AsyncClient,
    healer: Healer,
    until: Until,
    *,
    path: str,
    body: Any,
    status: int,
    field: str,
) -> None:
    await healthy(client, healer, until)
    answer = await post(client, path, body)
    problem = answer.json()
    assert answer.status_code == problem["status"] == status
    assert problem["errors"][0]["field"] == field
    topics = {each.event.TOPIC for each in await healer.log.read(limit=10_000)}
    assert not topics & {
        "fleet.paused.v1", "component.mode_changed.v1", "component.maintenance_started.v1",
    }  # fmt: skip


async def test_what_is_not_watched_cannot_be_changed(client: httpx.AsyncClient) -> None:
    answer = await post(client, "components/chat_api/mode", {"mode": "observe"})
    assert answer.status_code == 409
    assert "initialize" in answer.json()["detail"]
