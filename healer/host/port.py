"""Whether a port can be bound, found out by binding it; and ports kept for us."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Iterable, Sequence
from typing import Final

from healer.domain.spec import PortRange
from healer.errors import HostError
from healer.host.sockdiag import listen_sockets
from healer.ports import Bind

__all__ = ["PortReservation", "bind_test", "reserve", "wait_bindable", "worst"]

_FIRST_PAUSE: Final = 0.002
_LONGEST_PAUSE: Final = 0.05
_PAUSE_GROWTH: Final = 1.5
_RESULTS: Final[dict[int | None, str]] = {
    errno.EADDRINUSE: "in_use",
    errno.EACCES: "denied",
    errno.EPERM: "denied",
    errno.EADDRNOTAVAIL: "not_local",
    errno.EAFNOSUPPORT: "not_local",
    errno.EINVAL: "not_local",  # a link-local address without its interface
    errno.ENODEV: "not_local",
}
_FREE: Final = Bind("free")
_WILDCARDS: Final = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}  # noqa: S104 - see bind_test

Address = tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int]]

# Process-wide as ports are machine-wide: two healers in one process share them as well.
_reserved: set[int] = set()


async def bind_test(host: str, port: int) -> Bind:
    """Bind `host`:`port` as a server with SO_REUSEADDR would, and let go at once.

    The address that is probed is not always the one that the component binds: one that is probed
    on 127.0.0.1 usually binds the wildcard, which also collides with what sits on any *other*
    address (a client whose own port happens to be ours, a socket that is bound and not listening).
    So both are bound, and the port is in use when either cannot be, with one exception: a wildcard
    that fails while another address of the machine *listens* on this port is a shared port by
    design (a stub resolver on 127.0.0.53, a container published on one address), and only the
    probed address counts.

    TIME_WAIT and accepted connections of a former server that set SO_REUSEADDR do not count, nor
    does a reservation. A name is in use when any of its addresses is; one that does not resolve, or
    resolves to other machines only, is not local.
    """
    return worst([_try(address, port) for address in await _resolve(host, port)])


async def wait_bindable(host: str, port: int, *, timeout: float) -> Bind:
    """Try until the port is not in use, `timeout` seconds at most; the last result.

    Asked at once, and then at growing intervals, since the kernel has no event for it. `denied` and
    `not_local` are returned at once: waiting does not cure them.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    addresses = await _resolve(host, port)
    pause = _FIRST_PAUSE
    while True:
        bind = worst([_try(address, port) for address in addresses])
        left = deadline - loop.time()
        if bind.result != "in_use" or left <= 0:
            return bind
        await asyncio.sleep(min(pause, left))
        pause = min(pause * _PAUSE_GROWTH, _LONGEST_PAUSE)


async def _resolve(host: str, port: int) -> list[Address]:
    """Numeric addresses without asking anybody; names through the resolver, off the loop."""
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        pass
    else:
        if version == 4:
            return [(socket.AF_INET, (host, port))]
        if "%" not in host:
            return [(socket.AF_INET6, (host, port, 0, 0))]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    # The third form of an address, of bytes, is for an IPv6 that Python was built without.
    return [
        (family, (str(address[0]), int(address[1]), *address[2:]))
        for family, _, _, _, address in found
        if family in _WILDCARDS
    ]


def worst(binds: Sequence[Bind]) -> Bind:
    """What the addresses of one name say together: in use where any of them is."""
    for result in ("in_use", "denied", "free"):
        for bind in binds:
            if bind.result == result:
                return bind
    return binds[0] if binds else Bind("not_local")


def _try(address: Address, port: int) -> Bind:
    family, place = address
    bind = _bind(family, place)
    wildcard = _WILDCARDS[family]
    if not bind.free or place[0] == wildcard:
        return bind
    everywhere = _bind(family, (wildcard, port))
    if everywhere.result != "in_use" or any(
        listening.address not in _WILDCARDS.values() for listening in listen_sockets(port)
    ):
        return bind
    return everywhere


def _bind(family: socket.AddressFamily, place: tuple[str, int] | tuple[str, int, int, int]) -> Bind:
    try:
        with _socket(family) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(place)
    except OSError as error:
        return Bind(_result(error, place), error.errno)
    return _FREE


def _socket(family: socket.AddressFamily) -> socket.socket:
    created = socket.socket(family)
    if family == socket.AF_INET6:
        created.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    return created


def _result(error: OSError, place: Sequence[object]) -> str:
    try:
        return _RESULTS[error.errno]
    except KeyError:
        raise HostError(
            f"cannot try to bind {place[0]} port {place[1]}: {error.strerror}", errno=error.errno
        ) from error


class PortReservation:
    """See `healer.ports.Reservation`: bound on every address, IPv4 and IPv6, and not listening."""

    def __init__(self, bound: socket.socket, port: int) -> None:
        self._bound = bound
        self._port = port
        _reserved.add(port)

    @property
    def port(self) -> int:
        return self._port

    def release(self) -> None:
        if self._bound.fileno() >= 0:
            self._bound.close()
            _reserved.discard(self._port)


async def reserve(
    host: str, ports: PortRange, *, excluding: Sequence[int] = ()
) -> PortReservation | None:
    """Reserve the first free port of the range; None when there is none.

    Ports that nobody uses in any way come first. Where there is none, a port that only leftovers
    of closed connections occupy (TIME_WAIT, a minute long) will do for a server.
    """
    passed = {*excluding}
    candidates = [port for port in range(ports.first, ports.last + 1) if port not in passed]
    addresses = await _resolve(host, ports.first)
    for claim in (_claim_unused, _claim_reusable):
        for port in candidates:
            if port in _reserved or not _free(addresses, port):
                continue
            claimed = claim(port)
            if claimed is not None:
                return PortReservation(claimed, port)
    return None


def _free(addresses: Iterable[Address], port: int) -> bool:
    moved: list[Address] = [(family, (place[0], port, *place[2:])) for family, place in addresses]
    return worst([_try(address, port) for address in moved]).free


def _claim_unused(port: int) -> socket.socket | None:
    """Bound without SO_REUSEADDR, which fails when anybody else has the port in any way (another
    healer's reservation too); the option comes afterwards, so that a server may join."""
    return _claim(port, reusing=False)


def _claim_reusable(port: int) -> socket.socket | None:
    return _claim(port, reusing=True)


def _claim(port: int, *, reusing: bool) -> socket.socket | None:
    for family in (socket.AF_INET6, socket.AF_INET):  # the first one, dual-stack, takes both
        place = (_WILDCARDS[family], port)
        try:
            bound = _socket(family)
            try:
                if reusing:
                    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                bound.bind(place)
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            except OSError:
                bound.close()
                raise
        except OSError as error:
            if _result(error, place) != "not_local":  # IPv6 is switched off: IPv4 then
                return None
        else:
            return bound
    return None
