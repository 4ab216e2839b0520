"""What a packet filter would do with a new TCP connection: a small three-valued evaluator, pure.

Each rule's condition is True, False or None (it depends on what is not known here: the sender's
address, a rate, chance). The parsers of nftables' and iptables' languages make these rules.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["BaseChain", "Decision", "Effect", "Packet", "Rule", "Ruleset", "Way", "both", "judge"]


class Effect(StrEnum):
    """What becomes of the packet. PARTLY: it depends on something that is not known here."""

    OPEN = "open"
    PARTLY = "partly"
    BLOCKED = "blocked"


class Way(StrEnum):
    """LOOP: from this machine to itself, through `lo`. IN: from elsewhere. OUT: to elsewhere."""

    LOOP = "loop"
    IN = "in"
    OUT = "out"

    @property
    def hooks(self) -> frozenset[str]:
        """The kernel's hooks that a packet on this way passes."""
        going, coming = {"output", "postrouting"}, {"prerouting", "input"}
        match self:
            case Way.LOOP:
                return frozenset(going | coming)
            case Way.IN:
                return frozenset(coming)
            case Way.OUT:
                return frozenset(going)


@dataclass(frozen=True, slots=True)
class Packet:
    """The first packet of a TCP connection to the address `host` and `port`."""

    host: str
    port: int
    way: Way = Way.LOOP

    @property
    def family(self) -> int:
        """4 or 6."""
        return ipaddress.ip_address(self.host).version


@dataclass(frozen=True, slots=True)
class Rule:
    """`verdict` is accept, drop, reject, jump, goto or return; `target` the chain jumped to."""

    name: str
    condition: bool | None
    verdict: str
    target: str = ""


@dataclass(frozen=True, slots=True)
class BaseChain:
    """A chain that the packet enters by itself, and what happens at its end."""

    name: str
    policy: str


@dataclass(frozen=True, slots=True)
class Ruleset:
    """Chains by name, and the base chains on the packet's way. `opaque` counts the rules that the
    listing does not show in full."""

    chains: Mapping[str, tuple[Rule, ...]]
    bases: tuple[BaseChain, ...]
    opaque: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """The effect, and the rules and policies that block the packet, for sure or perhaps."""

    effect: Effect
    rules: tuple[str, ...] = ()


@dataclass(slots=True)
class _Walk:
    ruleset: Ruleset
    blocking: list[str] = field(default_factory=list)
    known: dict[str, frozenset[str]] = field(default_factory=dict)

    def outcomes(self, chain: str) -> frozenset[str]:
        """How the way through `chain` can end: `accept`, `drop`, or `fall` off its end."""
        if chain not in self.known:
            self.known[chain] = frozenset({"fall"})  # ends a loop, which no kernel would load
            self.known[chain] = frozenset(self._walk(chain))
        return self.known[chain]

    def _walk(self, chain: str) -> set[str]:
        possible: set[str] = set()
        for rule in self.ruleset.chains.get(chain, ()):
            if rule.condition is False:
                continue
            ends = self._ends(rule)
            goes_on = rule.verdict == "jump" and "fall" in ends
            possible |= ends - {"fall"} if goes_on else ends
            if rule.condition is True and not goes_on:
                return possible
        return possible | {"fall"}

    def _ends(self, rule: Rule) -> frozenset[str]:
        if rule.verdict in {"drop", "reject"}:
            self.blocking.append(f"{rule.name}:{rule.verdict}")
            return frozenset({"drop"})
        if rule.verdict in {"jump", "goto"}:
            return self.outcomes(rule.target)
        return frozenset({"accept" if rule.verdict == "accept" else "fall"})


def judge(ruleset: Ruleset) -> Decision:
    """What `ruleset` does with the packet that its conditions were evaluated for.

    Every base chain has to let it pass. In doubt a rule both matches and does not: the ways that
    remain possible decide.
    """
    perhaps: list[str] = []
    for base in ruleset.bases:
        walk = _Walk(ruleset)
        ends = set(walk.outcomes(base.name))
        if "fall" in ends:
            ends.discard("fall")
            ends.add(base.policy)
            if base.policy == "drop":
                walk.blocking.append(f"{base.name}:policy drop")
        if ends == {"drop"}:
            return Decision(Effect.BLOCKED, tuple(walk.blocking))
        if "drop" in ends:
            perhaps += walk.blocking
    return Decision(Effect.PARTLY, tuple(perhaps)) if perhaps else Decision(Effect.OPEN)


def both(conditions: Iterable[bool | None]) -> bool | None:
    """Whether all `conditions` hold: False beats unknown, unknown beats True."""
    seen = set(conditions)
    if False in seen:
        return False
    return None if None in seen else True
