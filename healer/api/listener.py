"""The socket that the healer itself listens on: had before any component is touched."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from typing import Final

from healer.errors import HostError

__all__ = ["ListenError", "listen_on"]

_BACKLOG: Final = 128


class ListenError(HostError):
    """The healer itself cannot listen where it is told to."""


def listen_on(host: str, port: int) -> socket.socket:
    """A socket that listens on the loopback address `host`; ours alone from now on.

    Raises:
        ListenError: `host` is no loopback address, or the port cannot be had.
    """
    address = "127.0.0.1" if host == "localhost" else host
    try:
        loopback = ipaddress.ip_address(address).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ListenError(
            f"cannot listen on {host}: everybody on the network could make the healer act; "
            "allowed: a loopback address; tokens and TLS come with a later version"
        )
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        # At once: with SO_REUSEADDR two could bind, but only one can listen.
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        advice = "; allowed: a free port in 'listen'" if error.errno == errno.EADDRINUSE else ""
        why = os.strerror(error.errno) if error.errno else str(error)
        raise ListenError(
            f"cannot listen on {host} port {port}: {why}{advice}", errno=error.errno
        ) from error
    return listener
