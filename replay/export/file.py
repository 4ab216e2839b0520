"""A file that is written from its beginning to its end, and that closing does not write to.

A buffered file tries once more to write what a full disk refused when it is closed, and raises
again, in the middle of the cleaning up.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["NewFile"]


class NewFile:
    """Creates `path`; has what pyarrow and the other writers ask of a file.

    Raises:
        OSError: the file cannot be created, or a write was refused; it names the path.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640
        )
        self._size = 0
        self.closed = False

    def write(self, data: bytes) -> int:
        """Append all of `data`."""
        rest = memoryview(data)
        while rest:
            try:
                written = os.write(self._descriptor, rest)
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(self._path)) from None
            rest = rest[written:]
            self._size += written
        return len(data)

    def tell(self) -> int:
        return self._size

    def flush(self) -> None:
        """Nothing is held back."""

    def sync(self) -> None:
        """Make what was written durable."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Let go of it; harmless when done twice."""
        if not self.closed:
            self.closed = True
            os.close(self._descriptor)
