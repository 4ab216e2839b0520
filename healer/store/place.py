"""Where a log is on the disk, and whether what was opened is still there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

__all__ = ["Place"]

_Identity = tuple[int, int]


class Place:
    """The files that were opened as a log: its own, and the one beside it that commits go to first.

    A file that is removed or replaced while it is open takes every write without a word, and is
    gone with the process. Nothing may be acknowledged before it was seen that the names still lead
    to the files. Both must be there when this is made, and open as long as it is used: the numbers
    of a file that is open are given to no other.
    """

    def __init__(self, file: Path) -> None:
        self.file: Final = os.fspath(file)
        self._wal: Final = f"{self.file}-wal"
        self._opened: Final = tuple((name, _identity(name)) for name in (self.file, self._wal))

    def problem(self) -> str | None:
        """What has become of the files, in words; None: they are where they were."""
        for name, opened in self._opened:
            try:
                if _identity(name) != opened:
                    return f"{name} was replaced while it was open"
            except OSError as error:
                return f"{name} was taken away while it was open: {error.strerror}"
        return None

    @property
    def has_file(self) -> bool:
        """Whether at least the log's own file is the one that was opened."""
        try:
            return (self.file, _identity(self.file)) == self._opened[0]
        except OSError:
            return False


def _identity(name: str) -> _Identity:
    found = os.stat(name)  # noqa: PTH116 - asked at each commit
    return found.st_dev, found.st_ino
