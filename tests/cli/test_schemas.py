"""The published contract: it is what the code says, and what is written keeps to it."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import ValidationError

from healer.cli.contract import documents, drift
from healer.config import parse
from healer.domain.events import EVENT_TYPES
from projections.files import HealingFiles
from projections.history import HISTORY
from replay.export import TABLES, export
from tests import factory
from tests.cli.conftest import environment
from tests.conftest import ROOT
from tests.projections.build import MemoryLog, logs, random_log, view_of

SCHEMAS = ROOT / "schemas"
GOLDEN = ROOT / "tests" / "store" / "golden"
FILES = sorted(path.relative_to(SCHEMAS).as_posix() for path in SCHEMAS.rglob("*.json"))


def validator(name: str) -> Draft202012Validator:
    schema = json.loads((SCHEMAS / name).read_text())
    return Draft202012Validator(schema, format_checker=FormatChecker())


def test_the_schemas_are_those_of_the_code() -> None:
    assert drift(SCHEMAS) == [], "run `healer schemas schemas`, and say in CHANGELOG what changed"


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_a_schema_with_a_name_of_its_own(name: str) -> None:
    schema = json.loads((SCHEMAS / name).read_text())
    Draft202012Validator.check_schema(schema)
    assert re.fullmatch(r"urn:network-healer:schema:[a-z0-9_.-]+", schema["$id"])
    assert [other for other in FILES if _id(other) == schema["$id"]] == [name]


def _id(name: str) -> str:
    return str(json.loads((SCHEMAS / name).read_text())["$id"])


def test_every_event_type_has_a_file_of_its_version() -> None:
    assert {f"events/{topic}.json" for topic in EVENT_TYPES} <= set(FILES)


def golden() -> list[Any]:
    return [
        pytest.param(json.loads(line), id=f"{path.stem}:{number}")
        for path in sorted(GOLDEN.glob("*.jsonl"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
    ]


@pytest.mark.parametrize("stored", golden())
def test_golden_events_keep_to_the_schema_of_their_version(stored: dict[str, Any]) -> None:
    event = {
        **json.loads(stored["body"]),
        "originator_id": stored["stream"],
        "originator_version": stored["version"],
    }
    validator(f"events/{stored['topic']}.json").validate(event)


@pytest.mark.parametrize("event", factory.every_fact(), ids=lambda event: event.TOPIC)
def test_an_event_with_a_strange_or_a_missing_field_does_not(event: Any) -> None:
    check = validator(f"events/{event.TOPIC}.json")
    document = event.model_dump(mode="json")
    check.validate(document)
    with pytest.raises(ValidationError):
        check.validate({**document, "surprise": 1})
    with pytest.raises(ValidationError):
        check.validate({key: value for key, value in document.items() if key != "actor"})


def test_the_sample_configuration_keeps_to_its_schema() -> None:
    text = (ROOT / "docs" / "healer.yaml").read_text()
    check = validator("config.json")
    check.validate(yaml.safe_load(text))
    parse(text, source="docs/healer.yaml", environ={}, hostname="n1", directory=ROOT)
    with pytest.raises(ValidationError):
        check.validate({"componets": {}})
    with pytest.raises(ValidationError):
        check.validate({"components": {"chat_api": {"port": "http"}}})


@given(facts=logs())
@settings(max_examples=25, deadline=None)
def test_history_records_keep_to_their_schema(facts: list[Any]) -> None:
    check = validator("exports/history-record.v1.json")
    for record in view_of(HISTORY, facts):
        check.validate(json.loads(json.dumps(record)))


def test_the_lines_of_the_healing_files_keep_to_their_schema(tmp_path: Path) -> None:
    files = HealingFiles(tmp_path)
    files.feed(random_log(Random(1), issues=60))
    files.flush()
    check = validator("exports/healing-line.v1.json")
    lines = [line for path in tmp_path.iterdir() for line in path.read_text().splitlines()]
    assert len(lines) > 40
    for line in lines:
        check.validate(json.loads(line))


def test_the_rows_of_an_export_keep_to_the_schemas_of_their_tables(tmp_path: Path) -> None:
    log = MemoryLog(random_log(Random(2), issues=60))
    report = asyncio.run(export(log, tmp_path, format="jsonl"))
    assert {f"{name}-row.v{table.version}.json" for name, table in TABLES.items()} <= {
        Path(name).name for name in FILES
    }
    for name, table in TABLES.items():
        check = validator(f"exports/{name}-row.v{table.version}.json")
        lines = [
            line
            for path in tmp_path.glob(f"{name}/*/*.jsonl")
            for line in path.read_text().splitlines()
        ]
        assert len(lines) == report.tables[name].total > 0
        for line in lines:
            check.validate(json.loads(line))


@pytest.mark.parametrize("name", ["history-record.v1", "healing-line.v1"])
def test_no_field_of_a_line_is_left_out_or_optional(name: str) -> None:
    schema = json.loads((SCHEMAS / "exports" / f"{name}.json").read_text())
    assert set(schema["required"]) == set(schema["properties"])
    assert schema["additionalProperties"] is False


def healer(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "healer", "schemas", *arguments],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_command_writes_them_once_and_finds_what_differs(tmp_path: Path) -> None:
    first, again = healer("out", cwd=tmp_path), healer("out", cwd=tmp_path)
    assert json.loads(first.stdout)["written"] == list(documents())
    assert json.loads(again.stdout)["written"] == []
    assert healer("out", "--check", cwd=tmp_path).returncode == 0
    (tmp_path / "out" / "config.json").write_text("{}")
    (tmp_path / "out" / "events" / "issue.failed.v1.json").unlink()
    checked = healer("out", "--check", "-o", "table", cwd=tmp_path)
    assert checked.returncode == 1
    assert checked.stdout.splitlines() == [
        "events/issue.failed.v1.json is missing",
        "config.json is not the schema of today",
        "cannot accept out: run `healer schemas out`",
    ]


def test_a_place_that_cannot_be_written_is_one_line_and_status_2(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ran = healer("file", cwd=tmp_path)
    assert (ran.returncode, ran.stdout) == (2, "")
    [line] = ran.stderr.splitlines()
    assert line.startswith("healer: cannot write the schemas in file: ")
