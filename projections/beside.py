"""Folding a log from nothing, straight from its rows; a long one in two processes.

The projections are shared out, not the log: each process reads it and decodes only what its own
need. Nobody waits for anybody: until the other process is there, all are folded here, and it goes
on with its own from where they stand then. What stays here are those with big states; what goes
over and comes back are a few records for each component.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from healer.errors import StoreError
from healer.store.lean import lean_rows
from projections import ALL
from projections.fold import Fold
from projections.part import END, HERE
from projections.projection import Projection

__all__ = ["LONG", "fold_file"]

_BATCHES: Final = 8
"""Batches that are folded between two turns of the loop's own."""

LONG: Final = 200_000
"""Events from which on a second process pays: its start costs as much as folding 50,000."""

_BESIDE: Final = frozenset({"training", "recommendations", "components", "pause"})
"""What the other process folds: half of the work, and small states."""

_PART: Final = (
    "import gc, sys; gc.disable(); from projections.part import main; main(*sys.argv[1:])"
)
"""What the other process runs. Looking for circles would be a tenth of its start, and nothing that
a fold makes is one."""

_WITHOUT_PLUGINS: Final = {"PYDANTIC_DISABLE_PLUGINS": "1"}
"""Looking for plugins of pydantic in all that is installed is a twentieth of its start."""

Progress = Callable[[int], None]


async def fold_file(
    source: Path | str,
    projections: Sequence[Projection[Any]] = ALL,
    *,
    until: int,
    progress: Progress = lambda _position: None,
    long: int = LONG,
) -> Fold:
    """The fold of the log in `source`, a file or the URL of a database, up to position `until`; the
    event loop is not held up.

    Raises:
        StoreError: the log cannot be read, or the other process died.
    """
    theirs = [each.name for each in projections if each.name in _BESIDE and each in ALL]
    fold = Fold(projections)
    if until < long or not theirs or len(theirs) == len(projections):
        await _fold(fold, source, until, progress)
        return fold
    # -P: what lies in the current directory is not ours to run. A URL may have a password in it,
    # and everybody sees the arguments of a process.
    kind = "file" if isinstance(source, Path) else "url"
    command = (sys.executable, "-P", "-c", _PART, kind, str(until), *theirs)
    process = await asyncio.create_subprocess_exec(
        *command, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=os.environ | _WITHOUT_PLUGINS
    )
    assert process.stdout is not None
    tasks: list[asyncio.Task[Any]] = []
    try:
        tasks.append(there := asyncio.create_task(process.stdout.read(len(HERE))))
        await _fold(fold, source, until // 2, progress, enough=there.done)
        await there
        given = os.fsencode(source) + END + fold.part(theirs)
        tasks.append(told := asyncio.create_task(process.communicate(given)))
        fold.leave(theirs)
        await _fold(fold, source, until, progress)
        states, complaint = await told
        if process.returncode:
            raise StoreError(_words(source, process.returncode, complaint))
    finally:
        for task in tasks:
            task.cancel()
        await _end(process)
    return await asyncio.to_thread(Fold.joined, projections, fold, theirs, states)


async def _fold(
    fold: Fold,
    source: Path | str,
    until: int,
    progress: Progress,
    *,
    enough: Callable[[], bool] = lambda: False,
) -> None:
    """Let `fold` go on up to position `until`, or not so far where it is `enough`."""
    batches = lean_rows(
        source,
        until=until,
        without=fold.skipped,
        marks=fold.marks,
        timed=fold.timed,
        after=fold.position,
    )
    loop = asyncio.get_running_loop()

    def step() -> bool:
        for _ in range(_BATCHES):
            batch = None if enough() else next(batches, None)
            if batch is None:
                return False
            fold.consume(*batch)
        return True

    # One thread, so that the loop gets its turns.
    with ThreadPoolExecutor(1, thread_name_prefix="healer-fold") as thread, _uncollected():
        try:
            while await loop.run_in_executor(thread, step):
                progress(fold.position)
        finally:
            thread.submit(batches.close)
    progress(fold.position)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Inside nothing looks for circles: a fold makes none, and its records are looked through again
    and again otherwise, at a fifth of the whole cost."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


async def _end(process: Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _words(source: Path | str, code: int, complaint: bytes) -> str:
    lines = complaint.decode(errors="replace").strip().splitlines()
    how = f"was ended by signal {-code}" if code < 0 else f"ended with {code}"
    what = source if isinstance(source, Path) else "the database"
    return f"cannot fold {what}: the process beside {how}" + (f" ({lines[-1]})" if lines else "")
