"""Kill the healer in the midst of healing, again and again, and see that it does not matter.

    python -m tests.soak [--kills 1000] [--arenas N] [--minutes M] [--seed S] [--no-exhaust]
    python -m tests.soak --round S:17        one random round again, on a stack of its own
    python -m tests.soak --round thief:spawned:1   one exhaustive round again

First every crash point of the remediations, one after the other: each append (before it, after it,
after its acknowledgement), each fsync, each effect before its outcome, each spawn, each signal.
Then random rounds: up to three components broken together, healers killed at random moments, also
while they recover. After each round the log and the world are judged. `--arenas` shares the same
rounds out to several healers at work beside each other. Exit status 1: a promise was broken; what
was kept of it and how to see it again is said.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

import orjson

from tests.soak.arena import Arena
from tests.soak.arenas import as_line, play_in_arenas
from tests.soak.driver import MOMENTS, PLANTS, SYNCS, sync_shim
from tests.soak.outcome import Outcome
from tests.soak.round import FAULTS
from tests.soak.stack import run_mark
from tests.soak.world import become_subreaper

_SHIM: Final = Path(__file__).with_name("sync.c")
_EACH_MINUTE: Final = 60.0


def _progress() -> Callable[[str, Counter[str]], None]:
    """Says how far a run is: on a terminal all the time, into a file once a minute."""
    begun = said = time.monotonic()
    terminal = sys.stderr.isatty()

    def tell(name: str, progress: Counter[str]) -> None:
        nonlocal said
        now = time.monotonic()
        if not terminal and now - said < _EACH_MINUTE:
            return
        said = now
        line = (
            f"{progress['kills']} kills, {progress['rounds']} rounds, {now - begun:.0f} s, "
            f"{progress['broken']} broken; now {name}"
        )
        start, end = ("\r", "\x1b[K") if terminal else ("", "\n")
        print(f"{start}{line}{end}", end="", file=sys.stderr, flush=True)

    return tell


def _alone(arguments: argparse.Namespace) -> Outcome:
    """Play in this process: all of it, or what falls to one arena of several."""
    place, of = (int(part) for part in arguments.arena.split("/"))
    tell = _progress()

    def told(name: str) -> None:
        if of > 1:
            print(as_line(arena.outcome), flush=True)
        else:
            done = {"kills": arena.outcome.killed, "rounds": arena.outcome.rounds}
            tell(name, Counter({**done, "broken": len(arena.outcome.broken)}))

    run_mark()
    become_subreaper()
    kinds = [kind for kind in arguments.moments if kind not in SYNCS or sync_shim() is not None]
    arena = Arena(arguments.seed, place=place, of=of, minutes=arguments.minutes, told=told)
    try:
        if arguments.round:
            arena.again(arguments.round)
        else:
            if not arguments.no_exhaust:
                arena.exhaust(arguments.faults, kinds)
            if not arguments.only_exhaust:
                arena.chances(arguments.kills)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    finally:
        arena.close()
    return arena.outcome


def _together(arguments: argparse.Namespace) -> Outcome:
    """Play in several arenas."""
    number = arguments.arenas
    words = ["--seed", arguments.seed, "--kills", str(-(-arguments.kills // number))]
    words += ["--faults", *arguments.faults, "--moments", *arguments.moments]
    if arguments.minutes is not None:
        words += ["--minutes", str(arguments.minutes)]
    words += [f"--{name}" for name in ("no-exhaust", "only-exhaust") if _is_set(arguments, name)]
    return play_in_arenas(number, arguments.seed, words, _progress())


def _is_set(arguments: argparse.Namespace, name: str) -> bool:
    return bool(getattr(arguments, name.replace("-", "_")))


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
    parser.add_argument("--arenas", type=int, default=1, help="play in so many at once")
    parser.add_argument("--arena", default="0/1", help=argparse.SUPPRESS)
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
    if arguments.arenas > 1 and not arguments.round:
        outcome = _together(arguments)
    else:
        outcome = _alone(arguments)
    if not arguments.arena.endswith("/1"):
        print(as_line(outcome, last=True))
    else:
        print(orjson.dumps(outcome.as_object()).decode() if arguments.json else outcome.as_table())
    return 1 if outcome.broken else 0


if __name__ == "__main__":
    sys.exit(main())
