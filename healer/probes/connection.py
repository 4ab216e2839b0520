"""One TCP connection of a probe: non-blocking, and closed so that it leaves nothing behind.

Every probe ends with a reset (SO_LINGER 0). The side that closes first keeps the connection in
TIME_WAIT for a minute: were that the component, which closes first after `Connection: close`, its
port could not be bound again by a server without SO_REUSEADDR; were it us, our local port might be
the next component's. After a reset neither side keeps anything. The two uses:

- tcp: with TCP_QUICKACK off the handshake's last acknowledgement is held back, so that the reset
  overtakes it and the server's `accept` never returns (as HAProxy's checks do): no log noise, and
  no back-log that fills up while a server hangs.
- http: the reset comes after the whole response, when the server has nothing left to write.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from typing import Final, Self

from healer.probes.address import Address

__all__ = ["Connection"]

_RESET: Final = struct.pack("ii", 1, 0)
_CHUNK: Final = 16 * 1024
_LEAVE_PATIENCE: Final = 0.05
_LEAVE_LIMIT: Final = 64 * 1024


class Connection:
    """A connection to `address`:`port`; use it as a context manager. All errors are OSError."""

    def __init__(self, address: Address, port: int, *, greet: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._address = address
        self._peer = address.sockaddr(port)
        self._socket = socket.socket(address.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        if not greet:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    async def open(self) -> None:
        """Connect; raises ECONNREFUSED as well where the connection met only itself."""
        code = self._socket.connect_ex(self._peer)
        if code == errno.EINPROGRESS:
            # On loopback the answer is there already: asking again saves a turn of the loop.
            code = self._socket.connect_ex(self._peer)
        if code in {errno.EINPROGRESS, errno.EALREADY}:
            await self._writable()
            code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code == errno.EADDRNOTAVAIL and not self._assignable():
            # No address here (IPv6 switched off), which is not the same as no free local port.
            code = errno.ENETUNREACH
        if code not in {0, errno.EISCONN}:
            raise OSError(code, os.strerror(code))
        # A port of the ephemeral range with no listener can be connected to itself (simultaneous
        # open): it looks like a listener and is none.
        if self._socket.getsockname() == self._socket.getpeername():
            raise OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))

    async def send(self, payload: bytes) -> None:
        """Send all of `payload`."""
        await self._loop.sock_sendall(self._socket, payload)

    async def receive(self) -> bytes:
        """What has arrived; empty at the end."""
        return await self._loop.sock_recv(self._socket, _CHUNK)

    async def leave(self, farewell: bytes) -> None:
        """Send `farewell` and let the peer take its own leave, within a bound on time and bytes, so
        that it meets no reset while it does. Never raises."""
        try:
            async with asyncio.timeout(_LEAVE_PATIENCE):
                await self.send(farewell)
                received = 0
                while received < _LEAVE_LIMIT and (chunk := await self.receive()):
                    received += len(chunk)
        except OSError:  # TimeoutError is one
            return

    async def _writable(self) -> None:
        ready = self._loop.create_future()
        descriptor = self._socket.fileno()
        self._loop.add_writer(descriptor, _resolve, ready)
        try:
            await ready
        finally:
            self._loop.remove_writer(descriptor)

    def _assignable(self) -> bool:
        """Whether this machine has an address to reach the peer from (no packet is sent)."""
        with socket.socket(self._address.family, socket.SOCK_DGRAM) as test:
            return test.connect_ex(self._peer) == 0


def _resolve(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
