"""A changed healer.yaml, and the daemon that is told of it."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from typing import Any

from tests.cli.conftest import House
from tests.conftest import COMPONENT, Until


def lines(house: House, event: str) -> list[dict[str, Any]]:
    said = [json.loads(line) for line in house.log.read_text().splitlines()]
    return [each for each in said if each["event"] == event]


def test_a_new_component_is_kept_after_a_reload_and_the_old_one_is_not_touched(
    house: House, until: Until, free_ports: Callable[[int], list[int]]
) -> None:
    daemon = house.serve(until)
    process = until(house.healthy)["process"]["pid"]
    (port,) = free_ports(1)
    launch = f'["{sys.executable}", -S, -E, "{COMPONENT}", --port, "{{port}}"]'
    text = house.config.read_text()
    house.write(f"{text}  other:\n    port: {port}\n    launch: {{command: {launch}}}\n")
    told = house.json("reload")
    assert told == {"reloaded": True, "added": ["other"], "removed": [], "changed": []}
    path = "/network-healer/components/other"
    until(lambda: house.get(path).json()["health"] == "healthy")
    assert house.shown()["process"]["pid"] == process
    house.write(text)
    daemon.send_signal(signal.SIGHUP)
    until(lambda: house.get(path).status_code == 404)
    assert until(lambda: lines(house, "reloaded"))[-1]["removed"] == ["other"]
    assert house.stop(daemon) == 0


def test_what_cannot_be_used_or_cannot_change_keeps_the_old_configuration(
    house: House, until: Until
) -> None:
    daemon = house.serve(until)
    until(house.healthy)
    text = house.config.read_text()
    for wrong, said in (
        (text.replace("interval: 100ms", "interval: soon"), "is not a duration"),
        (f"store: sqlite:///other.db\n{text}", "store: it cannot change while the healer runs"),
    ):
        before = len(lines(house, "reload_refused"))
        house.write(wrong)
        daemon.send_signal(signal.SIGHUP)
        until(lambda before=before: len(lines(house, "reload_refused")) > before)
        assert said in lines(house, "reload_refused")[-1]["error"]
        ready = house.get("/readyz")
        assert ready.status_code == 200
        assert said in ready.json()["warnings"][-1]
        assert house.run("reload").returncode == 2
        assert house.healthy()
    house.write(text)
    assert house.run("reload", "-o", "table").stdout == "nothing has changed\n"
    assert "old configuration" not in str(house.get("/readyz").json()["warnings"])
    assert house.stop(daemon) == 0
