"""Names, routes, loopback and interfaces, on this machine and in broken namespaces."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from healer.domain.playbook import CheckStatus
from healer.domain.spec import ComponentSpec
from healer.host.checks import Checks
from healer.host.checks.thread import Threads

from .conftest import InNamespace

DUMMY = "ip link add net0 type dummy"


def spec(host: str) -> ComponentSpec:
    return ComponentSpec(name="shop", host=host, port=8220)


async def test_an_address_needs_no_resolver(checks: Checks) -> None:
    check = await checks.run("name_resolution", spec("127.0.0.1"), 8220)

    assert check.status is CheckStatus.OK
    assert check.facts["literal"] is True


async def test_localhost_resolves(checks: Checks) -> None:
    check = await checks.run("name_resolution", spec("localhost"), 8220)

    assert check.status is CheckStatus.OK
    assert check.facts["addresses"]


def test_a_name_that_nobody_knows_fails_with_the_resolvers_error(
    in_namespace: InNamespace,
) -> None:
    check = in_namespace("name_resolution", host="shop.invalid")

    assert check.status is CheckStatus.FAIL
    assert check.facts["error"] in {"EAI_NONAME", "EAI_AGAIN", "EAI_NODATA"}


def test_a_route_to_an_unresolvable_name_cannot_be_judged(in_namespace: InNamespace) -> None:
    check = in_namespace("route", host="shop.invalid")

    assert check.status is CheckStatus.UNKNOWN
    assert check.facts["why"] == "name not resolved"


async def test_the_route_to_loopback_starts_at_loopback(checks: Checks) -> None:
    check = await checks.run("route", spec("127.0.0.1"), 8220)

    assert check.status is CheckStatus.OK
    assert check.facts["sources"] == ["127.0.0.1"]


@pytest.mark.parametrize(
    ("kind", "error"),
    [("blackhole", "EINVAL"), ("unreachable", "EHOSTUNREACH"), ("prohibit", "EACCES")],
)
def test_each_kind_of_dead_route_is_told_apart(
    in_namespace: InNamespace, kind: str, error: str
) -> None:
    check = in_namespace("route", f"ip route add {kind} 192.0.2.0/24", host="192.0.2.9")

    assert check.status is CheckStatus.FAIL
    assert check.facts["error"] == error
    assert check.facts["unroutable"] == ["192.0.2.9"]


def test_an_address_without_any_route_is_unreachable(in_namespace: InNamespace) -> None:
    check = in_namespace("route", host="192.0.2.9")

    assert check.status is CheckStatus.FAIL
    assert check.facts["error"] == "ENETUNREACH"


async def test_localhost_is_reachable_here(checks: Checks) -> None:
    check = await checks.run("localhost_reachable", spec("127.0.0.1"), 8220)

    assert check.status is CheckStatus.OK
    assert check.facts["ipv4"] == "ok"


def test_localhost_is_not_reachable_while_lo_is_down(in_namespace: InNamespace) -> None:
    check = in_namespace("localhost_reachable", lo=False)

    assert check.status is CheckStatus.FAIL
    assert check.facts["ipv4"] != "ok"


def test_loopback_that_is_down_is_found_among_the_interfaces(in_namespace: InNamespace) -> None:
    check = in_namespace("network_interfaces", lo=False)

    assert check.status is CheckStatus.FAIL
    assert check.facts["loopback_up"] is False


def test_loopback_that_is_up_is_fine(in_namespace: InNamespace) -> None:
    check = in_namespace("network_interfaces")

    assert check.status is CheckStatus.OK
    addresses = check.facts["addresses"]
    assert isinstance(addresses, list)
    assert "lo 127.0.0.1" in addresses


def test_a_family_that_no_interface_speaks_is_missing(in_namespace: InNamespace) -> None:
    check = in_namespace(
        "network_interfaces",
        "sysctl -qw net.ipv6.conf.all.disable_ipv6=1",
        host="2001:db8::1",
    )
    assert check.status is CheckStatus.FAIL
    assert check.facts["family_missing"] is True


async def test_a_call_that_hangs_is_shared_and_holds_up_nobody() -> None:
    threads, release = Threads(), threading.Event()
    calls: list[int] = []

    def hang() -> str:
        calls.append(1)
        release.wait(30)
        return "done"

    with pytest.raises(TimeoutError):
        await threads.run("name", hang, 0.02)
    later = asyncio.ensure_future(threads.run("name", hang, 30))
    assert await threads.run("other", lambda: "quick", 30) == "quick"
    release.set()

    assert await later == "done"
    assert calls == [1]


async def test_an_error_in_a_thread_reaches_the_one_who_asked() -> None:
    def fail() -> str:
        raise socket.gaierror(socket.EAI_AGAIN, "again")

    threads = Threads()
    with pytest.raises(socket.gaierror):
        await threads.run("name", fail, 30)
    assert await threads.run("name", lambda: "new", 30) == "new"
