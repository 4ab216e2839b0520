"""How far a sink has been told: a position in a small file. Lost, it repeats; it never skips."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

__all__ = ["Cursor", "add_line"]

_DIGITS: Final = 19


class Cursor:
    """The position in the file `path`. Blocks on the disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> int | None:
        """The position; None where there never was one, 0 where it cannot be read."""
        try:
            text = self.path.read_bytes()[: _DIGITS + 1].strip()
        except FileNotFoundError:
            return None
        except OSError:
            return 0
        return int(text) if text.isdigit() and len(text) <= _DIGITS else 0

    def save(self, position: int) -> None:
        """Put `position` in place of what is there, durably.

        Raises:
            OSError: it could not be written; what was there still is.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_name(f"{self.path.name}.new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, f"{position}\n".encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        fresh.replace(self.path)


def add_line(path: Path, line: bytes) -> None:
    """Append `line` to the file `path` durably; half a line of a process before is closed first.

    Raises:
        OSError: it could not be written whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        content = (b"\n" if torn else b"") + line + b"\n"
        if os.write(descriptor, content) != len(content):
            raise OSError(f"only a part of an event could be written to {path}")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
