"""A small answer on a kept connection leaves at once."""

from __future__ import annotations

import asyncio
import socket

from healer.api.listener import listen_on


async def test_answers_are_not_held_back_for_the_one_before(free_port: int) -> None:
    told: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def accepted(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted_socket = writer.get_extra_info("socket")
        told.set_result(accepted_socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    server = await asyncio.start_server(accepted, sock=listen_on("127.0.0.1", free_port))
    async with server:
        _, writer = await asyncio.open_connection("127.0.0.1", free_port)
        assert await asyncio.wait_for(told, 60) != 0
        writer.close()
        await writer.wait_closed()
