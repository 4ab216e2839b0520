"""The packaged unit under a real systemd: `make systemd`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Until
from tests.deploy.machine import CONFIG, Machine, missing, prepare

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]

PATIENCE = 120


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    prepare()
    with Machine(tmp_path_factory.mktemp("machine")) as booted:
        yield booted


def healer(machine: Machine, *words: str) -> Any:
    said = machine.run(
        "healer", *words, "-c", "/etc/healer/client.yaml", "-o", "json", may_fail=True
    )
    return json.loads(said)


def components(machine: Machine) -> dict[str, Any]:
    return {each["name"]: each for each in healer(machine, "status")["components"]}


def well(machine: Machine, *names: str) -> dict[str, Any] | None:
    """The components, once all of `names` are healthy and nothing is open."""
    found = components(machine)
    fine = names and all(
        name in found and found[name]["health"] == "healthy" and not found[name]["open_issue"]
        for name in names
    )
    return found if fine else None


def pid(machine: Machine, name: str) -> int:
    process = components(machine).get(name, {}).get("process")
    return int(process["pid"]) if process else 0


@pytest.fixture(autouse=True)
def _healthy(machine: Machine, until: Until) -> None:
    """Each test begins with a healer that runs and components that are well."""
    machine.configure(CONFIG)
    machine.run("systemctl", "start", "healer")
    until(lambda: well(machine, "web", "unit"), PATIENCE)


def test_it_starts_as_a_user_of_its_own_and_keeps_its_files_in_its_state(machine: Machine):
    assert machine.shown("healer", "Type") == "notify"
    assert machine.shown("healer", "ActiveState") == "active"
    assert "watching 2 components" in machine.shown("healer", "StatusText")
    machine.run("systemd-analyze", "verify", "healer.service")
    main = machine.shown("healer", "MainPID")
    assert machine.run("ps", "-o", "user=", "-p", main) == "healer"
    files = machine.run("find", "/var/lib/healer", "-maxdepth", "1", "-printf", "%f %m %u\n")
    assert "healer.token 600 healer" in files.splitlines()
    assert "healer.db 600 healer" in files.splitlines()
    assert "logs 700 healer" in files.splitlines()
    assert machine.run("find", "/etc/healer", "-user", "healer") == ""


def test_it_heals_what_it_launched_and_what_systemd_keeps(machine: Machine, until: Until):
    before = pid(machine, "web")
    machine.run("kill", "-KILL", str(before))
    until(lambda: pid(machine, "web") not in {0, before}, PATIENCE)
    until(lambda: well(machine, "web", "unit"), PATIENCE)
    former = machine.shown("kept", "MainPID")
    machine.run("systemctl", "kill", "--signal=KILL", "kept")
    until(lambda: machine.shown("kept", "MainPID") not in {"0", former}, PATIENCE)
    until(lambda: well(machine, "web", "unit"), PATIENCE)
    assert machine.shown("kept", "NRestarts") == "0"  # it was not systemd by itself


def test_the_rule_allows_its_own_units_and_no_others(machine: Machine):
    as_healer = ("setpriv", "--reuid=healer", "--clear-groups", "systemctl", "--no-ask-password")
    machine.run(*as_healer, "start", "kept")
    machine.run(*as_healer, "reset-failed", "kept", may_fail=True)
    main = machine.shown("dbus", "MainPID")
    machine.run(*as_healer, "stop", "dbus", may_fail=True)
    machine.run(*as_healer, "kill", "kept", may_fail=True)
    assert machine.shown("dbus", "MainPID") == main
    assert machine.shown("kept", "ActiveState") == "active"


def test_it_reloads_in_place(machine: Machine, until: Until):
    main = machine.shown("healer", "MainPID")
    machine.configure(CONFIG + "  more:\n    port: 8103\n    mode: observe\n")
    machine.run("systemctl", "reload", "healer")
    until(lambda: "more" in components(machine), PATIENCE)
    machine.configure("nonsense: [")
    machine.run("systemctl", "reload", "healer", may_fail=True)
    assert "more" in components(machine)
    machine.configure(CONFIG)
    machine.run("systemctl", "reload", "healer")
    until(lambda: "more" not in components(machine), PATIENCE)
    assert machine.shown("healer", "MainPID") == main


def test_a_hang_ends_it_and_its_components_live_on(machine: Machine, until: Until):
    main, web = machine.shown("healer", "MainPID"), pid(machine, "web")
    machine.run("kill", "-STOP", main)
    until(lambda: machine.shown("healer", "MainPID") not in {"0", main}, PATIENCE)
    until(lambda: well(machine, "web", "unit"), PATIENCE)
    assert pid(machine, "web") == web


def test_a_restart_keeps_the_components_and_a_stop_is_clean(machine: Machine, until: Until):
    web, unit = pid(machine, "web"), pid(machine, "unit")
    machine.run("systemctl", "restart", "healer")
    until(lambda: well(machine, "web", "unit"), PATIENCE)
    assert (pid(machine, "web"), pid(machine, "unit")) == (web, unit)
    machine.run("systemctl", "stop", "healer")
    assert machine.shown("healer", "ActiveState") == "inactive"
    assert machine.shown("healer", "Result") == "success"
    assert machine.shown("healer", "ExecMainStatus") == "0"
    machine.run("kill", "-0", str(web))
    machine.run("kill", "-0", str(unit))
