"""Two virtual hours of a small machine for each seed: the real engine, faults, and what must hold.

    python -m tests.simulator [--seeds 1000] [--from 0] [--workers 2]
    python -m tests.simulator --long [--seeds 20]  months of a calm machine for each seed
    python -m tests.simulator --seed 17 [--long]   one seed again: its faults, its history
    python -m tests.simulator --case FILE          a case that was kept, or exported from a real log
    python -m tests.simulator --bugs [--seeds 500] plant each known bug: how soon is it found?
    python -m tests.simulator --bugs --long        only those that take months to show

Exit status 1: an invariant did not hold, a planted bug was not found, or an exported incident took
another course than in its log. The first seed that fails
is shrunk to the faults that it needs, and written to a file that `--case` plays again.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.simulator.bug import BUGS, LONG_BUGS, planted
from tests.simulator.case import DAY, Case, generate, generate_long
from tests.simulator.simulation import Result, run

_CHUNK = 25

Generate = Callable[[int], Case]


def shrink(case: Case, code: str) -> Case:
    """The case with only those of its faults without which it no longer fails in the same way, and
    no longer than it takes to fail."""

    def fails(smaller: Case) -> bool:
        broken = run(smaller).broken
        return broken is not None and broken.code == code

    if case.pace.long:
        # With the room that is left for a rest, which may be what fails.
        shorter = case.until(run(case).virtual + case.pace.quiet + 60.0)
        case = shorter if fails(shorter) else case
    count = max(1, len(case.faults) // 2)
    while True:
        index = 0
        while index < len(case.faults):
            smaller = case.without(index, count)
            if fails(smaller):
                case = smaller
            else:
                index += count
        if count == 1:
            return case
        count = max(1, min(count // 2, len(case.faults)))


def _chunk(generate: Generate, first: int, last: int) -> list[tuple[int, Result]]:
    return [(seed, run(generate(seed))) for seed in range(first, last)]


def _results(
    generate: Generate, first: int, count: int, workers: int
) -> Iterator[tuple[int, Result]]:
    size = _CHUNK if not generate(first).pace.long else 1
    with ProcessPoolExecutor(workers) as pool:
        starts = range(first, first + count, size)
        ends = [min(start + size, first + count) for start in starts]
        for chunk in pool.map(_chunk, [generate] * len(starts), starts, ends):
            yield from chunk


def _many(generate: Generate, arguments: argparse.Namespace) -> int:
    begun = time.monotonic()
    virtual = events = issues = signals = starts = probes = faults = 0
    failed: list[tuple[int, Result]] = []
    digest = 0
    for done, (seed, result) in enumerate(
        _results(generate, arguments.first, arguments.seeds, arguments.workers), 1
    ):
        virtual += result.virtual
        events, issues = events + result.events, issues + result.issues
        signals, starts = signals + result.signals, starts + result.starts
        probes, faults = probes + result.probes, faults + result.faults
        digest = hash((digest, int(result.digest[:15], 16)))
        if result.broken is not None:
            failed.append((seed, result))
        if sys.stderr.isatty() and (done % _CHUNK == 0 or arguments.long):
            print(
                f"\r{done} of {arguments.seeds} seeds, {len(failed)} broken",
                end="",
                file=sys.stderr,
            )
    elapsed = time.monotonic() - begun
    days = virtual / 86400
    print(
        f"{arguments.seeds} seeds from {arguments.first}: {len(failed)} broken; {days:.1f} virtual "
        f"days in {elapsed:.0f} s ({days * 60 / elapsed:.0f} days a minute), {events} events, "
        f"{issues} issues, {starts} starts, {signals} signals, {faults} faults, {probes} probes, "
        f"digest {digest & (2**60 - 1):015x}"
    )
    if not failed:
        return 0
    for seed, result in failed[:20]:
        print(f"seed {seed}: {result.broken}")
    _explain(generate(failed[0][0]), failed[0][1])
    return 1


def _explain(case: Case, result: Result) -> None:
    assert result.broken is not None
    small = shrink(case, result.broken.code)
    print(f"\nseed {case.seed}, shrunk to {len(small.faults)} of {len(case.faults)} faults:")
    _tell(small)
    kept = Path(f"simulator-case-{case.seed}.json")
    kept.write_bytes(small.dump())
    long = " --long" if case.pace.long else ""
    print(f"\nagain: python -m tests.simulator{long} --seed {case.seed}, or --case {kept}")


def _tell(case: Case) -> Result:
    print(f"components: {', '.join(case.components)}; at most {case.max_concurrent} heals at once")
    if case.pace.long:
        print(f"{case.pace.lasting / DAY:.1f} days, a look each {case.pace.interval:g} s")
    for fault in case.faults:
        print(f"  {fault}")
    result = run(case, story=True)
    print("\n".join(result.story))
    print(result.broken or f"nothing broken; digest {result.digest}")
    return result


def _as_in_the_log(case: Case, result: Result) -> bool:
    """Whether the incident that the case was made of took the same course here; says so."""
    incident = case.incident
    if incident is None or result.course is None:
        return True
    print(f"\nissue {incident.issue} in the log: {', '.join(incident.course)}")
    if result.course == incident.course:
        print("and here: the same")
        return True
    print(f"and here: {', '.join(result.course) or 'no such issue'}")
    return False


def _bugs(arguments: argparse.Namespace) -> int:
    """Plant the bugs that two hours show, then those of months (those only with `--long`)."""
    kinds: list[tuple[Mapping[str, object], Generate, str]] = [(LONG_BUGS, generate_long, "long ")]
    if not arguments.long:
        kinds.insert(0, (BUGS, generate, ""))
    missed = 0
    for bugs, generated, long in kinds:
        for name in bugs:
            begun = time.monotonic()
            with planted(name):
                seed, broken = hunt(arguments.seeds, generated)
            missed += broken is None
            found = f"{long}seed {seed:3d}: {broken}" if broken else f"NOT FOUND in {seed} seeds"
            print(f"{name:45} {time.monotonic() - begun:6.1f} s  {found:.110}", flush=True)
    count = sum(len(bugs) for bugs, _, _ in kinds)
    print(f"{count - missed} of {count} planted bugs found")
    return 1 if missed else 0


def hunt(seeds: int, generate: Generate = generate) -> tuple[int, Exception | None]:
    """The first of so many seeds that breaks something, and what it breaks."""
    for seed in range(seeds):
        broken = run(generate(seed)).broken
        if broken is not None:
            return seed, broken
    return seeds, None


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulator",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, help="default 1000, of long ones 20")
    parser.add_argument("--from", type=int, default=0, dest="first")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--case", type=Path)
    parser.add_argument("--bugs", action="store_true")
    parser.add_argument("--long", action="store_true")
    arguments = parser.parse_args()
    arguments.seeds = arguments.seeds or (20 if arguments.long else 1000)
    generated = generate_long if arguments.long else generate
    if arguments.bugs:
        return _bugs(arguments)
    if arguments.case is not None:
        try:
            case = Case.load(arguments.case.read_bytes())
        except (OSError, ValueError) as error:
            print(f"cannot play {arguments.case}: {error}", file=sys.stderr)
            return 2
        result = _tell(case)
        return 1 if result.broken or not _as_in_the_log(case, result) else 0
    if arguments.seed is not None:
        return 1 if _tell(generated(arguments.seed)).broken else 0
    return _many(generated, arguments)


if __name__ == "__main__":
    sys.exit(main())
