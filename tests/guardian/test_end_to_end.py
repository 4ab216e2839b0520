"""Real processes: a healer, a Guardian that is killed, NATS; and what the configuration says."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from nats import connect

from healer.api.access import Access
from healer.api.app import create_app
from healer.api.readiness import warnings
from healer.bootstrap import build
from healer.config import Config, parse
from healer.engine import HealRequest
from healer.errors import ConfigError
from healer.guardian.nats import NatsSink
from healer.store import MemoryLog
from tests.api.ending import end_components
from tests.conftest import COMPONENT, Until
from tests.guardian.conftest import SECRET
from tests.guardian.test_outbox import ids, pauses, running
from tests.replay.on_disk import a_day, write


def read(text: str, directory: Path) -> Config:
    return parse(text, source="test", environ={}, hostname="n1", directory=directory)


def sinks(*each: str) -> str:
    return "guardian:\n" + "".join(f"  - {{{one}}}\n" for one in each)


def stack(port: int) -> str:
    command = f'["{sys.executable}", -S, -E, "{COMPONENT}", --port, "{{port}}"]'
    return (
        "defaults: {interval: 50ms, failure_threshold: 2, fast_interval: 20ms}\n"
        f"components:\n  chat_api:\n    port: {port}\n    probe: {{http: /health}}\n"
        f"    launch: {{command: {command}}}\n"
    )


@pytest.mark.timeout(180)
async def test_a_healing_reaches_a_guardian_that_was_killed_in_between(
    tmp_path: Path, until: Until, free_ports: Callable[[int], list[int]]
):
    port, door = free_ports(2)
    file = tmp_path / "heard.jsonl"

    def start() -> subprocess.Popen[bytes]:
        with file.open("ab") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "healer", "guardian", "--listen", f"127.0.0.1:{door}"],
                stdout=out,
                env={**os.environ, "GUARDIAN_SECRET": SECRET},
            )

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", door)) == 0

    def heard() -> list[CloudEvent]:
        lines = file.read_bytes().splitlines() if file.exists() else []
        return [JSONFormat().read(CloudEvent, line) for line in lines]

    text = stack(port) + sinks(
        f'name: g, webhook: "http://127.0.0.1:{door}/", secrets: ["{SECRET}"]',
        "name: archive, file: events.jsonl, events: ['issue.*']",
    )
    log = MemoryLog()
    called: list[str] = []
    receiver = start()
    try:
        await until.soon(listens, timeout=120)
        healer = build(
            read(text, tmp_path), log=log, guardian=(lambda event: called.append(event.get_id()),)
        )
        async with healer:
            await healer.engine.start()
            issue = await healer.engine.heal("chat_api", HealRequest(actor="test"))
            await until.soon(lambda: bool(heard()), timeout=120)
            receiver.kill()
            receiver.wait()
            await healer.engine.outcome("chat_api", issue)
            receiver = start()
            head = await log.head()
            await until.soon(
                lambda: all(each.position >= head for each in healer.outboxes), timeout=60
            )
            await healer.engine.stop()
            await end_components(log)
            facts = await log.read(limit=500)
            app = create_app(healer, access=Access("ab" * 32))
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://127.0.0.1:8000"
            ) as me:
                pulled = await me.get("/network-healer/cloudevents?after=2&limit=3")
    finally:
        receiver.kill()
        receiver.wait()
    names = [each.event.event_id for each in facts if each.position <= head]
    firsts = list(dict.fromkeys(each.get_id() for each in heard()))
    assert firsts[: len(names)] == names
    assert list(dict.fromkeys(called))[: len(names)] == names
    verified = next(each for each in heard() if each.get_type().endswith("issue.verified.v1"))
    assert verified.get_subject() == "chat_api"
    assert verified.get_source() == "/network-healer/n1"
    assert verified.get_extension("correlationid") == issue
    archived = (tmp_path / "events.jsonl").read_text().splitlines()
    assert all(JSONFormat().read(CloudEvent, each).get_id().startswith(issue) for each in archived)
    assert pulled.headers["content-type"] == "application/cloudevents-batch+json"
    batch = [JSONFormat().read(CloudEvent, json.dumps(each)) for each in pulled.json()]
    assert [each.get_extension("sequence") for each in batch] == [f"{n:020d}" for n in (3, 4, 5)]


async def test_a_dead_sink_holds_nobody_up_and_is_told_of(
    tmp_path: Path, until: Until, free_port: int
):
    text = sinks(f'name: g, webhook: "http://127.0.0.1:{free_port}/", secrets: ["{SECRET}"]')
    healer = build(read(text, tmp_path), log=MemoryLog())
    async with healer:
        await pauses(healer.log, 3)
        await until.soon(lambda: bool(warnings(healer)))
        await healer.views.caught_up()
        assert warnings(healer) == ["guardian g is 3 events behind: no answer: ConnectError"]
        (outbox,) = healer.outboxes
        await until.soon(lambda: outbox.retries > 0)
        app = create_app(healer, access=Access("ab" * 32))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as me:
            lines = (await me.get("/metrics")).text.splitlines()
        told = dict(line.rsplit(" ", 1) for line in lines if line.startswith("healer_guardian"))
        assert float(told['healer_guardian_lag_events{sink="g"}']) == 3
        assert float(told['healer_guardian_lag_seconds{sink="g"}']) > 3600  # facts of last January
        assert float(told['healer_guardian_retries_total{sink="g"}']) >= 1
        assert float(told['healer_guardian_delivered_total{sink="g"}']) == 0
        assert float(told['healer_guardian_dead_letters_total{sink="g"}']) == 0


@pytest.mark.timeout(180)
@pytest.mark.skipif(shutil.which("nats-server") is None, reason="nats-server is not installed")
async def test_nats_holds_each_event_once(tmp_path: Path, until: Until, free_port: int):
    url = f"nats://127.0.0.1:{free_port}"
    log = MemoryLog()
    await pauses(log, 3)
    sink = NatsSink(url, "healer")
    async with running(log, sink, tmp_path / "c") as outbox:
        await until.soon(lambda: outbox.trouble is not None, timeout=120)  # there is no server yet
        server = subprocess.Popen(  # noqa: ASYNC220 - it only starts it
            [
                "nats-server",
                "-js",
                "-sd",
                str(tmp_path / "js"),
                "-a",
                "127.0.0.1",
                "-p",
                str(free_port),
            ],
            stderr=subprocess.DEVNULL,
        )
        try:

            async def reach() -> object:
                with suppress(Exception):
                    return await connect(url, allow_reconnect=False, error_cb=_nothing)
                return None

            client = None
            async with asyncio.timeout(60):
                while client is None:
                    client = await reach()
                    await asyncio.sleep(0.02)
            stream = client.jetstream()
            await stream.add_stream(name="healer", subjects=["healer.>"])
            await until.soon(lambda: outbox.position == 3, timeout=120)
            async with running(log, NatsSink(url, "healer"), tmp_path / "lost") as again:
                await until.soon(lambda: again.position == 3, timeout=120)
            assert (await stream.stream_info("healer")).state.messages == 3
            got = await stream.get_msg("healer", 2)
            assert JSONFormat().read(CloudEvent, got.data).get_id() == ids(3)[1]
            assert got.subject == "healer.fleet.paused.v1"
            await client.close()
        finally:
            server.kill()
            server.wait()


async def _nothing(_error: Exception) -> None:
    pass


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("name: g", "guardian.0: says no one receiver; allowed: one of webhook, nats, file"),
        ("name: g, file: a, nats: b", "guardian.0: says no one receiver"),
        ("name: g, file: a, event: [x]", "unknown key; did you mean 'events'?"),
        (f'name: g, webhook: "http://example.org/", secrets: ["{SECRET}"]', "in the clear"),
        ('name: g, webhook: "https://example.org/", secrets: ["whsec_Zm9v"]', "no secret"),
        ('name: g, webhook: "https://example.org/"', "secrets: is required"),
        ('name: g, nats: "http://u:Zm9v@h"', "no address of NATS"),
    ],
)
def test_what_is_wrong_with_a_sink(tmp_path: Path, entry: str, problem: str):
    with pytest.raises(ConfigError) as caught:
        read(sinks(entry), tmp_path)
    assert problem in str(caught.value)
    assert "Zm9v" not in str(caught.value)


def test_two_sinks_have_two_names(tmp_path: Path):
    with pytest.raises(ConfigError, match="'g' is another one's"):
        read(sinks("name: g, file: a", "name: g, file: b"), tmp_path)


def test_the_guardian_says_what_it_needs():
    environ = {key: value for key, value in os.environ.items() if key != "GUARDIAN_SECRET"}
    done = subprocess.run(
        [sys.executable, "-m", "healer", "guardian"],
        capture_output=True,
        text=True,
        env=environ,
        check=False,
    )
    assert done.returncode == 2
    assert "cannot use GUARDIAN_SECRET" in done.stderr


async def test_a_log_on_disk_is_told_from_its_beginning(tmp_path: Path, until: Until):
    """Facts that are read from a file, not heard of as they land."""
    file = tmp_path / "log.db"
    await write(file, a_day().facts)
    text = f"store: sqlite:///{file}\n" + sinks(
        "name: archive, file: events.jsonl, start: beginning"
    )
    healer = build(read(text, tmp_path))
    assert SECRET not in repr(healer.config)
    async with healer:
        head = await healer.log.head()
        await until.soon(lambda: all(each.position >= head for each in healer.outboxes), 60)
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    told = [JSONFormat().read(CloudEvent, line) for line in lines]
    assert [each.get_id() for each in told] == [each.event.event_id for each in a_day().facts]
    for event, recorded in zip(told, a_day().facts, strict=True):
        assert event.get_data() == recorded.event.model_dump(mode="json")


async def test_no_secret_is_shown(tmp_path: Path):
    text = sinks(f'name: g, webhook: "https://h.example/", secrets: ["{SECRET}"]')
    config = read(text, tmp_path)
    assert SECRET not in repr(config) + str(config) + config.model_dump_json()
