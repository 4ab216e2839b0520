"""How much healing is allowed: back-off, budget, concurrency, quorum, dependencies.

Pure: durations come in as monotonic seconds, chance as a number. A refusal carries the arithmetic
that it was made on. Counts are checked on the state *after* the action that is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from healer.domain.spec import Backoff, Budget, Mode

__all__ = ["Fleet", "Go", "Ledger", "Verdict", "Withhold", "backoff_delay", "gate", "resting"]


@dataclass(frozen=True, slots=True)
class Ledger:
    """One component's heals in a row.

    `attempts` counts them since the last healthy stretch, `last` is when the last one began,
    `delay` the pause drawn before the next, `healthy_since` when it was last seen to become
    healthy, `denied` when a person refused to have this failure healed; instants are monotonic
    seconds, None is never.
    """

    attempts: int = 0
    last: float | None = None
    delay: float = 0.0
    healthy_since: float | None = None
    denied: float | None = None

    def attempted(self, now: float, backoff: Backoff, chance: float) -> Ledger:
        """After one more heal began at `now`."""
        attempts = self.attempts + 1
        delay = backoff_delay(backoff, attempts, chance)
        return Ledger(attempts=attempts, last=now, delay=delay)

    def became_healthy(self, now: float) -> Ledger:
        """After the component was seen healthy; keeps the earliest instant of the stretch."""
        since = now if self.healthy_since is None else self.healthy_since
        return replace(self, healthy_since=since, denied=None)

    def became_unhealthy(self, now: float, reset_after: float) -> Ledger:
        """After the component failed: a healthy stretch that was long enough starts it anew."""
        if self.healthy_since is not None and now - self.healthy_since >= reset_after:
            return Ledger()
        return replace(self, healthy_since=None)


def backoff_delay(backoff: Backoff, attempts: int, chance: float) -> float:
    """Seconds between heal number `attempts` and the next, for `chance` in [0, 1).

    Exponential back-off with (partial) jitter: `initial * factor**(attempts-1)`, capped by `max`,
    then drawn evenly from its upper part of share `jitter`; after M. Brooker, "Exponential Backoff
    And Jitter" (AWS Architecture Blog, 2015).
    """
    if attempts < 1 or backoff.initial == 0:
        return 0.0
    # The cap is reached long before this exponent; larger ones would overflow a float.
    exponent = min(attempts - 1, 1000 if backoff.factor < 2 else 64)
    full = min(backoff.max, backoff.initial * backoff.factor**exponent)
    return full * (1 - backoff.jitter * chance)


@dataclass(frozen=True, slots=True)
class Fleet:
    """What is true of all components together when a heal is asked for.

    `unhealthy` counts the components that were healthy before and are not now, this one included;
    `healing` the heals under way, this one not. `blocked_by` is an unhealthy dependency of this
    component. `hold_age` is how long the quorum hold has lasted in seconds, None when there is
    none. `shared` is the dependency that all the unhealthy ones have in common, if any.
    """

    components: int
    unhealthy: int
    healing: int
    blocked_by: str | None = None
    hold_age: float | None = None
    shared: str | None = None
    paused: bool = False
    maintenance: bool = False


@dataclass(frozen=True, slots=True)
class Go:
    """The heal may begin; `rearmed` when a spent budget allows one more try."""

    rearmed: bool = False


@dataclass(frozen=True, slots=True)
class Withhold:
    """The heal may not begin. `retry_in`: seconds after which to ask again; None: when something
    changes. `page`: a person has to know."""

    reason: str
    arithmetic: dict[str, float]
    retry_in: float | None = None
    cause: str | None = None
    page: bool = False


Verdict = Go | Withhold


def gate(
    ledger: Ledger, budget: Budget, fleet: Fleet, mode: Mode, now: float, *, forced: bool = False
) -> Verdict:
    """Whether a heal may begin at `now`.

    An operator who heals by hand (`forced`) overrules the mode, maintenance, back-off, budget,
    quorum and dependency; the pause and the number of heals at once hold for everybody.
    """
    if fleet.paused:
        return Withhold("paused", {})
    if not forced:
        if mode is Mode.OBSERVE:
            return Withhold("observe", {})
        if fleet.maintenance:
            return Withhold("maintenance", {})
        refusal = resting(ledger, budget, now) if mode is Mode.SUGGEST else None
        if refusal is not None:
            return refusal
        refusal = _by_fleet(budget, fleet) or _by_ledger(ledger, budget, now)
        if refusal is not None:
            return refusal
    if fleet.healing + 1 > budget.max_concurrent:
        return Withhold(
            "concurrency", {"healing": fleet.healing, "max_concurrent": budget.max_concurrent}
        )
    return Go(rearmed=ledger.attempts >= budget.attempts)


def resting(ledger: Ledger, budget: Budget, now: float) -> Withhold | None:
    """Why a heal may not be suggested at `now`: a person has refused it. None: it may be."""
    if ledger.denied is None:
        return None
    elapsed = now - ledger.denied
    if elapsed >= budget.denial_rests:
        return None
    arithmetic = {"denial_rests": budget.denial_rests, "elapsed": elapsed}
    return Withhold("denied", arithmetic, budget.denial_rests - elapsed)


def _by_fleet(budget: Budget, fleet: Fleet) -> Withhold | None:
    if fleet.blocked_by is not None:
        return Withhold("dependency", {}, cause=fleet.blocked_by)
    limit = max(budget.min_unhealthy, int(budget.max_unhealthy * fleet.components))
    if fleet.unhealthy <= limit:
        return None
    arithmetic = {
        "unhealthy": fleet.unhealthy,
        "components": fleet.components,
        "max_unhealthy": budget.max_unhealthy,
        "limit": limit,
    }
    age = fleet.hold_age or 0.0
    if age < budget.rearm_after:
        remaining = budget.rearm_after - age
        return Withhold("quorum", arithmetic, remaining, cause=fleet.shared, page=True)
    # The hold has had its time. One at a time, so that healing cannot make it worse.
    if fleet.healing > 0:
        return Withhold("quorum", arithmetic | {"healing": fleet.healing}, cause=fleet.shared)
    return None


def _by_ledger(ledger: Ledger, budget: Budget, now: float) -> Withhold | None:
    if ledger.last is None:
        return None
    since = now - ledger.last
    if ledger.attempts >= budget.attempts:
        if since >= budget.rearm_after:
            return None
        arithmetic = {
            "attempts": ledger.attempts,
            "allowed": budget.attempts,
            "rearm_after": budget.rearm_after,
        }
        return Withhold("budget_spent", arithmetic, budget.rearm_after - since, page=True)
    if since >= ledger.delay:
        return None
    arithmetic = {"attempts": ledger.attempts, "delay": ledger.delay, "elapsed": since}
    return Withhold("backoff", arithmetic, ledger.delay - since)
