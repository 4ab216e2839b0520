"""Alerts of others: taken once, healed only where no person has to be asked."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from healer.api.access import Access
from healer.api.app import create_app
from healer.api.listener import listen_on
from healer.api.server import Server
from healer.bootstrap import Healer, build
from healer.config import parse
from healer.domain.events import (
    Event,
    HealWithheld,
    IssueFailed,
    IssueVerified,
    PlaybookStarted,
)
from healer.domain.health import Health
from healer.errors import StoreError
from healer.store import MemoryLog
from tests.api.conftest import BEARER, CONFIG, ORIGIN, TOKEN
from tests.api.ending import end_components
from tests.conftest import COMPONENT, Until

ALERTMANAGER = "/network-healer/webhooks/alertmanager"
DATADOG = "/network-healer/webhooks/datadog"


def alert(component: str, status: str = "firing", **labels: str) -> dict[str, object]:
    return {
        "status": status,
        "labels": {"alertname": "Down", "component": component, **labels},
        "startsAt": "2026-01-01T12:00:00Z",
        "fingerprint": f"f-{component}",
        "generatorURL": "unknown keys are accepted",
    }


async def post(client: httpx.AsyncClient, *alerts: dict[str, object]) -> list[dict[str, object]]:
    answer = await client.post(ALERTMANAGER, json={"version": "4", "alerts": alerts})
    assert answer.status_code == 200
    return answer.json()["alerts"]


async def test_an_alert_heals_once(healer: Healer, client: httpx.AsyncClient):
    down = alert("chat_api", issue_type="port_not_listening")
    assert (await post(client, down))[0]["outcome"] == "withheld"  # not watched yet
    await healer.engine.start()
    first, again = await post(client, down, down)
    assert first["outcome"] in {"healing", "open"}
    assert again["outcome"] == "duplicate"
    assert again["issue_id"] == first["issue_id"]
    await healer.engine.outcome("chat_api", str(first["issue_id"]))
    (resolved,) = await post(client, alert("chat_api", "resolved"))
    assert resolved["outcome"] == "resolved"


async def test_an_alert_waits_for_the_budget_and_what_is_well_meanwhile_is_left_alone(
    tmp_path: Path, free_ports: Callable[[int], list[int]], until: Until
):
    """An alert is no person: the second heal in a row backs off, and is no longer needed."""
    port, other = free_ports(2)
    text = CONFIG.format(port=port, other=other, python=sys.executable, component=COMPONENT)
    text = text.replace("initial: 10ms", "initial: 1h, max: 1h").replace("500ms", "20s")
    config = parse(text, source="test", environ={}, hostname="h", directory=tmp_path)
    async with build(config, log=MemoryLog()) as healer:
        app = create_app(healer, access=Access(TOKEN))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(
            transport=transport, base_url=ORIGIN, headers=BEARER
        ) as client:
            engine = healer.engine
            await engine.start()

            def well() -> bool:
                status = engine.status("chat_api")
                return status.health.health is Health.HEALTHY and status.issue is None

            try:
                await until.soon(well)
                ends = []
                pids = []
                for number in range(2):
                    crashed = alert("chat_api", issue_type="process_crashed")
                    (said,) = await post(client, {**crashed, "fingerprint": f"f{number}"})
                    assert said["outcome"] == "healing"
                    issue = str(said["issue_id"])
                    await engine.outcome("chat_api", issue)
                    await until.soon(well)
                    ends.append(await healer.log.stream(issue))
                    pids.append(engine.status("chat_api").process)
                assert any(isinstance(fact, PlaybookStarted) for fact in ends[0])
                withheld = [fact for fact in ends[1] if isinstance(fact, HealWithheld)]
                assert [fact.reason for fact in withheld] == ["backoff"]
                assert not any(isinstance(fact, PlaybookStarted) for fact in ends[1])
                assert isinstance(ends[1][-1], IssueVerified)
                assert pids[0] == pids[1]
            finally:
                await engine.stop()
                await end_components(healer.log)


class Refusing(MemoryLog):
    """A log whose disk can be full."""

    full = False

    async def append(self, events: Sequence[Event]) -> int:
        if self.full:
            raise StoreError("cannot append: the disk is full")
        return await super().append(events)


class Desk:
    """A healer, and a client of it. Its component is believed to have recovered by itself after ten
    minutes, its second heal in a row waits for an hour; it ends with the desk unless it `stays`."""

    def __init__(
        self, directory: Path, ports: Sequence[int], log: Callable[[], MemoryLog] | None = None
    ) -> None:
        port, other = ports
        text = CONFIG.format(port=port, other=other, python=sys.executable, component=COMPONENT)
        text = text.replace("initial: 10ms", "initial: 1h, max: 1h").replace("500ms", "20s")
        text = text.replace("fast_interval: 20ms", "fast_interval: 10m")
        config = parse(text, source="test", environ={}, hostname="h", directory=directory)
        self.healer = build(config, log=log() if log else None)
        self.stays = False

    async def __aenter__(self) -> Desk:
        await self.healer.__aenter__()
        app = create_app(self.healer, access=Access(TOKEN))
        transport = httpx.ASGITransport(app)
        self.client = httpx.AsyncClient(transport=transport, base_url=ORIGIN, headers=BEARER)
        await self.healer.engine.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.client.aclose()
        await self.healer.engine.stop()
        if not self.stays:
            await end_components(self.healer.log)
        await self.healer.__aexit__(None, None, None)

    def well(self) -> bool:
        status = self.healer.engine.status("chat_api")
        return status.health.health is Health.HEALTHY and status.issue is None

    async def waiting(self, until: Until, tell: Callable[[str], Awaitable[Any]]) -> str:
        """Have the component healed by one alert, and let the heal of another wait; its issue.
        `tell` sends one of that key, and returns what it was answered."""
        await until.soon(self.well)
        await self.healer.engine.outcome("chat_api", (await tell("first"))["issue_id"])
        await until.soon(self.well)
        said = await tell("second")
        assert said["outcome"] == "healing"
        issue = str(said["issue_id"])

        async def withheld() -> bool:
            facts = await self.healer.log.stream(issue)
            return any(isinstance(fact, HealWithheld) for fact in facts)

        await until.soon(withheld)
        return issue


async def test_a_resolved_alert_withdraws_the_heal_that_only_waits_also_of_the_last_healer(
    tmp_path: Path, free_ports: Callable[[int], list[int]], until: Until
):
    ports = free_ports(2)
    crashed = alert("chat_api", issue_type="process_crashed")
    async with Desk(tmp_path, ports) as desk:

        async def tell(key: str) -> Any:
            (said,) = await post(desk.client, {**crashed, "fingerprint": key})
            return said

        issue = await desk.waiting(until, tell)
        desk.stays = True
    async with Desk(tmp_path, ports) as desk:
        await until.soon(lambda: desk.healer.engine.status("chat_api").issue)
        crashed["status"] = "resolved"
        first, second = [{**crashed, "fingerprint": key} for key in ("first", "second")]
        said, again = await post(desk.client, first, second)
        assert (said["outcome"], said["issue_id"]) == ("resolved", issue)
        assert (again["outcome"], again["issue_id"]) == ("withdrawn", issue)
        *_, last = await desk.healer.log.stream(issue)
        assert isinstance(last, IssueFailed)
        assert last.reason == "alert_resolved"
        (said,) = await post(desk.client, second)
        assert (said["outcome"], said["issue_id"]) == ("resolved", None)
        path = "/network-healer/history/chat_api"  # the other one is in need as well
        shown = (await desk.client.get(path)).json()["records"][0]
        assert (shown["issue_id"], shown["reason"]) == (issue, "alert_resolved")


async def test_datadog_withdraws_what_has_recovered_once_that_can_be_written(
    tmp_path: Path, free_ports: Callable[[int], list[int]], until: Until
):
    async with Desk(tmp_path, free_ports(2), Refusing) as desk:
        log = desk.healer.log
        assert isinstance(log, Refusing)

        async def say(transition: str, key: str) -> httpx.Response:
            tags = "component:chat_api,issue_type:process_crashed"
            body = {"alert_transition": transition, "alert_cycle_key": key, "tags": tags}
            return await desk.client.post(DATADOG, json=body)

        async def tell(key: str) -> Any:
            return (await say("Triggered", key)).json()["alerts"][0]

        issue = await desk.waiting(until, tell)
        warned = (await say("Warn", "second")).json()["alerts"][0]
        assert (warned["outcome"], warned["issue_id"]) == ("resolved", None)
        log.full = True
        assert (await say("Recovered", "second")).status_code == 503
        assert (await log.open_issues())["chat_api"] == issue
        log.full = False

        async def taken() -> httpx.Response | None:
            answer = await say("Recovered", "second")
            return answer if answer.status_code == 200 else None

        said = (await until.soon(taken)).json()["alerts"][0]
        assert (said["outcome"], said["issue_id"]) == ("withdrawn", issue)
        assert "chat_api" not in await log.open_issues()


async def test_what_an_alert_does_not_do(healer: Healer, client: httpx.AsyncClient):
    await healer.engine.start()
    watched, unknown, strange = await post(
        client, alert("librarian_kernel"), alert("nobody"), alert("chat_api", issue_type="x")
    )
    assert watched["outcome"] in {"withheld", "open"}
    assert unknown["outcome"] == "unknown_component"
    assert strange["outcome"] == "unknown_issue_type"
    assert (await client.post(ALERTMANAGER, json={})).status_code == 422
    nobody = await client.post(ALERTMANAGER, json={"alerts": []}, headers={"Authorization": ""})
    assert nobody.status_code == 401


async def test_datadog_names_the_component_by_tags(healer: Healer, client: httpx.AsyncClient):
    await healer.engine.start()
    body = {
        "alert_transition": "Triggered",
        "alert_cycle_key": "7",
        "tags": "env:x, component:chat_api,issue_type:port_not_listening",
    }
    answers = [(await client.post(DATADOG, json=body)).json()["alerts"][0] for _ in range(2)]
    assert answers[0]["outcome"] in {"healing", "open"}
    assert answers[1]["outcome"] == "duplicate"
    body["alert_transition"] = "Recovered"
    recovered = (await client.post(DATADOG, json=body)).json()["alerts"][0]
    assert recovered["outcome"] == "resolved"
    await healer.engine.outcome("chat_api", answers[0]["issue_id"])


PROGRAMS = ("prometheus", "prometheus-alertmanager")
needs_programs = pytest.mark.skipif(
    not all(map(shutil.which, PROGRAMS)), reason="prometheus and alertmanager are not installed"
)


class Monitoring:
    """A real Prometheus, whose alert Down is about one component, a real Alertmanager, and the API
    of `healer`, to which that one sends. It fires from the beginning: nothing listens where
    Prometheus looks."""

    def __init__(self, directory: Path, healer: Healer, ports: Sequence[int], labels: str) -> None:
        self._directory = directory
        self._door, self._manager, self._metrics, self._absent = ports
        self._app = create_app(healer, access=Access(TOKEN), listen=("127.0.0.1", self._door))
        self._found: asyncio.Server | None = None
        self.alerts: list[dict[str, Any]] = []
        """What Alertmanager was answered of each alert, one after the other."""
        self.statuses: list[int] = []
        (directory / "token").write_text(TOKEN)
        url = f"http://127.0.0.1:{self._door}{ALERTMANAGER}"
        (directory / "am.yml").write_text(
            "route: {receiver: healer, group_wait: 10ms, group_interval: 1s}\n"
            f"receivers:\n  - name: healer\n    webhook_configs:\n      - url: {url}\n"
            f"        http_config: {{authorization: {{credentials_file: {directory}/token}}}}\n"
        )
        (directory / "prom.yml").write_text(
            "global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 200ms}\n"
            "rule_files: [rules.yml]\n"
            "alerting:\n  alertmanagers:\n    - static_configs:\n"
            f"        - targets: ['127.0.0.1:{self._manager}']\n"
            "scrape_configs:\n  - job_name: j\n    static_configs:\n"
            f"      - targets: ['127.0.0.1:{self._absent}']\n"
        )
        # Over once a look has succeeded: a later one may be too slow on a busy machine.
        (directory / "rules.yml").write_text(
            "groups:\n  - name: g\n    rules:\n      - alert: Down\n"
            f"        expr: max_over_time(up[1h]) == 0\n        labels: {{{labels}}}\n"
        )

    async def __aenter__(self) -> Monitoring:
        where, manager = self._directory, f"127.0.0.1:{self._manager}"
        commands = (
            [PROGRAMS[1], f"--config.file={where}/am.yml", f"--storage.path={where}/am",
             f"--web.listen-address={manager}", "--cluster.listen-address="],
            [PROGRAMS[0], f"--config.file={where}/prom.yml", f"--storage.tsdb.path={where}/p",
             f"--web.listen-address=127.0.0.1:{self._metrics}"],
        )  # fmt: skip
        self._listener = listen_on("127.0.0.1", self._door)
        self._server = Server(self._noting)
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._listener]))
        self._programs = [
            await asyncio.create_subprocess_exec(
                *each, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            for each in commands
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        for each in self._programs:
            each.kill()
            await each.wait()
        if self._found is not None:
            self._found.close()
        self._server.should_exit = True
        await self._serving
        self._listener.close()

    async def _noting(self, scope: object, receive: object, send: object) -> None:
        async def sending(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                self.statuses.append(message["status"])
            elif self.statuses[-1] == 200:
                self.alerts += json.loads(message["body"])["alerts"]
            await send(message)

        await self._app(scope, receive, sending)

    async def resolve(self) -> None:
        """Let Prometheus find what it looks for."""

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n"
            writer.write(head + b"Connection: close\r\n\r\n")
            await writer.drain()
            writer.close()

        self._found = await asyncio.start_server(answer, "127.0.0.1", self._absent)


@needs_programs
async def test_an_alert_of_prometheus_arrives_by_alertmanager(
    tmp_path: Path, healer: Healer, until: Until, free_ports: Callable[[int], list[int]]
):
    await healer.engine.start()
    labels = "component: librarian_kernel"
    async with Monitoring(tmp_path, healer, free_ports(4), labels) as monitoring:
        await until.soon(lambda: monitoring.alerts, timeout=120)
    assert set(monitoring.statuses) == {200}
    said = monitoring.alerts[0]
    assert said["component"] == "librarian_kernel"
    assert said["outcome"] in {"withheld", "open"}  # it is only observed


@needs_programs
async def test_an_alert_that_prometheus_resolves_withdraws_the_heal_that_waits(
    tmp_path: Path, until: Until, free_ports: Callable[[int], list[int]]
):
    ports = free_ports(6)
    crashed = alert("chat_api", issue_type="process_crashed")
    async with Desk(tmp_path, ports[4:]) as desk, AsyncExitStack() as later:
        labels = "component: chat_api, issue_type: process_crashed"
        monitoring = Monitoring(tmp_path, desk.healer, ports[:4], labels)

        async def tell(key: str) -> Any:
            if key == "first":
                (said,) = await post(desk.client, {**crashed, "fingerprint": key})
                return said
            await later.enter_async_context(monitoring)
            await until.soon(lambda: monitoring.alerts, timeout=120)
            return monitoring.alerts[0]

        issue = await desk.waiting(until, tell)
        await monitoring.resolve()

        def withdrawn() -> dict[str, Any] | None:
            return next(
                (each for each in monitoring.alerts if each["outcome"] == "withdrawn"), None
            )

        said = await until.soon(withdrawn, timeout=120)
        assert (said["component"], said["issue_id"]) == ("chat_api", issue)
        facts = await desk.healer.log.stream(issue)
        assert not any(isinstance(fact, PlaybookStarted) for fact in facts)
        assert isinstance(facts[-1], IssueFailed)
        assert (facts[-1].reason, facts[-1].actor) == ("alert_resolved", facts[0].actor)
        assert "chat_api" not in await desk.healer.log.open_issues()
