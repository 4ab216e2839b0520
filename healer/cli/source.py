"""Where a command takes what it shows from: the configuration, and the log, only read."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import Progress

from healer.config import Config, load
from healer.errors import ConfigError
from healer.ports import EventLog
from healer.store import open_log
from projections.fold import Fold
from projections.projection import Projection
from replay.rebuild import rebuild

__all__ = ["config_in", "open_store", "read_views", "store_of"]

_DEFAULT: Final = Path("healer.yaml")


def config_in(file: Path | None) -> Config:
    """The configuration in `file`, or in ./healer.yaml.

    Raises:
        ConfigError: there is none, or it cannot be used.
    """
    if file is None and not _DEFAULT.exists():
        raise ConfigError(
            f"./{_DEFAULT}",
            [
                f"there is none in {Path.cwd()}; `healer init` writes one from what listens here, "
                "-c FILE names another, and `healer demo` needs none (every key, with comments: "
                "docs/healer.yaml)"
            ],
        )
    return load(file or _DEFAULT, environ=os.environ, hostname=socket.gethostname())


def store_of(file: Path | None, store: str | None) -> str:
    """The URL of the log: `store`, or what the configuration says.

    Raises:
        ConfigError: the configuration cannot be used.
    """
    return config_in(file).store if store is None else store


@asynccontextmanager
async def open_store(url: str) -> AsyncIterator[EventLog]:
    """The log, for reading, whether or not a healer runs.

    Raises:
        StoreError: it cannot be opened.
    """
    log = open_log(url, new_log_id=str, read_only=True)
    try:
        yield log
    finally:
        await log.close()


async def read_views(log: EventLog, projections: Sequence[Projection[Any]]) -> Fold:
    """The projections of the whole log; shows its progress to a person.

    Raises:
        StoreError: the log cannot be read.
    """
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("reading the log", total=None)

        def moved(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        return await rebuild(log, projections, progress=moved)
