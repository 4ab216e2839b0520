"""Where messages go: a webhook, a file, a function of an embedding application."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

import httpx
from standardwebhooks import Webhook as Signer

from healer.errors import HealerError
from healer.guardian.message import MEDIA_TYPE, Message

__all__ = ["Callback", "JsonLines", "Sink", "UndeliveredError", "Webhook"]

_TIMEOUT: Final = 3.0
"""Seconds that a webhook gets for all of its answer."""


class UndeliveredError(HealerError):
    """A message was not taken. `refused`: by somebody who got it, so that trying for ever would
    hold up all that follow."""

    def __init__(self, why: str, *, refused: bool) -> None:
        self.refused = refused
        super().__init__(why)


class Sink(Protocol):
    """Takes messages, one after the other."""

    async def take(self, message: Message) -> None:
        """Returns when the message is safe there.

        Raises:
            UndeliveredError: it is not.
        """
        ...

    async def close(self) -> None:
        """Let go of what it holds."""
        ...


class Webhook:
    """POSTs to `url`, signed by the Standard Webhooks scheme with each of `secrets` (several while
    one replaces another). Redirects are not followed, proxies of the environment not used, and the
    answer's body is not read."""

    def __init__(
        self, url: str, secrets: Sequence[str], *, now: Callable[[], datetime] | None = None
    ) -> None:
        self._url = url
        self._signers = [Signer(secret) for secret in secrets]
        self._now = now or (lambda: datetime.now(UTC))
        self._client = httpx.AsyncClient(
            timeout=_TIMEOUT, follow_redirects=False, trust_env=False, headers={"accept": "*/*"}
        )

    async def take(self, message: Message) -> None:
        """See `Sink.take`."""
        now = self._now()
        text = message.body.decode()
        headers = {
            "content-type": MEDIA_TYPE,
            "webhook-id": message.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(
                signer.sign(message.id, now, text) for signer in self._signers
            ),
        }
        try:
            async with (
                asyncio.timeout(_TIMEOUT),
                self._client.stream(
                    "POST", self._url, content=message.body, headers=headers
                ) as answer,
            ):
                status = answer.status_code
        except (httpx.HTTPError, TimeoutError) as error:
            # The address may hold a secret; what went wrong does not.
            why = type(error).__name__
            raise UndeliveredError(f"cannot reach the webhook: {why}", refused=False) from error
        if not 200 <= status < 300:
            raise UndeliveredError(f"cannot deliver: the webhook answered {status}", refused=True)

    async def close(self) -> None:
        """See `Sink.close`."""
        await self._client.aclose()


class JsonLines:
    """Appends one line for each message to a file, durably."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def take(self, message: Message) -> None:
        """See `Sink.take`."""
        try:
            await asyncio.to_thread(self._append, message.body + b"\n")
        except OSError as error:
            why = f"cannot write {self._path}: {error.strerror}"
            raise UndeliveredError(why, refused=False) from error

    def _append(self, line: bytes) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, 0o640)
        try:
            size = os.fstat(descriptor).st_size
            try:
                written = 0
                while written < len(line):
                    written += os.write(descriptor, line[written:])
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)

    async def close(self) -> None:
        """See `Sink.close`."""


class Callback:
    """Calls a coroutine function of the application that embeds the healer. What it raises is an
    undelivered message, tried again."""

    def __init__(self, function: Callable[[Message], Awaitable[None]]) -> None:
        self._function = function

    async def take(self, message: Message) -> None:
        """See `Sink.take`."""
        try:
            await self._function(message)
        except Exception as error:
            why = f"cannot deliver: the callback raised {type(error).__name__}"
            raise UndeliveredError(why, refused=True) from error

    async def close(self) -> None:
        """See `Sink.close`."""
