"""A place of its own in which healers die: stacks, one after the other, and rounds played on them.

Several arenas may be at work beside each other. They share the machine's processes and ports and
nothing else: what one of them signals by mistake is another one's component or stranger.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final

from tests.soak.driver import sync_shim
from tests.soak.judge import judge, judge_at_rest
from tests.soak.outcome import Outcome
from tests.soak.round import FAULTS, REMEDIES, Death, finish, play, random_deaths
from tests.soak.stack import COMPONENTS, Stack
from tests.soak.world import Children

__all__ = ["Arena"]

_ROUNDS_PER_STACK: Final = 20
"""Rounds on one log; then a new one, so that judging all of it stays cheap."""

_ENDLESS: Final = {"spawned": 2, "signalled": 2}
_ENDLESS_ELSE: Final = 12
"""Crash points that are gone through where heal after heal fails: more than one heal has."""


class Arena:
    """Plays rounds; `told` is called after each with its name.

    Of what several arenas do together, this one does each `of`-th, beginning with its `place` (from
    0): one seed means the same rounds in however many arenas.
    """

    def __init__(
        self,
        seed: str,
        *,
        place: int = 0,
        of: int = 1,
        minutes: float | None = None,
        told: Callable[[str], object] = lambda _: None,
    ) -> None:
        self.outcome = Outcome(seed, syncs=sync_shim() is not None)
        self._place, self._of = place, of
        self._minutes = minutes
        self._told = told
        self._children = Children()
        self._begun = time.monotonic()
        self._stack: Stack | None = None
        self._age = 0

    @property
    def spent(self) -> bool:
        """Whether its time is over."""
        return self._minutes is not None and time.monotonic() - self._begun > self._minutes * 60

    def close(self, *, keep: bool = False) -> None:
        """End the stack in use and count what stands in its log."""
        self.outcome.seconds = time.monotonic() - self._begun
        if self._stack is not None:
            stack, self._stack = self._stack, None
            self.outcome.counts += judge(stack, at_rest=False).counts
            stack.end(keep=keep)

    # What is played

    def exhaust(self, faults: list[str], kinds: list[str]) -> None:
        """Every moment of every kind, of one remediation after the other."""
        pairs = list(itertools.product(faults, kinds))
        for fault, kind in pairs[self._place :: self._of]:
            for number in itertools.count(1):
                if self.spent:
                    return
                death = Death(kind=kind, number=number)
                if fault not in REMEDIES and number > _ENDLESS.get(kind, _ENDLESS_ELSE):
                    break
                if fault == "exit" and kind == "signalled":
                    break  # what ends by itself is signalled by nobody
                if not self._round(f"{fault}:{kind}:{number}", {"alpha": fault}, [death]):
                    break
                self.outcome.points[f"{fault} {kind}"] = number

    def chances(self, kills: int) -> None:
        """Random rounds until healers have been killed so often."""
        for number in itertools.count(self._place + 1, self._of):
            if self.spent or self.outcome.killed >= kills:
                return
            self._chance(self.outcome.seed, number)

    def again(self, name: str) -> None:
        """One round of an earlier run."""
        first, _, rest = name.partition(":")
        if first in FAULTS and rest:
            kind, _, number = rest.partition(":")
            self._round(name, {"alpha": first}, [Death(kind=kind, number=int(number))])
        else:
            self._chance(first, int(rest))

    def _chance(self, seed: str, number: int) -> None:
        rng = Random(f"{seed}:{number}")
        names = rng.sample(sorted(COMPONENTS), rng.choice([1, 1, 2, 3]))
        faults = {name: rng.choice(list(FAULTS)) for name in names}
        self._round(f"{seed}:{number}", faults, random_deaths(rng, faults))

    def _round(self, name: str, faults: dict[str, str], deaths: list[Death]) -> int:
        """Play a round and judge it; how many healers died in the midst of healing."""
        stack = self._next_stack()
        self.outcome.rounds += 1
        killed = 0
        try:
            killed = play(stack, faults, deaths, self.outcome)
            found = judge_at_rest(stack).faults
        except TimeoutError as error:
            found = [("at rest in time", str(error)), *judge(stack).faults]
        if found:
            self._complain(name, faults, deaths, found, stack)
        else:
            finish(stack)
        self._told(name)
        return killed

    def _next_stack(self) -> Stack:
        if self._stack is None or self._age >= _ROUNDS_PER_STACK:
            self.close()
            directory = Path(tempfile.mkdtemp(prefix="healer-soak-"))
            self._stack, self._age = Stack(directory, self._children), 0
        self._age += 1
        return self._stack

    def _complain(
        self,
        name: str,
        faults: dict[str, str],
        deaths: list[Death],
        found: list[tuple[str, str]],
        stack: Stack,
    ) -> None:
        told = ", ".join(f"{fault} on {component}" for component, fault in faults.items())
        died = list(map(str, deaths))
        found = list(dict.fromkeys(found))
        lines = [f"\nBROKEN in round {name} ({told}; the healer dies at {', '.join(died)})"]
        lines += [f"  {promise}: {why}" for promise, why in found]
        lines += [f"  kept: {stack.directory}", f"  again: python -m tests.soak --round {name}"]
        print("\n".join(lines), file=sys.stderr, flush=True)
        self.outcome.broken.append(
            {"round": name, "faults": faults, "deaths": died, "found": found}
        )
        self.close(keep=True)
