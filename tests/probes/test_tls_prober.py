"""What a handshake says of a component, against real servers with certificates of their own."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from healer.domain.probe import Reason
from healer.probes import NetworkProber
from tests.certificate import DAY, NAME, certificate


@pytest.fixture
def prober() -> NetworkProber:
    return NetworkProber(agent="x")


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A certificate that the system's authorities vouch for."""
    pem = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    return pem


class Server:
    """Accepts and shakes hands in a thread; what it met of each client."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.names: list[str | None] = []
        self.ends: list[str] = []
        context.sni_callback = lambda _socket, name, _context: self.names.append(name)
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(30)
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            client, _ = self._listener.accept()
            client.settimeout(30)
            with client:
                if client.recv(1, socket.MSG_PEEK) == b"!":
                    return
                try:
                    with self._context.wrap_socket(client, server_side=True) as shaken:
                        self.ends.append("goodbye" if shaken.recv(100) == b"" else "words")
                except OSError as error:
                    self.ends.append(type(error).__name__)

    def close(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port)) as last:
            last.sendall(b"!")
            self._thread.join(60)
        self._listener.close()


@contextmanager
def server(pem: Path, **settings: object) -> Iterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    for name, value in settings.items():
        setattr(context, name, value)
    running = Server(context)
    try:
        yield running
    finally:
        running.close()


async def test_a_handshake_is_enough_whoever_signed_the_certificate(prober, spec, tmp_path, until):
    with server(certificate(tmp_path)) as running:
        result = await prober.probe(spec(probe="tls", timeout=30), running.port)
        assert (result.reason, result.kind, result.status) == (Reason.OK, "tls", None)
        named = await prober.probe(spec(probe={"tls": NAME}, timeout=30), running.port)
        assert named.reason is Reason.OK
        await until.soon(lambda: len(running.ends) == 2, 30)
    assert running.names == [None, NAME]
    assert running.ends == ["goodbye", "goodbye"]  # no reset for its log


async def test_an_expired_certificate_is_no_fault_unless_it_is_asked_for(
    prober, spec, tmp_path, monkeypatch
):
    pem = certificate(tmp_path, age=10 * DAY)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    with server(pem) as running:
        assert (await prober.probe(spec(probe="tls", timeout=30), running.port)).reason is Reason.OK
        asked = spec(probe={"tls": NAME, "verify": True}, timeout=30)
        assert (await prober.probe(asked, running.port)).reason is Reason.BAD_RESPONSE


@pytest.mark.parametrize(
    ("probe", "reason"),
    [
        ({"tls": NAME, "verify": True}, Reason.OK),
        ({"tls": None, "verify": True}, Reason.OK),  # by its address
        ({"tls": "other.example.org", "verify": True}, Reason.BAD_RESPONSE),
        ({"tls": "other.example.org"}, Reason.OK),
    ],
)
async def test_a_certificate_is_for_the_name_that_is_asked_for(
    prober, spec, trusted, probe, reason
):
    with server(trusted) as running:
        assert (await prober.probe(spec(probe=probe, timeout=30), running.port)).reason is reason


async def test_who_vouches_for_nobody_is_refused_where_it_is_asked_for(prober, spec, tmp_path):
    with server(certificate(tmp_path)) as running:
        asked = spec(probe={"tls": NAME, "verify": True}, timeout=30)
        assert (await prober.probe(asked, running.port)).reason is Reason.BAD_RESPONSE


async def test_an_old_version_lives_too(prober, spec, tmp_path):
    with server(certificate(tmp_path), maximum_version=ssl.TLSVersion.TLSv1_2) as running:
        assert (await prober.probe(spec(probe="tls", timeout=30), running.port)).reason is Reason.OK


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def probe_of(prober: NetworkProber, spec, behaviour: Serve, timeout: float = 30.0):
    """What a probe says of a server that does this to each connection."""
    server = await asyncio.start_server(behaviour, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        return await prober.probe(spec(probe="tls", timeout=timeout), port)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", Reason.CLOSED),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", Reason.BAD_RESPONSE),
        (b"\x16\x03\x03\x00\x50\x02", Reason.BAD_RESPONSE),  # the beginning of an answer
        (b"\x15\x03\x03\x00\x02\x02\x28", Reason.BAD_RESPONSE),  # an alert: handshake_failure
    ],
)
async def test_what_is_not_a_handshake_is_a_bad_response(prober, spec, answer, reason):
    async def behaviour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(answer)
        writer.close()

    assert (await probe_of(prober, spec, behaviour)).reason is reason


async def test_a_reset_in_mid_handshake_is_a_reset(prober, spec):
    async def behaviour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        plug = writer.get_extra_info("socket")
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    assert (await probe_of(prober, spec, behaviour)).reason is Reason.RESET


async def test_silence_ends_at_the_deadline(prober, spec):
    async def behaviour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    result = await probe_of(prober, spec, behaviour, timeout=1.0)
    assert result.reason is Reason.TIMEOUT
    assert result.elapsed < 30


async def test_a_drip_of_a_handshake_ends_at_the_deadline(prober, spec):
    async def behaviour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        try:
            for byte in b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc\x03\x03" + b"\0" * 10_000:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.01)
        except ConnectionError:
            writer.close()

    result = await probe_of(prober, spec, behaviour, timeout=0.5)
    assert result.reason in {Reason.TIMEOUT, Reason.PROBER_FAILED}
    assert result.elapsed < 30


@pytest.mark.parametrize(
    "endless",
    [
        b"\x16\x03\x03\x40\x00" + b"\x02\xff\xff\xff" + b"\0" * 16380,  # one huge message
        b"\x16\x03\x03\x00\x04\x00\x00\x00\x00" * 1000,  # hello requests, which mean nothing here
        b"x" * 4096,
    ],
)
async def test_endless_bytes_of_a_handshake_end_at_a_bound(prober, spec, endless):
    async def behaviour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(endless)
                await writer.drain()
        except ConnectionError:
            writer.close()

    assert (await probe_of(prober, spec, behaviour)).reason is Reason.BAD_RESPONSE


async def test_a_server_that_never_says_goodbye_is_well(prober, spec, tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path))

    async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(b"x" * 4096)
                await writer.drain()
        except ConnectionError:
            writer.close()

    server = await asyncio.start_server(endless, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert (await prober.probe(spec(probe="tls", timeout=30), port)).reason is Reason.OK


async def test_a_port_without_listener_refuses_a_handshake(prober, spec):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        result = await prober.probe(spec(probe="tls", timeout=30), bound.getsockname()[1])
    assert result.reason is Reason.REFUSED
