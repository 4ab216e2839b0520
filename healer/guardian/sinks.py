"""From the configuration to outboxes."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from cloudevents.core.v1.event import CloudEvent

from healer.config.destination import read_network
from healer.config.guardian import FileSpec, NatsSpec, SinkSpec, WebhookSpec
from healer.guardian.cursor import Cursor, add_line
from healer.guardian.nats import NatsSink
from healer.guardian.outbox import Outbox, RefusedError, Sink, UnavailableError
from healer.guardian.webhook import WebhookSink
from healer.ports import EventLog

__all__ = ["Callback", "CallbackSink", "FileSink", "make_outboxes"]

Callback = Callable[[CloudEvent], Awaitable[None] | None]
"""Takes one event; a plain function runs in a thread. What it raises is a refusal."""


class FileSink:
    """Appends one event a line to the file `path`, durably."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def deliver(self, event: CloudEvent, body: bytes) -> None:
        """Append the event.

        Raises:
            UnavailableError: it could not be written.
        """
        try:
            await asyncio.to_thread(add_line, self._path, body)
        except OSError as error:
            raise UnavailableError(f"cannot write: {error}") from error

    async def close(self) -> None:
        """There is nothing to close."""


class CallbackSink:
    """Hands events to a function of the application that embeds the healer."""

    def __init__(self, callback: Callback) -> None:
        self._callback = callback

    async def deliver(self, event: CloudEvent, body: bytes) -> None:
        """Call it.

        Raises:
            RefusedError: it raised.
        """
        try:
            if inspect.iscoroutinefunction(self._callback):
                await self._callback(event)
            else:
                await asyncio.to_thread(self._callback, event)
        except Exception as error:
            raise RefusedError(f"the callback raised {type(error).__name__}") from error

    async def close(self) -> None:
        """There is nothing to close."""


def make_outboxes(
    specs: Sequence[SinkSpec],
    callbacks: Sequence[Callback],
    *,
    log: EventLog,
    beside: Path,
    chance: Callable[[], float],
) -> list[Outbox]:
    """An outbox for each sink; their positions go to files whose names begin as `beside` does."""

    def cursor(name: str) -> Cursor:
        return Cursor(beside.with_name(f"{beside.name}.guardian.{name}"))

    outboxes = [
        Outbox(
            spec.name,
            _sink(spec),
            log,
            cursor(spec.name),
            chance=chance,
            events=spec.events,
            only_uncured=spec.only_uncured,
            from_beginning=spec.start == "beginning",
            tries=spec.tries if isinstance(spec, WebhookSpec) else 8,
        )
        for spec in specs
    ]
    for number, callback in enumerate(callbacks):
        name = f"callback-{number}"
        outboxes.append(Outbox(name, CallbackSink(callback), log, cursor(name), chance=chance))
    return outboxes


def _sink(spec: SinkSpec) -> Sink:
    match spec:
        case WebhookSpec():
            secrets = [secret.get_secret_value() for secret in spec.secrets]
            allowed = [read_network(each) for each in spec.allow]
            return WebhookSink(spec.webhook, secrets, allowed=allowed)
        case NatsSpec():
            return NatsSink(spec.nats, spec.subject)
        case FileSpec():
            return FileSink(spec.file)
