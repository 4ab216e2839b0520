"""Archives copies of a log and is killed in the middle, each time a little later, up to the time
that one took which was let through; prints the directories. Run as a program: children are forked
and not started, so that the delays fall into the work."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet  # noqa: F401 - before the first fork

from healer.store.archive import archive


def main(log: Path, place: Path, kills: int) -> None:
    whole = 0.0
    for number in range(kills + 1):
        directory = place / f"{number:03}"
        directory.mkdir()
        copy = directory / log.name
        for name in (log.name, f"{log.name}.key"):
            shutil.copy(log.with_name(name), directory / name)
        began = time.perf_counter()
        child = os.fork()
        if child == 0:
            archive(copy, datetime(2030, 1, 1, tzinfo=UTC))
            os._exit(0)
        if number:
            time.sleep(whole * number / kills)
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        whole = whole or time.perf_counter() - began
        if number:
            print(directory, "killed" if status else "done", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
