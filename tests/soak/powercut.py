"""Cut the power under the log, again and again, and count what was acknowledged and is lost.

    python -m tests.soak.powercut [--cuts 1000] [--controls 20] [--seed S] [--json]

A writer (the real store, as it is set by default) appends to a log on an ext4 file system of its
own and says what was acknowledged. At a random moment that file system is shut down under it by the
kernel, with nothing flushed: what had not reached the disk is gone, as in a power cut. It is then
mounted again, its journal replayed, and the log opened by the real store: each acknowledged event
must be there, unchanged, in a whole chain. A log that is refused counts as all of its events. Then
the next writer goes on with it. As a control some cuts are made at `synchronous=NORMAL`: they must
lose events, or the run proves nothing.

Exit status 1: an event was lost, a log was corrupt, or the control lost nothing; 3: no file system
can be mounted here (it needs root and loop devices).
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import os
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from typing import Any, Final

import orjson

from healer.errors import StoreError
from healer.store import SqliteLog, ledger
from healer.store.chain import Link, first_break, genesis
from tests import factory

_SHUTDOWN: Final = 0x8004587D
"""FS_IOC_SHUTDOWN, of linux/fs.h (first XFS_IOC_GOINGDOWN)."""

_NO_LOG_FLUSH: Final = (2).to_bytes(4, sys.byteorder)
_SIZE: Final = 24 * 1024 * 1024
_STREAMS: Final = 4
_CUTS_PER_LOG: Final = 20
_LONGEST: Final = 0.25
"""Seconds from the writer's birth to the cut, at most."""

_INSIDE: Final = "--inside"
_IMPOSSIBLE: Final = 3
_CHUNK: Final = 1 << 16

Acknowledged = dict[int, str]
"""Event ids by position."""


# --- the writer ----------------------------------------------------------------------------------


def _careless(connection: sqlite3.Connection) -> None:
    """The control: a connection as many programs use it."""
    _write_ahead(connection)
    connection.execute("PRAGMA synchronous = NORMAL")


_write_ahead: Final = ledger.write_ahead


async def _append_for_ever(file: Path, saying: int) -> None:
    log = SqliteLog.open(file, new_log_id=lambda: os.urandom(16).hex())

    async def stream(name: str) -> None:
        version = len(await log.stream(name))
        while True:
            events = [
                factory.playbook_started(stream=name, version=version + place)
                for place in range(1, 2 + version % 3)
            ]
            version += len(events)
            last = await log.append(events)
            lines = (
                f"{last - len(events) + place} {event.event_id}\n"
                for place, event in enumerate(events, 1)
            )
            os.write(saying, "".join(lines).encode())

    await asyncio.gather(*(stream(f"i{number}") for number in range(_STREAMS)))


def _be_a_writer(file: Path, saying: int, *, control: bool) -> None:
    if control:
        ledger.write_ahead = _careless
    with suppress(BaseException):  # whatever becomes of it: it is judged by what it leaves
        asyncio.run(_append_for_ever(file, saying))
    os._exit(0)


# --- the disk ------------------------------------------------------------------------------------


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"cannot {' '.join(argv)}: {done.stderr.strip()}")


class Disk:
    """An ext4 file system in memory, at `place`, whose power can be cut."""

    def __init__(self, directory: Path) -> None:
        self.place = directory / "disk"
        self.place.mkdir(exist_ok=True)
        self._image = directory / "image"
        self._image.unlink(missing_ok=True)
        with self._image.open("wb") as image:
            image.truncate(_SIZE)
        _run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0", str(self._image))
        self._mount()

    def _mount(self) -> None:
        _run("mount", "-o", "loop", str(self._image), str(self.place))

    def cut(self) -> None:
        """Nothing that has not reached the disk by now ever will."""
        descriptor = os.open(self.place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, _NO_LOG_FLUSH)
        finally:
            os.close(descriptor)

    def power_on(self) -> None:
        self.remove()
        self._mount()

    def remove(self) -> None:
        _run("umount", str(self.place))


# --- one cut -------------------------------------------------------------------------------------


def _cut(disk: Disk, file: Path, seconds: float, *, control: bool) -> Acknowledged:
    """Let a writer write for so long, and cut the power; what was acknowledged before."""
    said, saying = os.pipe()
    writer = os.fork()
    if writer == 0:
        os.close(said)
        _be_a_writer(file, saying, control=control)
    os.close(saying)
    told = b""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if select.select([said], [], [], left)[0]:
            piece = os.read(said, _CHUNK)
            if not piece:
                break
            told += piece
    disk.cut()
    os.kill(writer, signal.SIGKILL)  # an unreaped child's pid is nobody else's
    os.waitpid(writer, 0)
    os.close(said)
    lines = told.decode().splitlines()
    return {int(position): event for position, event in (line.split(" ") for line in lines)}


def _judge(file: Path, acknowledged: Acknowledged) -> tuple[int, str | None]:
    """How many of the acknowledged events are not there, and what is wrong with the log."""
    if not acknowledged and (not file.exists() or file.stat().st_size == 0):
        return 0, None
    try:
        found, wrong = asyncio.run(_read(file))
    except StoreError as error:
        return len(acknowledged), str(error)
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        (log_id,) = connection.execute("SELECT log_id FROM meta").fetchone()
        rows = connection.execute(
            "SELECT position, stream, version, topic, body, hash FROM event ORDER BY position"
        )
        wrong = wrong or first_break(map(Link._make, rows), after=0, previous=genesis(log_id))
    lost = sum(found.get(position) != event for position, event in acknowledged.items())
    return lost, wrong


async def _read(file: Path) -> tuple[Acknowledged, str | None]:
    found: Acknowledged = {}
    async with SqliteLog.open(file, new_log_id=lambda: "made anew") as log:
        wrong = log.broken
        while batch := await log.read(after=len(found)):
            found |= {recorded.position: recorded.event.event_id for recorded in batch}
    return found, wrong


class Run:
    """Cuts at the default settings or, as a control, at NORMAL."""

    def __init__(self, directory: Path, rng: Random, *, control: bool) -> None:
        self._directory = directory
        self._rng = rng
        self._control = control
        self.seen: Counter[str] = Counter(
            {"power cuts": 0, "acknowledged": 0, "lost": 0, "cuts that lost": 0, "corrupt": 0}
        )

    def cut(self, times: int) -> None:
        """Cut so often, on one log after the other."""
        begun = said = time.monotonic()
        while self.seen["power cuts"] < times:
            disk = Disk(self._directory)
            try:
                file = disk.place / "log.db"
                acknowledged: Acknowledged = {}
                for _ in range(min(_CUTS_PER_LOG, times - self.seen["power cuts"])):
                    if not self._once(disk, file, acknowledged):
                        break
                    now = time.monotonic()
                    if sys.stderr.isatty() or now - said > 60:
                        said = now
                        print(f"{dict(self.seen)}, {now - begun:.0f} s", file=sys.stderr)
            finally:
                disk.remove()

    def _once(self, disk: Disk, file: Path, acknowledged: Acknowledged) -> bool:
        """One cut; False when the log is not to be gone on with."""
        seconds = self._rng.uniform(0.0, _LONGEST)
        fresh = _cut(disk, file, seconds, control=self._control)
        acknowledged |= fresh
        disk.power_on()
        lost, wrong = _judge(file, acknowledged)
        self.seen["power cuts"] += 1
        self.seen["acknowledged"] += len(fresh)
        self.seen["lost"] += lost
        self.seen["cuts that lost"] += lost > 0
        self.seen["corrupt"] += wrong is not None
        if wrong is not None and not self._control:
            print(f"corrupt after a cut at {seconds:.3f} s: {wrong}", file=sys.stderr)
        return not lost and wrong is None


def _inside(arguments: argparse.Namespace) -> int:
    directory = Path(arguments.inside)
    try:
        _run("mount", "-t", "tmpfs", "-o", "size=64m", "none", str(directory))
        Disk(directory).remove()
    except OSError as error:
        print(error, file=sys.stderr)
        return _IMPOSSIBLE
    seen = {}
    for name, times in (("default", arguments.cuts), ("control", arguments.controls)):
        run = Run(directory, Random(f"{arguments.seed} {name}"), control=name == "control")
        run.cut(times)
        seen[name] = dict(run.seen)
    sys.stdout.write(orjson.dumps(seen).decode())
    return 0


# --- all of them ---------------------------------------------------------------------------------


def _table(seen: dict[str, Any], seed: str) -> str:
    lines = [f"seed {seed}", "", f"{'':20}{'default':>12}{'NORMAL':>12}"]
    lines += [
        f"{name:20}{count:>12}{seen['control'][name]:>12}"
        for name, count in seen["default"].items()
    ]
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> int:
    """Run; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak.powercut",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--cuts", type=int, default=1000)
    parser.add_argument("--controls", type=int, default=20, help="cuts at synchronous=NORMAL")
    parser.add_argument("--seed", help="of the moments (default: a new one)")
    parser.add_argument("--json", action="store_true", help="print one object")
    parser.add_argument(_INSIDE, help=argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    if arguments.inside:
        return _inside(arguments)
    seed = arguments.seed or os.urandom(4).hex()
    unshare = shutil.which("unshare")
    if unshare is None or shutil.which("mkfs.ext4") is None or os.geteuid() != 0:
        print("cannot cut the power: it needs root, unshare and mkfs.ext4", file=sys.stderr)
        return _IMPOSSIBLE
    with tempfile.TemporaryDirectory(prefix="healer-powercut-") as directory:
        # What is mounted in a namespace of its own goes with its last process.
        argv = [unshare, "--mount", sys.executable, "-m", "tests.soak.powercut"]
        argv += [_INSIDE, directory, "--seed", seed]
        argv += ["--cuts", str(arguments.cuts), "--controls", str(arguments.controls)]
        done = subprocess.run(argv, stdout=subprocess.PIPE, check=False)
    if not done.stdout:
        return _IMPOSSIBLE if done.returncode == _IMPOSSIBLE else 1
    seen = orjson.loads(done.stdout)
    print(orjson.dumps({"seed": seed, **seen}).decode() if arguments.json else _table(seen, seed))
    kept = not seen["default"]["lost"] and not seen["default"]["corrupt"]
    void = arguments.controls > 0 and not seen["control"]["lost"]
    if void:
        print("the control lost nothing: this run proves nothing", file=sys.stderr)
    return 0 if kept and not void else 1


if __name__ == "__main__":
    sys.exit(main())
