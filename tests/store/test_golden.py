"""Logs of old versions are read for ever; those of later ones are refused by name."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

import pytest

from healer.domain.events import EVENT_TYPES, HealthChanged
from healer.store import SqliteLog, open_log
from healer.store.codec import Codec
from tests.conftest import ROOT
from tests.store.golden_log import GOLDEN, LOG, history, write
from tests.store.roads import seen

CHANGED: Final = (
    "issue.detected",
    "issue.check_recorded",
    "issue.verified",
    "component.registered",
    "component.health_changed",
)
"""Events that the next version has changed: those that begin and end an issue, one that the judge
leaves to another process, and two of components, one of which views want the time of only."""


def rows_of(file: Path, table: str) -> list[Any]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()  # noqa: S608


def test_the_golden_log_is_what_this_version_writes(tmp_path: Path) -> None:
    asyncio.run(write(tmp_path / "log.sqlite"))
    assert rows_of(LOG, "event") == rows_of(tmp_path / "log.sqlite", "event"), (
        "what is stored is not what was; CONTRIBUTING.md, `Give an event a new version`, says what "
        "that wants"
    )


def test_it_has_every_type_and_is_small() -> None:
    assert {event.TOPIC for event in history()} == set(EVENT_TYPES)
    assert sum(each.stat().st_size for each in GOLDEN.iterdir()) < 200_000


KEPT: Final = sorted(GOLDEN.glob("*.sqlite"))


class Copy(NamedTuple):
    """A copy of a golden log in one of the stores, row for row."""

    url: str
    events: int
    issues: int


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=KEPT, ids=lambda file: file.stem)
def golden(request: pytest.FixtureRequest, store: str, tmp_path: Path) -> Copy:
    file: Path = request.param
    shutil.copy(file, tmp_path / file.name)
    url = f"sqlite:///{tmp_path / file.name}"
    if store == "postgresql":
        url = request.getfixturevalue("database")
        _into_database(file, url)
    topics = [row[3] for row in rows_of(file, "event")]
    return Copy(url, len(topics), sum(each.startswith("issue.detected.") for each in topics))


def _into_database(file: Path, url: str) -> None:
    import psycopg

    async def make() -> None:
        await open_log(url, new_log_id=lambda: "golden").close()

    asyncio.run(make())
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        events = rows_of(file, "event")
        cursor.executemany("INSERT INTO healer.event VALUES (%s, %s, %s, %s, %s, %s, %s)", events)
        end = "UPDATE healer.head SET position = %s, hash = %s"
        cursor.execute(end, (events[-1][0], events[-1][6]))
        notes = "INSERT INTO healer.checkpoint VALUES (%s, %s, %s)"
        cursor.executemany(notes, rows_of(file, "checkpoint"))
        claims = "INSERT INTO healer.open_issue (component, issue) VALUES (%s, %s)"
        cursor.executemany(claims, rows_of(file, "open_issue"))


@pytest.fixture(scope="module")
def next_version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The healer as it would be when somebody had given `CHANGED` a new version, in the way that
    CONTRIBUTING.md says: a new topic and its new field, and an upcaster."""
    directory = tmp_path_factory.mktemp("next")
    for package in ("healer", "projections", "replay"):
        shutil.copytree(
            ROOT / package,
            directory / package,
            ignore=shutil.ignore_patterns("__pycache__", "static"),
        )
    events, codec = directory / "healer/domain/events.py", directory / "healer/store/codec.py"
    text = events.read_text()
    for name in CHANGED:
        before = f'TOPIC: ClassVar[str] = "{name}.v1"\n'
        assert text.count(before) == 1
        text = text.replace(before, f'TOPIC: ClassVar[str] = "{name}.v2"\n    why: str\n')
    events.write_text(text)
    entries = ", ".join(
        f'"{name}.v1": lambda body: ("{name}.v2", {{**body, "why": "of old"}})' for name in CHANGED
    )
    text = codec.read_text()
    assert text.count("MappingProxyType({})") == 1
    codec.write_text(text.replace("MappingProxyType({})", f"MappingProxyType({{{entries}}})"))
    return directory


def test_a_later_version_reads_it_on_every_road(
    golden: Copy, next_version: Path, tmp_path: Path
) -> None:
    today = asyncio.run(seen(golden.url, tmp_path / "today"))
    (views, stopped), (ok, events, problems) = today["rebuild"], today["verify"]
    assert (stopped, ok, events, problems) == ({}, True, golden.events, [])
    assert len(json.loads(views["history"])) == golden.issues
    ran = subprocess.run(
        [sys.executable, "-m", "tests.store.roads", golden.url, str(tmp_path / "next")],
        # The packages of the next version are found first, the tests are those of today.
        env={**os.environ, "PYTHONPATH": f"{next_version}:{ROOT}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    later = json.loads(ran.stdout)
    assert {f"{name}.v2" for name in CHANGED} <= set(later.pop("topics"))
    del today["topics"]
    assert later.pop("opened") == {"search_api": "i3"}
    assert later == json.loads(json.dumps(today))


class HealthChangedLater(HealthChanged):
    """What a later version may write."""

    TOPIC: ClassVar[str] = "component.health_changed.v9"


@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
def test_an_event_of_a_later_version_is_refused_by_name_on_every_road(
    url: str, tmp_path: Path
) -> None:
    later = HealthChangedLater.TOPIC
    codec = Codec({**EVENT_TYPES, later: HealthChangedLater})

    async def told() -> dict[str, Any]:
        facts = history()
        at = next(place for place, fact in enumerate(facts) if isinstance(fact, HealthChanged))
        facts[at] = HealthChangedLater.model_validate(facts[at].model_dump())
        if url.startswith("sqlite"):
            log: Any = SqliteLog.open(tmp_path / "log.db", new_log_id=lambda: "l", codec=codec)
        else:
            from healer.store.postgres import PostgresLog

            log = PostgresLog.open(url, new_log_id=lambda: "l", codec=codec, key=tmp_path / "key")
        async with log:
            await log.append(facts)
        return await seen(url, tmp_path)

    found = asyncio.run(told())
    said = f"event 7: topic {later} is not known to this version"
    assert said in found["read"]
    recalled, refused = found["recall"]
    assert len(recalled) == len(history()) - 1
    assert len(refused) == 1
    assert said in refused[0]
    for road in ("rebuild", "live"):
        _, stopped = found[road]
        assert {"stats", "history", "components"} <= stopped.keys()
        assert all(said in why for why in stopped.values())
    ok, _, problems = found["verify"]
    assert not ok
    assert said in problems[0]
    assert said in found["export"]
    assert said in found["export folded"]
