"""Whether we can still see: a connection to ourselves."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

from healer.probes.address import Address
from healer.probes.connection import Connection

__all__ = ["Vantage"]

_LOOPBACK: Final = Address(socket.AF_INET, "127.0.0.1")
_BOUND: Final = 0.25
_VALID: Final = 1.0


class Vantage:
    """A canary on loopback: a listening socket of our own, and a connection to it.

    The socket lives only as long as one look. Kept open it would hold a port that the kernel chose,
    and a component that is down at that moment may be the one to whom the port belongs.
    """

    def __init__(self, *, bound: float = _BOUND, valid: float = _VALID) -> None:
        """`bound` is how long one look may take, `valid` how long its answer is used again."""
        self._bound = bound
        self._valid = valid
        self._lock = asyncio.Lock()
        self._looked: float | None = None
        self._lost = False

    async def lost(self) -> bool:
        """Whether a connection on loopback fails even when the listener is our own."""
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if self._looked is None or now - self._looked > self._valid:
                self._lost = not await self._connects()
                self._looked = now
            return self._lost

    async def _connects(self) -> bool:
        try:
            with socket.socket(_LOOPBACK.family, socket.SOCK_STREAM) as listener:
                listener.bind(_LOOPBACK.sockaddr(0))
                listener.listen(1)
                port = listener.getsockname()[1]
                with Connection(_LOOPBACK, port, greet=False) as canary:
                    async with asyncio.timeout(self._bound):
                        await canary.open()
        except OSError:  # TimeoutError is one
            return False
        return True
