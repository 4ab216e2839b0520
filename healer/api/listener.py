"""The socket that the healer itself listens on: had before any component is touched."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import ssl
from typing import Final

from healer.config import Config
from healer.errors import ConfigError, HostError

__all__ = ["ListenError", "check_certificate", "listen_on"]

_BACKLOG: Final = 128


class ListenError(HostError):
    """The healer itself cannot listen where it is told to."""


def check_certificate(config: Config) -> None:
    """Refuse a certificate that could not be served. Blocks on the disk.

    Raises:
        ConfigError: the certificate or its key cannot be read, or do not belong together.
    """
    if config.tls is None:
        return
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
            config.tls.certificate, config.tls.key, password=""
        )
    except (OSError, ssl.SSLError) as error:
        files = f"{config.tls.certificate} and {config.tls.key}"
        why = getattr(error, "reason", None) or error.strerror or "it cannot be read"
        raise ConfigError(
            "the certificate in tls", [f"{files}: {why}; allowed: two PEM files, key not encrypted"]
        ) from error


def listen_on(host: str, port: int, *, guarded: bool = False) -> socket.socket:
    """A socket that listens on `host`; ours alone from now on. Another address than loopback has to
    be `guarded` by tokens and TLS.

    Raises:
        ListenError: `host` is no loopback address and unguarded, or the port cannot be had.
    """
    address = "127.0.0.1" if host == "localhost" else host
    try:
        loopback = ipaddress.ip_address(address).is_loopback
    except ValueError:
        loopback = False
    if not loopback and not guarded:
        raise ListenError(
            f"cannot listen on {host}: everybody on the network could read along and try; "
            "allowed: a loopback address, or TLS (tls: {certificate: FILE, key: FILE}) together "
            "with a token (healer token create NAME --scope read)"
        )
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # By its name: asyncio sends small answers at once (TCP_NODELAY) only where it reads TCP, and a
    # kept connection would wait 40 ms for each.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
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
