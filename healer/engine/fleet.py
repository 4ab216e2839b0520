"""What all components have in common: who is unhealthy, who is being healed, who may be healed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace

from healer.domain.policy import Fleet, Ledger, Verdict, Withhold, gate, resting
from healer.domain.spec import Budget, ComponentSpec, Mode
from healer.engine.turn import Turns
from healer.ports import Clock, Ids

__all__ = ["FleetBook"]


class FleetBook:
    """Counts heals and failures over all components of this node, and asks the policy.

    `asked` counts how often it did: what a storm costs.
    """

    def __init__(
        self, specs: Mapping[str, ComponentSpec], budget: Budget, *, clock: Clock, ids: Ids
    ) -> None:
        self.specs = dict(specs)
        self.budget = budget
        self._clock = clock
        self._ids = ids
        self._ledgers: dict[str, Ledger] = {}
        self._before: dict[str, Ledger] = {}
        self._seen_healthy: set[str] = set()
        self._unhealthy: set[str] = set()
        self._healing: set[str] = set()
        self._failed: set[str] = set()
        self._leant_on: Counter[str] = Counter()
        self._hold_since: float | None = None
        self._turns = Turns()
        self.asked = 0
        self.paused = False

    def reload(self, specs: Mapping[str, ComponentSpec], budget: Budget) -> None:
        """Count these components from now on, under this budget."""
        self.specs = dict(specs)
        self.budget = budget
        failed, self._failed = self._failed, set()
        self._leant_on.clear()
        for name in failed:
            self._count(name)
        self._turns.ring_all()

    def forget(self, name: str) -> None:
        """Nothing of a component counts any more."""
        self._ledgers.pop(name, None)
        self._before.pop(name, None)
        for known in (self._seen_healthy, self._unhealthy, self._healing):
            known.discard(name)
        self._count(name)
        self.specs.pop(name, None)
        self._turns.ring_all()

    @property
    def healing(self) -> frozenset[str]:
        """Components that a playbook is acting on now."""
        return frozenset(self._healing)

    @property
    def unhealthy(self) -> frozenset[str]:
        """Components that are known not to be healthy."""
        return frozenset(self._unhealthy)

    def ledger(self, name: str) -> Ledger:
        """The heals in a row of a component."""
        return self._ledgers.get(name, Ledger())

    def restore(self, name: str, attempts: int, age: float) -> None:
        """Take over what the log says: `attempts` in a row, the last one `age` seconds ago."""
        now = self._clock.monotonic()
        self._before.pop(name, None)
        ledger = Ledger(attempts=attempts - 1)
        self._ledgers[name] = ledger.attempted(now - age, self.budget.backoff, self._ids.chance())

    def deny(self, name: str, age: float = 0.0) -> None:
        """A person refused to have `name` healed, `age` seconds ago."""
        denied = self._clock.monotonic() - age
        self._ledgers[name] = replace(self.ledger(name), denied=denied)
        self.announce(name)

    def resting(self, name: str) -> Withhold | None:
        """Why a heal of `name` may not be suggested now; None when it may be."""
        return resting(self.ledger(name), self.budget, self._clock.monotonic())

    def mark(self, name: str, *, healthy: bool) -> None:
        """Take in a component's health."""
        now = self._clock.monotonic()
        ledger = self.ledger(name)
        if healthy:
            self._seen_healthy.add(name)
            self._unhealthy.discard(name)
            self._ledgers[name] = ledger.became_healthy(now)
            self._turns.recovered(name)
        else:
            self._unhealthy.add(name)
            self._ledgers[name] = ledger.became_unhealthy(now, self.budget.backoff.reset_after)
        self._count(name)
        if len(self._failed) <= self._limit:
            self._hold_since = None
        elif self._hold_since is None:
            self._hold_since = now
        self.announce(name)
        self._turns.offer()

    def ask(self, name: str, mode: Mode, *, maintenance: bool, forced: bool) -> Verdict:
        """Whether a heal of `name` may begin now. A place that is offered to another is taken."""
        self.asked += 1
        now = self._clock.monotonic()
        blocked = sorted(self._unhealthy.intersection(self.specs[name].depends_on))
        failed_together = len(self._failed) + (name not in self._failed)
        fleet = Fleet(
            components=len(self.specs),
            unhealthy=failed_together if name in self._seen_healthy else 0,
            healing=len((self._healing | self._turns.offered) - {name}),
            blocked_by=blocked[0] if blocked else None,
            hold_age=None if self._hold_since is None else now - self._hold_since,
            shared=self._shared(name, failed_together),
            paused=self.paused,
            maintenance=maintenance,
        )
        return gate(self.ledger(name), self.budget, fleet, mode, now, forced=forced)

    def waiting(
        self, name: str, verdict: Withhold, ask: Callable[[], Verdict]
    ) -> AbstractContextManager[asyncio.Event]:
        """See `Turns.waiting`."""
        return self._turns.waiting(name, verdict, ask)

    def leave(self, name: str) -> None:
        """See `Turns.leave`."""
        self._turns.leave(name)

    def begin(self, name: str, *, rearmed: bool) -> int:
        """A heal of `name` begins; the number of this attempt in a row."""
        ledger = self._before[name] = self.ledger(name)
        if rearmed:
            # Half open: one more try, not a whole new budget, until it stays healthy.
            ledger = Ledger(attempts=self.budget.attempts - 1)
        now = self._clock.monotonic()
        ledger = ledger.attempted(now, self.budget.backoff, self._ids.chance())
        self._ledgers[name] = ledger
        self._healing.add(name)
        return ledger.attempts

    def resume(self, name: str) -> None:
        """A heal of `name` that a former healer began goes on: it is no further attempt."""
        self._healing.add(name)

    def end(self, name: str, *, counts: bool = True) -> None:
        """The heal of `name` is over, however it ended. One that the log never heard of is no
        attempt, and `counts` for nothing."""
        before = self._before.pop(name, None)
        if before is not None and not counts:
            self._ledgers[name] = before
        self._healing.discard(name)
        self.announce(name)
        self._turns.offer()

    def rearm(self, name: str) -> None:
        """Give a component its whole budget back."""
        self._before.pop(name, None)
        self._ledgers[name] = Ledger()
        self.announce(name)

    def pause(self, *, paused: bool) -> None:
        """Withhold all heals, or allow them again."""
        self.paused = paused
        self._turns.ring_all()

    def bell(self, name: str) -> asyncio.Event:
        """Rings once, when something changes that concerns the component."""
        return self._turns.bell(name)

    async def changed(self, name: str) -> None:
        """Wait until something has changed that concerns the component."""
        await self.bell(name).wait()

    @property
    def _limit(self) -> int:
        share = int(self.budget.max_unhealthy * len(self.specs))
        return max(self.budget.min_unhealthy, share)

    def _count(self, name: str) -> None:
        """Take in whether `name` is among those that were healthy before and are not now."""
        failed = name in self._unhealthy and name in self._seen_healthy
        if failed == (name in self._failed):
            return
        (self._failed.add if failed else self._failed.discard)(name)
        spec = self.specs.get(name)
        for dependency in set(spec.depends_on if spec else ()):
            self._leant_on[dependency] += 1 if failed else -1

    def _shared(self, name: str, count: int) -> str | None:
        """A dependency that `name` has in common with all who failed, `count` together."""
        failed = name in self._failed
        return min(
            (
                dependency
                for dependency in self.specs[name].depends_on
                if self._leant_on[dependency] + (not failed) == count
            ),
            default=None,
        )

    def announce(self, name: str) -> None:
        """Something has changed that a heal of this component could depend on."""
        self._turns.ring(name)
