"""The vantage check: can we reach anything at all, namely ourselves?"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from typing import Final

from healer.domain.playbook import CheckStatus
from healer.host.checks.reading import Facts, Look, Reading

__all__ = ["localhost_reachable"]

# Loopback answers within the system call; its first retransmission would come after a second.
PATIENCE: Final = 0.5
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


async def localhost_reachable(look: Look) -> Reading:
    """Connect to a listening socket of our own on each loopback address."""
    patience = min(PATIENCE, look.timeout / 2)
    four = await _reach(socket.AF_INET, "127.0.0.1", patience)
    six = await _reach(socket.AF_INET6, "::1", patience)
    facts: Facts = {"ipv4": four, "ipv6": six}
    if four != "ok":
        return Reading(CheckStatus.FAIL, facts)
    return Reading(CheckStatus.OK if six in {"ok", "absent"} else CheckStatus.WARN, facts)


async def _reach(family: socket.AddressFamily, address: str, patience: float) -> str:
    """`ok`, `absent` (no such address here), `timed out`, or the name of the error."""
    loop = asyncio.get_running_loop()
    try:
        with socket.socket(family) as server, socket.socket(family) as client:
            server.bind((address, 0))
            server.listen(1)
            # A reset leaves no TIME_WAIT behind: a check must not use up what it counts.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            client.setblocking(False)
            async with asyncio.timeout(patience):
                await loop.sock_connect(client, server.getsockname()[:2])
    except TimeoutError:
        return "timed out"
    except OSError as error:
        if error.errno in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT} and ":" in address:
            return "absent"
        return errno.errorcode.get(error.errno or 0, "error")
    return "ok"
