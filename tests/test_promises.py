"""The tables of faults and of threats name tests that exist, and leave nothing out."""

from __future__ import annotations

import re

import pytest

from tests.conftest import ROOT

FAULTS = (
    "disk full",
    "read-only directory",
    "database locked",
    "database file removed",
    "database file corrupted",
    "PostgreSQL restarted or cut off",
    "fork fails",
    "out of descriptors",
    "wall clock jumps",
    "machine suspended",
    "own network down",
    "DNS hangs",
    "accepts and never answers",
    "endless bytes",
    "HTTP redirect loop",
    "slow loris",
    "launcher never returns",
)
SITUATIONS = (
    "pid reused between look and signal",
    "a client is connected",
    "TIME_WAIT",
    "zombie",
    "child keeps the socket",
    "SO_REUSEPORT",
    "cannot be inspected",
    "the healer itself, an ancestor",
    "another network namespace",
)
THREATS = tuple(f"T{number}" for number in range(1, 25))


def rows(name: str) -> list[list[str]]:
    lines = (ROOT / "docs" / name).read_text(encoding="utf-8").splitlines()
    cells = [line.strip("|").split(" | ") for line in lines if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in cells]


@pytest.fixture(scope="module")
def tests() -> set[str]:
    found: set[str] = set()
    for file in (ROOT / "tests").rglob("test_*.py"):
        text = file.read_text(encoding="utf-8")
        found.update(re.findall(r"^(?:async )?def (test_\w+)", text, re.MULTILINE))
    return found


@pytest.mark.parametrize(
    ("name", "subjects"), [("faults.md", (*FAULTS, *SITUATIONS)), ("threats.md", THREATS)]
)
def test_each_promise_has_tests_and_each_test_exists(
    name: str, subjects: tuple[str, ...], tests: set[str]
) -> None:
    promised = [row for row in rows(name) if "`test_" in row[-1]]
    for subject in subjects:
        assert any(re.search(rf"{re.escape(subject)}\b", row[0]) for row in promised), subject
    for row in promised:
        named = re.findall(r"`(\w+)`", row[-1])
        assert named, row
        assert set(named) <= tests, (row[0], set(named) - tests)
