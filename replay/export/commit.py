"""The moment at which an export counts: all of its files, and the manifest that names them.

A commit is written down first (`.staged/commit.json`), whole and durable: from then on it happens,
if need be by the next export in the directory. Before, nothing has happened. The manifest is
renamed last.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import orjson

from replay.export.error import ExportError
from replay.export.manifest import MANIFEST, Manifest
from replay.export.staging import JOURNAL, STAGED, sync_directory

__all__ = ["commit", "locked", "recover"]

_LOCK: Final = ".lock"


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Make `directory`, and keep every other export out of it.

    Raises:
        ExportError: another one is under way there.
        OSError: it cannot be made or written to.
    """
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ExportError(directory, "another export is under way there") from None
        yield
    finally:
        os.close(descriptor)


def commit(directory: Path, names: Iterable[str], manifest: Manifest) -> None:
    """Give the staged files their names, and `directory` its manifest: all of it or nothing.

    Raises:
        OSError: it could not be done; once the journal stands, the next export finishes it.
    """
    journal = orjson.dumps({"names": sorted(names), "manifest": manifest.dump().decode()})
    _write(directory / JOURNAL, journal)
    _carry_out(directory, journal)


def recover(directory: Path) -> None:
    """Finish the commit of an export that died in it; forget what one that died before had begun.

    Raises:
        ExportError: the journal is damaged.
        OSError: it could not be done.
    """
    staged = directory / STAGED
    try:
        journal = (directory / JOURNAL).read_bytes()
    except FileNotFoundError:
        if staged.exists():
            shutil.rmtree(staged)
        return
    _carry_out(directory, journal)


def _carry_out(directory: Path, journal: bytes) -> None:
    try:
        plan = orjson.loads(journal)
        manifest = plan["manifest"].encode()
        names = list(plan["names"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ExportError(
            directory, f"its {JOURNAL} is damaged: {error}; remove {STAGED}"
        ) from error
    touched = {directory}
    for name in names:
        staged, final = directory / STAGED / name, directory / name
        if not staged.exists() and final.exists():
            continue  # renamed by the one that died
        final.parent.mkdir(parents=True, exist_ok=True)
        staged.replace(final)
        touched |= {final.parent, final.parent.parent}
    for parent in touched:
        sync_directory(parent)
    _write(directory / MANIFEST, manifest)
    shutil.rmtree(directory / STAGED)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.new")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(path.parent)
