"""TLS as a probe speaks it: one handshake, and a polite end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import ssl
from typing import Final

from healer.probes.connection import Connection
from healer.probes.http import BadResponseError, NoResponseError
from healer.probes.trouble import descriptor_left

__all__ = ["Contexts", "Handshake"]

_LIMIT: Final = 256 * 1024
"""Bytes of a handshake; the largest chain of certificates that OpenSSL takes has 100 KiB."""


class Contexts:
    """What handshakes are made with: one context for each of the two ways, made when it is first
    asked for, since reading the system's authorities takes longer than a probe."""

    def __init__(self) -> None:
        self._made: dict[bool, ssl.SSLContext] = {}

    async def get(self, *, verify: bool) -> ssl.SSLContext:
        """The context that verifies chain and name against the system's authorities, or the one
        that takes whatever answers, old and weak as it may be.

        Raises:
            OSError: it cannot be made: our own trouble.
        """
        if verify not in self._made:
            context = await asyncio.to_thread(ssl.create_default_context) if verify else _lenient()
            if verify and not descriptor_left():  # the authorities could not be read
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            self._made[verify] = context
        return self._made[verify]


def _lenient() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


class Handshake:
    """One handshake on a fresh connection. Nothing is said afterwards but goodbye."""

    def __init__(self, connection: Connection, context: ssl.SSLContext, name: str) -> None:
        """`name` is what the server is called: told to it where it is no address, and looked for in
        its certificate where `context` verifies."""
        self._connection = connection
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)

    async def complete(self) -> None:
        """Shake hands.

        Raises:
            NoResponseError: the server closed without a byte.
            BadResponseError: what came is not TLS, has no end, or the certificate is refused.
            OSError: the connection broke, or the authorities could not be read.
        """
        received = 0
        while not await self._proceed():
            if received > _LIMIT:
                raise BadResponseError(f"no end of the handshake in {_LIMIT} bytes")
            chunk = await self._connection.receive()
            if not chunk:
                raise (
                    BadResponseError("it closed in mid-handshake") if received else NoResponseError
                )
            received += len(chunk)
            self._incoming.write(chunk)

    async def _proceed(self) -> bool:
        """Go as far as what has been received allows; whether that is the end."""
        done = False
        try:
            self._tls.do_handshake()
            done = True
        except ssl.SSLWantReadError:
            pass  # what there is to say is said below
        except ssl.SSLCertVerificationError as error:
            if not descriptor_left():
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE)) from error
            raise BadResponseError(str(error)) from error
        except ssl.SSLError as error:  # an OSError whose number is OpenSSL's own
            raise BadResponseError(str(error)) from error
        if self._outgoing.pending:
            await self._connection.send(self._outgoing.read())
        return done

    async def finish(self) -> None:
        """Say goodbye. The verdict is out: what goes wrong here changes nothing."""
        with contextlib.suppress(ssl.SSLError):  # the server's own goodbye is still to come
            self._tls.unwrap()
        await self._connection.leave(self._outgoing.read())
