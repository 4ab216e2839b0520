"""HTTP/1.1 as a probe speaks it: one request, and the head of the answer."""

from __future__ import annotations

import asyncio
from typing import Final

import h11

from healer.probes.connection import Connection

__all__ = ["BadResponseError", "Exchange", "NoResponseError"]

_HEAD_LIMIT: Final = 64 * 1024
_BODY_LIMIT: Final = 64 * 1024
_BODY_PATIENCE: Final = 0.05
"""Seconds that a server is given to write its body, so that it meets no reset while it does."""


class NoResponseError(Exception):
    """The server closed without a byte."""


class BadResponseError(Exception):
    """What came is not an HTTP response, or its head has no end."""


class Exchange:
    """One request on a fresh connection. Redirects are answers, not orders."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_LIMIT)

    async def status(self, *, host: str, path: str, agent: str) -> int:
        """The status code that `host` answers to `GET path`.

        Raises:
            NoResponseError, BadResponseError: see there.
            OSError: the connection broke.
        """
        headers = [
            ("Host", host),
            ("User-Agent", agent),
            ("Accept", "*/*"),
            ("Connection", "close"),
        ]
        request = self._http.send(h11.Request(method="GET", target=path, headers=headers))
        self._http.send(h11.EndOfMessage())
        await self._connection.send(request or b"")
        try:
            return await self._read_head()
        except h11.ProtocolError as error:
            raise BadResponseError(str(error)) from error

    async def _read_head(self) -> int:
        received = 0
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Response):
                return event.status_code
            if event is h11.NEED_DATA:
                if received > _HEAD_LIMIT:
                    raise BadResponseError(f"no end of the head in {_HEAD_LIMIT} bytes")
                chunk = await self._connection.receive()
                if not chunk and not received:
                    raise NoResponseError
                received += len(chunk)
                self._http.receive_data(chunk)
            elif not isinstance(event, h11.InformationalResponse):
                raise BadResponseError(f"{event!r} instead of a response")

    async def finish(self) -> None:
        """Let the server write the rest, within a bound on time and bytes, and forget it. The
        verdict is out: what goes wrong here changes nothing."""
        try:
            if not self._read_body(None):
                async with asyncio.timeout(_BODY_PATIENCE):
                    received = 0
                    complete = False
                    while not complete and received < _BODY_LIMIT:
                        chunk = await self._connection.receive()
                        received += len(chunk)
                        complete = self._read_body(chunk) or not chunk
        except (OSError, h11.ProtocolError):
            return

    def _read_body(self, chunk: bytes | None) -> bool:
        """Whether the response is complete, with `chunk`."""
        if chunk is not None:
            self._http.receive_data(chunk)
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                return False
            if not isinstance(event, h11.Data):
                return True
