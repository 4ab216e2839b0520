"""The short form of the soak: a healer killed at the crash points of two remediations, and at
random; and proof that the soak would see it if that mattered."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.conftest import ROOT

# Each word of a soak is patient by itself; this is for a machine that works for many others.
PATIENCE = 280
pytestmark = pytest.mark.timeout(300)


def soak(*words: str) -> dict[str, Any]:
    """Run the soak; its result."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak", "--json", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.stdout, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == bool(result["broken"]), done.stderr
    result["stderr"] = done.stderr
    return result


@pytest.mark.parametrize(
    ("fault", "moment"), [("close_listener", "acknowledged"), ("orphan", "before_append")]
)
def test_a_healer_killed_at_any_append_of_a_remediation_heals_when_it_is_back(
    fault: str, moment: str
) -> None:
    result = soak("--only-exhaust", "--faults", fault, "--moments", moment)
    assert not result["broken"], result["stderr"]
    assert result["points"][f"{fault} {moment}"] >= 3, result
    assert result["counts"]["issues"] == result["counts"]["issues verified"]


def test_healers_killed_at_random_beside_each_other_heal_when_they_are_back() -> None:
    result = soak("--no-exhaust", "--kills", "6", "--arenas", "2")
    assert not result["broken"], result["stderr"]
    assert result["arenas"] == 2
    assert result["kills"] >= 6


@pytest.mark.parametrize(
    ("plant", "words", "promise"),
    [
        ("early_ack", ("--round", "kill:before_append:2"), "acknowledged event"),
        ("blind_start", ("--round", "kill:spawned:1"), "effect done twice"),
        ("kill_foreign", ("--round", "sick_thief:spawned:1"), "signal to another process"),
    ],
)
def test_the_soak_finds_a_planted_defect(plant: str, words: tuple[str, ...], promise: str) -> None:
    result = soak("--plant", plant, *words)
    found = {kind for broken in result["broken"] for kind, _ in broken["found"]}
    assert any(kind.startswith(promise) for kind in found), found


def test_a_reused_pid_is_hit_by_plain_pid_and_by_nobody_who_holds_the_process() -> None:
    words = ("--rounds", "20", "--controls", "20", "--json")
    argv = [sys.executable, "-m", "tests.soak.pid_reuse", *words]
    done = subprocess.run(
        argv, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    if done.returncode == 3:
        pytest.skip(f"pids cannot be forced to be reused here: {done.stderr.strip()}")
    seen = json.loads(done.stdout)
    assert seen["forced reuses"] == seen["control by plain pid: hit"] == 20
    assert seen["taken for the victim"] == seen["innocents signalled"] == 0


@pytest.mark.soak
def test_power_cuts_lose_nothing_acknowledged() -> None:
    argv = [sys.executable, "-m", "tests.soak.powercut", "--cuts", "20", "--controls", "20"]
    done = subprocess.run(
        [*argv, "--json"], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    if done.returncode == 3:
        pytest.skip(f"no power can be cut here: {done.stderr.strip()}")
    seen = json.loads(done.stdout)
    assert seen["default"]["power cuts"] == seen["control"]["power cuts"] == 20
    assert seen["default"]["lost"] == seen["default"]["corrupt"] == 0, done.stderr
    assert seen["control"]["lost"] > 0
