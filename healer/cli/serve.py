"""`healer serve`: from the configuration to a daemon, and back to nothing in flight."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import structlog

from healer.api.access import Access
from healer.api.app import create_app
from healer.api.listener import check_certificate, listen_on
from healer.api.reload import Reload
from healer.api.server import Server
from healer.api.token import make_token, token_path
from healer.api.token_book import TokenBook, tokens_path
from healer.bootstrap import Healer, build
from healer.cli.log_format import logging_to
from healer.cli.notify import Notifier, pulse
from healer.cli.outcome import FAILED, FINE
from healer.cli.source import config_in
from healer.config import Config, check_store

__all__ = ["serve"]

_CATCH_UP_WITHIN: Final = 600.0
"""Seconds that systemd gives a start that has a long log to read; nothing hangs that long."""

_log = structlog.get_logger("healer.serve")


def serve(
    file: Path | None,
    *,
    verbose: bool = False,
    log_format: str | None = None,
    assemble: Callable[[Config], Healer] = build,
) -> int:
    """Serve until a signal, or until something that must not die has died; the exit status.

    Raises:
        ConfigError: the configuration or the token file cannot be used.
        ListenError: the healer itself cannot listen. No component was touched.
        StoreError: the log cannot be opened, or another healer has it. No component was touched.
    """
    config = config_in(file)
    check_store(config, source=str(file or "healer.yaml"))
    book = TokenBook(tokens_path(token_path(config)))
    guarded = config.tls is not None and bool(book.tokens())
    check_certificate(config)
    listener = listen_on(*config.endpoint, guarded=guarded)
    level = logging.DEBUG if verbose else logging.INFO
    with listener, logging_to(sys.stderr, level=level, form=log_format):
        return asyncio.run(_serve(config, listener, book, assemble, lambda: config_in(file)))


async def _serve(
    config: Config,
    listener: socket.socket,
    book: TokenBook,
    assemble: Callable[[Config], Healer],
    load: Callable[[], Config],
) -> int:
    told = asyncio.Event()
    hang_up = asyncio.Event()
    notifier = Notifier(os.environ)
    with _signals(told, hang_up):
        notifier.extend(_CATCH_UP_WITHIN)
        async with assemble(config) as healer:
            broken = getattr(healer.log, "broken", None)
            if broken is not None:
                _log.critical(
                    "log_broken", problem=broken, consequence="it is only read; nothing is healed"
                )
            token_file = token_path(config)
            token = await asyncio.to_thread(make_token, token_file)
            _log.info(
                "listening",
                url=f"{'https' if config.tls else 'http'}://{config.listen}/network-healer",
                components=len(config.components),
                store=config.store,
                token_file=str(token_file),
            )
            access = Access(
                token,
                book,
                read_open=config.auth.read == "open" and not config.exposed,
                acting_per_minute=config.auth.acting_per_minute,
            )
            reload = Reload(healer, load, notify=notifier.reload)
            reloading = asyncio.create_task(_reload(reload, hang_up), name="reload")
            try:
                return await _run(healer, access, listener, told, reload, notifier=notifier)
            finally:
                reloading.cancel()
                await asyncio.gather(reloading, return_exceptions=True)


async def _reload(reload: Reload, hang_up: asyncio.Event) -> None:
    while True:
        await hang_up.wait()
        hang_up.clear()
        await reload.by_signal()


async def _run(
    healer: Healer,
    access: Access,
    listener: socket.socket,
    told: asyncio.Event,
    reload: Reload,
    *,
    notifier: Notifier,
) -> int:
    # Before anything is served: nobody can ask for a second start in the middle of this one.
    await healer.engine.start()
    stopping = asyncio.Event()
    app = create_app(healer, access=access, stopping=stopping, reload=reload)
    server = Server(app, tls=healer.config.tls)
    beating = asyncio.create_task(
        pulse(
            notifier,
            works=lambda: bool(getattr(healer.log, "alive", True)),
            lagged=app.state.metrics.lagged,
        ),
        name="pulse",
    )
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="server")
    watching: list[asyncio.Task[object]] = [serving, asyncio.create_task(told.wait())]
    # What was made to start with lives as long as the process: a full collection (20 to 65 ms, in
    # the loop) would look through it again and again.
    gc.collect()
    gc.freeze()
    count = len(healer.engine.names)
    notifier.ready(f"watching {count} component{'' if count == 1 else 's'}")
    try:
        if healer.engine.names:
            watching.append(asyncio.create_task(healer.engine.failed(), name="failed"))
        await asyncio.wait(watching, return_when=asyncio.FIRST_COMPLETED)
    finally:
        notifier.stopping()
        # Heals first, then the answers that wait for them.
        stopping.set()
        await healer.engine.stop()
        server.should_exit = True
        await asyncio.wait((serving,))
        watching.append(beating)
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
    if told.is_set():
        _log.info("stopped", components="live on")
        return FINE
    _log.critical("daemon_failed", consequence="the healer ends; components live on")
    return FAILED


@contextmanager
def _signals(told: asyncio.Event, hang_up: asyncio.Event) -> Iterator[None]:
    """While it lasts, the first SIGTERM or SIGINT sets `told`, a second one kills; SIGHUP sets
    `hang_up`."""
    loop = asyncio.get_running_loop()
    ending = (signal.SIGTERM, signal.SIGINT)

    def first(number: signal.Signals) -> None:
        _log.info("stopping", signal=number.name, hint="a second one kills")
        told.set()
        for each in ending:
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)

    for number in ending:
        loop.add_signal_handler(number, first, number)
    loop.add_signal_handler(signal.SIGHUP, hang_up.set)
    try:
        yield
    finally:
        for number in (*ending, signal.SIGHUP):
            loop.remove_signal_handler(number)
