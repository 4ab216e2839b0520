"""What is the prober's own trouble, or the network's, and not the component's."""

from __future__ import annotations

import asyncio
import errno
import os
import socket

import pytest

from healer.domain.probe import Reason
from healer.probes import NetworkProber, Vantage

TEST_NET = "198.51.100.7"  # RFC 5737: never routed


def test_without_descriptors_nothing_is_known(probe_in_child):
    asked = [
        {"host": "127.0.0.1", "port": 1, "probe": "tcp"},
        {"host": "127.0.0.1", "port": 1, "probe": "http"},
        {"host": "no-such-name.invalid", "port": 1},
    ]
    tcp, http, name = probe_in_child(asked, descriptors=32)
    assert (tcp["reason"], tcp["errno"]) == ("prober_failed", errno.EMFILE)
    assert (http["reason"], http["errno"]) == ("prober_failed", errno.EMFILE)
    assert name["reason"] == "prober_failed"


def test_routes_that_lead_nowhere_are_unreachable(probe_in_namespace):
    kinds = ["blackhole", "unreachable", "prohibit"]
    routes = [f"ip route add {kind} 198.51.100.{n}/32" for n, kind in enumerate(kinds)]
    asked = [{"host": f"198.51.100.{n}", "port": 80} for n in range(4)]
    results = probe_in_namespace(asked, setup="\n".join(["ip link set lo up", *routes]))
    assert {result["reason"] for result in results} == {"unreachable"}
    assert [result["errno"] for result in results] == [
        errno.EINVAL,
        errno.EHOSTUNREACH,
        errno.EACCES,
        errno.ENETUNREACH,  # no route at all
    ]


def test_without_loopback_we_cannot_see(probe_in_namespace):
    asked = [{"host": "127.0.0.1", "port": 80}, {"host": TEST_NET, "port": 80}]
    own, far = probe_in_namespace(asked, setup="")
    assert own["reason"] == "vantage_lost"
    assert far["reason"] == "unreachable"


class Lost(Vantage):
    """A canary that is dead."""

    async def lost(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("vantage", "reason"), [(Lost(), Reason.VANTAGE_LOST), (Vantage(), Reason.TIMEOUT)]
)
async def test_silence_here_counts_only_while_the_canary_answers(spec, vantage, reason):
    with socket.create_server(("127.0.0.1", 0)) as listener:  # accepts, never answers
        port = listener.getsockname()[1]
        result = await NetworkProber(vantage=vantage, agent="x").probe(spec(timeout=0.1), port)
    assert result.reason is reason


async def test_a_refusal_needs_no_canary(spec):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        prober = NetworkProber(vantage=Lost(), agent="x")
        assert (await prober.probe(spec(), bound.getsockname()[1])).reason is Reason.REFUSED


def test_a_name_without_a_server_is_unresolvable(probe_in_namespace):
    asked = [{"host": "no-such-name.invalid", "port": 80, "timeout": 4.0}]
    (result,) = probe_in_namespace(asked, setup="ip link set lo up")
    assert result["reason"] == "unresolvable"


def test_a_name_server_that_hangs_is_not_the_components_silence(probe_in_namespace, tmp_path):
    configuration = tmp_path / "resolv.conf"
    configuration.write_text("nameserver 127.0.0.1\n")
    before = """
silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
silent.bind(("127.0.0.1", 53))
"""
    setup = f"ip link set lo up\nmount --bind {configuration} /etc/resolv.conf"
    asked = [{"host": f"name{n}.invalid", "port": 80, "timeout": 0.3} for n in range(17)]
    results = probe_in_namespace(asked, setup=setup, before=before)
    assert {result["reason"] for result in results[:16]} == {"unresolvable"}
    assert all(result["elapsed"] < 2 for result in results)
    assert results[16]["reason"] == "prober_failed"  # its look-up could not even be started


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may set the port range")
def test_a_connection_to_itself_is_no_listener(probe_in_namespace):
    setup = (
        "ip link set lo up\nmount -o remount,rw /proc/sys 2>/dev/null || true\n"
        "echo '40000 40000' > /proc/sys/net/ipv4/ip_local_port_range"  # no other choice
    )
    control = """
with socket.socket() as plug:
    plug.connect(("127.0.0.1", 40000))
    assert plug.getsockname() == plug.getpeername(), "the trap is not there"
"""
    probe_in_namespace([], setup=setup, before=control)
    asked = [
        {"host": "127.0.0.1", "port": 40000, "probe": probe, "timeout": 0.5}
        for probe in ("tcp", "http")
        for _ in range(5)
    ]
    results = probe_in_namespace(asked, setup=setup)
    assert {(result["reason"], result["errno"]) for result in results} == {
        ("refused", errno.ECONNREFUSED)
    }


def test_without_a_free_local_port_nothing_is_known(probe_in_namespace):
    if os.geteuid() != 0:
        pytest.skip("only root may set the port range")
    setup = (
        "ip link set lo up\nmount -o remount,rw /proc/sys 2>/dev/null || true\n"
        "echo '40000 40000' > /proc/sys/net/ipv4/ip_local_port_range"
    )
    before = """
listener = socket.create_server(("127.0.0.1", 80))
taken = socket.create_connection(("127.0.0.1", 80))
"""
    (result,) = probe_in_namespace([{"host": "127.0.0.1", "port": 80}], setup=setup, before=before)
    assert (result["reason"], result["errno"]) == ("prober_failed", errno.EADDRNOTAVAIL)


def test_without_ipv6_the_other_address_decides(probe_in_namespace):
    if os.geteuid() != 0:
        pytest.skip("only root may switch IPv6 off")
    setup = (
        "ip link set lo up\nmount -o remount,rw /proc/sys 2>/dev/null || true\n"
        "echo 1 > /proc/sys/net/ipv6/conf/lo/disable_ipv6"
    )
    asked = [{"host": "localhost", "port": 80}, {"host": "::1", "port": 80}]
    name, sixth = probe_in_namespace(asked, setup=setup)
    assert (name["reason"], name["target"]) == ("refused", "127.0.0.1:80")
    assert sixth["reason"] == "unreachable"


async def test_the_vantage_sees_on_a_sound_machine():
    assert await Vantage().lost() is False


async def test_a_look_is_shared_and_used_again():
    vantage = Vantage(valid=60.0)
    answers = await asyncio.gather(*(vantage.lost() for _ in range(50)))
    assert answers == [False] * 50
