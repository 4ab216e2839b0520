"""Who listens where, with real sockets."""

from __future__ import annotations

import asyncio
import socket

import pytest

from healer.domain.playbook import CheckStatus
from healer.domain.process import Listener
from healer.domain.spec import ComponentSpec, PortRange
from healer.errors import HostError, UnknownNameError
from healer.host.checks import FAST, SLOW, Checks

from .conftest import Sockets


def spec(port: int, host: str = "127.0.0.1", rebind: PortRange | None = None) -> ComponentSpec:
    return ComponentSpec(name="shop", host=host, port=port, rebind=rebind)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_every_check_is_either_fast_or_slow(checks: Checks) -> None:
    assert sorted(checks.names()) == sorted((*FAST, *SLOW))


async def test_a_check_that_does_not_exist_is_named_with_those_that_do(checks: Checks) -> None:
    with pytest.raises(UnknownNameError, match=r"'ping'.*port_listening"):
        await checks.run("ping", spec(80), 80)


@pytest.mark.parametrize(
    ("address", "host"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "localhost")],
)
async def test_a_listener_that_serves_the_host_is_fine(
    checks: Checks, sockets: Sockets, address: str, host: str
) -> None:
    port = sockets.listen(address)
    check = await checks.run("port_listening", spec(port, host), port)

    assert check.status is CheckStatus.OK
    assert check.facts["addresses"] == [address]
    assert check.facts["wrong_interface"] is False


async def test_a_listener_on_another_address_is_on_the_wrong_interface(
    checks: Checks, sockets: Sockets
) -> None:
    port = sockets.listen("127.0.0.2")
    check = await checks.run("port_listening", spec(port), port)

    assert check.status is CheckStatus.FAIL
    assert check.facts["listening"] is True
    assert check.facts["wrong_interface"] is True


async def test_a_port_without_listener_fails_and_is_no_wrong_interface(checks: Checks) -> None:
    port = free_port()
    check = await checks.run("port_listening", spec(port), port)

    assert check.status is CheckStatus.FAIL
    assert check.facts["listening"] is False
    assert check.facts["wrong_interface"] is False


async def test_listeners_of_another_machine_cannot_be_seen_from_here(checks: Checks) -> None:
    check = await checks.run("port_listening", spec(80, "192.0.2.254"), 80)

    assert check.status is CheckStatus.UNKNOWN
    assert check.facts["why"] == "host is elsewhere"


async def test_neighbours_and_the_rebind_range_are_counted(
    checks: Checks, sockets: Sockets
) -> None:
    port = sockets.listen("127.0.0.1")
    span = PortRange(first=port, last=port)
    check = await checks.run("port_conflicts", spec(port, rebind=span), port)
    beside = await checks.run("port_conflicts", spec(port - 1), port - 1)

    assert check.status is CheckStatus.WARN
    assert check.facts["rebind_used"] == [port]
    assert check.facts["rebind_free"] == 0
    nearby = beside.facts["nearby"]
    assert isinstance(nearby, list)
    assert port in nearby


async def test_several_users_on_one_port_are_a_conflict(checks: Checks, sockets: Sockets) -> None:
    port = sockets.listen("127.0.0.1", uid=1000)
    sockets.listen("127.0.0.1", port, uid=1001)
    check = await checks.run("port_conflicts", spec(port), port)

    assert check.status is CheckStatus.WARN
    assert check.facts["several_users"] is True
    assert check.facts["listeners"] == 2


async def test_a_check_that_hangs_is_given_up_and_says_so(gate: asyncio.Event) -> None:
    async def never(port: int) -> tuple[Listener, ...]:
        await gate.wait()
        return ()

    check = await Checks(never, timeout=0.05).run("port_listening", spec(80), 80)

    assert check.status is CheckStatus.UNKNOWN
    assert check.facts["why"] == "timed out"
    assert check.elapsed < 5


@pytest.mark.parametrize(
    ("error", "why"),
    [(PermissionError(13, "no"), "not permitted"), (HostError("cannot", errno=5), "failed")],
)
async def test_a_look_that_fails_is_a_reading_and_no_error(error: Exception, why: str) -> None:
    async def failing(port: int) -> tuple[Listener, ...]:
        raise error

    check = await Checks(failing).run("port_listening", spec(80), 80)

    assert check.status is CheckStatus.UNKNOWN
    assert check.facts["why"] == why
