"""The simulator finds what is planted, nothing where nothing is, and the same thing every time."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from healer.domain.events import Event, HealthChanged, RemediationStarted, StepFailed
from healer.domain.probe import Reason
from tests.conftest import ROOT
from tests.simulator.__main__ import hunt, shrink
from tests.simulator.bug import BUGS, LONG_BUGS, planted
from tests.simulator.case import DAY, Case, Fault, generate, generate_long
from tests.simulator.simulation import run

SEEDS = 60
BROKE = ROOT / "tests/simulator/broke"
"""Cases in which something was broken, each shrunk to the faults that it needs."""


def test_nothing_is_broken_in_two_virtual_hours_of_many_seeds() -> None:
    for seed in range(SEEDS):
        result = run(generate(seed))
        assert result.broken is None, f"seed {seed}: {result.broken}"


@pytest.mark.parametrize("path", sorted(BROKE.glob("*.json")), ids=lambda path: path.stem)
def test_what_was_broken_once_holds(path: Path) -> None:
    assert run(Case.load(path.read_bytes())).broken is None


def test_what_only_labels_could_tell_of_a_quiet_time_is_asked_of_no_new_healer() -> None:
    """By its log the heal of before the clock was set back may have been two minutes ago."""
    faults = (
        Fault(379.0, "wall", value=-0.53),
        Fault(1535.0, "kill", lasts=2.0),
        Fault(3320.0, "pause", lasts=630.0),
        Fault(3335.0, "crash"),
        Fault(3400.0, "kill", lasts=76.0),
    )
    facts: list[Event] = []
    assert run(Case(1, ("managed",), faults), facts=facts).broken is None
    assert [each.attempt for each in facts if isinstance(each, RemediationStarted)] == [1, 2]


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", BUGS)
def test_every_planted_bug_is_found_within_500_seeds(name: str) -> None:
    with planted(name):
        _, broken = hunt(500)
    assert broken is not None


_SOON = [
    "identity is pid and start tick",
    "everybody on the port is ours",
    "the intent is not durable before the effect",
    "a failed append is ignored",
    "a budget that is never spent",
    "observe acts",
    "processes are never let go",
]
"""Bugs that the first seeds find: for the ordinary run."""


@pytest.mark.parametrize("name", _SOON)
def test_a_planted_bug_is_found(name: str) -> None:
    with planted(name):
        _, broken = hunt(30)
    assert broken is not None


def _slow_start(profile: str, lasts: float) -> Case:
    return Case(1, (profile,), (Fault(400.0, "slow_launch", lasts=lasts),))


@pytest.mark.parametrize(
    ("profile", "lasts"), [("plain", 60.0), ("plain", 900.0), ("managed", 60.0), ("managed", 250.0)]
)
def test_what_starts_slowly_is_started_once(profile: str, lasts: float) -> None:
    facts: list[Event] = []
    result = run(_slow_start(profile, lasts), facts=facts)
    assert result.broken is None
    # The first, and the one that hung, though its manager was asked more than once.
    assert result.starts == 2
    given_up = sum(
        isinstance(event, StepFailed) and event.result.errno == errno.ETIMEDOUT for event in facts
    )
    assert bool(given_up) == (profile == "managed" and lasts > 100)


@pytest.mark.parametrize(
    ("name", "profile", "lasts", "code"),
    [
        ("a start that timed out is taken for started", "managed", 250.0, "start_made_up"),
        ("a start that takes long is left to itself", "plain", 60.0, "started_twice"),
    ],
)
def test_a_slow_start_finds_who_does_not_wait_for_it(
    name: str, profile: str, lasts: float, code: str
) -> None:
    with planted(name):
        broken = run(_slow_start(profile, lasts)).broken
    assert broken is not None
    assert broken.code == code


@pytest.mark.parametrize("often", [True, False])
def test_answers_that_come_too_late_are_timeouts_and_heal(often: bool) -> None:
    facts: list[Event] = []
    value = -1.0 if often else 1.0
    result = run(
        Case(1, ("plain",), (Fault(400.0, "slow_probe", lasts=300.0, value=value),)), facts=facts
    )
    assert result.broken is None
    probes = [event.probe for event in facts if isinstance(event, HealthChanged) and event.probe]
    late = [probe for probe in probes if probe.reason is Reason.TIMEOUT]
    assert late
    assert all(probe.elapsed == 1.0 for probe in late)
    if not often:
        assert any(0.3 <= probe.elapsed < 1.0 for probe in probes)


def test_the_same_seed_is_the_same_history_under_any_hash_seed() -> None:
    script = (
        "from tests.simulator.case import generate\n"
        "from tests.simulator.simulation import run\n"
        "print([run(generate(seed)).digest for seed in (3, 14, 15)])"
    )
    assert len(_printed(script, "0", "1", "4711")) == 1


def _printed(script: str, *hash_seeds: str) -> set[str]:
    """What a script prints under each of these PYTHONHASHSEEDs."""
    return {
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in hash_seeds
    }


def test_a_failing_case_is_shrunk_to_the_faults_that_it_needs() -> None:
    with planted("identity is pid and start tick"):
        seed, broken = hunt(30)
        case = generate(seed)
        small = shrink(case, "stranger_signalled")
        again = run(small).broken
    assert str(broken).startswith("stranger_signalled")
    assert len(small.faults) < len(case.faults)
    assert again is not None
    assert again.code == "stranger_signalled"


def test_a_case_survives_being_written_down() -> None:
    for seed in range(50):
        case = generate(seed)
        assert Case.load(case.dump()) == case


@pytest.mark.parametrize("text", [b"{}", b"[]", b'{"seed": 1, "components": ["x"], "faults": []}'])
def test_what_is_no_case_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="cannot read a case"):
        Case.load(text)


# Months

_LONG_SEEDS = 3
_DAYS = 12.0
"""So many days of each are played in the ordinary run."""


@pytest.mark.parametrize("seed", range(_LONG_SEEDS))
def test_nothing_is_broken_in_the_first_days_of_a_calm_machine(seed: int) -> None:
    result = run(generate_long(seed).until(_DAYS * DAY))
    assert result.broken is None
    assert result.virtual > _DAYS * DAY


def test_months_are_longer_and_calmer_than_hours() -> None:
    for seed in range(50):
        case = generate_long(seed)
        assert 90 * DAY <= case.pace.lasting <= 365 * DAY
        assert case.pace.interval >= 60.0
        assert all(fault.at < case.pace.lasting for fault in case.faults)
        assert Case.load(case.dump()) == case


def test_the_same_months_are_the_same_history_under_any_hash_seed() -> None:
    script = (
        "from tests.simulator.case import DAY, generate_long\n"
        "from tests.simulator.simulation import run\n"
        "print(run(generate_long(2).until(6 * DAY)).digest)"
    )
    assert len(_printed(script, "0", "4711")) == 1


_LONG_SOON = [
    "a note is kept of each heal",
    "a task is left by each heal",
    "a timer is left by each heal",
]


@pytest.mark.parametrize("name", _LONG_SOON)
def test_what_grows_with_each_heal_is_found_in_weeks(name: str) -> None:
    with planted(name):
        broken = run(generate_long(2).until(30 * DAY)).broken
    assert broken is not None
    assert broken.code == "grows"


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", LONG_BUGS)
def test_every_planted_bug_of_long_times_is_found_within_20_seeds(name: str) -> None:
    with planted(name):
        _, broken = hunt(20, generate_long)
    assert broken is not None


def test_a_failing_case_of_months_is_shrunk_in_time_as_well() -> None:
    case = generate_long(2).until(30 * DAY)
    with planted("a note is kept of each heal"):
        small = shrink(case, "grows")
        again = run(small).broken
    assert len(small.faults) < len(case.faults)
    assert small.pace.lasting < case.pace.lasting
    assert again is not None
    assert again.code == "grows"
