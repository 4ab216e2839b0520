"""Malformed requests, configurations and events: no unhandled error, no change of state.

A short form stands in the default tests; `make fuzz` asks as often as HEALER_FUZZ_EXAMPLES says.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from healer.api.access import Access
from healer.api.app import create_app
from healer.bootstrap import Healer, build
from healer.config import Config, parse
from healer.domain.events import EVENT_TYPES, HealthChanged
from healer.domain.health import Health
from healer.errors import ConfigError, StoreError
from healer.store.codec import Codec
from tests import factory
from tests.conftest import Until
from tests.malformed.inputs import Sent, acting, json_values, of_old, reading, stored

EXAMPLES = int(os.environ.get("HEALER_FUZZ_EXAMPLES", "40"))
TOKEN = "ab" * 32
BEARER = f"Bearer {TOKEN}".encode()

many = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
pytestmark = pytest.mark.timeout(300 if EXAMPLES <= 100 else 7200)


@dataclass
class Served:
    """A healer that watches one healthy component, and its application in this process."""

    runner: asyncio.Runner
    healer: Healer
    client: httpx.AsyncClient
    directory: Path

    def ask(self, sent: Sent) -> int:
        """The status; what the application does not handle is raised here."""
        try:
            request = self.client.build_request(
                sent.method,
                httpx.URL(f"http://127.0.0.1:8000{sent.path}", params=sent.query or None),
                headers=[(name, value) for name, value in sent.headers.items()],
                content=sent.content,
            )
        except (ValueError, httpx.InvalidURL):
            return 400  # it cannot even be said in HTTP

        async def answered() -> httpx.Response:
            async with asyncio.timeout(60):
                return await self.client.send(request)

        return self.runner.run(answered()).status_code

    def state(self) -> tuple[Any, ...]:
        """All that a request could change."""

        async def look() -> tuple[Any, ...]:
            log, engine = self.healer.log, self.healer.engine
            facts = [(each.position, each.event) for each in await log.read(limit=500)]
            kept = engine.status("kept")
            files = sorted(str(each) for each in self.directory.rglob("*"))
            return facts, kept.mode, kept.maintenance, kept.issue, engine.fleet.paused, files

        return self.runner.run(look())


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, free_ports: Any) -> Iterator[Served]:
    directory, (port,) = tmp_path_factory.mktemp("malformed"), free_ports(1)
    # Looked at once, and then not for an hour: the log is as quiet as a log can be.
    config = parse(
        f"components:\n  kept: {{port: {port}, interval: 1h, start_period: 1h, timeout: 30s}}\n",
        source="test",
        environ={},
        hostname="n1",
        directory=directory,
    )
    with asyncio.Runner() as runner:
        healer = build(config)
        app = create_app(healer, access=Access(TOKEN, acting_per_minute=10**9))

        async def enter() -> asyncio.Server:
            server = await asyncio.start_server(_greet, "127.0.0.1", port)
            await healer.__aenter__()
            await healer.engine.start()
            status = healer.engine.status
            await Until().soon(lambda: status("kept").health.health is Health.HEALTHY)
            head = 0
            while head != (head := await healer.log.head()):
                await healer.views.caught_up()
                await asyncio.sleep(0.2)
            return server

        server = runner.run(enter())
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app), timeout=120)
        yield Served(runner, healer, client, directory)

        async def leave() -> None:
            await client.aclose()
            await healer.__aexit__(None, None, None)
            server.close()

        runner.run(leave())


async def _greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


def test_a_malformed_order_is_refused_and_changes_nothing(served: Served):
    before = served.state()

    @many
    @given(acting(BEARER))
    def attempt(sent: Sent) -> None:
        status = served.ask(sent)
        assert 400 <= status < 500 or sent.method == "OPTIONS", (status, sent)

    attempt()
    assert served.state() == before


def test_a_question_without_sense_is_answered_and_changes_nothing(served: Served):
    before = served.state()

    @many
    @given(reading())
    def attempt(sent: Sent) -> None:
        assert 200 <= served.ask(sent) < 500, sent

    attempt()
    assert served.state() == before


KEYS = st.sampled_from(
    [*Config.model_fields, "webhook", "secrets", "allow", "name", "file", "nats", "http", "launch"]
)
TREES = st.dictionaries(KEYS, st.one_of(json_values, st.lists(st.dictionaries(KEYS, json_values))))


@many
@given(st.one_of(TREES.map(yaml.safe_dump), st.text(max_size=200)))
def test_a_malformed_configuration_is_refused_with_reasons(text: str):
    problems: tuple[str, ...] | None = None
    try:
        parse(text, source="x", environ={}, hostname="h", directory=Path("/nonexistent"))
    except ConfigError as error:
        problems = error.problems
    assert problems != ()


@many
@given(stored(sorted(EVENT_TYPES)))
def test_a_malformed_event_cannot_be_read_and_says_so(event: tuple[str, bytes]):
    topic, body = event
    said = "cannot read event 1"
    try:
        Codec().decode("stream", 1, topic, body, place="event 1")
    except StoreError as error:
        said = str(error)
    assert said.startswith("cannot read event 1")


class HealthChangedLater(HealthChanged):
    """As a later version may write it."""

    TOPIC: ClassVar[str] = "component.health_changed.v3"
    why: str


OLD = [HealthChanged.TOPIC, "component.health_changed.v2"]
WHOLE = json.loads(Codec().encode(factory.health_changed()).body)


def test_a_malformed_event_of_an_old_version_cannot_be_read_and_says_so():
    """Upcasters are written for what was once written, and look at nothing twice."""
    met: set[str] = set()

    def to_second(body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        met.add(OLD[0])
        probe = body.pop("probe")
        return OLD[1], {**body, "looked": probe, "reason": probe["reason"].upper()}

    def to_third(body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        met.add(OLD[1])
        body["probe"], why = body.pop("looked"), body.pop("reason")
        return HealthChangedLater.TOPIC, {**body, "why": why, "epoch": 60 // body["epoch"]}

    types = {topic: kind for topic, kind in EVENT_TYPES.items() if topic != OLD[0]}
    codec = Codec(
        {**types, HealthChangedLater.TOPIC: HealthChangedLater},
        {OLD[0]: to_second, OLD[1]: to_third},
    )
    read = codec.decode("stream", 1, OLD[0], json.dumps(WHOLE).encode(), place="event 1")
    assert isinstance(read, HealthChangedLater)
    assert (met, read.why) == (set(OLD), "TIMEOUT")

    @many
    @given(of_old(OLD, {**WHOLE, "looked": WHOLE["probe"], "reason": "TIMEOUT"}))
    def attempt(event: tuple[str, bytes]) -> None:
        topic, body = event
        said = "cannot read event 1"
        try:
            codec.decode("stream", 1, topic, body, place="event 1")
        except StoreError as error:
            said = str(error)
        assert said.startswith("cannot read event 1")

    attempt()
