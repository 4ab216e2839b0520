"""The reference Guardian: what a receiver of the webhook has to do, and no more."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from cloudevents.core.exceptions import BaseCloudEventException, CloudEventValidationError
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

__all__ = ["Receiver"]

_LIMIT: Final = 1024 * 1024
_REMEMBERED: Final = 10_000


class Receiver:
    """An ASGI application that gives `show` each signed event once, then acknowledges it."""

    def __init__(self, secret: str, show: Callable[[CloudEvent], None]) -> None:
        self._webhook = Webhook(secret)
        self._show = show
        self._seen: OrderedDict[tuple[str, str], None] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            answer = await self._answer(Request(scope, receive))
            await answer(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if request.method != "POST":
            return PlainTextResponse("cannot take this; allowed: POST", 405)
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > _LIMIT:
                return PlainTextResponse(f"cannot take more than {_LIMIT} bytes", 413)
        try:
            self._webhook.verify(bytes(body), dict(request.headers), json_parse=False)
        except (WebhookVerificationError, ValueError):
            return PlainTextResponse("cannot trust this: the signature is not right", 401)
        try:
            event = JSONFormat().read(CloudEvent, bytes(body))
        except (
            BaseCloudEventException,
            CloudEventValidationError,
            ValueError,
            TypeError,
            AttributeError,
        ):
            return PlainTextResponse("cannot read this; allowed: a CloudEvent 1.0 in JSON", 422)
        name = (event.get_source(), event.get_id())
        if name not in self._seen:
            self._show(event)  # type: ignore[arg-type]
            self._seen[name] = None
            if len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)
        return Response(status_code=204)
