"""A component's health, from its probes: a pure state machine with an epoch.

Evidence has an epoch. A heal (or a new process) opens a new one, and the counters start from zero
by construction: a failure seen before it can neither trigger nor block the next heal.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from healer.domain.probe import Outcome

__all__ = ["Health", "HealthState", "Thresholds"]


class Health(StrEnum):
    """STARTING: in its start period. SUSPECT: has failed, fewer times than the threshold.
    UNKNOWN: nothing is known, or the prober itself is in trouble."""

    UNKNOWN = "unknown"
    STARTING = "starting"
    HEALTHY = "healthy"
    SUSPECT = "suspect"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Probes in a row that change a component's health."""

    failure: int = 3
    success: int = 2


@dataclass(frozen=True, slots=True)
class HealthState:
    """Where a component stands, and the evidence of this epoch that put it there.

    `health` is what people are shown; what heals is `due`, which counts this epoch's evidence only.
    """

    health: Health = Health.UNKNOWN
    epoch: int = 0
    failures: int = 0
    successes: int = 0

    def observe(self, outcome: Outcome, thresholds: Thresholds, *, starting: bool) -> HealthState:
        """The state after one probe.

        An unknown outcome changes no counter and never makes a component unhealthy. In the start
        period (`starting`) failures do not count, but a success ends the waiting.
        """
        match outcome:
            case Outcome.UNKNOWN:
                return self
            case Outcome.HEALTHY:
                successes = self.successes + 1
                recovering = self.health in {Health.UNHEALTHY, Health.SUSPECT}
                enough = not recovering or successes >= thresholds.success
                health = Health.HEALTHY if enough else self.health
                return HealthState(health, self.epoch, 0, successes)
            case Outcome.UNHEALTHY:
                if starting:
                    return replace(self, health=Health.STARTING, successes=0)
                failures = self.failures + 1
                unhealthy = failures >= thresholds.failure or self.health is Health.UNHEALTHY
                health = Health.UNHEALTHY if unhealthy else Health.SUSPECT
                return replace(self, health=health, failures=failures, successes=0)

    def due(self, thresholds: Thresholds) -> bool:
        """Whether this epoch holds enough evidence for a heal."""
        return self.failures >= thresholds.failure

    def exited(self) -> HealthState:
        """The state after the component's process ended and nothing answers: it is down."""
        return replace(self, health=Health.UNHEALTHY, failures=self.failures + 1, successes=0)

    def voided(self) -> HealthState:
        """The state after a gap in our own watch: what was counted before it says nothing now."""
        return replace(self, failures=0, successes=0)

    def next_epoch(self, health: Health) -> HealthState:
        """A new life, begun in `health`: nothing seen before counts."""
        return HealthState(health=health, epoch=self.epoch + 1)
