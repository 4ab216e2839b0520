"""Back-off, budget, concurrency, quorum, dependency: the arithmetic."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healer.domain.policy import Fleet, Go, Ledger, Withhold, backoff_delay, gate, resting
from healer.domain.spec import Backoff, Budget, Mode

CHANCE = st.floats(0, 1, exclude_max=True)
BACKOFFS = st.builds(
    Backoff,
    initial=st.floats(0, 1e6),
    factor=st.floats(1, 100),
    max=st.floats(0, 1e9),
    jitter=st.floats(0, 1),
)
FRESH = Ledger()
NOW = 1000.0


def fleet(**fields: object) -> Fleet:
    return Fleet(**{"components": 10, "unhealthy": 1, "healing": 0, **fields})  # type: ignore[arg-type]


@given(BACKOFFS, st.integers(1, 10**9), CHANCE)
def test_a_pause_is_finite_and_within_its_jitter(
    backoff: Backoff, attempts: int, chance: float
) -> None:
    delay = backoff_delay(backoff, attempts, chance)
    full = backoff_delay(backoff, attempts, 0.0)
    assert math.isfinite(delay)
    assert full * (1 - backoff.jitter) <= delay <= full <= backoff.max or full == 0


@given(BACKOFFS, st.integers(1, 2000))
def test_pauses_grow_until_they_are_capped(backoff: Backoff, attempts: int) -> None:
    now, later = (backoff_delay(backoff, number, 0.0) for number in (attempts, attempts + 1))
    assert now <= later
    if backoff.factor > 1.1 and backoff.initial > 1e-3:
        assert backoff_delay(backoff, 10**6, 0.0) == backoff.max


@pytest.mark.parametrize(
    ("attempts", "seconds"), [(0, 0), (1, 1), (2, 2), (3, 4), (9, 256), (10, 300)]
)
def test_the_default_pauses(attempts: int, seconds: float) -> None:
    assert backoff_delay(Backoff(jitter=0), attempts, 0.9) == seconds


def test_the_first_heal_never_waits() -> None:
    assert gate(FRESH, Budget(), fleet(), Mode.ACT, NOW) == Go()


def test_the_next_heal_waits_exactly_its_pause() -> None:
    ledger = FRESH.attempted(NOW, Backoff(initial=10, jitter=0), 0.5)
    early = gate(ledger, Budget(), fleet(), Mode.ACT, NOW + 9.5)
    assert early == Withhold("backoff", {"attempts": 1, "delay": 10.0, "elapsed": 9.5}, 0.5)
    assert gate(ledger, Budget(), fleet(), Mode.ACT, NOW + 10) == Go()


def spent(budget: Budget, attempts: int | None = None) -> Ledger:
    ledger = FRESH
    for _ in range(budget.attempts if attempts is None else attempts):
        ledger = ledger.attempted(NOW, budget.backoff, 0.0)
    return ledger


def test_a_budget_is_spent_by_its_last_attempt_and_rearms() -> None:
    budget = Budget(attempts=3, rearm_after=300, backoff=Backoff(initial=0))
    assert gate(spent(budget, 2), budget, fleet(), Mode.ACT, NOW) == Go()
    refused = gate(spent(budget), budget, fleet(), Mode.ACT, NOW + 100)
    figures = {"attempts": 3, "allowed": 3, "rearm_after": 300}
    assert refused == Withhold("budget_spent", figures, 200, page=True)
    assert gate(spent(budget), budget, fleet(), Mode.ACT, NOW + 300) == Go(rearmed=True)


def test_after_rearming_half_open_one_more_attempt_spends_it_again() -> None:
    budget = Budget(attempts=3, rearm_after=300, backoff=Backoff(initial=0))
    half_open = Ledger(attempts=budget.attempts - 1).attempted(NOW, budget.backoff, 0.0)
    refused = gate(half_open, budget, fleet(), Mode.ACT, NOW + 1)
    assert isinstance(refused, Withhold)
    assert refused.reason == "budget_spent"


@given(st.integers(1, 50), st.integers(0, 60))
def test_the_heal_that_is_asked_for_counts_among_those_at_once(limit: int, healing: int) -> None:
    verdict = gate(FRESH, Budget(max_concurrent=limit), fleet(healing=healing), Mode.ACT, NOW)
    assert isinstance(verdict, Go) is (healing + 1 <= limit)


@given(st.integers(1, 100), st.floats(0, 1), st.integers(1, 10), st.data())
def test_the_quorum_holds_from_the_first_one_too_many(
    components: int, share: float, least: int, data: st.DataObject
) -> None:
    budget = Budget(max_unhealthy=share, min_unhealthy=least)
    limit = max(least, int(share * components))
    unhealthy = data.draw(st.integers(0, components))
    verdict = gate(FRESH, budget, fleet(components=components, unhealthy=unhealthy), Mode.ACT, NOW)
    assert isinstance(verdict, Withhold) is (unhealthy > limit)
    if isinstance(verdict, Withhold):
        assert verdict.page
        assert verdict.arithmetic["limit"] == limit


def test_a_quorum_hold_has_its_time_and_then_goes_one_by_one() -> None:
    budget = Budget(min_unhealthy=1, max_unhealthy=0.2, rearm_after=300)
    together = {"unhealthy": 3, "shared": "bus"}
    held = gate(FRESH, budget, fleet(**together, hold_age=299), Mode.ACT, NOW)
    assert isinstance(held, Withhold)
    assert (held.reason, held.retry_in, held.cause, held.page) == ("quorum", 1, "bus", True)
    assert gate(FRESH, budget, fleet(**together, hold_age=300), Mode.ACT, NOW) == Go()
    second = gate(FRESH, budget, fleet(**together, hold_age=300, healing=1), Mode.ACT, NOW)
    assert isinstance(second, Withhold)
    assert (second.reason, second.page) == ("quorum", False)


@pytest.mark.parametrize(
    ("fields", "mode", "reason", "forced"),
    [
        ({"paused": True}, Mode.ACT, "paused", "paused"),
        ({}, Mode.OBSERVE, "observe", None),
        ({"maintenance": True}, Mode.ACT, "maintenance", None),
        ({"blocked_by": "bus"}, Mode.ACT, "dependency", None),
        ({"unhealthy": 10}, Mode.ACT, "quorum", None),
        ({"healing": 4}, Mode.ACT, "concurrency", "concurrency"),
    ],
)
def test_what_an_operator_overrules_and_what_not(
    fields: dict[str, object], mode: Mode, reason: str, forced: str | None
) -> None:
    verdict = gate(FRESH, Budget(), fleet(**fields), mode, NOW)
    assert isinstance(verdict, Withhold)
    assert verdict.reason == reason
    assert verdict.cause == fields.get("blocked_by")
    by_hand = gate(FRESH, Budget(), fleet(**fields), mode, NOW, forced=True)
    assert getattr(by_hand, "reason", None) == forced


@given(st.integers(1, 20), st.floats(0, 1e6))
def test_an_operator_overrules_back_off_and_budget(attempts: int, since: float) -> None:
    ledger = spent(Budget(), attempts)
    assert isinstance(gate(ledger, Budget(), fleet(), Mode.ACT, NOW + since, forced=True), Go)


def test_only_a_long_healthy_stretch_starts_anew() -> None:
    ledger = spent(Budget(), 3).became_healthy(NOW)
    assert ledger.became_healthy(NOW + 5) == ledger
    assert ledger.became_unhealthy(NOW + 599, 600).attempts == 3
    assert ledger.became_unhealthy(NOW + 599, 600).healthy_since is None
    assert ledger.became_unhealthy(NOW + 600, 600) == Ledger()
    assert spent(Budget(), 3).became_unhealthy(NOW + 9999, 600).attempts == 3


def test_a_refused_heal_rests_and_is_suggested_again_when_its_rest_is_over() -> None:
    budget = Budget(denial_rests=900)
    denied = Ledger(denied=NOW)
    refused = Withhold("denied", {"denial_rests": 900.0, "elapsed": 300.0}, 600.0)
    assert resting(denied, budget, NOW + 300) == refused
    assert resting(denied, budget, NOW + 899.5) is not None
    assert resting(denied, budget, NOW + 900) is None
    assert resting(FRESH, budget, NOW) is None
    assert gate(denied, budget, fleet(), Mode.SUGGEST, NOW + 300) == refused
    assert gate(denied, budget, fleet(), Mode.SUGGEST, NOW + 900) == Go()
    assert gate(denied, budget, fleet(), Mode.ACT, NOW + 300) == Go()
    assert gate(denied, budget, fleet(), Mode.SUGGEST, NOW + 300, forced=True) == Go()


def test_a_refusal_is_forgotten_by_health_and_by_the_next_heal() -> None:
    denied = Ledger(attempts=1, last=NOW, denied=NOW)
    assert denied.became_healthy(NOW + 1) == Ledger(attempts=1, last=NOW, healthy_since=NOW + 1)
    assert denied.attempted(NOW + 1, Backoff(initial=4, jitter=0), 0.0) == Ledger(
        attempts=2, last=NOW + 1, delay=8.0
    )
    assert denied.became_unhealthy(NOW + 1, 600).denied == NOW


@pytest.mark.parametrize(
    ("backoff", "attempts", "chance", "seconds"),
    [
        (Backoff(initial=0), 3, 0.0, 0.0),
        (Backoff(initial=0.5, factor=3, jitter=0), 3, 0.0, 4.5),
        (Backoff(initial=1, factor=2, max=300, jitter=0.5), 3, 0.5, 3.0),
        (Backoff(initial=1, factor=2, max=300, jitter=1), 20, 0.75, 75.0),
        (Backoff(initial=1, factor=1.01, max=1e9, jitter=0), 901, 0.0, 1.01**900),
        (Backoff(initial=1, factor=1.01, max=1e9, jitter=0), 2001, 0.0, 1.01**1000),
        (Backoff(initial=1, factor=2.5, max=1e30, jitter=0), 2001, 0.0, 2.5**64),
        (Backoff(initial=1, factor=2, max=1e30, jitter=0), 65, 0.0, 2.0**64),
        (Backoff(initial=1, factor=2, max=1e30, jitter=0), 2001, 0.0, 2.0**64),
    ],
)
def test_a_pause_is_the_formula_s(
    backoff: Backoff, attempts: int, chance: float, seconds: float
) -> None:
    assert backoff_delay(backoff, attempts, chance) == pytest.approx(seconds)


def test_every_refusal_carries_the_arithmetic_that_it_was_made_on() -> None:
    budget = Budget(min_unhealthy=1, max_unhealthy=0.25, rearm_after=300, max_concurrent=2)
    together = {"unhealthy": 3, "shared": "bus"}
    figures = {"unhealthy": 3, "components": 10, "max_unhealthy": 0.25, "limit": 2}

    def verdict(**fields: object) -> Go | Withhold:
        return gate(FRESH, budget, fleet(**fields), Mode.ACT, NOW)

    assert verdict(**together) == Withhold("quorum", figures, 300.0, cause="bus", page=True)
    assert verdict(**together, hold_age=300, healing=1) == Withhold(
        "quorum", figures | {"healing": 1}, cause="bus"
    )
    assert verdict(healing=2) == Withhold("concurrency", {"healing": 2, "max_concurrent": 2})
    assert verdict(paused=True) == Withhold("paused", {})
    assert verdict(maintenance=True) == Withhold("maintenance", {})
    assert verdict(blocked_by="db") == Withhold("dependency", {}, cause="db")
    assert gate(FRESH, budget, fleet(), Mode.OBSERVE, NOW) == Withhold("observe", {})
