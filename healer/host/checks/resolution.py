"""What the component's host stands for: a literal at once, a name through the system's resolver."""

from __future__ import annotations

import socket
from typing import Final

from healer.domain.playbook import CheckStatus
from healer.host.checks.reading import Facts, Look, Reading

__all__ = ["addresses", "is_local", "literal", "name_resolution"]

SHOWN: Final = 16

# A resolver that needs longer is in trouble itself, and a restart may be waiting for these checks.
PATIENCE: Final = 0.5


async def name_resolution(look: Look) -> Reading:
    """Whether the component's host is an address or resolves to some."""
    host = look.spec.host
    given = literal(host)
    if given is not None:
        return Reading(CheckStatus.OK, {"host": host, "literal": True, "addresses": [given]})
    try:
        found = await addresses(look)
    except socket.gaierror as error:
        facts: Facts = {"host": host, "literal": False, "error": error_name(error.errno)}
        facts["eai"] = error.errno
        return Reading(CheckStatus.FAIL, facts)
    return Reading(
        CheckStatus.OK, {"host": host, "literal": False, "addresses": list(found[:SHOWN])}
    )


async def addresses(look: Look) -> tuple[str, ...]:
    """The addresses of the component's host, in the resolver's order.

    Raises:
        socket.gaierror: it has none.
        TimeoutError: the resolver did not answer in time.
    """
    host = look.spec.host
    given = literal(host)
    if given is not None:
        return (given,)

    def resolve() -> tuple[str, ...]:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))

    return await look.threads.run(f"resolve {host}", resolve, min(PATIENCE, look.timeout))


def literal(host: str) -> str | None:
    """`host` in the system's own spelling if it is an address; None if it is a name."""
    try:
        found = socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except (socket.gaierror, UnicodeError):
        return None
    return str(found[0][4][0])


def is_local(address: str) -> bool:
    """Whether `address` is this machine's, proved by binding to it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as endpoint:
            endpoint.bind((address, 0))
    except (OSError, UnicodeError):
        return False
    return True


def error_name(number: int | None) -> str:
    """The resolver's name for its error, such as EAI_NONAME."""
    names = (name for name in dir(socket) if name.startswith("EAI_"))
    return next((name for name in names if getattr(socket, name) == number), "EAI_UNKNOWN")
