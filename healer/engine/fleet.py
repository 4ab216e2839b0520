"""What all components have in common: who is unhealthy, who is being healed, who may be healed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from healer.domain.policy import Fleet, Ledger, Verdict, gate
from healer.domain.spec import Budget, ComponentSpec, Mode
from healer.ports import Clock, Ids

__all__ = ["FleetBook"]


class FleetBook:
    """Counts heals and failures over all components of this node, and asks the policy."""

    def __init__(
        self, specs: Mapping[str, ComponentSpec], budget: Budget, *, clock: Clock, ids: Ids
    ) -> None:
        self.specs = dict(specs)
        self.budget = budget
        self._clock = clock
        self._ids = ids
        self._ledgers: dict[str, Ledger] = {}
        self._seen_healthy: set[str] = set()
        self._unhealthy: set[str] = set()
        self._healing: set[str] = set()
        self._hold_since: float | None = None
        self._changed = asyncio.Event()
        self.paused = False

    def reload(self, specs: Mapping[str, ComponentSpec], budget: Budget) -> None:
        """Count these components from now on, under this budget."""
        self.specs = dict(specs)
        self.budget = budget
        self.announce()

    def forget(self, name: str) -> None:
        """Nothing of a component counts any more."""
        self.specs.pop(name, None)
        self._ledgers.pop(name, None)
        for known in (self._seen_healthy, self._unhealthy, self._healing):
            known.discard(name)
        self.announce()

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
        ledger = Ledger(attempts=attempts - 1)
        self._ledgers[name] = ledger.attempted(now - age, self.budget.backoff, self._ids.chance())

    def mark(self, name: str, *, healthy: bool) -> None:
        """Take in a component's health."""
        now = self._clock.monotonic()
        ledger = self.ledger(name)
        if healthy:
            self._seen_healthy.add(name)
            self._unhealthy.discard(name)
            self._ledgers[name] = ledger.became_healthy(now)
        else:
            self._unhealthy.add(name)
            self._ledgers[name] = ledger.became_unhealthy(now, self.budget.backoff.reset_after)
        failed_together = self._unhealthy & self._seen_healthy
        if len(failed_together) <= self._limit:
            self._hold_since = None
        elif self._hold_since is None:
            self._hold_since = now
        self.announce()

    def ask(self, name: str, mode: Mode, *, maintenance: bool, forced: bool) -> Verdict:
        """Whether a heal of `name` may begin now."""
        now = self._clock.monotonic()
        spec = self.specs[name]
        failed_together = (self._unhealthy & self._seen_healthy) | {name}
        blocked = sorted(self._unhealthy.intersection(spec.depends_on))
        fleet = Fleet(
            components=len(self.specs),
            unhealthy=len(failed_together) if name in self._seen_healthy else 0,
            healing=len(self._healing - {name}),
            blocked_by=blocked[0] if blocked else None,
            hold_age=None if self._hold_since is None else now - self._hold_since,
            shared=self._shared(failed_together),
            paused=self.paused,
            maintenance=maintenance,
        )
        return gate(self.ledger(name), self.budget, fleet, mode, now, forced=forced)

    def begin(self, name: str, *, rearmed: bool) -> int:
        """A heal of `name` begins; the number of this attempt in a row."""
        ledger = self.ledger(name)
        if rearmed:
            # Half open: one more try, not a whole new budget, until it stays healthy.
            ledger = Ledger(attempts=self.budget.attempts - 1)
        now = self._clock.monotonic()
        ledger = ledger.attempted(now, self.budget.backoff, self._ids.chance())
        self._ledgers[name] = ledger
        self._healing.add(name)
        self.announce()
        return ledger.attempts

    def resume(self, name: str) -> None:
        """A heal of `name` that a former healer began goes on: it is no further attempt."""
        self._healing.add(name)
        self.announce()

    def end(self, name: str) -> None:
        """The heal of `name` is over, however it ended."""
        self._healing.discard(name)
        self.announce()

    def rearm(self, name: str) -> None:
        """Give a component its whole budget back."""
        self._ledgers[name] = Ledger()
        self.announce()

    def pause(self, *, paused: bool) -> None:
        """Withhold all heals, or allow them again."""
        self.paused = paused
        self.announce()

    async def changed(self) -> None:
        """Wait until something has changed that a withheld heal could depend on."""
        await self._changed.wait()

    @property
    def _limit(self) -> int:
        share = int(self.budget.max_unhealthy * len(self.specs))
        return max(self.budget.min_unhealthy, share)

    def _shared(self, names: set[str]) -> str | None:
        """A dependency that all of `names` have in common, if there is one."""
        dependencies = [set(self.specs[name].depends_on) for name in names if name in self.specs]
        common = set.intersection(*dependencies) if dependencies else set()
        return min(common) if common else None

    def announce(self) -> None:
        """Something has changed that a withheld heal could depend on."""
        self._changed.set()
        self._changed = asyncio.Event()
