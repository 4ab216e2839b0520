"""Serves the application on a socket that is there already."""

from __future__ import annotations

import asyncio
import errno
import socket
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import h11
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from healer.api.stream import LINE_KEY
from healer.config.configuration import Tls

__all__ = ["Connection", "Door", "Server"]

_CONNECTIONS: Final = 600
"""Of these, 200 may be event streams: those who ask find a place whoever reads along."""
_STOP_WITHIN: Final = 5
"""Seconds that answers under way get when everything else has stopped."""
_ASK_WITHIN: Final = 20.0
"""Seconds that a request may take to arrive whole: who sends a byte now and then holds a place."""
_TAKE_WITHIN: Final = 60.0
"""Seconds that the other side may let its answer wait: who never reads holds a place as well."""


class Connection(H11Protocol):
    """A connection that ends when the other side keeps us waiting, and that a stream can cut."""

    def __init__(self, *, ask_within: float, take_within: float, **given: Any) -> None:
        super().__init__(**given)
        self._ask_within = ask_within
        self._take_within = take_within
        self._asking = _Bound(self.cut)
        self._taking = _Bound(self.cut)
        served = self.app

        async def with_line(scope: Scope, receive: Receive, send: Send) -> None:
            await served({**scope, LINE_KEY: self}, receive, send)

        self.app = with_line

    def waiting(self) -> int:
        """Bytes that were sent and that the other side has not taken."""
        return self.transport.get_write_buffer_size()

    def cut(self) -> None:
        """End it at once; what waits is lost."""
        self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._asking.begin(self._ask_within)

    def connection_lost(self, exc: Exception | None) -> None:
        self._asking.end()
        self._taking.end()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._half_asked():
            self._asking.begin(self._ask_within)
        else:
            self._asking.end()

    def _half_asked(self) -> bool:
        """Whether the rest of a request is still to come."""
        state = self.conn.their_state
        return state is h11.SEND_BODY or (state is h11.IDLE and bool(self.conn.trailing_data[0]))

    def pause_writing(self) -> None:
        super().pause_writing()
        self._taking.begin(self._take_within)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._taking.end()


class Door(socket.socket):
    """A listening socket that lets at most `most` in at once, those included whose TLS handshake is
    not done; one more is ended as it comes. It takes the place of `listener`."""

    def __init__(self, listener: socket.socket, most: int) -> None:
        kind = listener.family, listener.type, listener.proto
        super().__init__(*kind, fileno=listener.detach())
        self.setblocking(False)
        self._most = most
        self.inside = 0

    def accept(self) -> tuple[socket.socket, Any]:
        """As any socket's; who is one too many is for the event loop somebody who left at once.

        Raises:
            ConnectionAbortedError: so many are inside.
        """
        guest, address = super().accept()
        if self.inside >= self._most:
            guest.close()
            raise ConnectionAbortedError(errno.ECONNABORTED, "no place is free")
        self.inside += 1
        return _Guest(guest, self._leave), address

    def _leave(self) -> None:
        self.inside -= 1


class _Guest(socket.socket):
    """An accepted connection that says when its descriptor is free again."""

    def __init__(self, accepted: socket.socket, left: Callable[[], None]) -> None:
        kind = accepted.family, accepted.type, accepted.proto
        super().__init__(*kind, fileno=accepted.detach())
        # Also when nobody closes it.
        self._left = weakref.finalize(self, left)
        self._left.atexit = False

    def close(self) -> None:
        super().close()
        self._left()


class _Bound:
    """Calls `action` when something takes longer than it may."""

    def __init__(self, action: Callable[[], None]) -> None:
        self._action = action
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, seconds: float) -> None:
        """It has begun; nothing, when it had begun before."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._action)

    def end(self) -> None:
        """It is done."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Server(uvicorn.Server):
    """Uvicorn without its signal handling and its logging set-up: both belong to the daemon.

    A request has to arrive within `ask_within` seconds, and an answer to be taken within
    `take_within`. At most `connections` are open at each socket at once: each is a descriptor that
    a probe may need, and so one more is ended unheard.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        tls: Tls | None = None,
        connections: int = _CONNECTIONS,
        ask_within: float = _ASK_WITHIN,
        take_within: float = _TAKE_WITHIN,
    ) -> None:
        self._connections = connections
        connection = partial(Connection, ask_within=ask_within, take_within=take_within)
        super().__init__(
            uvicorn.Config(
                app,
                ssl_certfile=tls.certificate if tls else None,
                ssl_keyfile=tls.key if tls else None,
                http=connection,  # type: ignore[arg-type]
                interface="asgi3",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                # Of answers too: who is gone may have left one under way.
                limit_concurrency=connections + 1,
                timeout_graceful_shutdown=_STOP_WITHIN,
            )
        )

    async def serve(self, sockets: list[socket.socket]) -> None:  # type: ignore[override]
        """Serve on listening sockets, which are the server's from here on, and closed at its end,
        however that comes."""
        doors = [Door(each, self._connections) for each in sockets]
        try:
            await super().serve([*doors])
        finally:
            for door in doors:
                door.close()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the signals to the daemon, which finishes what is in flight first."""
        yield
