"""Several arenas at once, each a process of its own that says after each round how far it is."""

from __future__ import annotations

import contextlib
import selectors
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

import orjson

from tests.soak.outcome import Outcome, together

__all__ = ["as_line", "play_in_arenas"]

_END: Final = 60.0
"""Seconds that an arena gets to end what it started."""


def as_line(outcome: Outcome, *, last: bool = False) -> str:
    """What an arena says: how far it is, or (at the end) all of it."""
    told: dict[str, Any] = {"kills": outcome.killed, "rounds": outcome.rounds}
    told["broken"] = len(outcome.broken)
    if last:
        told["outcome"] = {name: getattr(outcome, name) for name in Outcome.__slots__}
    return orjson.dumps(told).decode()


def _outcome(told: dict[str, Any]) -> Outcome:
    return Outcome(**{**told, "kills": Counter(told["kills"]), "counts": Counter(told["counts"])})


class _Arena:
    """The process of one."""

    def __init__(self, place: int, of: int, words: Sequence[str]) -> None:
        argv = [sys.executable, "-m", "tests.soak", *words, "--arena", f"{place}/{of}"]
        # A session of its own: an interrupt from the terminal is passed on, and not met twice.
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True)
        self.name = f"arena {place}"
        self.progress: dict[str, Any] = {"kills": 0, "rounds": 0, "broken": 0}

    def listen(self) -> bool:
        """Take in one line; False at the end."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line:
            self.progress = orjson.loads(line)
        return bool(line)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        while self.listen():
            pass
        self.process.wait(_END)

    def outcome(self, seed: str) -> Outcome:
        """All that it did; that it ended before it said so is a broken promise of its own."""
        if "outcome" in self.progress:
            return _outcome(self.progress["outcome"])
        why = f"it ended with status {self.process.returncode} in the midst"
        broken = {"round": self.name, "faults": {}, "deaths": [], "found": [("harness", why)]}
        return Outcome(seed, rounds=self.progress["rounds"], broken=[broken])


def play_in_arenas(
    number: int, seed: str, words: Sequence[str], told: Callable[[str, Counter[str]], object]
) -> Outcome:
    """Play in `number` arenas, with the words of the command line; the outcome of all."""
    begun = time.monotonic()
    arenas = [_Arena(place, number, words) for place in range(number)]
    try:
        with selectors.DefaultSelector() as selector, contextlib.suppress(KeyboardInterrupt):
            for arena in arenas:
                assert arena.process.stdout is not None
                selector.register(arena.process.stdout, selectors.EVENT_READ, arena)
            while selector.get_map():
                for key, _ in selector.select():
                    if not key.data.listen():
                        selector.unregister(key.fileobj)
                    progress: Counter[str] = Counter()
                    for arena in arenas:
                        progress.update(
                            {what: arena.progress[what] for what in ("kills", "rounds", "broken")}
                        )
                    told(key.data.name, progress)
    finally:
        for arena in arenas:
            arena.end()
    return together(seed, (arena.outcome(seed) for arena in arenas), time.monotonic() - begun)
