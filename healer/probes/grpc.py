"""gRPC as a probe speaks it: one `grpc.health.v1.Health/Check` over HTTP/2 with prior knowledge.

The formats are those of grpc/grpc, doc/PROTOCOL-HTTP2.md, and of grpc/grpc-proto,
grpc/health/v1/health.proto: `HealthCheckRequest { string service = 1; }` is answered with
`HealthCheckResponse { ServingStatus status = 1; }`.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import H2Error

from healer.probes.connection import Connection
from healer.probes.http import BadResponseError, NoResponseError

__all__ = ["SERVING", "Answer", "HealthCheck"]

SERVING: Final = 1
"""Of ServingStatus; UNKNOWN is 0, NOT_SERVING 2, SERVICE_UNKNOWN 3."""

_SERVICE: Final = b"\x0a"  # field 1, a text; its length follows
_ANSWERS: Final = MappingProxyType(
    {b"": 0, b"\x08\x00": 0, b"\x08\x01": 1, b"\x08\x02": 2, b"\x08\x03": 3}
)
"""Every HealthCheckResponse there is: field 1, a number, left out where it is 0."""

_LIMIT: Final = 64 * 1024
_UNCOMPRESSED: Final = b"\0"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server says. `serving` is None where it gave no such message, and then `status` is
    the number with which it ended the call instead: gRPC's, or HTTP's where that is not 200."""

    serving: int | None
    status: int | None


class HealthCheck:
    """One call on a fresh connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._http = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        self._headers: dict[bytes, bytes] = {}
        self._message = b""
        self._ended = False

    async def ask(self, *, host: str, service: str, agent: str) -> Answer:
        """How `service` is doing; the empty text is the server as a whole.

        Raises:
            NoResponseError: the server closed without a byte.
            BadResponseError: what came is not an answer to such a call, or has no end.
            OSError: the connection broke.
        """
        try:
            self._call(host, service, agent)
            await self._connection.send(self._http.data_to_send())
            await self._read()
        except H2Error as error:
            raise BadResponseError(str(error)) from error
        return self._answer()

    def _call(self, host: str, service: str, agent: str) -> None:
        name = service.encode()
        request = _SERVICE + bytes([len(name)]) + name if name else b""
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/grpc.health.v1.Health/Check"),
            (":authority", host),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", agent),
        ]
        self._http.initiate_connection()
        stream = self._http.get_next_available_stream_id()
        self._http.send_headers(stream, headers)
        framed = _UNCOMPRESSED + len(request).to_bytes(4, "big") + request
        self._http.send_data(stream, framed, end_stream=True)

    async def _read(self) -> None:
        received = 0
        while not self._ended:
            if received > _LIMIT:
                raise BadResponseError(f"no end of the answer in {_LIMIT} bytes")
            chunk = await self._connection.receive()
            if not chunk and not received:
                raise NoResponseError
            if not chunk:
                raise BadResponseError("it closed in mid-answer")
            received += len(chunk)
            for event in self._http.receive_data(chunk):
                self._take(event)
            if reply := self._http.data_to_send():  # acknowledgements
                await self._connection.send(reply)

    def _take(self, event: Event) -> None:
        if isinstance(event, ResponseReceived | TrailersReceived):
            self._headers.update(event.headers or ())
        elif isinstance(event, DataReceived):
            self._message += event.data or b""
        elif isinstance(event, StreamEnded):
            self._ended = True
        elif isinstance(event, StreamReset | ConnectionTerminated):
            raise BadResponseError("it ended the call without an answer")

    def _answer(self) -> Answer:
        code = _number(self._headers.get(b":status"))
        if code != 200:
            return Answer(None, code)
        status = _number(self._headers.get(b"grpc-status"))
        if status != 0:
            return Answer(None, status)
        size, message = self._message[1:5], self._message[5:]
        whole = self._message[:1] == _UNCOMPRESSED and len(message) == int.from_bytes(size, "big")
        if not whole or message not in _ANSWERS:
            raise BadResponseError("it is no HealthCheckResponse")
        return Answer(_ANSWERS[message], 0)

    async def finish(self) -> None:
        """Say goodbye. The verdict is out: what goes wrong here changes nothing."""
        try:
            self._http.close_connection()
        except H2Error:
            return
        await self._connection.leave(self._http.data_to_send())


def _number(text: bytes | None) -> int | None:
    return int(text) if text is not None and text.isdigit() and len(text) <= 3 else None
