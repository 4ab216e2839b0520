"""The packaged Dockerfile, built and run: `make image`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Until
from tests.deploy.image import CAPABILITIES, Container, Host, missing, prepare

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]

PATIENCE = 600


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    prepare()
    with Host() as made:
        yield made


@pytest.fixture
def container(host: Host, until: Until) -> Iterator[Container]:
    """It runs, and its component is well."""
    with Container(host) as started:
        until(started.healthy, PATIENCE)
        until(lambda: well(started), PATIENCE)
        yield started


def healer(container: Container, *words: str) -> Any:
    program = "/opt/healer/bin/healer"
    ran = container.exec(program, *words, "-c", "/etc/healer/healer.yaml", "-o", "json")
    return json.loads(ran.stdout)


def well(container: Container) -> bool:
    (web,) = healer(container, "status")["components"]
    return web["health"] == "healthy" and not web["open_issue"]


def pid(container: Container) -> int:
    """The component's; 0 where there is none."""
    (web,) = healer(container, "status")["components"]
    return int(web["process"]["pid"]) if web["process"] else 0


def test_it_serves_from_files_that_it_cannot_write_with_what_it_was_allowed(container: Container):
    status = container.status()
    allowed = sum(1 << bit for bit in CAPABILITIES.values())
    assert {int(status[each], 16) for each in ("CapEff", "CapPrm", "CapBnd")} == {allowed}
    assert container.exec("touch", "/opt/healer/x").returncode != 0
    listed = container.exec("find", ".", "-maxdepth", "1", "-printf", "%f %m\n").stdout.splitlines()
    assert {". 700", "healer.db 600", "healer.token 600"} <= set(listed)


def test_it_brings_all_of_the_package_and_no_bytes_of_another_python(container: Container):
    verified = healer(container, "replay", "verify")
    assert verified["ok"]
    page = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8000/').read().decode())"
    assert "<html" in container.exec("/opt/healer/bin/python", "-c", page).stdout
    compiled = container.exec("find", "/opt/healer", "-name", "*.cpython-*.pyc").stdout.split()
    running = container.exec(
        "/opt/healer/bin/python", "-c", "import sys; print(sys.implementation.cache_tag)"
    ).stdout.strip()
    assert compiled
    assert all(f".{running}." in each for each in compiled)


@pytest.mark.parametrize("fault", ["KILL", "STOP"])
def test_it_heals_another_users_process_by_its_hook(
    host: Host, container: Container, until: Until, fault: str
):
    before = pid(container)
    assert host.run("stat", "--format=%U", f"/proc/{before}") == "nobody"
    host.run("kill", f"-{fault}", str(before))
    until(lambda: pid(container) not in {0, before}, PATIENCE)
    until(lambda: well(container), PATIENCE)
    newest, *_ = healer(container, "issues")["records"]
    assert (newest["component"], newest["outcome"]) == ("web", "healed")


def test_its_signal_ends_it_and_its_component_lives_on(host: Host, until: Until):
    with Container(host) as first:
        until(first.healthy, PATIENCE)
        until(lambda: well(first), PATIENCE)
        before = pid(first)
        assert first.stop() == 0
    host.run("kill", "-0", str(before))
    with Container(host) as second:
        until(second.healthy, PATIENCE)
        until(lambda: well(second), PATIENCE)
        assert pid(second) == before


def test_the_health_check_fails_where_nobody_answers(host: Host, container: Container):
    assert container.healthy()
    container.signal("SIGSTOP")
    assert not container.healthy()
    container.signal("SIGCONT")
