"""What the kernel says of listening sockets, by netlink and by /proc: each word of it."""

from __future__ import annotations

import errno
import os
import socket
import struct
from pathlib import Path

import pytest

from healer.errors import HostError
from healer.host import procfs, sockdiag
from healer.host.sockdiag import ListenSocket, by_netlink, by_proc, listen_sockets

from .conftest import unprivileged

NOBODY = 65534


def port_of(one: socket.socket) -> int:
    port: int = one.getsockname()[1]
    return port


def refuse(*_: object) -> object:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.mark.parametrize("ask", [by_netlink, by_proc])
def test_whose_socket_it_is_is_told_as_well(ask, server_socket):
    with unprivileged():
        server = server_socket()
    assert ask(port_of(server)) == (
        ListenSocket(
            family=4,
            address="127.0.0.1",
            port=port_of(server),
            inode=os.fstat(server.fileno()).st_ino,
            uid=NOBODY,
            dual_stack=False,
        ),
    )


@pytest.mark.parametrize("ask", [by_netlink, by_proc])
@pytest.mark.parametrize("v6only", [False, True])
def test_an_ipv6_address_that_is_no_wildcard_is_one_of_ipv6_only(ask, v6only, server_socket):
    server = server_socket("::1", v6only=v6only)
    (found,) = ask(port_of(server))
    assert (found.family, found.address, found.dual_stack) == (6, "::1", False)
    assert (found.uid, found.inode) == (os.geteuid(), os.fstat(server.fileno()).st_ino)


@pytest.mark.parametrize("ask", [by_netlink, by_proc])
def test_the_sockets_of_other_ports_are_not_told(ask, server_socket):
    server, other = server_socket(), server_socket()
    connected = socket.create_connection(("127.0.0.1", port_of(server)))
    accepted, _ = server.accept()
    with connected, accepted:
        assert [found.port for found in ask(port_of(server))] == [port_of(server)]
        assert [found.port for found in ask(port_of(other))] == [port_of(other)]
        assert ask(port_of(connected)) == ()


def test_more_sockets_than_one_answer_holds_are_all_told(server_socket):
    first = server_socket(reuse_port=True)
    servers = [first, *(server_socket(port=port_of(first), reuse_port=True) for _ in range(300))]
    inodes = {os.fstat(server.fileno()).st_ino for server in servers}
    assert {found.inode for found in by_netlink(port_of(first))} == inodes
    assert {found.inode for found in by_proc(port_of(first))} == inodes


# --- what the kernel may say, and hardly ever does ----------------------------------------------


class Netlink:
    """A socket to a kernel that gives these answers, of which IPv6's come second."""

    def __init__(self, *answers: bytes) -> None:
        self._answers = [*answers]

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        assert not self._answers, "not all was heard"

    def settimeout(self, seconds: float) -> None:
        pass

    def send(self, request: bytes) -> None:
        pass

    def recv(self, size: int) -> bytes:
        return self._answers.pop(0)


def padded(words: bytes) -> bytes:
    return words + b"\0" * (-len(words) % 4)


def message(kind: int, body: bytes) -> bytes:
    """See netlink(7)."""
    return padded(struct.pack("=IHHII", 16 + len(body), kind, 2, 0, 0) + body)


def listening(address: str, inode: int, *attributes: tuple[int, bytes]) -> bytes:
    """A socket of port 8080, as inet_diag_msg in linux/inet_diag.h."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    body = struct.pack(
        "=4B2s2s16s16sI8s5I",
        *(family, 10, 0, 0),
        *(b"\x1f\x90", b"", socket.inet_pton(family, address), b"", 0, b""),
        *(0, 0, 0, 33, inode),
    )
    told = (struct.pack("=HH", 4 + len(data), kind) + data for kind, data in attributes)
    return message(20, body + b"".join(map(padded, told)))


DONE = message(3, struct.pack("=i", 0))
V6ONLY = 11
# Of another kind; inside it stands what reads like an attribute that says V6ONLY.
DECOY = (8, struct.pack("=HH", 5, V6ONLY) * 4)


def test_what_an_answer_says_is_read_message_by_message_and_to_its_end(monkeypatch):
    kernel = Netlink(
        listening("127.0.0.1", 41, (8, b"\1")) + listening("127.0.0.2", 42),
        listening("0.0.0.0", 43, (8, b"\1"), (17, b"abc")) + DONE,
        listening("::", 44, DECOY)
        + listening("::", 45, DECOY, (V6ONLY, b"\1"))
        + listening("::", 46, (8, b"\1"), (V6ONLY, b"\1"), (17, b"abc"))
        + listening("::", 47, (V6ONLY, b"\0"), (8, b"\1"))
        + listening("::", 48),
        DONE,
    )
    monkeypatch.setattr("healer.host.sockdiag.socket.socket", lambda *_: kernel)
    found = by_netlink(8080)
    monkeypatch.undo()
    assert [(one.address, one.inode, one.dual_stack) for one in found] == [
        ("127.0.0.1", 41, False),
        ("127.0.0.2", 42, False),
        ("0.0.0.0", 43, False),
        ("::", 44, True),
        ("::", 45, False),
        ("::", 46, False),
        ("::", 47, True),
        ("::", 48, True),
    ]
    assert {(one.port, one.uid) for one in found} == {(8080, 33)}


def test_an_error_in_the_midst_of_an_answer_is_raised(monkeypatch):
    error = message(2, struct.pack("=i", -errno.ENOMEM))
    kernel = Netlink(listening("127.0.0.1", 41) + error)
    monkeypatch.setattr("healer.host.sockdiag.socket.socket", lambda *_: kernel)
    with pytest.raises(OSError, match=os.strerror(errno.ENOMEM)) as refused:
        by_netlink(8080)
    monkeypatch.undo()
    assert refused.value.errno == errno.ENOMEM


# --- what the kernel refuses ---------------------------------------------------------------------


def test_a_kernel_that_has_no_ipv6_tells_of_ipv4(server_socket, monkeypatch):
    server = server_socket()
    # A family of which it has no listeners: that is what it says of IPv6 where there is none.
    monkeypatch.setattr("healer.host.sockdiag.socket.AF_INET6", socket.AF_AX25)
    assert [found.address for found in by_netlink(port_of(server))] == ["127.0.0.1"]


def test_whatever_else_the_kernel_refuses_is_raised_with_its_number(server_socket, monkeypatch):
    server = server_socket()
    beyond_all_families = 200
    monkeypatch.setattr("healer.host.sockdiag.socket.AF_INET6", beyond_all_families)
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)) as refused:
        by_netlink(port_of(server))
    assert refused.value.errno == errno.EINVAL
    # Then the tables of /proc are asked.
    assert [found.address for found in listen_sockets(port_of(server))] == ["127.0.0.1"]


def test_where_nobody_says_who_listens_it_is_not_taken_for_nobody(monkeypatch):
    def hide(path: str) -> bytes:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr("healer.host.sockdiag.socket.socket", refuse)
    monkeypatch.setattr(procfs, "read", hide)
    with pytest.raises(HostError) as refused:
        listen_sockets(8080)
    monkeypatch.undo()
    assert str(refused.value) == (
        "cannot list the listeners of port 8080: netlink says Operation not permitted, "
        "/proc/net says Permission denied"
    )
    assert refused.value.errno == errno.EACCES


# --- what /proc does not say ---------------------------------------------------------------------


@pytest.mark.parametrize(("default", "dual_stack"), [("0\n", True), ("1\n", False)])
def test_an_ipv6_wildcard_of_proc_is_as_the_machine_makes_them(
    default, dual_stack, server_socket, monkeypatch, tmp_path
):
    (tmp_path / "bindv6only").write_text(default)
    monkeypatch.setattr(sockdiag, "_BINDV6ONLY", tmp_path / "bindv6only")
    (found,) = by_proc(port_of(server_socket("::")))
    assert (found.family, found.address, found.dual_stack) == (6, "::", dual_stack)


def test_a_machine_that_has_no_ipv6_has_only_the_table_of_ipv4(server_socket, monkeypatch):
    server = server_socket()
    monkeypatch.setattr(sockdiag, "_BINDV6ONLY", Path("/nonexistent"))
    assert [found.address for found in by_proc(port_of(server))] == ["127.0.0.1"]


def test_the_table_of_proc_is_read_line_by_line(monkeypatch):
    tables = {
        "/proc/net/tcp": (
            "  sl  local_address rem_address   st ...\n"
            "   0: 0100007F:1F90 00000000:0000 0A 0:0 00:0 0 33 0 41 1\n"
            "   1: 0100007F:1F90 0200007F:0A0A 01 0:0 00:0 0 33 0 42 1\n"
            "   2: 00000000:1F91 00000000:0000 0A 0:0 00:0 0 33 0 43 1\n"
            "   3: 00000000:1F90 00000000:0000 0A 0:0 00:0 0 34 0 44 1\n"
        ),
        "/proc/net/tcp6": (
            "  sl  local_address rem_address   st ...\n"
            "   0: B80D0120000000000000000001000000:1F90 0:0 0A 0:0 00:0 0 35 0 45 1\n"
        ),
    }
    if struct.pack("=H", 1) != b"\1\0":
        pytest.skip("the table of a machine of the other byte order")
    monkeypatch.setattr(procfs, "read", lambda path: tables[str(path)].encode())
    assert by_proc(8080) == (
        ListenSocket(4, "127.0.0.1", 8080, 41, 33, dual_stack=False),
        ListenSocket(4, "0.0.0.0", 8080, 44, 34, dual_stack=False),
        ListenSocket(6, "2001:db8::1", 8080, 45, 35, dual_stack=False),
    )
