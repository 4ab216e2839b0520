"""One healer per log: an advisory lock beside the file, which names its holder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from healer.errors import StoreBusyError, StoreError

__all__ = ["Lock"]


class Lock:
    """Holds `<file>.lock` (flock) until it is released or its process ends, however it ends.

    The lock file stays behind: removing it would let two healers lock two files of one name.

    Raises:
        StoreBusyError: another process (or another log object of this one) holds it.
        StoreError: the lock file cannot be opened or locked.
    """

    def __init__(self, file: Path) -> None:
        path = file.with_name(f"{file.name}.lock")
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StoreError(f"cannot open {file}: {path}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).strip()
            os.close(descriptor)
            pid = int(holder) if holder.isdigit() else None
            raise StoreBusyError(str(file), pid) from None
        except OSError as error:
            os.close(descriptor)
            raise StoreError(f"cannot lock {path}: {error.strerror}") from error
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Let another healer have the log; harmless when done twice."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
