"""From a host's text to socket addresses, without blocking the event loop.

Literals are never looked up. Names are, each by one thread of its own at a time: a resolver that
hangs must not use up the threads that everything else shares, nor hold up the healer's exit.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

__all__ = ["Address", "Resolver", "ResolverBusyError", "authority", "is_local", "literal"]

_LOOKUPS_AT_ONCE: Final = 16
_DISCARD: Final = 9  # any port does


class ResolverBusyError(Exception):
    """All look-up threads hang in other look-ups: this one was not made."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to connect: an address family and the address without its port."""

    family: socket.AddressFamily
    host: str
    scope: int = 0

    def sockaddr(self, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
        """What `connect` and `bind` take."""
        if self.family is socket.AF_INET6:
            return (self.host, port, 0, self.scope)
        return (self.host, port)


def authority(host: str, port: int) -> str:
    """`127.0.0.1:80`, `[::1]:80`; a zone (`%eth0`) means something on this machine only."""
    bare = host.partition("%")[0]
    return f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}"


def _look_up(host: str, flags: int = 0) -> tuple[Address, ...]:
    found: list[Address] = []
    for family, _, _, _, sockaddr in socket.getaddrinfo(
        host, None, type=socket.SOCK_STREAM, flags=flags
    ):
        if family is socket.AF_INET6 and len(sockaddr) == 4:
            name, scope = str(sockaddr[0]).partition("%")[0], sockaddr[3]
            found.append(Address(family, name, scope))
        elif family is socket.AF_INET:
            found.append(Address(family, str(sockaddr[0])))
    return tuple(dict.fromkeys(found))


def literal(host: str) -> Address | None:
    """The address that `host` spells out; None when it is a name. Never asks anybody."""
    try:
        return next(iter(_look_up(host, socket.AI_NUMERICHOST)), None)
    except (socket.gaierror, UnicodeError):
        return None


class Resolver:
    """Looks names up; callers that want the same name share one look-up."""

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Future[tuple[Address, ...]]] = {}

    async def addresses(self, host: str) -> tuple[Address, ...]:
        """The addresses of `host`, in the order in which they should be tried.

        Raises:
            socket.gaierror, UnicodeError: `host` has no address, or cannot be a name.
            OSError: the look-up could not be made.
            ResolverBusyError: too many look-ups hang.
        """
        spelled = literal(host)
        if spelled is not None:
            return (spelled,)
        lookup = self._running.get(host)
        if lookup is None:
            lookup = self._start(host)
        return await asyncio.shield(lookup)

    def _start(self, host: str) -> asyncio.Future[tuple[Address, ...]]:
        if len(self._running) >= _LOOKUPS_AT_ONCE:
            raise ResolverBusyError
        loop = asyncio.get_running_loop()
        lookup: asyncio.Future[tuple[Address, ...]] = loop.create_future()

        def finish(result: tuple[Address, ...] | Exception) -> None:
            self._running.pop(host, None)
            if isinstance(result, Exception):
                lookup.set_exception(result)
                # Every caller may have given up by now; nobody else needs to hear of it.
                lookup.exception()
            else:
                lookup.set_result(result)

        def work() -> None:
            result: tuple[Address, ...] | Exception
            try:
                result = _look_up(host)
            except (OSError, UnicodeError) as error:
                result = error
            try:
                loop.call_soon_threadsafe(finish, result)
            except RuntimeError:
                return  # the loop was closed meanwhile: nobody waits

        self._running[host] = lookup
        try:
            threading.Thread(target=work, name=f"resolve {host}", daemon=True).start()
        except RuntimeError as error:  # "can't start new thread"
            del self._running[host]
            raise OSError(errno.EAGAIN, str(error)) from error
        return lookup


def is_local(address: Address) -> bool:
    """Whether `address` is this machine's own. Sends nothing: a route is chosen, and where the
    destination is ours, it is the source as well.

    Raises:
        OSError: there is no descriptor left for the question.
    """
    named = ip_address(address.host)
    if named.is_loopback or named.is_unspecified:
        return True
    with socket.socket(address.family, socket.SOCK_DGRAM) as test:
        routed = test.connect_ex(address.sockaddr(_DISCARD)) == 0
        return routed and test.getsockname()[0] == test.getpeername()[0]
