"""`healer archive`, as a person types it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from random import Random

import pytest

from healer.store.cold import segments_of
from healer.store.connection import connect
from tests.projections.build import random_log
from tests.replay.on_disk import write

pytest.importorskip("pyarrow", reason="pyarrow is not installed: the extra `export`")


@pytest.fixture
def store(house) -> str:
    facts = random_log(Random(2), issues=20, components=1)
    return asyncio.run(write(house.directory / "healer.db", facts))


def test_figures_stay_and_the_log_verifies(house, store):
    before = house.json("stats", "--store", store)
    done = house.json("archive", "--before", "-1s", "--store", store, "--out", "cold")
    assert done["events"] > 0
    assert "/cold/events-" in done["path"]
    assert house.json("stats", "--store", store) == before
    report = house.json("replay", "verify", "--store", store)
    assert (report["ok"], report["unseen"]) == (True, 0)
    connection = connect(house.directory / "healer.db", writing=False)
    assert segments_of(connection, house.directory / "healer.db")
    connection.close()


def test_a_table_says_where_it_went_and_a_second_run_finds_nothing(house, store):
    command = ("archive", "--before", "-1d", "--store", store, "-o", "table")
    ran = house.run(*command)
    assert ran.returncode == 0, ran.stderr
    assert "up to position" in ran.stdout
    assert "nothing to archive" in house.run(*command).stdout
    away = (house.directory / "healer.db.archive").rename(house.directory / "away")
    ran = house.run("replay", "verify", "--store", store, "-o", "table")
    assert ran.returncode == 0, ran.stdout
    assert "NOT SEEN" in ran.stdout
    ran = house.run("stats", "--store", store)
    assert ran.returncode == 2
    assert "cannot read the archive" in ran.stderr
    away.rename(house.directory / "healer.db.archive")


def test_a_program_gets_one_json_document_and_nothing_else(house, store):
    def archive(*words):
        ran = house.run("archive", "--store", store, *words, "-o", "json")
        return ran.returncode, ran.stdout, ran.stderr

    status, printed, said = archive("--before", "-1s")
    assert (status, said) == (0, "")
    done = json.loads(printed)
    first, last = done["path"].removesuffix(".parquet").split("-")[-2:]
    assert (int(first), int(last)) == (1, done["last"])
    assert done["size"] == sum(
        file.stat().st_size for file in Path(done["path"]).parent.glob("*.parquet")
    )
    status, printed, said = archive("--before", "-1s")
    assert (status, said) == (0, "")
    nothing = {"events": 0, "last": 0, "path": None, "size": 0, "freed": 0}
    assert json.loads(printed) == nothing | {"held_by": done["held_by"], "unreturned": None}
    status, printed, said = archive("--before", "2999-01-01")
    assert (status, printed) == (2, "")
    assert said.startswith("healer: cannot archive")


def test_a_healer_does_not_start_where_its_past_cannot_be_read(house, store):
    assert house.run("archive", "--before", "-1s", "--store", store).returncode == 0
    away = (house.directory / "healer.db.archive").rename(house.directory / "away")
    process = house.start()
    assert process.wait(60) == 2
    assert "cannot read the archive" in house.log.read_text()
    away.rename(house.directory / "healer.db.archive")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--before", "yesterday"), "cannot read the time 'yesterday'"),
        (("--before", "2999-01-01"), "lies in the future"),
        (("--before", "17"), "it is a position"),
        (("--before", "2026-01-01", "--store", "postgresql://x@y/z"), "without --out DIR"),
        (("--before", "2026-01-01", "--store", "sqlite:///none.db", "--key", "k"), "no --key"),
        (
            ("--before", "2026-01-01", "--store", "postgresql:///z?host=/none", "--out", "cold"),
            "cannot archive postgresql:///none/z",
        ),
        (("--before", "2026-01-01", "--store", "sqlite:///none.db"), "none.db"),
        (("--store", "sqlite:///healer.db"), "--before"),
    ],
)
def test_bad_input_is_refused_and_named(house, words, said):
    ran = house.run("archive", *words)
    assert ran.returncode == 2
    assert said in ran.stderr
    assert not (house.directory / "none.db").exists()
    assert not (house.directory / "none.db.lock").exists()
