"""What a consumer gets: everything, in order, signed, whatever dies in between."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from standardwebhooks import Webhook as Checker

from healer.api.readiness import warnings
from healer.bootstrap import build
from healer.config import parse
from healer.errors import ConfigError, HealerError
from healer.guardian import Callback, Cursor, JsonLines, Message, Outbox, Webhook
from healer.store import MemoryLog
from tests.conftest import Until
from tests.replay.on_disk import a_day

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
OLD = "whsec_" + base64.b64encode(b"o" * 32).decode()
FACTS = a_day().facts


class Guardian:
    """A real HTTP server that keeps what it is sent; `answers` are the next statuses."""

    def __init__(self, port: int) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        guardian = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status = guardian.answers.pop(0) if guardian.answers else 204
                if status < 300:
                    guardian.got.append((dict(self.headers), body))
                self.send_response(status)
                if status == 307:
                    self.send_header("location", "http://127.0.0.1:1/elsewhere")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_arguments: Any) -> None:
                """Nothing on stderr."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.got]


@pytest.fixture
def guardian(free_port: int) -> Iterator[Guardian]:
    served = Guardian(free_port)
    yield served
    served.close()


def url_of(guardian: Guardian) -> str:
    return f"http://127.0.0.1:{guardian._server.server_port}/hook"


async def filled() -> MemoryLog:
    log = MemoryLog()
    await log.append([each.event for each in FACTS])
    return log


def outbox(log: MemoryLog, sink: Any, place: Path, **fields: Any) -> Outbox:
    return Outbox(
        "guardian",
        log,
        sink,
        Cursor(place / "position"),
        aside=place / "undelivered.jsonl",
        chance=lambda: 0.0,
        pause=0.01,
        **fields,
    )


@asynccontextmanager
async def running(box: Outbox) -> AsyncIterator[Outbox]:
    task = asyncio.create_task(box.run())
    try:
        async with asyncio.timeout(20):
            yield box
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await box.close()


async def test_everything_arrives_in_order_signed_and_as_cloudevents(
    guardian: Guardian, tmp_path: Path
) -> None:
    log = await filled()
    async with running(outbox(log, Webhook(url_of(guardian), [SECRET, OLD]), tmp_path)) as box:
        await box.reached(len(FACTS))
    assert guardian.ids() == [each.event.event_id for each in FACTS]
    for (headers, body), recorded in zip(guardian.got, FACTS, strict=True):
        lower = {name.lower(): value for name, value in headers.items()}
        for secret in (SECRET, OLD):
            Checker(secret).verify(body, lower)
        event = JSONFormat().read(CloudEvent, body)
        fact = recorded.event
        assert event.get_id() == fact.event_id
        assert event.get_type() == f"io.networkhealer.{fact.TOPIC}"
        assert event.get_source() == f"/network-healer/{fact.node}"
        assert event.get_time() == fact.timestamp
        assert event.get_extension("sequence") == f"{recorded.position:016d}"
        assert event.get_subject() in {"chat_api", "search_api"}
        assert isinstance(event.get_data(), dict)


async def test_a_dead_guardian_is_waited_for_and_a_dead_healer_goes_on_where_it_was(
    tmp_path: Path, free_port: int, until: Until
) -> None:
    log = await filled()
    port = free_port
    box = outbox(log, Webhook(f"http://127.0.0.1:{port}/hook", [SECRET]), tmp_path)
    async with running(box):
        await until.soon(lambda: box.trouble is not None and "cannot reach" in box.trouble)
        first = Guardian(port)
        await until.soon(lambda: len(first.got) >= 5, 10)
    first.close()  # the healer's side is gone, and so is this one
    again = Guardian(port)
    box = outbox(log, Webhook(f"http://127.0.0.1:{port}/hook", [SECRET]), tmp_path)
    async with running(box):
        await box.reached(len(FACTS))
    again.close()
    ids = [each.event.event_id for each in FACTS]
    assert [name for name in ids if name not in first.ids() + again.ids()] == []
    assert first.ids() == ids[: len(first.got)]
    assert again.ids() == ids[-len(again.got) :]  # at most one was told twice


async def test_what_is_refused_again_and_again_is_set_aside_and_the_next_one_comes(
    guardian: Guardian, tmp_path: Path
) -> None:
    log = await filled()
    guardian.answers = [307, 400, 500, 503, 404, 403, 410, 500]
    async with running(outbox(log, Webhook(url_of(guardian), [SECRET]), tmp_path)) as box:
        await box.reached(len(FACTS))
        assert (box.dead, box.delivered, box.trouble) == (1, len(FACTS) - 1, None)
    assert guardian.ids() == [each.event.event_id for each in FACTS[1:]]
    [line] = (tmp_path / "undelivered.jsonl").read_bytes().splitlines()
    assert orjson.loads(line)["id"] == FACTS[0].event.event_id


async def test_only_what_was_not_cured_is_one_setting(tmp_path: Path) -> None:
    log = await filled()
    file = tmp_path / "pages.jsonl"
    async with running(outbox(log, JsonLines(file), tmp_path, only_uncured=True)) as box:
        await box.reached(len(FACTS))
    types = [orjson.loads(line)["type"] for line in file.read_bytes().splitlines()]
    assert types == ["io.networkhealer.issue.escalated.v1", "io.networkhealer.issue.failed.v1"]


async def test_a_callback_that_fails_is_called_again(tmp_path: Path) -> None:
    log = await filled()
    got: list[str] = []
    failures = [OSError("away"), ValueError("not now")]

    async def told(message: Message) -> None:
        if failures:
            raise failures.pop()
        got.append(message.id)

    async with running(outbox(log, Callback(told), tmp_path, topics=("issue.*",))) as box:
        await box.reached(len(FACTS))
    wanted = [each.event for each in FACTS if each.event.TOPIC.startswith("issue.")]
    assert got == [event.event_id for event in wanted]


def test_a_position_that_is_none_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "position").write_text("seven")
    with pytest.raises(HealerError, match=r"cannot go on from .*'seven'; allowed: a position"):
        Cursor(tmp_path / "position")
    assert (tmp_path / "position").read_text() == "seven"


def config(tmp_path: Path, section: str) -> Any:
    return parse(
        f"store: sqlite:///log.db\nguardian:\n{section}",
        source="healer.yaml",
        environ={"GUARDIAN_SECRET": SECRET},
        hostname="here",
        directory=tmp_path,
    )


@pytest.mark.parametrize(
    ("section", "why"),
    [
        ("  - {webhook: 'http://example.com/x', secrets: ['${GUARDIAN_SECRET}']}", "in the clear"),
        ("  - {webhook: 'https://u:p@example.com/', secrets: ['${GUARDIAN_SECRET}']}", "password"),
        ("  - {webhook: 'https://example.com/x'}", "no secrets"),
        ("  - {webhook: 'https://example.com/x', secrets: [short]}", "no signing secret"),
        ("  - {events: ['*']}", "neither or both"),
        ("  - {file: x.jsonl, secret: y}", "secret"),
    ],
)
def test_a_sink_that_cannot_be_is_refused_and_no_secret_is_told(
    tmp_path: Path, section: str, why: str
) -> None:
    with pytest.raises(ConfigError, match=why) as refused:
        config(tmp_path, section)
    assert SECRET not in str(refused.value)


async def test_a_healer_tells_its_sinks_and_says_when_it_cannot(
    guardian: Guardian, tmp_path: Path, until: Until
) -> None:
    settings = config(
        tmp_path,
        f"  - {{name: on-call, webhook: '{url_of(guardian)}', secrets: ['${{GUARDIAN_SECRET}}'],"
        " only_uncured: true}\n"
        "  - {file: told.jsonl}\n"
        f"  - {{name: away, webhook: 'http://127.0.0.1:1/', "
        "secrets: ['${GUARDIAN_SECRET}']}",
    )
    assert SECRET not in repr(settings)
    told: list[str] = []

    async def heard(message: Message) -> None:
        told.append(message.topic)

    log = await filled()
    async with build(settings, log=log, guardian={"app": heard}) as healer:
        boxes = {box.name: box for box in healer.outboxes}
        await until.soon(lambda: "cannot reach" in str(warnings(healer)), 10)
        for name, box in boxes.items():
            if name != "away":
                await box.reached(len(FACTS))
    assert told == [each.event.TOPIC for each in FACTS]
    assert len(guardian.got) == 2
    lines = (tmp_path / "told.jsonl").read_bytes().splitlines()
    assert len(lines) == sum(each.event.TOPIC.startswith("issue.") for each in FACTS)
