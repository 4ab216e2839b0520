"""Kill the healer in the midst of healing, again and again, and see that it does not matter.

    python -m tests.soak [--kills 1000] [--minutes M] [--seed S] [--no-exhaust]
    python -m tests.soak --round S:17        one random round again, on a stack of its own
    python -m tests.soak --round thief:spawned:1   one exhaustive round again

First every crash point of six remediations, one after the other: each append (before it, after it,
after its acknowledgement), each fsync, each effect before its outcome, each spawn, each signal.
Then random rounds: up to three components broken together, healers killed at random moments, also
while they recover. After each round the log and the world are judged. Exit status 1: a promise was
broken; what was kept of it and how to see it again is said.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

import orjson

from tests.soak.driver import MOMENTS, PLANTS, SYNCS, sync_shim
from tests.soak.healer import BOUND
from tests.soak.judge import judge
from tests.soak.round import FAULTS, REMEDIES, Death, Tally, finish, play, random_deaths
from tests.soak.stack import COMPONENTS, Stack, run_mark
from tests.soak.world import Children, become_subreaper

_ROUNDS_PER_STACK = 20
"""Rounds on one log; then a new one, so that judging all of it stays cheap."""

_ENDLESS = {"spawned": 2, "signalled": 2}
_ENDLESS_ELSE = 12
"""Crash points that are gone through where heal after heal fails: more than one heal has."""

_SHIM = Path(__file__).with_name("sync.c")


class Soak:
    """A run: its stacks, its tally, and what was found."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.children = Children()
        self.tally = Tally()
        self.broken: list[dict[str, object]] = []
        self.points: Counter[str] = Counter()
        self.begun = time.monotonic()
        self._stack: Stack | None = None
        self._age = 0

    @property
    def spent(self) -> bool:
        limit = self.arguments.minutes
        return limit is not None and time.monotonic() - self.begun > limit * 60

    def close(self, *, keep: bool = False) -> None:
        if self._stack is not None:
            stack, self._stack = self._stack, None
            self._add_counts(stack)
            stack.end(keep=keep)

    def _add_counts(self, stack: Stack) -> None:
        verdict = judge(stack, at_rest=False)
        self.tally.counts += verdict.counts

    def stack(self) -> Stack:
        if self._stack is None or self._age >= _ROUNDS_PER_STACK:
            self.close()
            directory = Path(tempfile.mkdtemp(prefix="healer-soak-"))
            self._stack, self._age = Stack(directory, self.children), 0
        self._age += 1
        return self._stack

    def round(self, name: str, faults: dict[str, str], deaths: list[Death]) -> int:
        """Play a round and judge it; how many healers died in the midst of healing."""
        stack = self.stack()
        self.tally.rounds += 1
        killed = 0
        try:
            killed = play(stack, faults, deaths, self.tally)
            found = judge(stack).faults
        except TimeoutError as error:
            found = [("at rest in time", str(error)), *judge(stack).faults]
        if found:
            self._complain(name, faults, deaths, found, stack)
        else:
            finish(stack)
        self._progress(name)
        return killed

    def _complain(
        self,
        name: str,
        faults: dict[str, str],
        deaths: list[Death],
        found: list[tuple[str, str]],
        stack: Stack,
    ) -> None:
        directory = stack.directory
        told = ", ".join(f"{fault} on {component}" for component, fault in faults.items())
        died = ", ".join(map(str, deaths))
        self._say(f"\nBROKEN in round {name} ({told}; the healer dies at {died})")
        for promise, why in dict.fromkeys(found):
            self._say(f"  {promise}: {why}")
        self._say(f"  kept: {directory}\n  again: python -m tests.soak --round {name}")
        self.broken.append(
            {"round": name, "faults": faults, "deaths": died.split(", "), "found": found}
        )
        self.close(keep=True)

    def _say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    def _progress(self, name: str) -> None:
        if sys.stderr.isatty():
            spent = time.monotonic() - self.begun
            print(
                f"\r{self.tally.killed} kills, {self.tally.rounds} rounds, {spent:.0f} s, "
                f"{len(self.broken)} broken; now {name}\x1b[K",
                end="",
                file=sys.stderr,
                flush=True,
            )

    # What is played

    def exhaust(self, faults: list[str], kinds: list[str]) -> None:
        """Every moment of every kind, of one remediation after the other."""
        for fault, kind in itertools.product(faults, kinds):
            for number in itertools.count(1):
                if self.spent:
                    return
                death = Death(kind=kind, number=number)
                if fault not in REMEDIES and number > _ENDLESS.get(kind, _ENDLESS_ELSE):
                    break
                if fault == "exit" and kind == "signalled":
                    break  # what ends by itself is signalled by nobody
                if not self.round(f"{fault}:{kind}:{number}", {"alpha": fault}, [death]):
                    break
                self.points[f"{fault} {kind}"] = number

    def chance(self, seed: str, number: int) -> None:
        """One random round."""
        rng = Random(f"{seed}:{number}")
        names = rng.sample(sorted(COMPONENTS), rng.choice([1, 1, 2, 3]))
        faults = {name: rng.choice(list(FAULTS)) for name in names}
        self.round(f"{seed}:{number}", faults, random_deaths(rng, faults))

    def again(self, name: str) -> None:
        """One round of an earlier run."""
        first, _, rest = name.partition(":")
        if first in FAULTS and rest:
            kind, _, number = rest.partition(":")
            self.round(name, {"alpha": first}, [Death(kind=kind, number=int(number))])
        else:
            self.chance(first, int(rest))

    # What is said

    def result(self) -> dict[str, object]:
        recoveries = self.tally.recoveries or [0.0]
        return {
            "seed": self.arguments.seed,
            "rounds": self.tally.rounds,
            "kills": self.tally.killed,
            "kills_by_moment": dict(self.tally.kills),
            "points": dict(self.points),
            "counts": dict(self.tally.counts),
            "recovery_s": {
                "median": round(statistics.median(recoveries), 3),
                "max": round(max(recoveries), 3),
                "bound": BOUND,
            },
            "seconds": round(time.monotonic() - self.begun, 1),
            "syncs": sync_shim() is not None,
            "broken": self.broken,
        }


PROMISES = (
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


def table(soak: Soak) -> str:
    """The result for people."""
    result = soak.result()
    lines = [f"seed {result['seed']}, {result['rounds']} rounds, {result['seconds']} s", ""]
    lines += [f"{'the healer was killed':32}{'times':>8}"]
    for kind, times in sorted(soak.tally.kills.items()):
        lines.append(f"  {kind.replace('_', ' '):30}{times:>8}")
    lines.append(f"  {'together':30}{soak.tally.killed:>8}")
    if soak.points:
        lines += ["", "crash points, all of each remediation:"]
        faults = dict.fromkeys(point.split(" ")[0] for point in soak.points)
        kinds = list(dict.fromkeys(point.split(" ")[1] for point in soak.points))
        lines.append("  " + " " * 16 + "".join(f"{kind.replace('_', ' '):>15}" for kind in kinds))
        for fault in faults:
            cells = "".join(f"{soak.points[f'{fault} {kind}']:>15}" for kind in kinds)
            lines.append(f"  {fault:16}{cells}")
    lines += ["", *(f"{name:32}{count:>8}" for name, count in sorted(soak.tally.counts.items()))]
    found = Counter(
        promise
        for broken in soak.broken
        for promise, _ in broken["found"]  # type: ignore[attr-defined]
    )
    lines += ["", *(f"{promise:32}{found[promise]:>8}" for promise in PROMISES)]
    median, most = result["recovery_s"]["median"], result["recovery_s"]["max"]  # type: ignore[index]
    lines += ["", f"restart to rest: median {median} s, longest {most} s (bound {BOUND:g} s)"]
    if not result["syncs"]:
        lines.append("not killed around syncs: there is no C compiler to make the shim with")
    lines.append(f"rounds in which a promise was broken: {len(soak.broken)}")
    return "\n".join(lines)


def with_shim() -> None:
    """Become this program anew with the library that counts syncs, where one can be made."""
    compiler = shutil.which("cc")
    made = os.environ.pop("SOAK_SHIM", None)
    if made is not None:
        shutil.rmtree(made)  # it is loaded
        del os.environ["LD_PRELOAD"]
    elif compiler is not None:
        directory = tempfile.mkdtemp(prefix="healer-soak-shim-")
        library = f"{directory}/sync.so"
        argv = [compiler, "-shared", "-fPIC", "-O2", "-o", library, str(_SHIM), "-ldl"]
        if subprocess.run(argv, check=False).returncode != 0:
            shutil.rmtree(directory)
            return
        environment = {**os.environ, "LD_PRELOAD": library, "SOAK_SHIM": directory}
        again = [sys.executable, "-m", "tests.soak", *sys.argv[1:]]
        os.execve(sys.executable, again, environment)  # noqa: S606 - our own interpreter, no shell


def main() -> int:
    """Run; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kills", type=int, default=1000, help="stop after so many")
    parser.add_argument("--minutes", type=float, help="stop after so long")
    parser.add_argument("--seed", default=None, help="of the random rounds (default: a new one)")
    parser.add_argument("--round", help="play one round again: SEED:NUMBER or FAULT:KIND:NUMBER")
    parser.add_argument("--no-exhaust", action="store_true", help="only random rounds")
    parser.add_argument("--only-exhaust", action="store_true", help="no random rounds")
    parser.add_argument(
        "--faults",
        nargs="+",
        choices=FAULTS,
        default=list(FAULTS),
        help="the remediations whose crash points are gone through",
    )
    parser.add_argument(
        "--moments",
        nargs="+",
        choices=MOMENTS,
        default=list(MOMENTS),
        help="at which moments of them",
    )
    parser.add_argument("--plant", choices=PLANTS, help="a defect that has to be found")
    parser.add_argument("--json", action="store_true", help="print one object")
    arguments = parser.parse_args()
    with_shim()
    if arguments.seed is None:
        arguments.seed = os.urandom(4).hex()
    if arguments.plant:
        os.environ["SOAK_PLANT"] = arguments.plant
    # Ended from outside, it still ends what it started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run_mark()
    become_subreaper()
    kinds = [kind for kind in arguments.moments if kind not in SYNCS or sync_shim() is not None]
    soak = Soak(arguments)
    try:
        if arguments.round:
            soak.again(arguments.round)
        else:
            if not arguments.no_exhaust:
                soak.exhaust(arguments.faults, kinds)
            number = 0
            while not (
                arguments.only_exhaust or soak.spent or soak.tally.killed >= arguments.kills
            ):
                number += 1
                soak.chance(arguments.seed, number)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    finally:
        soak.close()
    print(orjson.dumps(soak.result()).decode() if arguments.json else table(soak))
    return 1 if soak.broken else 0


if __name__ == "__main__":
    sys.exit(main())
