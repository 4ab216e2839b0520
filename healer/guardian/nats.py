"""NATS JetStream: published with the event's name, by which the server drops repetitions."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final

from cloudevents.core.v1.event import CloudEvent

from healer.guardian.event import MEDIA_TYPE, identity
from healer.guardian.outbox import UnavailableError

__all__ = ["NatsSink"]

_WITHIN: Final = 3.0


class NatsSink:
    """Publishes to `subject`, a dot and the type; a stream has to hold these subjects."""

    def __init__(self, url: str, subject: str) -> None:
        self._url = url
        self._subject = subject
        self._connection: Any = None

    async def deliver(self, event: CloudEvent, body: bytes) -> None:
        """Publish the event once.

        Raises:
            UnavailableError: JetStream has not acknowledged it in time.
        """
        topic = event.get_type().removeprefix("io.networkhealer.")
        headers = {"Nats-Msg-Id": identity(event), "content-type": MEDIA_TYPE}
        try:
            async with asyncio.timeout(2 * _WITHIN):
                stream = (await self._connected()).jetstream(timeout=_WITHIN)
                await stream.publish(f"{self._subject}.{topic}", body, headers=headers)
        except Exception as error:
            await self.close()
            # The words of the error may hold the address, and that a password.
            raise UnavailableError(f"no acknowledgement: {type(error).__name__}") from None

    async def close(self) -> None:
        """Let go of the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                async with asyncio.timeout(_WITHIN):
                    await connection.close()

    async def _connected(self) -> Any:
        if self._connection is None:
            from nats import connect  # noqa: PLC0415 - only who has such a sink needs the package

            self._connection = await connect(
                self._url,
                allow_reconnect=False,
                connect_timeout=2,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                error_cb=_silent,
            )
        return self._connection


async def _silent(_error: Exception) -> None:
    """It is raised as well, and retried."""
