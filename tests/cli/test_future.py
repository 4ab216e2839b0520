"""A log that a newer healer wrote: its unknown events are refused by name, and the rest goes on."""

from __future__ import annotations

import asyncio
import json
from typing import ClassVar

import httpx
import pytest

from healer.domain.events import EVENT_TYPES, IssueEvent
from healer.store import SqliteLog
from healer.store.codec import Codec
from tests import factory
from tests.cli.conftest import House
from tests.conftest import Until

TOPIC = "issue.teleported.v9"


class Teleported(IssueEvent):
    """What a later version may tell of."""

    TOPIC: ClassVar[str] = TOPIC
    whereto: str


def future(house: House) -> None:
    """A log of four facts, the last of which nobody knows here."""
    house.codec = Codec({**EVENT_TYPES, TOPIC: Teleported})

    async def write() -> None:
        file = house.directory / "healer.db"
        async with SqliteLog.open(file, new_log_id=lambda: "log-1", codec=house.codec) as log:
            detected = factory.issue_detected(stream="i1", component="other")
            common = detected.model_dump(
                include={"timestamp", "actor", "node", "correlation_id", "causation_id"}
            )
            await log.append(
                [
                    detected,
                    factory.playbook_started(stream="i1", version=2),
                    factory.issue_failed(stream="i1", version=3),
                    Teleported(originator_id="i2", originator_version=1, whereto="mars", **common),
                ]
            )

    asyncio.run(write())


def test_the_daemon_heals_on_and_says_what_it_cannot_show(house: House, until: Until) -> None:
    future(house)
    process = house.start()

    def up() -> bool:
        try:
            return process.poll() is not None or house.get("/livez").status_code == 200
        except httpx.TransportError:
            return False

    until(up)
    assert process.poll() is None, house.log.read_text()

    until(house.healthy)
    told = house.get("/network-healer/stats")
    assert told.status_code == 503
    assert TOPIC in told.json()["detail"]
    views = {each["view"]: each for each in house.get("/network-healer/views").json()["views"]}
    assert (views["stats"]["bytes"], views["stats"]["sha256"]) == (None, None)
    assert TOPIC in views["stats"]["stopped"]
    ready = house.get("/readyz")
    assert ready.status_code == 503
    assert any(TOPIC in why for why in ready.json()["reasons"])
    assert house.stop(process) == 0
    said = house.log.read_text()
    assert "Traceback" not in said
    stopped = [json.loads(line) for line in said.splitlines() if "follower_stopped" in line]
    assert [each["task"] for each in stopped] == ["files"]
    assert TOPIC in stopped[0]["error"]
    [written] = (house.directory / "logs").glob("healings_*.jsonl")
    assert len(written.read_text().splitlines()) == 1, "what stands before it is written"


@pytest.mark.parametrize(
    "command",
    [
        ("stats",),
        ("history",),
        ("replay", "export", "--format", "jsonl", "--out", "out"),
        ("replay", "at", "4"),
        ("replay", "verify"),
        ("replay", "rebuild"),
    ],
)
def test_commands_name_it_and_where_it_stands(house: House, command: tuple[str, ...]) -> None:
    future(house)
    ran = house.run(*command, timeout=120)
    assert ran.returncode in {1, 2}
    assert TOPIC in ran.stdout + ran.stderr
    assert "4" in ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr
