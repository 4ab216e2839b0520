"""The real server keeps no place for those who never finish asking, or never take their answer."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from healer.api.body import Body
from healer.api.server import Door, Server
from healer.config.configuration import Tls
from tests.certificate import certificate
from tests.conftest import Until

PATIENCE = 30.0
SOON = 0.3
LARGE = b"x" * 2**22

Serve = Callable[..., AbstractAsyncContextManager[Server]]


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """The path /large is a large answer, any other a small one; after the whole request."""
    while (await receive()).get("more_body"):
        pass
    body = LARGE if scope["path"] == "/large" else b"small"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def serve(free_port: int) -> Serve:
    """`async with serve(ask_within=1) as server`."""

    @asynccontextmanager
    async def serve(app: ASGIApp = answer, **options: Any) -> AsyncIterator[Server]:
        listener = socket.create_server(("127.0.0.1", free_port))
        listener.setblocking(False)
        server = Server(Body(app), **options)
        running = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield server
        finally:
            server.should_exit = True
            await running
            listener.close()

    return serve


@pytest.mark.parametrize(
    "asked",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: t\r\nX-",
        b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n\r\n{",
        b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n",
        # After one that was asked whole, and after one that was refused before it was.
        b"GET / HTTP/1.1\r\nHost: t\r\n\r\nGET / HT",
        b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 900000\r\n\r\n" + b"{" * 70_000,
    ],
)
async def test_who_does_not_finish_asking_is_let_go(
    serve: Serve, free_port: int, asked: bytes, until: Until
) -> None:
    async with serve(ask_within=SOON) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", free_port)
        writer.write(asked)
        await until.soon(lambda: server.server_state.connections, PATIENCE)
        await until.soon(lambda: not server.server_state.connections, PATIENCE)
        writer.close()


async def test_a_byte_now_and_then_gains_no_time(
    serve: Serve, free_port: int, until: Until
) -> None:
    async with serve(ask_within=SOON) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", free_port)
        writer.write(b"GET / HTTP/1.1\r\nX-Slow: ")
        await until.soon(lambda: server.server_state.connections, PATIENCE)

        async def let_go() -> bool:
            writer.write(b"x")
            await asyncio.sleep(SOON / 10)
            return not server.server_state.connections

        await until.soon(let_go, PATIENCE)
        writer.close()


async def test_who_never_takes_the_answer_is_let_go(
    serve: Serve, free_port: int, until: Until
) -> None:
    async with serve(take_within=SOON) as server:
        end = socket.socket()
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        end.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(end, ("127.0.0.1", free_port))
        # More answers than the kernel's buffers hold on any machine.
        await loop.sock_sendall(end, b"GET /large HTTP/1.1\r\nHost: t\r\n\r\n" * 4)
        await until.soon(lambda: server.server_state.connections, PATIENCE)
        await until.soon(lambda: not server.server_state.connections, PATIENCE)
        end.close()


async def test_who_has_asked_may_wait_for_the_answer(
    serve: Serve, free_port: int, until: Until
) -> None:
    go_on = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await go_on.wait()
        await send({"type": "http.response.body", "body": b"at last"})

    async with serve(slow, ask_within=SOON) as server:

        async def asked() -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
            reader, writer = await asyncio.open_connection("127.0.0.1", free_port)
            try:
                writer.write(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
                await reader.readuntil(b"\r\n\r\n")
            except (ConnectionError, asyncio.IncompleteReadError):
                writer.close()  # this machine was slower than we allow
                return None
            return reader, writer

        reader, writer = await until.soon(asked, PATIENCE)
        await asyncio.sleep(2 * SOON)
        assert server.server_state.connections
        go_on.set()
        async with asyncio.timeout(PATIENCE):
            await reader.readuntil(b"at last")
        writer.close()


async def test_one_connection_too_many_is_ended_unheard_and_the_others_are_served(
    serve: Serve, free_port: int, until: Until
) -> None:
    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        """What is answered; nothing, when the connection ends."""
        try:
            writer.write(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
            async with asyncio.timeout(PATIENCE):
                return await reader.readuntil(b"small")
        except (ConnectionError, asyncio.IncompleteReadError):
            return b""

    async with serve(connections=3, ask_within=PATIENCE) as server:
        open_ones = server.server_state.connections
        places = [await asyncio.open_connection("127.0.0.1", free_port) for _ in range(3)]
        await until.soon(lambda: len(open_ones) == 3, PATIENCE)
        for _ in range(10):
            late = await asyncio.open_connection("127.0.0.1", free_port)
            assert await ask(*late) == b""
            late[1].close()
        await until.soon(lambda: len(open_ones) == 3, PATIENCE)
        for place in places:
            assert b" 200 " in await ask(*place)

        places.pop()[1].close()
        await until.soon(lambda: len(open_ones) < 3, PATIENCE)
        places.append(await asyncio.open_connection("127.0.0.1", free_port))
        assert b" 200 " in await ask(*places[-1])
        for _, writer in places:
            writer.close()


async def test_a_handshake_that_is_not_done_holds_a_place_and_no_more_than_one(
    serve: Serve, free_port: int, until: Until, tmp_path: Path
) -> None:
    pem = str(certificate(tmp_path))
    trusting = ssl.create_default_context(cafile=pem)

    async def ask() -> bytes:
        try:
            async with asyncio.timeout(PATIENCE):
                given: dict[str, Any] = {"ssl": trusting, "server_hostname": "api.example.org"}
                reader, writer = await asyncio.open_connection("127.0.0.1", free_port, **given)
                writer.write(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
                answer = await reader.readuntil(b"small")
        except (OSError, asyncio.IncompleteReadError):
            return b""
        writer.close()
        return answer

    def descriptors() -> int:
        return len([*Path("/proc/self/fd").iterdir()])

    before = descriptors()
    async with serve(connections=3, tls=Tls(certificate=pem, key=pem)) as server:
        assert b" 200 " in await ask()
        silent = [await asyncio.open_connection("127.0.0.1", free_port) for _ in range(20)]
        # Those that are one too many hear of it at once.
        for reader, _ in silent[3:]:
            async with asyncio.timeout(PATIENCE):
                assert await reader.read() == b""
        assert await ask() == b""
        for _, writer in silent[3:]:
            writer.close()
        # Three places, those who hold them, and two for the listening socket.
        await until.soon(lambda: descriptors() <= before + 8, PATIENCE)
        assert not server.server_state.connections
        for _, writer in silent[:3]:
            writer.close()

        async def served() -> bool:
            return b" 200 " in await ask()

        await until.soon(served, PATIENCE)


async def test_a_place_is_free_again_however_a_guest_has_left(free_port: int) -> None:
    with Door(socket.create_server(("127.0.0.1", free_port)), most=1) as door:
        door.setblocking(True)
        for leave in (lambda guest: guest.close(), lambda guest: None):
            with socket.create_connection(("127.0.0.1", free_port)):
                guest, _ = door.accept()
                assert door.inside == 1
                with socket.create_connection(("127.0.0.1", free_port)) as late:
                    with pytest.raises(ConnectionAbortedError, match="no place is free"):
                        door.accept()
                    assert late.recv(1) == b""
                leave(guest)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ResourceWarning)
                    del guest
                    gc.collect()
                assert door.inside == 0


async def test_a_socket_is_free_again_where_serving_fails(free_port: int, tmp_path: Path) -> None:
    missing = str(tmp_path / "none.pem")
    server = Server(answer, tls=Tls(certificate=missing, key=missing))
    with pytest.raises(FileNotFoundError):
        await server.serve([socket.create_server(("127.0.0.1", free_port))])
    socket.create_server(("127.0.0.1", free_port)).close()
