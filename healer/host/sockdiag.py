"""The kernel's table of TCP sockets that listen on a port.

Asked by netlink (`sock_diag(7)`, linux/inet_diag.h): the kernel then looks at listening sockets
only, and hands out those of one port. Where netlink is not to be had (no tcp_diag module, a seccomp
filter), /proc/net/tcp and tcp6 are read, which list every connection of the machine.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final

from healer.errors import HostError
from healer.host import procfs

__all__ = ["ListenSocket", "by_netlink", "by_proc", "listen_sockets"]

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_REQUEST_DUMP: Final = 0x1 | 0x300  # NLM_F_REQUEST | NLM_F_DUMP
_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_TCP_LISTEN: Final = 10
_SKV6ONLY: Final = 11  # INET_DIAG_SKV6ONLY
_HEADER: Final = struct.Struct("=IHHII")  # nlmsghdr
_REQUEST: Final = struct.Struct("=BBBxI2s2s16s16sIQ")  # inet_diag_req_v2 with inet_diag_sockid
_ANSWER: Final = struct.Struct("=4x2s2x16s16xIQ12xII")  # inet_diag_msg
_ATTRIBUTE: Final = struct.Struct("=HH")
_BUFFER: Final = 65536
_ANSWER_WITHIN: Final = 1.0  # seconds; the kernel answers inside the call that asks
_BINDV6ONLY: Final = Path("/proc/sys/net/ipv6/bindv6only")


@dataclass(frozen=True, slots=True)
class ListenSocket:
    """A socket in LISTEN state; `family` is 4 or 6.

    `dual_stack`: an IPv6 wildcard that also takes IPv4. An IPv4-mapped address is written as the
    IPv4 address that it takes.
    """

    family: int
    address: str
    port: int
    inode: int
    uid: int
    dual_stack: bool


def listen_sockets(port: int) -> tuple[ListenSocket, ...]:
    """Every TCP socket that listens on `port` in our network namespace.

    Raises:
        HostError: neither netlink nor /proc would say; which is not the same as none.
    """
    try:
        return by_netlink(port)
    except OSError as refusal:
        try:
            return by_proc(port)
        except OSError as error:
            raise HostError(
                f"cannot list the listeners of port {port}: netlink says {refusal.strerror}, "
                f"/proc/net says {error.strerror}",
                errno=error.errno,
            ) from error


def by_netlink(port: int) -> tuple[ListenSocket, ...]:
    """The sockets as `sock_diag` tells them; OSError where it does not."""
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG
    ) as netlink:
        netlink.settimeout(_ANSWER_WITHIN)
        found = list(_dump(netlink, socket.AF_INET, port))
        try:
            found += _dump(netlink, socket.AF_INET6, port)
        except OSError as error:
            if error.errno != errno.ENOENT:  # no IPv6 in this kernel: then nothing listens on it
                raise
    return tuple(found)


def _dump(netlink: socket.socket, family: int, port: int) -> Iterator[ListenSocket]:
    request = _REQUEST.pack(
        family,
        socket.IPPROTO_TCP,
        0,
        1 << _TCP_LISTEN,
        port.to_bytes(2, "big"),
        b"",
        b"",
        b"",
        0,
        0xFFFFFFFFFFFFFFFF,  # INET_DIAG_NOCOOKIE
    )
    header = _HEADER.pack(
        _HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, family, 0
    )
    netlink.send(header + request)
    while True:
        answer = netlink.recv(_BUFFER)
        offset = 0
        while offset < len(answer):
            length, kind, *_ = _HEADER.unpack_from(answer, offset)
            body = answer[offset + _HEADER.size : offset + length]
            offset += -(-length // 4) * 4
            if kind == _NLMSG_DONE:
                return
            if kind == _NLMSG_ERROR:
                number = -int.from_bytes(body[:4], sys.byteorder, signed=True)
                raise OSError(number, os.strerror(number))
            yield _parse(body)


def _parse(body: bytes) -> ListenSocket:
    port, source, _interface, _cookie, uid, inode = _ANSWER.unpack_from(body)
    six = body[0] == socket.AF_INET6
    v6only = False
    offset = _ANSWER.size
    while offset + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        if kind == _SKV6ONLY:
            v6only = bool(body[offset + _ATTRIBUTE.size])
        offset += max(-(-length // 4) * 4, _ATTRIBUTE.size)
    return _socket(six, source, int.from_bytes(port, "big"), inode, uid, v6only=v6only)


def by_proc(port: int) -> tuple[ListenSocket, ...]:
    """The sockets out of /proc/net; OSError where it may not be read.

    It does not say which IPv6 wildcard is for IPv6 only: the machine's default is assumed.
    """
    found = list(_table("/proc/net/tcp", port, six=False, v6only=False))
    try:
        v6only = _BINDV6ONLY.read_text().strip() == "1"
        found += _table("/proc/net/tcp6", port, six=True, v6only=v6only)
    except FileNotFoundError:
        pass  # no IPv6 in this kernel: then nothing listens on it
    return tuple(found)


def _table(path: str, port: int, *, six: bool, v6only: bool) -> Iterator[ListenSocket]:
    listening = f"{_TCP_LISTEN:02X}"
    for line in procfs.read(path).decode().splitlines()[1:]:
        fields = line.split()
        address, _, hexadecimal = fields[1].partition(":")
        if fields[3] != listening or int(hexadecimal, 16) != port:
            continue
        # Words of 32 bits, each written as a number of this machine's byte order.
        words = [int(address[at : at + 8], 16) for at in range(0, len(address), 8)]
        source = b"".join(word.to_bytes(4, sys.byteorder) for word in words)
        yield _socket(six, source, port, int(fields[9]), int(fields[7]), v6only=v6only)


def _socket(
    six: bool, source: bytes, port: int, inode: int, uid: int, *, v6only: bool
) -> ListenSocket:
    wildcard = False
    if six:
        address = IPv6Address(source)
        wildcard = address.is_unspecified
        written = str(address.ipv4_mapped or address)
    else:
        written = str(IPv4Address(source[:4]))
    return ListenSocket(6 if six else 4, written, port, inode, uid, wildcard and not v6only)
