"""The metrics, as Prometheus' own tools see them."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from healer.api.access import Access
from healer.api.app import create_app
from healer.api.listener import listen_on
from healer.api.server import Server
from healer.bootstrap import Healer
from tests import factory
from tests.api.conftest import TOKEN
from tests.conftest import ROOT, Processes, Until

DEPLOY = ROOT / "docs" / "deploy"
needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool")
needs_prometheus = pytest.mark.skipif(not shutil.which("prometheus"), reason="no prometheus")

LABELS = {"component", "issue_type", "outcome", "reason", "playbook", "action", "health", "le"} | {
    "sink"
}


def figures(text: str) -> dict[str, float]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


async def test_a_heal_is_counted_and_shown(client: httpx.AsyncClient, until: Until) -> None:
    before = figures((await client.get("/metrics")).text)
    assert before["healer_watching"] == 0
    await client.post("/network-healer/initialize")

    async def found() -> dict[str, float] | None:
        now = figures((await client.get("/metrics")).text)
        healed = [value for name, value in now.items() if name.startswith("healer_heals_total")]
        seen = now.get('healer_probe_success{component="chat_api"}') == 1
        return now if sum(healed) >= 1 and seen else None

    now = await until.soon(found)
    heal = 'component="chat_api",issue_type="port_not_listening",outcome="healed"'
    assert now[f"healer_heals_total{{{heal}}}"] == 1
    assert (
        now['healer_time_to_resolution_seconds_count{component="chat_api",outcome="healed"}'] == 1
    )
    step = 'action="start",outcome="succeeded",playbook="restart_component"'
    assert now[f"healer_step_duration_seconds_count{{{step}}}"] == 1
    assert now["healer_watching"] == now["healer_log_writable"] == 1
    assert now["healer_log_head"] > 5


async def test_what_ended_with_its_alert_is_not_counted_as_failed(
    healer: Healer, client: httpx.AsyncClient
) -> None:
    for issue, reason in (("a", "alert_resolved"), ("b", "not_cured")):
        opened = factory.issue_detected(stream=issue, node="n1")
        ended = factory.issue_failed(stream=issue, version=2, node="n1", reason=reason)
        await healer.log.append([opened, ended])
    counted = {
        name: value
        for name, value in figures((await client.get("/metrics")).text).items()
        if name.startswith("healer_heals_total")
    }
    told = 'component="chat_api",issue_type="process_crashed"'
    assert counted == {
        f'healer_heals_total{{{told},outcome="withdrawn"}}': 1,
        f'healer_heals_total{{{told},outcome="failed"}}': 1,
    }


async def test_labels_are_few_and_known(client: httpx.AsyncClient) -> None:
    text = (await client.get("/metrics")).text
    labels = set(re.findall(r'[{,](\w+)="', text))
    assert labels <= LABELS | {"version", "python"}


@needs_promtool
async def test_promtool_finds_nothing(client: httpx.AsyncClient, until: Until) -> None:
    await client.post("/network-healer/initialize")

    async def healed() -> bool:
        return "healer_heals_total{" in (await client.get("/metrics")).text

    await until.soon(healed)
    text = (await client.get("/metrics")).content
    check = ["promtool", "check", "metrics"]
    ran = await asyncio.to_thread(
        subprocess.run, check, input=text, capture_output=True, check=False, timeout=30
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")


@needs_promtool
def test_the_alert_rules_are_good_and_fire_when_they_should(tmp_path: Path) -> None:
    rules = DEPLOY / "healer.rules.yml"
    test = tmp_path / "test.yml"
    said = (ROOT / "tests/api/healer.rules.test.yml").read_text()
    test.write_text(said.replace("RULES", str(rules)))
    for argv in (["check", "rules", str(rules)], ["test", "rules", str(test)]):
        ran = subprocess.run(
            ["promtool", *argv], capture_output=True, text=True, check=False, timeout=50
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr


async def test_rules_and_dashboard_ask_for_what_is_there(client: httpx.AsyncClient) -> None:
    text = (await client.get("/metrics")).text
    there = set(re.findall(r"# TYPE (healer_\w+) ", text))
    asked = (DEPLOY / "healer.rules.yml").read_text() + (DEPLOY / "grafana.json").read_text()
    names = set(re.findall(r"\bhealer_\w+", asked))
    base = {re.sub(r"_(bucket|count|sum)$", "", name) for name in names}
    assert base - there == set()
    assert len(json.loads((DEPLOY / "grafana.json").read_text())["panels"]) == 12
    documented = (ROOT / "docs" / "metrics.md").read_text()
    told = {name for name in there if not name.endswith("_created")}
    assert [name for name in sorted(told) if f"`{name}`" not in documented] == []


@needs_prometheus
async def test_a_real_prometheus_scrapes_it(
    healer: Healer,
    processes: Processes,
    until: Until,
    free_ports: Callable[[int], list[int]],
    tmp_path: Path,
) -> None:
    own, theirs = free_ports(2)
    app = create_app(healer, access=Access(TOKEN), listen=("127.0.0.1", own))
    server = Server(app)
    listener = listen_on("127.0.0.1", own)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    config = tmp_path / "prometheus.yml"
    text = (DEPLOY / "prometheus.yml").read_text().replace("127.0.0.1:8000", f"127.0.0.1:{own}")
    config.write_text(
        text.replace("15s", "200ms").replace("[healer.rules", f"[{DEPLOY}/healer.rules")
    )
    with (tmp_path / "out").open("wb") as out:
        processes.start(
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={tmp_path / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{theirs}",
            stdout=out,
            stderr=out,
        )
    async with httpx.AsyncClient(trust_env=False, timeout=120) as client:

        async def scraped() -> object:
            try:
                answer = await client.get(
                    f"http://127.0.0.1:{theirs}/api/v1/query",
                    params={"query": "healer_log_writable"},
                )
                return answer.status_code == 200 and answer.json()["data"]["result"]
            except httpx.TransportError:
                return None

        found = await until.soon(scraped)
    assert found[0]["value"][1] == "1"
    server.should_exit = True
    await serving
