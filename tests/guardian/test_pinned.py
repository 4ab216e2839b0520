"""A webhook's name leads nowhere but to what was checked."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
from pathlib import Path

import httpx
import pytest
from cloudevents.core.v1.event import CloudEvent

from healer.config import parse
from healer.config.destination import is_permitted, read_network
from healer.errors import ConfigError
from healer.guardian.event import as_json
from healer.guardian.outbox import UnavailableError
from healer.guardian.pinned import PinnedTransport
from healer.guardian.webhook import WebhookSink
from healer.probes.address import Address
from tests.guardian.conftest import SECRET
from tests.guardian.test_outbox import EVENT, receiver

LOOPBACK = [read_network("127.0.0.0/8")]
NAME = "guardian.test"


class Names:
    """A name server that says something else each time, as one that rebinds does."""

    def __init__(self, *answers: tuple[str, ...]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def addresses(self, host: str) -> tuple[Address, ...]:
        self.asked.append(host)
        return tuple(
            Address(socket.AF_INET6 if ":" in each else socket.AF_INET, each)
            for each in self._answers[min(len(self.asked), len(self._answers)) - 1]
        )


async def offer(url: str, names: Names, *allow: str) -> None:
    """Offer one event to `url`."""
    allowed = [read_network(each) for each in allow]
    sink = WebhookSink(url, [SECRET], allowed=allowed, lookup=names, timeout=120)
    event = CloudEvent(dict(EVENT), {})
    try:
        await sink.deliver(event, as_json(event))
    finally:
        await sink.close()


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "192.168.0.1",
        "169.254.169.254",
        "100.100.100.200",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:8.8.8.8",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "2002:7f00:1::1",
        "2001::1",
    ],
)
async def test_no_name_leads_to(address: str):
    assert not is_permitted(address, NAME, ())
    assert is_permitted(address, NAME, [read_network(address)])
    with pytest.raises(UnavailableError, match="where nothing is sent"):
        await offer(f"https://{NAME}/", Names((address,)))


def test_what_is_public_or_spelled_out_is_permitted():
    assert is_permitted("8.8.8.8", NAME, ())
    assert is_permitted("2606:4700::1111", NAME, ())
    assert is_permitted("10.0.0.5", "10.0.0.5", ())
    assert not is_permitted("10.0.0.6", "10.0.0.5", ())
    assert is_permitted("127.0.0.1", "localhost", ())
    assert not is_permitted("10.0.0.5", "localhost", ())


async def test_the_connection_goes_to_the_address_that_was_checked(free_port: int):
    """The name means another address at the second look-up: there is none."""
    hosts: list[bytes] = []

    async def app(scope: dict[str, object], receive: object, send: object) -> None:
        hosts.append(dict(scope["headers"])[b"host"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    names = Names(("127.0.0.1",), ("127.9.9.9",))
    async with receiver(free_port, print, app):
        await offer(f"http://{NAME}:{free_port}/", names, "127.0.0.1")
    assert names.asked == [NAME]
    assert hosts == [f"{NAME}:{free_port}".encode()]


async def test_what_is_not_permitted_is_not_even_connected_to(free_port: int):
    connections: list[object] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        writer.close()

    async with await asyncio.start_server(note, "127.0.0.1", free_port):
        with pytest.raises(UnavailableError, match="where nothing is sent"):
            await offer(f"http://{NAME}:{free_port}/", Names(("127.0.0.1",)))
    assert connections == []


async def test_the_next_address_is_tried_where_nobody_listens(free_port: int):
    async def app(scope: dict[str, object], receive: object, send: object) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    names = Names(("10.0.0.1", "127.0.0.2", "127.0.0.1"))  # the first is not permitted
    async with receiver(free_port, print, app):
        await offer(f"http://{NAME}:{free_port}/", names, "127.0.0.0/8")


async def test_the_certificate_is_that_of_the_name(tmp_path: Path, free_port: int):
    """Nobody who owns the name's answer owns its key: another name's certificate is refused."""
    for name in (NAME, "other.test"):
        subprocess.run(  # noqa: ASYNC221 - before anything runs
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-keyout", tmp_path / f"{name}.key", "-out", tmp_path / f"{name}.pem",
             "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-days", "2"],
            check=True, capture_output=True,
        )  # fmt: skip
    both = [(tmp_path / f"{name}.pem").read_text() for name in (NAME, "other.test")]
    trust = ssl.create_default_context(cadata="".join(both))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    url = f"https://{NAME}:{free_port}/"
    for name, accepted in ((NAME, True), ("other.test", False)):
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(tmp_path / f"{name}.pem", tmp_path / f"{name}.key")
        server = await asyncio.start_server(answer, "127.0.0.1", free_port, ssl=context)
        async with server:
            pinned = PinnedTransport(LOOPBACK, lookup=Names(("127.0.0.1",)), trust=trust)
            async with httpx.AsyncClient(transport=pinned, timeout=120) as client:
                if accepted:
                    assert (await client.post(url)).status_code == 204
                else:
                    with pytest.raises(httpx.ConnectError, match="certificate"):
                        await client.post(url)


@pytest.mark.parametrize(
    ("url", "allow", "problem"),
    [
        ("https://169.254.169.254/", "[]", "169.254.169.254 is no place for events"),
        ("https://[::ffff:10.0.0.1]/", "[]", "is no place for events"),
        ("https://h.example/", "[ten]", "it is no network; allowed: 10.0.0.0/8"),
        ("https://h.example/", "[10.0.0.1/8]", "it is no network"),
    ],
)
def test_what_is_wrong_with_a_destination(tmp_path: Path, url: str, allow: str, problem: str):
    text = f'guardian: [{{name: g, webhook: "{url}", secrets: ["{SECRET}"], allow: {allow}}}]'
    with pytest.raises(ConfigError) as caught:
        parse(text, source="test", environ={}, hostname="n", directory=tmp_path)
    assert problem in str(caught.value)
