"""Whether the kernel has a way to the component's host, and from which address it would go."""

from __future__ import annotations

import errno
import os
import socket
from typing import Final

from healer.domain.playbook import CheckStatus
from healer.host.checks.reading import Facts, Look, Reading, unknown
from healer.host.checks.resolution import addresses

__all__ = ["route"]

_KINDS: Final = {
    errno.ENETUNREACH: "no route",
    errno.EHOSTUNREACH: "unreachable",
    errno.EACCES: "prohibited",
    errno.EPERM: "prohibited",
    errno.EINVAL: "blackhole",
    errno.ENETDOWN: "network down",
    errno.EADDRNOTAVAIL: "no source address",
    errno.EAFNOSUPPORT: "no such address family",
}


async def route(look: Look) -> Reading:
    """Ask the routing table by connecting a datagram socket, which sends nothing.

    FAIL when no address of the host has a route, WARN when only some of them have one.
    """
    try:
        targets = await addresses(look)
    except socket.gaierror as error:
        return unknown("name not resolved", eai=error.errno)
    sources: list[str] = []
    refused: list[tuple[str, OSError]] = []
    for target in targets:
        try:
            sources.append(_source(target, look.port))
        except OSError as error:
            refused.append((target, error))
    facts: Facts = {"addresses": list(targets), "sources": sources}
    if refused:
        number = refused[0][1].errno or 0
        facts |= {
            "unroutable": [address for address, _ in refused],
            "errno": number,
            "error": errno.errorcode.get(number, str(number)),
            "kind": _KINDS.get(number, os.strerror(number)),
        }
    if not sources:
        return Reading(CheckStatus.FAIL, facts)
    return Reading(CheckStatus.WARN if refused else CheckStatus.OK, facts)


def _source(target: str, port: int) -> str:
    family, kind, protocol, _, address = socket.getaddrinfo(
        target, port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST
    )[0]
    with socket.socket(family, kind, protocol) as endpoint:
        endpoint.connect(address)
        return str(endpoint.getsockname()[0])
