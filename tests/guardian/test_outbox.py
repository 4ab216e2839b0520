"""Events reach each sink at least once and in order, whatever ends in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from healer.api.listener import listen_on
from healer.api.server import Server
from healer.domain.events import FleetPaused
from healer.guardian.cursor import Cursor
from healer.guardian.event import as_json
from healer.guardian.outbox import Outbox, RefusedError
from healer.guardian.receiver import Receiver
from healer.guardian.webhook import WebhookSink, signed_headers
from healer.store import MemoryLog
from tests import factory
from tests.conftest import Until
from tests.guardian.conftest import OTHER, SECRET

EVENT = {"id": "x/1", "source": "/network-healer/n1", "type": "io.networkhealer.fleet.paused.v1"}


async def pauses(log: MemoryLog, count: int) -> None:
    """Append `count` facts."""
    head = await log.head()
    await log.append([pause(head + number) for number in range(1, count + 1)])


def pause(version: int) -> FleetPaused:
    return FleetPaused(
        originator_id="fleet",
        originator_version=version,
        timestamp=datetime(2026, 1, 1, tzinfo=UTC),
        actor="api:a",
        node="n1",
        correlation_id="fleet",
        reason="storm",
    )


class Told:
    """A sink that notes what it is told; refuses or fails what it is told to."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.refused: set[str] = set()
        self.open = asyncio.Event()
        self.open.set()

    async def deliver(self, event: CloudEvent, body: bytes) -> None:
        await self.open.wait()
        if event.get_id() in self.refused:
            raise RefusedError("answered with 400")
        self.ids.append(event.get_id())

    async def close(self) -> None:
        pass


@asynccontextmanager
async def running(
    log: MemoryLog, sink: object, path: Path, **more: object
) -> AsyncIterator[Outbox]:
    more = {"from_beginning": True, "first_wait": 0.002, **more}
    outbox = Outbox("g", sink, log, Cursor(path), chance=lambda: 0.0, **more)
    task = asyncio.create_task(outbox.run())
    try:
        yield outbox
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def ids(count: int) -> list[str]:
    return [f"fleet/{number}" for number in range(1, count + 1)]


async def test_goes_on_after_a_restart_where_it_was_acknowledged(tmp_path: Path, until: Until):
    log, told = MemoryLog(), Told()
    await pauses(log, 3)
    async with running(log, told, tmp_path / "c") as outbox:
        await until.soon(lambda: outbox.position == 3)
    await pauses(log, 2)
    async with running(log, told, tmp_path / "c") as outbox:
        await until.soon(lambda: outbox.position == 5)
    assert told.ids == ids(5)
    (tmp_path / "c").write_text("no number")
    async with running(log, told, tmp_path / "c") as outbox:
        await until.soon(lambda: outbox.position == 5)
    assert told.ids == ids(5) * 2  # a lost position repeats


async def test_a_new_sink_starts_from_now_and_keeps_its_place(tmp_path: Path, until: Until):
    log, told = MemoryLog(), Told()
    await pauses(log, 3)
    made = Outbox("g", told, log, Cursor(tmp_path / "c"), chance=lambda: 0.0)
    await made.begin()  # and ends before it delivers anything
    await pauses(log, 2)
    async with running(log, told, tmp_path / "c", from_beginning=False) as outbox:
        await until.soon(lambda: outbox.position == 5)
    assert told.ids == ids(5)[3:]


async def test_a_place_that_cannot_be_stored_is_said(tmp_path: Path, until: Until):
    (tmp_path / "c.new").mkdir()  # where the position would be written first
    log, told = MemoryLog(), Told()
    async with running(log, told, tmp_path / "c", from_beginning=False) as outbox:
        await until.soon(lambda: outbox.trouble is not None)
        await pauses(log, 1)
        await until.soon(lambda: told.ids == ids(1))
        await until.soon(lambda: "cannot be stored" in (outbox.trouble or ""))


async def test_what_is_refused_again_and_again_becomes_a_dead_letter(tmp_path: Path, until: Until):
    log, told = MemoryLog(), Told()
    told.refused = {"fleet/2"}
    await pauses(log, 3)
    async with running(log, told, tmp_path / "c", tries=3) as outbox:
        await until.soon(lambda: outbox.position == 3)
        assert outbox.dead == 1
    assert told.ids == ["fleet/1", "fleet/3"]
    (line,) = (tmp_path / "c.dead").read_text().splitlines()
    assert JSONFormat().read(CloudEvent, line).get_id() == "fleet/2"


async def test_only_what_it_wants(tmp_path: Path, until: Until):
    log, told = MemoryLog(), Told()
    await pauses(log, 3)
    async with running(log, told, tmp_path / "c", only_uncured=True) as outbox:
        await until.soon(lambda: outbox.position == 3)
    async with running(log, told, tmp_path / "d", events=("issue.*",)) as outbox:
        await until.soon(lambda: outbox.position == 3)
    assert told.ids == []


async def test_nobody_is_paged_for_what_ended_with_its_alert(tmp_path: Path, until: Until):
    log, told = MemoryLog(), Told()
    for issue, reason in (("a", "alert_resolved"), ("b", "not_cured")):
        opened = factory.issue_detected(stream=issue)
        await log.append([opened, factory.issue_failed(stream=issue, version=2, reason=reason)])
    async with running(log, told, tmp_path / "c", only_uncured=True) as outbox:
        await until.soon(lambda: outbox.position == 4)
    assert told.ids == ["b/2"]


@asynccontextmanager
async def receiver(port: int, show: Callable[[CloudEvent], None], app: object = None):
    with listen_on("127.0.0.1", port) as listener:
        server = Server(app or Receiver(SECRET, show))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield
        finally:
            server.should_exit = True
            await task


async def test_a_receiver_that_comes_and_goes_hears_of_everything(
    tmp_path: Path, until: Until, free_port: int
):
    log = MemoryLog()
    heard: list[str] = []
    show = lambda event: heard.append(event.get_id())  # noqa: E731
    sink = WebhookSink(f"http://127.0.0.1:{free_port}/", [OTHER, SECRET])
    await pauses(log, 2)
    async with running(log, sink, tmp_path / "c") as outbox:
        await until.soon(lambda: outbox.trouble is not None)  # nobody listens
        async with receiver(free_port, show):
            await until.soon(lambda: outbox.position == 2)
        await pauses(log, 2)
        await until.soon(lambda: outbox.trouble is not None)
        async with receiver(free_port, show):
            await until.soon(lambda: outbox.position == 4)
    assert heard == ids(4)
    assert outbox.dead == 0


async def test_the_receiver_trusts_only_what_is_signed(free_port: int):
    heard: list[str] = []
    app = Receiver(SECRET, lambda event: heard.append(event.get_id()))
    body = as_json(CloudEvent(dict(EVENT), {}))
    url = "http://127.0.0.1:8000/"
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
        good = signed_headers("x/1", body, [SECRET])
        torn = {**good, "webhook-signature": "nothing"}
        stale = {**good, "webhook-timestamp": "1"}
        for headers in ({}, torn, stale, signed_headers("x/1", body, [OTHER])):
            assert (await client.post(url, content=body, headers=headers)).status_code == 401
        assert (await client.post(url, content=body + b" ", headers=good)).status_code == 401
        nothing = signed_headers("x/1", b"[]", [SECRET])
        assert (await client.post(url, content=b"[]", headers=nothing)).status_code == 422
        assert heard == []
        for _ in range(2):
            assert (await client.post(url, content=body, headers=good)).status_code == 204
        assert heard == ["x/1"]
        assert (await client.get(url)).status_code == 405


@pytest.mark.parametrize("status", [302, 400, 500])
async def test_an_answer_that_is_not_2xx_is_a_refusal(free_port: int, status: int):
    asked: list[str] = []

    async def app(scope: dict[str, object], receive: object, send: Callable) -> None:
        asked.append(str(scope["path"]))
        headers = [(b"location", b"/elsewhere"), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    sink = WebhookSink(f"http://127.0.0.1:{free_port}/hook", [SECRET])
    event = CloudEvent(dict(EVENT), {})
    async with receiver(free_port, print, app):
        with pytest.raises(RefusedError, match=f"answered with {status}"):
            await sink.deliver(event, as_json(event))
        await sink.close()
    assert asked == ["/hook"]
