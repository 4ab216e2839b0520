"""Force pids to be reused between look and signal, and count who is hit.

    python -m tests.soak.pid_reuse [--rounds 10000] [--controls 500] [--json]

In a PID namespace of its own (needs root, or user namespaces and the right to choose the next pid)
a victim is held, dies and is reaped, and an innocent process is born with the same pid. Everything
that the healer could do to the victim is then done. As a control the same is tried by plain pid,
and through psutil, which compares start times: both must hit, or the run proves nothing. Exit
status 1: an innocent was hit, or a control hit nobody; 3: pids cannot be forced here.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Final

import orjson
import psutil

from healer.domain.process import Launch, OwnerSpec, prove_owner
from healer.host.linux import LinuxHost
from healer.host.process import PidfdProcess

_LAST: Final = Path("/proc/sys/kernel/ns_last_pid")
_UNSHARE: Final = ("--pid", "--fork", "--mount-proc", "--kill-child")
_INSIDE: Final = "--inside"
_IMPOSSIBLE: Final = 3


def _child(pid: int | None = None) -> int:
    if pid is not None:
        _LAST.write_text(str(pid - 1))
    born = os.fork()
    if born == 0:
        os.setsid()
        signal.pause()
        os._exit(0)
    return born


async def _held(host: LinuxHost, pid: int) -> PidfdProcess:
    process = await host.hold(pid)
    assert process is not None
    return process


async def _pair(host: LinuxHost) -> tuple[PidfdProcess, PidfdProcess, psutil.Process]:
    """A victim that is gone, an innocent with its pid, and what psutil kept of the victim."""
    while True:
        victim = await _held(host, _child())
        kept = psutil.Process(victim.identity.pid)
        victim.signal(signal.SIGKILL)
        await victim.exited()
        innocent = await _held(host, _child(victim.identity.pid))
        if innocent.identity.pid == victim.identity.pid:
            return victim, innocent, kept
        innocent.signal(signal.SIGKILL)  # a thread of ours took the pid first
        await innocent.exited()


async def _by_pidfd(host: LinuxHost, rounds: int, seen: Counter[str]) -> None:
    for _ in range(rounds):
        victim, innocent, _kept = await _pair(host)
        identity = victim.identity
        seen["forced reuses"] += 1
        seen["same start tick"] += innocent.identity.start_ticks == identity.start_ticks
        launch = Launch(launch_id="of the victim", leader=identity)
        view = await host.inspect(innocent)
        wrong = [
            await host.reacquire(identity) is not None,
            victim.signal(signal.SIGKILL),
            (await host.stop([victim], grace=0)).stopped != (identity,),
            bool(await host.members(launch)),
            view is None or prove_owner(view, OwnerSpec(), (launch,)) is not None,
            innocent.gone(),
        ]
        seen["taken for the victim"] += any(wrong[:5])
        seen["innocents signalled"] += wrong[5]
        await _end(victim, innocent)


async def _by_plain_pid(host: LinuxHost, rounds: int, seen: Counter[str]) -> None:
    for _ in range(rounds):
        victim, innocent, _kept = await _pair(host)
        os.kill(victim.identity.pid, signal.SIGKILL)
        await asyncio.wait_for(innocent.exited(), 5)
        seen["control by plain pid: hit"] += 1
        await _end(victim, innocent)


async def _by_psutil(host: LinuxHost, rounds: int, seen: Counter[str]) -> None:
    for _ in range(rounds):
        victim, innocent, kept = await _pair(host)
        with contextlib.suppress(psutil.NoSuchProcess):
            kept.kill()
            await asyncio.wait_for(innocent.exited(), 5)
            seen["control by psutil: hit"] += 1
        await _end(victim, innocent)


async def _end(*processes: PidfdProcess) -> None:
    for process in processes:
        process.signal(signal.SIGKILL)
        await process.exited()
        process.close()


def _inside(rounds: int, controls: int) -> int:
    try:
        _LAST.write_text(_LAST.read_text())
    except OSError as error:
        print(f"cannot choose the next pid here: {error.strerror}", file=sys.stderr)
        return _IMPOSSIBLE
    seen: Counter[str] = Counter()

    async def all_of_them() -> None:
        host = LinuxHost()
        await _by_pidfd(host, rounds, seen)
        await _by_plain_pid(host, controls, seen)
        await _by_psutil(host, controls, seen)

    asyncio.run(all_of_them())
    sys.stdout.write(orjson.dumps(seen).decode())
    return 0


def _table(seen: Counter[str], controls: int) -> str:
    names = ("forced reuses", "same start tick", "taken for the victim", "innocents signalled")
    lines = [f"{name:32}{seen[name]:>8}" for name in names]
    hits = ("control by plain pid: hit", "control by psutil: hit")
    lines += [f"{name:32}{seen[name]:>8} of {controls}" for name in hits]
    return "\n".join(lines)


def main() -> int:
    """Run; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak.pid_reuse",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=10_000)
    parser.add_argument("--controls", type=int, default=500)
    parser.add_argument("--json", action="store_true", help="print one object")
    parser.add_argument(_INSIDE, action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        return _inside(arguments.rounds, arguments.controls)
    unshare = shutil.which("unshare")
    if unshare is None:
        print("cannot make a PID namespace: there is no unshare", file=sys.stderr)
        return _IMPOSSIBLE
    words = ["--rounds", str(arguments.rounds), "--controls", str(arguments.controls)]
    argv = [unshare, *_UNSHARE, sys.executable, "-m", "tests.soak.pid_reuse", _INSIDE, *words]
    done = subprocess.run(argv, stdout=subprocess.PIPE, check=False)
    if not done.stdout:
        return _IMPOSSIBLE if done.returncode in {1, _IMPOSSIBLE} else 1
    seen = Counter(orjson.loads(done.stdout))
    print(done.stdout.decode() if arguments.json else _table(seen, arguments.controls))
    hits = seen["control by plain pid: hit"] and seen["control by psutil: hit"]
    innocent = not seen["innocents signalled"] and not seen["taken for the victim"]
    return 0 if innocent and hits else 1


if __name__ == "__main__":
    sys.exit(main())
