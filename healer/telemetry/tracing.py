"""Hands spans to an OpenTelemetry collector, from an outbox as Guardian has them."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import httpx
from cloudevents.core.v1.event import CloudEvent

from healer.config.telemetry import TelemetrySpec
from healer.guardian.cursor import Cursor
from healer.guardian.outbox import Outbox, RefusedError, UnavailableError
from healer.ports import EventLog
from healer.telemetry.span import ENDING, Span, spans, trace_id

__all__ = ["TraceSink", "encoded", "make_tracing"]

_WITHIN: Final = 5.0
_LATER: Final = frozenset({429, 502, 503, 504})
"""What OTLP calls worth another try; everything else says that these spans are not wanted."""


class TraceSink:
    """Posts the spans that a fact ends. Of the event it takes the id only: what the spans hold
    is read from the log."""

    def __init__(self, spec: TelemetrySpec, log: EventLog, *, node: str) -> None:
        self._url = spec.traces
        self._headers = {
            **{name: value.get_secret_value() for name, value in spec.headers.items()},
            "content-type": "application/x-protobuf",
        }
        self._resource = {
            **spec.resource,
            "service.name": spec.service,
            "service.version": _version(),
            "service.instance.id": node,
            "host.name": platform.node(),
        }
        self._log = log
        self._client: httpx.AsyncClient | None = None

    async def deliver(self, event: CloudEvent, body: bytes) -> None:
        """Offer the spans once.

        Raises:
            StoreError: the log cannot be read.
            RefusedError: the collector does not want them.
            UnavailableError: it did not take them now.
        """
        issue_id, _, number = event.get_id().rpartition("/")
        facts: Any = await self._log.stream(issue_id)
        ended = [span for span in spans(facts) if span.ended_by == int(number)]
        if not ended:
            return
        if self._client is None:
            self._client = httpx.AsyncClient(
                timeout=_WITHIN, follow_redirects=False, trust_env=False
            )
        content = encoded(trace_id(issue_id), ended, self._resource)
        try:
            async with (
                asyncio.timeout(_WITHIN),
                self._client.stream(
                    "POST", self._url, content=content, headers=self._headers
                ) as answer,
            ):
                status = answer.status_code
        except TimeoutError:
            raise UnavailableError(f"no answer within {_WITHIN:g} s") from None
        except httpx.HTTPError as error:
            # The words of the error may hold the URL, and that a secret.
            raise UnavailableError(f"no answer: {type(error).__name__}") from None
        if status in _LATER:
            raise UnavailableError(f"answered with {status}")
        if not 200 <= status < 300:
            raise RefusedError(f"answered with {status}")

    async def close(self) -> None:
        """Let go of the connections."""
        if self._client is not None:
            await self._client.aclose()


def encoded(trace: int, ended: Sequence[Span], resource: dict[str, str]) -> bytes:
    """The spans as an OTLP request in protobuf."""
    # Optional (the extra `otel`), and slow to import.
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import (  # noqa: PLC0415
        encode_spans,
    )
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import Event, ReadableSpan  # noqa: PLC0415
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415
    from opentelemetry.trace import SpanContext, TraceFlags  # noqa: PLC0415
    from opentelemetry.trace.status import Status, StatusCode  # noqa: PLC0415

    def context(span_id: int) -> SpanContext:
        return SpanContext(trace, span_id, is_remote=False, trace_flags=TraceFlags(1))

    scope = InstrumentationScope("network-healer", resource["service.version"])
    made = [
        ReadableSpan(
            span.name,
            context(span.id),
            None if span.parent is None else context(span.parent),
            Resource(resource),
            dict(span.attributes),
            [Event(each.name, dict(each.attributes), each.at) for each in span.moments],
            status=Status(StatusCode.OK)
            if span.failed is None
            else Status(StatusCode.ERROR, span.failed),
            start_time=span.begun,
            end_time=span.ended,
            instrumentation_scope=scope,
        )
        for span in ended
    ]
    request: bytes = encode_spans(made).SerializeToString()
    return request


def make_tracing(
    spec: TelemetrySpec | None,
    *,
    log: EventLog,
    node: str,
    beside: Path,
    chance: Callable[[], float],
) -> list[Outbox]:
    """The outbox of `spec`, or none. Its position goes to a file whose name begins as `beside`
    does; what the log held before there was one is not told."""
    if spec is None:
        return []
    return [
        Outbox(
            "otlp:traces",
            TraceSink(spec, log, node=node),
            log,
            Cursor(beside.with_name(f"{beside.name}.telemetry.traces")),
            chance=chance,
            events=ENDING,
            tries=1,  # a collector that refuses spans refuses them the next time as well
        )
    ]


def _version() -> str:
    try:
        return version("network-healer")
    except PackageNotFoundError:
        return "0+unknown"
