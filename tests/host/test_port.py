"""Whether a port can be bound is found out by binding it; a reserved port stays ours."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
import time

import pytest

from healer.domain.spec import PortRange
from healer.errors import HostError
from healer.host import procfs
from healer.host.port import worst
from healer.ports import Bind

from .conftest import unprivileged
from .test_listener import port_of


async def test_a_port_of_nobody_is_free(host, server_socket):
    server = server_socket()
    port = port_of(server)
    server.close()
    assert (await host.bind_test("127.0.0.1", port)).free


@pytest.mark.parametrize("taken", ["127.0.0.1", "0.0.0.0", "::"])
async def test_a_listening_port_is_in_use(host, server_socket, taken):
    bind = await host.bind_test("127.0.0.1", port_of(server_socket(taken)))
    assert (bind.result, bind.errno) == ("in_use", errno.EADDRINUSE)


async def test_a_name_is_looked_up_and_bound(host, server_socket):
    port = port_of(server_socket())
    assert (await host.bind_test("localhost", port)).result == "in_use"


@pytest.mark.parametrize(
    ("results", "together"),
    [
        (["free", "in_use"], "in_use"),
        (["denied", "free", "in_use"], "in_use"),
        (["free", "denied"], "denied"),
        (["not_local", "denied"], "denied"),
        (["not_local", "free"], "free"),
        (["not_local", "not_local"], "not_local"),
        ([], "not_local"),
    ],
)
def test_a_name_with_several_addresses_is_as_bad_as_its_worst(results, together):
    assert worst([Bind(result) for result in results]) == Bind(together)


def test_of_addresses_that_are_all_elsewhere_the_first_says_why():
    elsewhere = [Bind("not_local", errno.EADDRNOTAVAIL), Bind("not_local", errno.EAFNOSUPPORT)]
    assert worst(elsewhere) == elsewhere[0]


async def test_a_bound_port_that_does_not_listen_is_in_use(host, server_socket):
    server = server_socket(listen=False, reuse_address=False)
    assert await host.listeners(port_of(server)) == ()
    assert (await host.bind_test("127.0.0.1", port_of(server))).result == "in_use"


async def test_what_blocks_the_wildcard_is_in_use_though_the_probed_address_is_not(
    host, server_socket
):
    """A component that is probed on 127.0.0.1 usually binds every address."""
    port = port_of(server_socket("127.0.0.2", listen=False, reuse_address=False))
    assert (await host.bind_test("127.0.0.1", port)).result == "in_use"


async def test_a_listener_on_another_address_only_shares_the_port(host, server_socket):
    port = port_of(server_socket("127.0.0.2"))
    assert (await host.bind_test("127.0.0.1", port)).free
    assert (await host.bind_test("127.0.0.2", port)).result == "in_use"
    assert (await host.bind_test("0.0.0.0", port)).result == "in_use"


async def test_a_client_whose_own_port_it_is_is_in_use(host, server_socket):
    server = server_socket()
    with socket.create_connection(server.getsockname()) as client:
        assert (await host.bind_test("127.0.0.1", port_of(client))).result == "in_use"


async def test_time_wait_of_a_server_that_reused_its_address_does_not_count(host, server_socket):
    server = server_socket()
    port = port_of(server)
    with socket.create_connection(("127.0.0.1", port)) as client:
        accepted, _ = server.accept()
        server.close()
        accepted.close()
        client.recv(1)
    assert (await host.bind_test("127.0.0.1", port)).free


@pytest.mark.parametrize("host_", ["192.0.2.1", "2001:db8::1", "no-such-host.invalid", "fe80::1"])
async def test_an_address_of_another_machine_is_not_local(host, host_):
    assert (await host.bind_test(host_, 8220)).result == "not_local"


async def test_a_port_without_the_right_to_it_is_denied(host):
    if int(procfs.read("/proc/sys/net/ipv4/ip_unprivileged_port_start")) <= 1:
        pytest.skip("every port is open to everybody here")
    with unprivileged():
        bind = await host.bind_test("127.0.0.1", 1)
    assert (bind.result, bind.errno) == ("denied", errno.EACCES)


async def test_what_the_kernel_refuses_for_another_reason_is_no_answer(host):
    """Out of descriptors: nothing was found out about the port."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(HostError) as refused:
            await host.bind_test("127.0.0.1", 8220)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert str(refused.value) == "cannot try to bind 127.0.0.1 port 8220: Too many open files"
    assert refused.value.errno == errno.EMFILE


async def test_waiting_ends_as_soon_as_the_port_is_free(host, server_socket):
    server = server_socket()
    wait = asyncio.ensure_future(host.wait_bindable("127.0.0.1", port_of(server), timeout=120))
    await asyncio.sleep(0.01)
    assert not wait.done()
    server.close()
    closed = time.monotonic()
    assert (await wait).free
    assert time.monotonic() - closed < 60


async def test_waiting_gives_up_in_time_and_says_why(host, server_socket):
    begun = time.monotonic()
    bind = await host.wait_bindable("127.0.0.1", port_of(server_socket()), timeout=0.1)
    assert bind.result == "in_use"
    assert 0.1 <= time.monotonic() - begun < 60


async def test_what_waiting_does_not_cure_is_not_waited_for(host):
    begun = time.monotonic()
    bind = await host.wait_bindable("192.0.2.1", 8220, timeout=120)
    assert bind.result == "not_local"
    assert time.monotonic() - begun < 60


@pytest.fixture
def free_range(server_socket):
    """Three ports in a row, below the ones that the kernel gives to clients, free just now, and not
    the first that another run of these tests would try."""
    everywhere = "::" if socket.has_ipv6 else "0.0.0.0"
    groups = range(30_000, 32_700, 3)
    start = os.getpid() % len(groups)
    for first in (*groups[start:], *groups[:start]):
        try:
            opened = [
                server_socket(everywhere, first + step, reuse_address=False) for step in range(3)
            ]
        except OSError:
            continue
        for one in opened:
            one.close()
        return PortRange(first=first, last=first + 2)
    pytest.skip("no three free ports in a row here")


@pytest.fixture
async def reserve(host):
    made = []

    async def make(*arguments, **keywords):
        reservation = await host.reserve(*arguments, **keywords)
        if reservation is not None:
            made.append(reservation)
        return reservation

    yield make
    for one in made:
        one.release()


async def test_the_first_free_port_of_the_range_is_reserved(reserve, server_socket, free_range):
    server_socket("127.0.0.1", free_range.first)
    reserved = await reserve("127.0.0.1", free_range)
    assert reserved.port == free_range.first + 1
    assert (await reserve("127.0.0.1", free_range)).port == free_range.first + 2
    assert await reserve("127.0.0.1", free_range) is None


async def test_excluded_ports_are_passed_over(reserve, free_range):
    reserved = await reserve("127.0.0.1", free_range, excluding=[free_range.first])
    assert reserved.port == free_range.first + 1


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::1", "::"])
async def test_a_server_can_start_on_a_port_that_is_reserved_for_it(
    reserve, server_socket, free_range, address
):
    reserved = await reserve("127.0.0.1", free_range)
    server = server_socket(address, reserved.port)
    with socket.create_connection(("::1" if ":" in address else "127.0.0.1", reserved.port)):
        server.accept()[0].close()


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "127.0.0.2", "::1", "::"])
async def test_nobody_else_gets_a_reserved_port_by_a_plain_bind(
    reserve, server_socket, free_range, address
):
    reserved = await reserve("127.0.0.1", free_range)
    with pytest.raises(OSError, match="Address already in use"):
        server_socket(address, reserved.port, reuse_address=False)
    reserved.release()
    reserved.release()
    server_socket(address, reserved.port, reuse_address=False)


async def test_a_reserved_port_is_not_reserved_by_another_healer(reserve, program, free_range):
    reserved = await reserve("127.0.0.1", free_range)
    other = program(
        "import asyncio, sys\n"
        "from healer.domain.spec import PortRange\n"
        "from healer.host.linux import LinuxHost\n"
        "ports = PortRange.model_validate(sys.argv[1])\n"
        "one = asyncio.run(LinuxHost().reserve('127.0.0.1', ports))\n"
        "print(one.port, flush=True)",
        str(free_range),
    )
    assert int(other.line()) == reserved.port + 1


def test_no_client_is_given_a_reserved_port(program):
    """In a network namespace whose clients have two ports to choose from, one of them reserved."""
    child = program(
        "import asyncio, ctypes, socket, sys\n"
        "from pathlib import Path\n"
        "from healer.domain.spec import PortRange\n"
        "from healer.host.linux import LinuxHost\n"
        "if ctypes.CDLL(None).unshare(0x40000000) != 0: sys.exit()\n"
        "import fcntl, struct\n"
        "with socket.socket() as s: fcntl.ioctl(s, 0x8914, struct.pack('16sh14x', b'lo', 1))\n"
        "Path('/proc/sys/net/ipv4/ip_local_port_range').write_text('41000 41001')\n"
        "server = socket.create_server(('127.0.0.1', 9000))\n"
        "one = asyncio.run(LinuxHost().reserve('127.0.0.1', PortRange(first=41000, last=41001)))\n"
        "def client():\n"
        "    try: return socket.create_connection(('127.0.0.1', 9000))\n"
        "    except OSError: return None\n"
        "clients = [client() for _ in range(3)]\n"
        "print(one.port, *(c.getsockname()[1] for c in clients if c), flush=True)\n"
    )
    line = child.line()
    if not line:
        pytest.skip("making a network namespace is not permitted here")
    assert line == "41000 41001"


async def test_ports_with_leftovers_of_connections_serve_when_there_are_no_others(
    reserve, server_socket, free_range
):
    port = free_range.first
    server = server_socket("127.0.0.1", port)
    with socket.create_connection(("127.0.0.1", port)) as client:
        accepted, _ = server.accept()
        server.close()
        accepted.close()
        client.recv(1)
    only = PortRange(first=port, last=port)
    assert (await reserve("127.0.0.1", PortRange(first=port, last=port + 1))).port == port + 1
    assert (await reserve("127.0.0.1", only)).port == port
    assert await reserve("127.0.0.1", only) is None, "the kernel would let two of ours share it"


async def test_no_port_is_reserved_on_another_machine(reserve, free_range):
    assert await reserve("192.0.2.1", free_range) is None
