"""What the standard health service says of a component, and what else may answer there."""

from __future__ import annotations

import asyncio
import errno
import sys
from collections.abc import Awaitable, Callable

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, RequestReceived, StreamEnded
from hypothesis import given, settings
from hypothesis import strategies as st

from healer.domain.probe import ProbeResult, Reason
from healer.domain.spec import ComponentSpec
from healer.probes import NetworkProber

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
SERVING = b"\0\0\0\0\x02\x08\x01"
"""A message of two bytes: `status` is 1."""

SETTINGS = b"\0\0\0\x04\0\0\0\0\0"
PING = b"\0\0\x08\x06\0\0\0\0\0" + b"\0" * 8


@pytest.fixture
def prober() -> NetworkProber:
    return NetworkProber(agent="network-healer/test")


class Health:
    """An HTTP/2 server that answers each call with these headers, message and trailers."""

    def __init__(
        self,
        message: bytes = SERVING,
        *,
        status: str = "200",
        trailers: dict[str, str] | None = None,
        reset: bool = False,
    ) -> None:
        self._message = message
        self._status = status
        self._trailers = {"grpc-status": "0"} if trailers is None else trailers
        self._reset = reset
        self.asked: list[dict[bytes, bytes]] = []
        self.sent = b""
        self.ends = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        http.initiate_connection()
        writer.write(http.data_to_send())
        while chunk := await reader.read(4096):
            self.sent += chunk
            for event in http.receive_data(chunk):
                if isinstance(event, RequestReceived):
                    self.asked.append(dict(event.headers))
                elif isinstance(event, StreamEnded):
                    self._answer(http, event.stream_id)
                elif isinstance(event, ConnectionTerminated):
                    self.ends += 1
                    writer.close()
                    return
            writer.write(http.data_to_send())

    def _answer(self, http: H2Connection, stream: int) -> None:
        if self._reset:
            http.reset_stream(stream)
            return
        http.send_headers(stream, [(":status", self._status), ("content-type", "application/grpc")])
        http.send_data(stream, self._message)
        http.send_headers(stream, list(self._trailers.items()), end_stream=True)


async def probe_of(
    prober: NetworkProber, behaviour: Serve, probe: object = "grpc", timeout: float = 30.0
) -> ProbeResult:
    """What a probe says of a server that does this to each connection."""
    server = await asyncio.start_server(behaviour, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        fields = {"name": "x", "port": port, "probe": probe, "timeout": timeout}
        return await prober.probe(ComponentSpec.model_validate(fields), port)


@pytest.mark.parametrize(
    ("message", "reason", "status"),
    [
        (SERVING, Reason.OK, 1),
        (b"\0\0\0\0\x00", Reason.BAD_STATUS, 0),  # UNKNOWN, which is left out
        (b"\0\0\0\0\x02\x08\x02", Reason.BAD_STATUS, 2),  # NOT_SERVING
        (b"\0\0\0\0\x02\x08\x03", Reason.BAD_STATUS, 3),  # SERVICE_UNKNOWN
        (b"\x01\0\0\0\x02\x08\x01", Reason.BAD_RESPONSE, None),  # compressed, which nobody asked
        (b"\0\0\0\0\x09\x08\x01", Reason.BAD_RESPONSE, None),  # shorter than it says
        (b"\0\0\0\0\x02\x08\x01\0", Reason.BAD_RESPONSE, None),  # longer
        (b"\0\0\0\0\x01x", Reason.BAD_RESPONSE, None),
        (b"", Reason.BAD_RESPONSE, None),
    ],
)
async def test_the_serving_status_decides(prober, message, reason, status):
    result = await probe_of(prober, Health(message))
    assert (result.reason, result.status, result.kind) == (reason, status, "grpc")


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (Health(trailers={"grpc-status": "12"}), 12),  # UNIMPLEMENTED: there is no health service
        (Health(b"", trailers={"grpc-status": "5", "grpc-message": "no"}), 5),  # NOT_FOUND
        (Health(status="502"), 502),
        (Health(trailers={"x": "y"}), None),
        (Health(trailers={"grpc-status": "0; DROP"}), None),
        (Health(reset=True), None),
    ],
)
async def test_a_call_that_failed_is_a_bad_response(prober, answer, status):
    result = await probe_of(prober, answer)
    assert (result.reason, result.status) == (Reason.BAD_RESPONSE, status)


async def test_without_the_package_nothing_is_known(prober, monkeypatch):
    monkeypatch.delitem(sys.modules, "healer.probes.grpc", raising=False)
    monkeypatch.setitem(sys.modules, "h2.connection", None)
    result = await probe_of(prober, Health())
    assert (result.reason, result.errno) == (Reason.PROBER_FAILED, errno.ENOSYS)


@pytest.mark.parametrize(
    ("probe", "message"),
    [
        ("grpc", b"\0\0\0\0\0"),
        ({"grpc": ""}, b"\0\0\0\0\0"),
        ({"grpc": "a.B"}, b"\0\0\0\0\x05\x0a\x03a.B"),
        ({"grpc": "a" * 127}, b"\0\0\0\0\x81\x0a\x7f" + b"a" * 127),
    ],
)
async def test_it_asks_about_the_service_and_says_goodbye(prober, until, probe, message):
    health = Health()
    assert (await probe_of(prober, health, probe)).reason is Reason.OK
    await until.soon(lambda: health.ends == 1, 30)  # an end, and no reset
    (headers,) = health.asked
    assert headers[b":path"] == b"/grpc.health.v1.Health/Check"
    assert headers[b"content-type"] == b"application/grpc"
    assert headers[b"te"] == b"trailers"
    assert headers[b":authority"].startswith(b"127.0.0.1:")
    assert headers[b"user-agent"] == b"network-healer/test"
    data = b"\0\0" + bytes([len(message)]) + b"\0\x01\0\0\0\x01" + message  # END_STREAM of stream 1
    assert data in health.sent


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", Reason.CLOSED),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", Reason.BAD_RESPONSE),
        (SETTINGS, Reason.BAD_RESPONSE),  # and nothing more
        (SETTINGS + b"\0\0\x08\x07\0\0\0\0\0" + b"\0" * 8, Reason.BAD_RESPONSE),  # GOAWAY
    ],
)
async def test_what_is_no_answer_to_a_call_is_a_bad_response(prober, answer, reason):
    async def behaviour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(answer)
        writer.close()

    assert (await probe_of(prober, behaviour)).reason is reason


@pytest.mark.parametrize("endless", [PING, SETTINGS, b"\0\x40\0\x00\0\0\0\0\x01", b"x"])
async def test_endless_frames_end_at_a_bound(prober, endless):
    async def behaviour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(SETTINGS)
        try:
            while True:
                writer.write(endless * 1000)
                await writer.drain()
        except ConnectionError:
            writer.close()

    result = await probe_of(prober, behaviour)
    assert result.reason in {Reason.BAD_RESPONSE, Reason.RESET}


async def test_silence_of_a_service_ends_at_the_deadline(prober):
    async def behaviour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(SETTINGS)
        await reader.read()
        writer.close()

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for byte in SETTINGS + PING * 1000:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.01)
        except ConnectionError:
            writer.close()

    for each in (behaviour, drip):
        result = await probe_of(prober, each, timeout=0.4)
        assert result.reason in {Reason.TIMEOUT, Reason.PROBER_FAILED}
        assert result.elapsed < 30


def answered(response: bytes) -> ProbeResult:
    async def behaviour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(response)
        writer.close()

    return asyncio.run(probe_of(NetworkProber(agent="x"), behaviour))


FRAMES = st.builds(
    lambda body, kind, flags, stream: (
        len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body
    ),
    st.binary(max_size=40),
    st.integers(0, 10),
    st.integers(0, 255),
    st.sampled_from([0, 1, 1, 2, 3]),
)


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.lists(FRAMES, max_size=5).map(b"".join)))
def test_random_frames_never_raise(response: bytes):
    for begun in (b"", SETTINGS):
        result = answered(begun + response)
        assert result.reason in {Reason.BAD_RESPONSE, Reason.CLOSED, Reason.RESET}
