"""Who listens on a port: every socket, every holder, and "cannot see" is not "free"."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from healer.errors import HostError
from healer.host.linux import LinuxHost
from healer.host.listener import holders, holds, listeners
from healer.host.sockdiag import by_netlink, by_proc

from .conftest import unprivileged

PREFORK = """
import os, socket, sys
server = socket.create_server(("127.0.0.1", 0))
workers = []
for _ in range(4):
    pid = os.fork()
    if pid == 0:
        sys.stdin.read(); os._exit(0)
    workers.append(pid)
print(server.getsockname()[1], *workers, flush=True)
input()
"""

LISTEN_ON = """
import socket, sys
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
server.bind(("127.0.0.1", int(sys.argv[1]))); server.listen()
print(server.getsockname()[1], flush=True); input()
"""


def port_of(one: socket.socket) -> int:
    port: int = one.getsockname()[1]
    return port


async def test_a_listener_is_seen_with_its_holder(host, server_socket):
    server = server_socket()
    (found,) = await host.listeners(port_of(server))
    assert (found.address, found.port, found.family) == ("127.0.0.1", port_of(server), 4)
    assert found.inode == os.fstat(server.fileno()).st_ino
    assert found.uid == os.geteuid()
    assert [holder.pid for holder in found.holders] == [os.getpid()]
    assert not found.hidden
    assert not found.dual_stack


@pytest.mark.parametrize(
    ("address", "v6only", "serves_v4"), [("::", False, True), ("::", True, False)]
)
async def test_a_dual_stack_wildcard_is_told_from_one_for_ipv6_only(
    host, server_socket, address, v6only, serves_v4
):
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    server = server_socket(address, v6only=v6only)
    (found,) = await host.listeners(port_of(server))
    assert (found.address, found.family, found.dual_stack) == ("::", 6, not v6only)
    assert found.serves("127.0.0.1") is serves_v4
    assert found.serves("::1")


async def test_both_families_on_one_port_are_both_seen(host, server_socket):
    four = server_socket("127.0.0.1")
    server_socket("::1", port_of(four))
    found = await host.listeners(port_of(four))
    assert {(one.family, one.address) for one in found} == {(4, "127.0.0.1"), (6, "::1")}


async def test_a_mapped_address_is_the_ipv4_address_that_it_takes(host, server_socket):
    server = server_socket("::ffff:127.0.0.1")
    (found,) = await host.listeners(port_of(server))
    assert (found.family, found.address) == (6, "127.0.0.1")
    assert found.serves("127.0.0.1")


async def test_all_five_holders_of_a_pre_fork_server_are_named(host, program, strays):
    parent = program(PREFORK)
    port, *workers = (int(word) for word in parent.line().split())
    for worker in workers:
        strays.add(worker)
    (found,) = await host.listeners(port)
    assert {holder.pid for holder in found.holders} == {parent.pid, *workers}


async def test_every_socket_that_shares_a_port_is_named(host, program):
    first = program(LISTEN_ON, "0")
    port = int(first.line())
    others = [program(LISTEN_ON, str(port)) for _ in range(2)]
    assert all(int(other.line()) == port for other in others)
    found = await host.listeners(port)
    assert len(found) == 3
    assert {holder.pid for one in found for holder in one.holders} == {
        first.pid,
        *(other.pid for other in others),
    }


async def test_a_client_of_the_port_is_no_holder(host, program, server_socket):
    server = server_socket()
    client = program(
        "import socket, sys; s = socket.create_connection(('127.0.0.1', int(sys.argv[1])));"
        "print('ready', flush=True); input()",
        str(port_of(server)),
    )
    client.line()
    (found,) = await host.listeners(port_of(server))
    assert client.pid not in {holder.pid for holder in found.holders}
    connected, _ = server.accept()
    server.close()
    assert await host.listeners(connected.getsockname()[1]) == ()
    connected.close()


async def test_time_wait_is_no_listener(host, server_socket):
    server = server_socket()
    port = port_of(server)
    with socket.create_connection(("127.0.0.1", port)) as client:
        accepted, _ = server.accept()
        server.close()
        accepted.close()  # the side that closes first keeps TIME_WAIT
        client.recv(1)
    assert await host.listeners(port) == ()


async def test_a_socket_in_flight_between_processes_is_hidden(host, server_socket):
    server = server_socket()
    port = port_of(server)
    sender, receiver = socket.socketpair()
    with sender, receiver:
        socket.send_fds(sender, [b"x"], [server.fileno()])
        server.close()
        (found,) = await host.listeners(port)
        assert found.holders == ()
        assert found.hidden


async def test_a_holder_that_may_not_be_seen_is_hidden_and_not_nobody(host, program):
    port = int(program(LISTEN_ON, "0").line())
    with unprivileged():
        (found,) = await host.listeners(port)
    assert (found.holders, found.hidden, found.uid) == ((), True, 0)


async def test_one_process_is_asked_alone(host, program, held, server_socket):
    server = server_socket()
    inode = os.fstat(server.fileno()).st_ino
    child = program("print('ready', flush=True); input()")
    child.line()
    assert await host.holds(await held(os.getpid()), inode)
    assert not await host.holds(await held(child.pid), inode)


async def test_a_process_that_may_not_be_looked_into_is_not_cleared(host, program, held):
    child = program("print('ready', flush=True); input()")
    child.line()
    process = await held(child.pid)
    with unprivileged(), pytest.raises(HostError) as refused:
        await host.holds(process, 1)
    assert str(refused.value) == (
        f"cannot see the descriptors of {process.identity}: Permission denied"
    )
    assert refused.value.errno == errno.EACCES


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1"])
def test_netlink_and_proc_say_the_same(server_socket, address):
    server = server_socket(address)
    assert by_netlink(port_of(server)) == by_proc(port_of(server))
    assert len(by_proc(port_of(server))) == 1


async def test_without_netlink_the_tables_of_proc_are_read(host, server_socket, monkeypatch):
    port = port_of(server_socket())

    def refuse(*_: object) -> socket.socket:
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patched:
        patched.setattr("healer.host.sockdiag.socket.socket", refuse)
        assert [holder.pid for one in await host.listeners(port) for holder in one.holders] == [
            os.getpid()
        ]


async def test_nothing_listens_on_a_port_of_nobody(host, server_socket):
    assert await host.listeners(port_of(server_socket(listen=False))) == ()


async def test_listeners_of_another_network_namespace_are_not_ours(host, program):
    server = program(
        "import ctypes, socket\n"
        "if ctypes.CDLL(None).unshare(0x40000000) != 0: raise SystemExit\n"
        "s = socket.create_server(('0.0.0.0', 0)); print(s.getsockname()[1], flush=True); input()"
    )
    line = server.line()
    if not line:
        pytest.skip("unshare is not permitted here")
    assert server.pid not in {
        holder.pid for one in await host.listeners(int(line)) for holder in one.holders
    }


# --- what changes while one looks ----------------------------------------------------------------


def inode_of(one: socket.socket) -> int:
    return os.fstat(one.fileno()).st_ino


async def test_of_several_sockets_each_that_is_open_is_found(server_socket, program, held):
    child = program("pass")
    await (await held(child.pid)).exited()
    first, second, other = server_socket(), server_socket(), server_socket()
    asked = [inode_of(one) for one in (first, second, other)]
    other.close()
    assert holds(os.getpid(), asked) == {asked[0], asked[1]}
    assert holds(os.getpid(), [asked[1]]) == {asked[1]}
    assert holds(os.getpid(), [asked[2]]) == frozenset()
    assert holders(asked[1:]) == {asked[1]: [os.getpid()], asked[2]: []}
    assert holds(child.pid, asked) == frozenset()


def test_a_descriptor_that_is_closed_meanwhile_hides_no_other(server_socket, monkeypatch):
    server = server_socket()
    listdir = os.listdir
    monkeypatch.setattr("healer.host.listener.os.listdir", lambda path: ["x", *listdir(path)])
    assert holds(os.getpid(), [inode_of(server)]) == {inode_of(server)}


async def test_a_socket_that_is_closed_meanwhile_is_not_told_and_those_beside_it_are(
    host, program, server_socket
):
    other = program(LISTEN_ON, "0")
    port = int(other.line())
    server = server_socket(port=port, reuse_port=True)
    assert len(await host.listeners(port)) == 2

    def closing(pid: int) -> int:
        server.close()
        return os.pidfd_open(pid)

    (found,) = await listeners(port, boot=host.boot_id, opener=closing)
    assert [holder.pid for holder in found.holders] == [other.pid]
    assert not found.hidden


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ESRCH])
async def test_one_holder_that_cannot_be_held_hides_no_other(host, program, strays, number):
    parent = program(PREFORK)
    port, *workers = (int(word) for word in parent.line().split())
    for worker in workers:
        strays.add(worker)
    hidden = sorted(workers)[1]

    def opener(pid: int) -> int:
        if pid == hidden:
            raise OSError(number, os.strerror(number))
        return os.pidfd_open(pid)

    (found,) = await LinuxHost(opener=opener).listeners(port)
    everybody = sorted([parent.pid, *workers])
    assert [holder.pid for holder in found.holders] == [pid for pid in everybody if pid != hidden]
    assert {holder.boot_id for holder in found.holders} == {host.boot_id}


async def test_one_holder_whom_one_may_not_see_any_more_hides_no_other(
    host, program, strays, monkeypatch
):
    parent = program(PREFORK)
    port, *workers = (int(word) for word in parent.line().split())
    for worker in workers:
        strays.add(worker)
    hidden = sorted(workers)[1]
    listdir, seen = os.listdir, []

    def forbidding(path: str) -> list[str]:
        if path == f"/proc/{hidden}/fd":
            seen.append(path)
            if len(seen) == 2:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return listdir(path)

    monkeypatch.setattr("healer.host.listener.os.listdir", forbidding)
    (found,) = await host.listeners(port)
    assert [holder.pid for holder in found.holders] == sorted({parent.pid, *workers} - {hidden})


# What has a lower number is looked into first, and may not be.
async def test_who_may_see_only_some_processes_sees_his_own(host, program, server_socket):
    program("print('ready', flush=True); input()").line()
    server = server_socket()
    with unprivileged():
        (found,) = await host.listeners(port_of(server))
    assert [holder.pid for holder in found.holders] == [os.getpid()]
    assert not found.hidden
