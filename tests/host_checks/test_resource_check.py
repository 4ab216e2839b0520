"""Figures of this machine, against what is known of it otherwise."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from healer.domain.playbook import Check, CheckStatus
from healer.domain.spec import ComponentSpec
from healer.host.checks import Checks
from healer.host.checks.resource import CpuMeter
from healer.host.checks.tcp import listening_ports, states

from .conftest import InNamespace, Sockets

SPEC = ComponentSpec(name="shop", port=8220)


def figure(check: Check, name: str) -> float:
    value = check.facts[name]
    assert isinstance(value, int | float)
    return value


async def test_the_figures_are_those_of_this_machine(checks: Checks) -> None:
    check = await checks.run("system_resources", SPEC, 8220)

    assert check.status in {CheckStatus.OK, CheckStatus.WARN}
    assert figure(check, "cores") == os.cpu_count()
    assert 0 <= figure(check, "memory_available_percent") <= 100
    assert 0 <= figure(check, "disk_root_free_percent") <= 100
    assert 0 < figure(check, "files_open") <= figure(check, "files_max")
    assert figure(check, "ephemeral_total") > 0


async def test_our_own_descriptors_are_counted(checks: Checks) -> None:
    before = await checks.run("system_resources", SPEC, 8220)
    with ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(socket.socket())
        during = await checks.run("system_resources", SPEC, 8220)

    grown = figure(during, "own_files_open") - figure(before, "own_files_open")
    assert 45 <= grown <= 55


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    """Leaves five descriptors, and has used more than nine tenths of those allowed."""
    used = sum(1 for _ in Path("/proc/self/fd").iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        for _ in range(55):
            stack.enter_context(socket.socket())
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 60, hard))
        yield
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("few_descriptors")
async def test_a_descriptor_limit_that_is_nearly_reached_is_a_strain(checks: Checks) -> None:
    check = await checks.run("system_resources", SPEC, 8220)

    strained = check.facts["strained"]
    assert isinstance(strained, list)
    assert "descriptors" in strained


def test_connections_that_use_up_the_ephemeral_ports_are_a_strain(
    in_namespace: InNamespace,
) -> None:
    few = ("tee /proc/sys/net/ipv4/ip_local_port_range", "40000 40003")
    quiet = in_namespace("system_resources", few)
    busy = in_namespace("system_resources", few, clients=4)

    assert figure(quiet, "ephemeral_total") == 4
    assert figure(quiet, "ephemeral_used") == 0
    assert figure(busy, "ephemeral_used") == 4
    assert busy.status is CheckStatus.WARN
    strained = busy.facts["strained"]
    assert isinstance(strained, list)
    assert "ports" in strained


async def test_connections_are_counted_by_state(sockets: Sockets) -> None:
    port = sockets.listen("127.0.0.1")
    with socket.create_connection(("127.0.0.1", port)) as client:
        counts, ports = states()
        assert counts["established"] >= 2
        assert counts["listen"] >= 1
        assert client.getsockname()[1] in ports
    assert port in listening_ports()


def test_the_processor_is_read_without_waiting() -> None:
    meter = CpuMeter()
    shares = [meter.share() for _ in range(3)]
    assert all(share is None or 0 <= share <= 1 for share in shares)
