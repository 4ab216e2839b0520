"""Spans reach a real collector: one that decodes what OTLP says, comes, goes and refuses."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from starlette.types import Receive, Scope, Send

from healer.api.server import Server
from healer.bootstrap import Healer, build
from healer.config import Config, check_store, parse
from healer.engine import HealRequest
from healer.errors import ConfigError
from healer.telemetry.span import trace_id
from tests.api.ending import end_components
from tests.conftest import COMPONENT, Until

PATIENCE = 30.0
CANARY = "hunter2-canary"

CONFIG = """
node: n1
telemetry:
  traces: http://127.0.0.1:{collector}/v1/traces
  headers: {{X-Api-Key: {canary}}}
  resource: {{deployment.environment.name: test}}
defaults: {{interval: 50ms, failure_threshold: 2, fast_interval: 20ms, start_period: 10m}}
components:
  chat_api:
    port: {port}
    probe: {{http: /health}}
    launch:
      command: ["{python}", -S, -E, "{component}", --port, "{{port}}"]
      env: {{PASSWORD: {canary}}}
"""


class Collector:
    """What an OpenTelemetry collector received; it answers with the statuses in `answers` first."""

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.headers: list[dict[bytes, bytes]] = []
        self.bodies: list[bytes] = []
        self.resource: dict[str, str] = {}
        self.spans: dict[bytes, Span] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.asked += 1
        status = self.answers.pop(0) if self.answers else 200
        if status == 200:
            self.take(body)
            self.headers.append(dict(scope["headers"]))
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def take(self, body: bytes) -> None:
        self.bodies.append(body)
        request = ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            pairs = resource.resource.attributes
            self.resource = {pair.key: pair.value.string_value for pair in pairs}
            for scope in resource.scope_spans:
                assert scope.scope.name == "network-healer"
                for span in scope.spans:
                    # A span that comes twice is the same one.
                    assert self.spans.setdefault(span.span_id, span) == span

    @property
    def roots(self) -> list[Span]:
        return [span for span in self.spans.values() if not span.parent_span_id]

    @asynccontextmanager
    async def listening(self, port: int) -> AsyncIterator[None]:
        listener = socket.create_server(("127.0.0.1", port))
        listener.setblocking(False)
        server = Server(self)
        running = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield
        finally:
            server.should_exit = True
            await running
            listener.close()


def config(directory: Path, collector: int, port: int) -> Config:
    text = CONFIG.format(
        collector=collector,
        port=port,
        python=sys.executable,
        component=COMPONENT,
        canary=CANARY,
    )
    return parse(text, source="test", environ={}, hostname="h", directory=directory)


async def healed(healer: Healer, until: Until) -> str:
    """An issue of it that has ended, told of from its beginning."""
    await healer.engine.start()
    head = await healer.log.head()
    [outbox] = healer.outboxes
    await until.soon(lambda: outbox.position >= head, PATIENCE)
    issue = await healer.engine.heal("chat_api", HealRequest(actor="test"))
    async with asyncio.timeout(PATIENCE):
        await healer.engine.outcome("chat_api", issue)
    await healer.engine.stop()
    return issue


async def test_a_heal_arrives_as_a_trace(
    tmp_path: Path, until: Until, free_ports: Callable[[int], list[int]]
) -> None:
    door, port = free_ports(2)
    collector = Collector(503, 429)
    async with collector.listening(door), build(config(tmp_path, door, port)) as healer:
        issue = await healed(healer, until)
        await until.soon(lambda: collector.roots, PATIENCE)
        await end_components(healer.log)
    [root] = collector.roots
    spans = list(collector.spans.values())
    assert {span.trace_id for span in spans} == {trace_id(issue).to_bytes(16)}
    assert {span.parent_span_id for span in spans} <= {b"", *collector.spans}
    names = {span.name for span in spans}
    assert names >= {"diagnose", "playbook restart_component", "verify"}
    assert any(name.startswith("step ") for name in names)
    assert root.status.code == Status.STATUS_CODE_OK
    assert {pair.key: pair.value.string_value for pair in root.attributes}[
        "healer.component"
    ] == "chat_api"
    assert collector.resource["service.name"] == "network-healer"
    assert collector.resource["service.instance.id"] == "n1"
    assert collector.resource["deployment.environment.name"] == "test"
    assert {each[b"x-api-key"] for each in collector.headers} == {CANARY.encode()}
    assert CANARY.encode() not in b"".join(collector.bodies)


async def test_a_healer_that_ended_untold_tells_when_it_is_back(
    tmp_path: Path, until: Until, free_ports: Callable[[int], list[int]]
) -> None:
    door, port = free_ports(2)
    configured = config(tmp_path, door, port)
    collector = Collector()
    async with build(configured) as healer:
        issue = await healed(healer, until)
        await end_components(healer.log)
    assert not collector.spans
    async with collector.listening(door), build(configured):
        await until.soon(lambda: collector.roots, PATIENCE)
    assert {span.trace_id for span in collector.spans.values()} == {trace_id(issue).to_bytes(16)}
    assert {span.parent_span_id for span in collector.spans.values()} <= {b"", *collector.spans}


async def test_what_a_collector_does_not_want_holds_up_nothing(
    tmp_path: Path, until: Until, free_ports: Callable[[int], list[int]]
) -> None:
    door, port = free_ports(2)
    collector = Collector(400)
    async with collector.listening(door), build(config(tmp_path, door, port)) as healer:
        [outbox] = healer.outboxes
        await healed(healer, until)
        await until.soon(lambda: collector.roots, PATIENCE)
        assert outbox.dead == 1
        await end_components(healer.log)
    assert "diagnose" not in {span.name for span in collector.spans.values()}


@pytest.mark.parametrize(
    ("telemetry", "problem"),
    [
        ("{}", "telemetry.traces"),
        ("{traces: otel}", "it is no URL of a collector; allowed: http://HOST:4318/v1/traces"),
        ("{traces: 'http://u:p@h/v1/traces'}", "without a password in it"),
        ("{traces: 'http://[h/v1/traces'}", "it is no URL"),
        ("{traces: 'http://h:4318/v1/traces', headers: {K: v}}", "sent in the clear"),
        ("{traces: 'https://h/v1/traces', headers: {'K y': v}}", "telemetry.headers"),
        ("{tracse: 'https://h/v1/traces'}", "traces"),
    ],
)
def test_what_is_wrong_with_the_configuration(tmp_path: Path, telemetry: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(f"telemetry: {telemetry}\n", source="t", environ={}, hostname="h", directory=tmp_path)
    assert problem in str(caught.value)


def test_it_is_off_unless_it_is_asked_for(tmp_path: Path) -> None:
    made = parse("node: n\n", source="t", environ={}, hostname="h", directory=tmp_path)
    assert made.telemetry is None
    check_store(made, source="t")


def test_the_key_of_the_collector_is_not_shown(tmp_path: Path) -> None:
    text = f"telemetry: {{traces: 'https://h/v1/traces', headers: {{K: {CANARY}}}}}\n"
    made = parse(text, source="t", environ={}, hostname="h", directory=tmp_path)
    check_store(made, source="t")
    assert CANARY not in repr(made) + made.model_dump_json()
