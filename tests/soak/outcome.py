"""What came out of one arena or of several, and how it is told."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from tests.soak.healer import BOUND

__all__ = ["PROMISES", "Outcome", "together"]

PROMISES: Final = (
    "acknowledged event lost",
    "acknowledged event changed",
    "chain",
    "legal",
    "effect done twice",
    "signal to another process",
    "component left down",
    "issue left open",
    "log and world",
    "at rest in time",
)
"""What a healer that is killed still keeps."""


@dataclass(slots=True)
class Outcome:
    """A run so far."""

    seed: str
    arenas: int = 1
    rounds: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    """How often a healer was killed, by moment."""
    points: dict[str, int] = field(default_factory=dict)
    """How many crash points were gone through, by `FAULT KIND`."""
    counts: Counter[str] = field(default_factory=Counter)
    """What stands in the logs."""
    recoveries: list[float] = field(default_factory=list)
    """Seconds from a last restart until all was at rest."""
    seconds: float = 0.0
    syncs: bool = True
    broken: list[dict[str, Any]] = field(default_factory=list)
    """The rounds in which a promise was broken."""

    @property
    def killed(self) -> int:
        return sum(self.kills.values())

    def as_object(self) -> dict[str, Any]:
        """For programs."""
        recoveries = self.recoveries or [0.0]
        return {
            "seed": self.seed,
            "arenas": self.arenas,
            "rounds": self.rounds,
            "kills": self.killed,
            "kills_by_moment": dict(self.kills),
            "points": self.points,
            "counts": dict(self.counts),
            "recovery_s": {
                "median": round(statistics.median(recoveries), 3),
                "max": round(max(recoveries), 3),
                "bound": BOUND,
            },
            "seconds": round(self.seconds, 1),
            "syncs": self.syncs,
            "broken": self.broken,
        }

    def as_table(self) -> str:
        """For people."""
        result = self.as_object()
        where = f"{self.arenas} arenas, " if self.arenas > 1 else ""
        lines = [f"seed {self.seed}, {where}{self.rounds} rounds, {result['seconds']} s", ""]
        lines += [f"{'the healer was killed':32}{'times':>8}"]
        for kind, times in sorted(self.kills.items()):
            lines.append(f"  {kind.replace('_', ' '):30}{times:>8}")
        lines.append(f"  {'together':30}{self.killed:>8}")
        if self.points:
            lines += self._points()
        lines += ["", *(f"{name:32}{count:>8}" for name, count in sorted(self.counts.items()))]
        found = Counter(promise for broken in self.broken for promise, _ in broken["found"])
        lines += ["", *(f"{promise:32}{found[promise]:>8}" for promise in PROMISES)]
        recovery = result["recovery_s"]
        lines += [
            "",
            f"restart to rest: median {recovery['median']} s, longest {recovery['max']} s "
            f"(bound {BOUND:g} s)",
        ]
        if not self.syncs:
            lines.append("not killed around syncs: there is no C compiler to make the shim with")
        lines.append(f"rounds in which a promise was broken: {len(self.broken)}")
        return "\n".join(lines)

    def _points(self) -> list[str]:
        faults = dict.fromkeys(point.split(" ")[0] for point in self.points)
        kinds = list(dict.fromkeys(point.split(" ")[1] for point in self.points))
        lines = ["", "crash points, all of each remediation:"]
        lines.append("  " + " " * 16 + "".join(f"{kind.replace('_', ' '):>15}" for kind in kinds))
        for fault in faults:
            cells = "".join(f"{self.points.get(f'{fault} {kind}', 0):>15}" for kind in kinds)
            lines.append(f"  {fault:16}{cells}")
        return lines


def together(seed: str, outcomes: Iterable[Outcome], seconds: float) -> Outcome:
    """Several arenas as one run of `seconds`."""
    whole = Outcome(seed, arenas=0, seconds=seconds)
    for outcome in outcomes:
        whole.arenas += 1
        whole.rounds += outcome.rounds
        whole.kills += outcome.kills
        whole.points |= outcome.points
        whole.counts += outcome.counts
        whole.recoveries += outcome.recoveries
        whole.syncs = whole.syncs and outcome.syncs
        whole.broken += outcome.broken
    return whole
