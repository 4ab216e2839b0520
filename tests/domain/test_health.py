"""Health from probes: three outcomes, thresholds, epochs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healer.domain.health import Health, HealthState, Thresholds
from healer.domain.probe import Outcome, Reason

THRESHOLDS = st.builds(Thresholds, st.integers(1, 5), st.integers(1, 5))
LOOKS = st.lists(st.tuples(st.sampled_from(Outcome), st.booleans()), max_size=40)
STATES = st.builds(
    HealthState,
    st.sampled_from(Health),
    st.integers(0, 5),
    st.integers(0, 9),
    st.integers(0, 9),
)


def after(
    looks: list[tuple[Outcome, bool]], thresholds: Thresholds, state: HealthState | None = None
) -> HealthState:
    state = state or HealthState()
    for outcome, starting in looks:
        state = state.observe(outcome, thresholds, starting=starting)
    return state


@given(STATES, LOOKS, THRESHOLDS)
def test_what_was_seen_before_an_epoch_neither_triggers_nor_blocks_a_heal(
    old: HealthState, looks: list[tuple[Outcome, bool]], thresholds: Thresholds
) -> None:
    fresh = after(looks, thresholds, old.next_epoch(old.health))
    blank = after(looks, thresholds, HealthState(old.health, old.epoch + 1))
    assert fresh == blank
    assert not old.next_epoch(old.health).due(thresholds)


@given(STATES, st.integers(1, 50), THRESHOLDS)
def test_unknown_changes_nothing_however_often(
    state: HealthState, times: int, thresholds: Thresholds
) -> None:
    assert after([(Outcome.UNKNOWN, False)] * times, thresholds, state) == state


@given(LOOKS, THRESHOLDS)
def test_it_is_due_exactly_after_so_many_failures_that_count_in_a_row(
    looks: list[tuple[Outcome, bool]], thresholds: Thresholds
) -> None:
    failures = 0
    for outcome, starting in looks:
        if outcome is Outcome.HEALTHY:
            failures = 0
        elif outcome is Outcome.UNHEALTHY and not starting:
            failures += 1
    state = after(looks, thresholds)
    assert state.failures == failures
    assert state.due(thresholds) is (failures >= thresholds.failure)
    if state.due(thresholds) and looks and not looks[-1][1]:
        assert state.health in {Health.UNHEALTHY, Health.STARTING}


@given(st.integers(1, 50), THRESHOLDS)
def test_failures_of_the_start_period_do_not_count(times: int, thresholds: Thresholds) -> None:
    state = after([(Outcome.UNHEALTHY, True)] * times, thresholds)
    assert (state.health, state.failures) == (Health.STARTING, 0)
    assert not state.due(thresholds)
    first = state.observe(Outcome.HEALTHY, thresholds, starting=True)
    assert first.health is Health.HEALTHY


@given(THRESHOLDS)
def test_a_sick_one_recovers_after_so_many_successes(thresholds: Thresholds) -> None:
    sick = after([(Outcome.UNHEALTHY, False)] * thresholds.failure, thresholds)
    assert sick.health is Health.UNHEALTHY
    almost = after([(Outcome.HEALTHY, False)] * (thresholds.success - 1), thresholds, sick)
    assert almost.health is Health.UNHEALTHY
    assert almost.observe(Outcome.HEALTHY, thresholds, starting=False).health is Health.HEALTHY


def test_one_failure_makes_suspect_and_a_new_one_is_believed_at_once() -> None:
    thresholds = Thresholds(3, 2)
    assert after([(Outcome.HEALTHY, False)], thresholds).health is Health.HEALTHY
    looks = [(Outcome.HEALTHY, False), (Outcome.UNHEALTHY, False)]
    assert after(looks, thresholds).health is Health.SUSPECT


def test_an_exit_is_unhealthy_whatever_was_counted() -> None:
    gone = HealthState(Health.HEALTHY, successes=9).exited()
    assert (gone.health, gone.failures, gone.successes) == (Health.UNHEALTHY, 1, 0)


@pytest.mark.parametrize("starting", [True, False])
def test_a_failure_ends_a_row_of_successes_and_a_success_one_of_failures(starting: bool) -> None:
    thresholds = Thresholds(3, 2)
    well = HealthState(Health.SUSPECT, 7, 0, 1)
    assert well.observe(Outcome.UNHEALTHY, thresholds, starting=starting).successes == 0
    sick = HealthState(Health.UNHEALTHY, 7, 5, 0)
    better = sick.observe(Outcome.HEALTHY, thresholds, starting=starting)
    assert better == HealthState(Health.UNHEALTHY, 7, 0, 1)


def test_a_gap_in_the_watch_voids_what_was_counted_and_not_the_epoch() -> None:
    for before in (HealthState(Health.SUSPECT, 7, 2, 0), HealthState(Health.SUSPECT, 7, 0, 1)):
        assert before.voided() == HealthState(Health.SUSPECT, 7, 0, 0)


def test_every_reason_has_one_of_three_outcomes() -> None:
    outcomes = {reason: reason.outcome for reason in Reason}
    assert [r for r, o in outcomes.items() if o is Outcome.HEALTHY] == [Reason.OK]
    unknown = {r for r, o in outcomes.items() if o is Outcome.UNKNOWN}
    assert unknown == {Reason.PROBER_FAILED, Reason.VANTAGE_LOST}
