"""`healer init` and `healer doctor`, run as a user runs them; and what is deployed."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from healer.config import load, parse
from healer.domain.spec import CommandLaunch, Mode
from tests.cli.conftest import House, environment
from tests.conftest import ROOT, Processes, Until

DEPLOY = ROOT / "docs" / "deploy"


def test_init_writes_what_listens_and_never_overwrites(
    house: House, processes: Processes, until: Until, free_port: int
) -> None:
    processes.component(free_port)
    until(lambda: _listens(free_port))
    file = house.directory / "new.yaml"
    ran = house.run("init", str(file))
    assert ran.returncode == 0, ran.stderr
    config = load(file, environ={}, hostname="h")
    [found] = [spec for spec in config.components.values() if spec.port == free_port]
    assert found.mode is Mode.OBSERVE
    assert (found.probe.kind, found.probe.path) == ("http", "/health")
    assert found.owner is not None
    assert str(found.owner.cmdline).endswith("component.py")
    assert found.owner.exe is None, "an interpreter proves nothing"
    assert found.name == f"component_{free_port}"
    assert file.stat().st_mode & 0o777 == 0o600
    assert house.run("validate", "-c", str(file)).returncode == 0
    before = file.read_bytes()
    again = house.run("init", str(file))
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr.startswith(f"healer: cannot write {file}: it is there already")
    assert file.read_bytes() == before


def test_init_says_how_each_was_started_and_shows_no_secret(
    house: House, processes: Processes, until: Until, free_ports: Callable[[int], list[int]]
) -> None:
    plain, hidden = free_ports(2)
    started = processes.component(plain)
    processes.component(hidden, "--name", "password=hunter2")
    until(lambda: _listens(plain) and _listens(hidden))
    file = house.directory / "new.yaml"
    assert house.run("init", str(file)).returncode == 0
    assert "hunter2" not in file.read_text()
    agreed = file.read_text().replace("    # launch:", "    launch:")
    config = parse(
        agreed.replace("[python, -m, ..., ", "[python, -m, example, "),
        source="new.yaml",
        environ={},
        hostname="h",
        directory=house.directory,
    )
    launches = {spec.port: spec.launch for spec in config.components.values()}
    command = [str(word) for word in started.args]  # type: ignore[union-attr]
    told = launches[plain]
    assert isinstance(told, CommandLaunch)
    assert [word.replace("{port}", str(plain)) for word in told.command] == command
    assert "{port}" in told.command
    assert str(told.cwd) == str(Path.cwd())


def test_init_leaves_a_healer_out(house: House, until: Until) -> None:
    process = house.serve(until)
    file = house.directory / "new.yaml"
    assert set(house.json("init", str(file), "-o", "json")) == {"file", "components"}
    ports = {spec.port for spec in load(file, environ={}, hostname="h").components.values()}
    assert house.listen not in ports
    assert house.stop(process) == 0


def _listens(port: int) -> bool:
    from healer.host.sockdiag import listen_sockets

    return bool(listen_sockets(port))


def test_doctor_says_what_is_missing_and_how_to_get_it(house: House) -> None:
    found = house.json("doctor", "-o", "json")
    assert found["ok"] is True
    by_subject = {each["subject"]: each for each in found["findings"]}
    assert by_subject["configuration"]["found"] == "components: 1"
    assert {"pidfd", "sock_diag", "CAP_KILL", "store space"} <= set(by_subject)
    assert all(each["cure"] for each in found["findings"] if each["verdict"] != "good")
    house.write(house.config.read_text().replace("port:", "prot:"))
    ran = house.run("doctor", "-o", "json")
    assert ran.returncode == 1
    assert json.loads(ran.stdout)["ok"] is False


def test_a_program_that_should_look_and_is_not_there_is_told(house: House, tmp_path: Path) -> None:
    check = tmp_path / "check"
    by_program = f'{{exec: ["{check}"]}}'
    house.write(house.config.read_text().replace("{http: /health}", by_program))

    def doctor() -> dict[str, str]:
        ran = house.run("doctor", "-o", "json")
        findings = json.loads(ran.stdout)["findings"]
        return next(each for each in findings if each["subject"].startswith("probe of"))

    assert doctor()["verdict"] == "bad"
    assert f"{str(check)!r}: No such file" in doctor()["found"]
    ran = house.run("validate", "-o", "json")
    assert ran.returncode == 0
    (warning,) = json.loads(ran.stdout)["warnings"]
    assert f"{str(check)!r}: No such file" in warning
    check.write_text("#!/bin/sh\n")
    check.chmod(0o777)
    assert doctor()["verdict"] == "warn"
    assert "others may write" in doctor()["found"]
    check.chmod(0o755)
    assert doctor()["verdict"] == "good"
    assert json.loads(house.run("validate", "-o", "json").stdout).get("warnings") is None


def test_the_shell_can_complete(house: House) -> None:
    # The shell is the one that runs it, which the suite's own need not have.
    asked = f"{shlex.quote(sys.executable)} -m healer --show-completion; exit $?"
    ran = subprocess.run(
        ["bash", "-c", asked],
        cwd=house.directory, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "_HEALER_COMPLETE" in ran.stdout


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")
def test_the_unit_is_hardened(tmp_path: Path) -> None:
    unit = tmp_path / "healer.service"
    unit.write_text((DEPLOY / "healer.service").read_text())
    ran = subprocess.run(
        ["systemd-analyze", "--offline=true", "--no-pager", "security", str(unit)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    found = re.search(r"exposure level for \S+ ([\d.]+)", ran.stdout)
    assert found, ran.stdout + ran.stderr
    assert float(found[1]) <= 2.5


def test_the_unit_lets_components_live_on() -> None:
    unit = (DEPLOY / "healer.service").read_text()
    for line in ("KillMode=process", "Type=notify", "WatchdogSec=30"):
        assert line in unit.splitlines()


def test_the_sample_for_a_stack_is_accepted(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "healer.yaml").read_text()
    config = parse(text, source="sample", environ={}, hostname="h", directory=tmp_path)
    assert {8100, 8110, 8220, 8282} <= {spec.port for spec in config.components.values()}
