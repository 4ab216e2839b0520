"""The gate of `make coverage` closes for each part by itself."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT

PARTS = ("healer/domain", "healer/engine", "healer/playbooks", "projections", "replay")


def asked(taken: dict[str, int]) -> subprocess.CompletedProcess[str]:
    """What the gate says of parts of 100 branches, so many of them taken, in two files each."""
    files = {
        f"{part}/{name}.py": {"summary": {"num_branches": 50, "covered_branches": count}}
        for part, all_of_it in taken.items()
        for name, count in (("a", all_of_it - 48), ("b/c", 48))
    }
    # What belongs to no part counts nowhere, whatever it is called.
    files["healer/engineer.py"] = {"summary": {"num_branches": 9, "covered_branches": 0}}
    return subprocess.run(
        [sys.executable, "-m", "tests.branches"],
        input=json.dumps({"files": files}),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_parts_that_are_good_enough_pass() -> None:
    ran = asked(dict.fromkeys(PARTS, 95))
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "branches taken of healer/engine: 95.00 %\n" in ran.stdout


@pytest.mark.parametrize("part", PARTS)
def test_one_part_that_is_not_is_named_and_fails(part: str) -> None:
    ran = asked({**dict.fromkeys(PARTS, 98), part: 94})
    assert ran.returncode == 1
    lines = [line for line in ran.stdout.splitlines() if "fewer" in line]
    assert lines == [f"branches taken of {part}: 94.00 %: fewer than the 95 % that it has to be"]


def test_a_part_of_which_nothing_was_measured_fails() -> None:
    assert asked(dict.fromkeys(PARTS[1:], 98)).returncode == 1
