"""Whatever a server sends, a probe ends with a result."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from healer.domain.probe import ProbeResult, Reason
from healer.domain.spec import ComponentSpec
from healer.probes import NetworkProber

WORDS = (
    b"HTTP/1.1 |HTTP/1.0 |200|101|100|999| OK|\r\n|\n|: |Content-Length|-1|Transfer-Encoding"
    b"|chunked|\x00|\xff|a| |Upgrade|5\r\nhello\r\n|0\r\n\r\n|Connection: close"
)
HTTPISH = st.lists(st.sampled_from(WORDS.split(b"|")), max_size=24).map(b"".join)


async def _probe(response: bytes) -> ProbeResult:
    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(response)
        finally:
            writer.close()

    server = await asyncio.start_server(respond, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        spec = ComponentSpec.model_validate({"name": "x", "port": port, "probe": "http"})
        return await NetworkProber(agent="x").probe(spec, port)


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.binary(max_size=300), HTTPISH))
def test_random_bytes_never_raise(response: bytes):
    result = asyncio.run(_probe(response))
    assert result.reason in {
        Reason.OK,
        Reason.BAD_STATUS,
        Reason.BAD_RESPONSE,
        Reason.CLOSED,
        Reason.RESET,
    }
    assert (result.status is None) == (result.reason not in {Reason.OK, Reason.BAD_STATUS})
