"""The webhook: one POST an event, signed by the Standard Webhooks scheme."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import httpx
from cloudevents.core.v1.event import CloudEvent
from standardwebhooks.webhooks import Webhook

from healer.config.destination import Network
from healer.guardian.event import MEDIA_TYPE, identity
from healer.guardian.outbox import RefusedError, UnavailableError
from healer.guardian.pinned import Lookup, PinnedTransport

__all__ = ["WebhookSink", "signed_headers"]

_WITHIN: Final = 3.0


def signed_headers(name: str, body: bytes, secrets: Sequence[str]) -> dict[str, str]:
    """The headers of `body`: each of `secrets` signs, and the receiver needs to know one."""
    now = datetime.now(UTC)
    text = body.decode()
    return {
        "content-type": MEDIA_TYPE,
        "webhook-id": name,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(Webhook(each).sign(name, now, text) for each in secrets),
    }


class WebhookSink:
    """Posts to `url`, at a public address or one of `allowed` (see `is_permitted`); follows no
    redirect, and knows no proxy from the environment."""

    def __init__(
        self,
        url: str,
        secrets: Sequence[str],
        *,
        allowed: Sequence[Network] = (),
        lookup: Lookup | None = None,
        timeout: float = _WITHIN,
    ) -> None:
        self._url = url
        self._secrets = tuple(secrets)
        self._allowed = tuple(allowed)
        self._lookup = lookup
        self._within = timeout
        self._client: httpx.AsyncClient | None = None

    async def deliver(self, event: CloudEvent, body: bytes) -> None:
        """Offer the event once.

        Raises:
            RefusedError: it was answered with something else than 2xx.
            UnavailableError: it was not answered in time, or may not be sent there.
        """
        if self._client is None:
            self._client = httpx.AsyncClient(
                transport=PinnedTransport(self._allowed, lookup=self._lookup),
                timeout=self._within,
                follow_redirects=False,
                trust_env=False,
            )
        headers = signed_headers(identity(event), body, self._secrets)
        try:
            async with (
                asyncio.timeout(self._within),
                # What it says beside its status is not read: it may not end.
                self._client.stream("POST", self._url, content=body, headers=headers) as answer,
            ):
                status = answer.status_code
        except TimeoutError:
            raise UnavailableError(f"no answer within {self._within:g} s") from None
        except httpx.HTTPError as error:
            # The words of the error may hold the URL, and that a secret.
            raise UnavailableError(f"no answer: {type(error).__name__}") from None
        if not 200 <= status < 300:
            raise RefusedError(f"answered with {status}")

    async def close(self) -> None:
        """Let go of the connections."""
        if self._client is not None:
            await self._client.aclose()
