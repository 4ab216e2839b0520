"""The examples of the user's document, as printed there, against a daemon with real components."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.cli.conftest import House
from tests.conftest import COMPONENT, Until

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")

RESTART = r"""
curl -X POST http://localhost:8000/network-healer/heal \
  -H "Content-Type: application/json" \
  -d '{
    "component_name": "librarian_kernel",
    "issue_type": "process_crashed",
    "severity": "high"
  }'
"""
AUTO_HEAL = """
curl -X POST http://localhost:8000/network-healer/auto-heal
"""
DIAGNOSE = r"""
curl -X POST http://localhost:8000/network-healer/heal \
  -H "Content-Type: application/json" \
  -d '{
    "component_name": "chat_api",
    "issue_type": "network_unreachable",
    "severity": "critical"
  }'
"""
ENDPOINTS = """
POST /network-healer/heal
{
  "component_name": "librarian_kernel",
  "issue_type": "port_not_listening",
  "severity": "medium"
}
POST /network-healer/auto-heal
GET /network-healer/stats
GET /network-healer/history?component_name=chat_api
GET /network-healer/history/chat_api
GET /network-healer/active
GET /network-healer/playbook-stats
GET /network-healer/recommendations/librarian_kernel
POST /network-healer/initialize
"""
STATS = {
    "total_healings", "successful_healings", "failed_healings", "success_rate", "active_healings",
    "playbook_stats",
}  # fmt: skip
PLAYBOOK = {"executions", "successes", "failures", "success_rate"}


@pytest.fixture
def stack(
    house: House, until: Until, free_ports: Callable[[int], list[int]]
) -> Callable[[str], Any]:
    """Runs an example against a daemon that keeps chat_api and librarian_kernel."""
    (port,) = free_ports(1)
    launch = f'["{sys.executable}", -S, -E, "{COMPONENT}", --port, "{{port}}"]'
    house.write(
        f"{house.config.read_text()}  librarian_kernel:\n    port: {port}\n"
        f"    probe: {{http: /health}}\n    launch: {{command: {launch}}}\n"
    )
    house.serve(until)

    def healthy() -> bool:
        shown = house.get("/network-healer/components").json()["components"]
        return all(each["health"] == "healthy" for each in shown)

    until(healthy)
    token = (house.directory / "healer.token").read_text().strip()

    def run(example: str) -> Any:
        printed = example.replace("localhost:8000", f"localhost:{house.listen}")
        argv = shlex.split(printed.replace("\\\n", " "))
        argv += ["-H", f"Authorization: Bearer {token}", "--silent", "--noproxy", "*"]
        ran = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True)
        return json.loads(ran.stdout)

    return run


def test_a_crashed_component_is_restarted_as_in_example_1(
    house: House, stack: Callable[[str], Any]
) -> None:
    answer = stack(RESTART)
    assert answer["success"] is True
    assert answer["component"] == "librarian_kernel"
    assert answer["port"] == house.get("/network-healer/components/librarian_kernel").json()["port"]
    assert answer["healing_result"] == {
        "playbooks_executed": ["restart_component"],
        "overall_success": True,
    }


def test_all_that_fails_is_healed_as_in_example_2(
    house: House, stack: Callable[[str], Any]
) -> None:
    os.kill(house.shown()["process"]["pid"], signal.SIGKILL)
    answer = stack(AUTO_HEAL)
    assert {
        "success", "total_components", "components_healed", "components_failed", "results",
    } <= answer.keys()  # fmt: skip
    assert answer["success"] is True
    assert answer["total_components"] == len(answer["results"])
    assert answer["components_failed"] == 0


def test_the_network_is_diagnosed_as_in_example_3(stack: Callable[[str], Any]) -> None:
    answer = stack(DIAGNOSE)
    assert (answer["component"], answer["issue_type"]) == ("chat_api", "network_unreachable")
    assert answer["healing_result"]["playbooks_executed"] == []
    assert answer["issue_id"]


def test_every_endpoint_of_the_document_answers_with_its_fields(
    stack: Callable[[str], Any],
) -> None:
    answers: dict[str, Any] = {}
    for block in (
        ENDPOINTS.strip().replace("\nPOST", "\0POST").replace("\nGET", "\0GET").split("\0")
    ):
        line, _, body = block.partition("\n")
        method, path = line.split()
        sent = f" -H 'Content-Type: application/json' -d '{body}'" if body else ""
        answers[path] = stack(f"curl -X {method} 'http://localhost:8000{path}'{sent}")
    stats = answers["/network-healer/stats"]
    assert stats.keys() >= STATS
    assert stats["total_healings"] >= 3  # two first starts, and the one above
    assert stats["playbook_stats"]["restart_component"].keys() >= PLAYBOOK
    history = answers["/network-healer/history?component_name=chat_api"]
    assert history == answers["/network-healer/history/chat_api"]
    assert {
        "timestamp", "component", "port", "issue_type", "playbooks_executed", "success",
        "actions_taken", "time_to_resolution",
    } <= history["records"][0].keys()  # fmt: skip
    assert "active" in answers["/network-healer/active"]
    assert "restart_component" in answers["/network-healer/playbook-stats"]["playbook_stats"]
    advice = answers["/network-healer/recommendations/librarian_kernel"]
    assert advice["component"] == "librarian_kernel"
    assert answers["/network-healer/initialize"]["monitoring"] is True
