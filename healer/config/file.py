"""The configuration file itself: who may write it, and its bytes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from healer.config.document import SIZE_LIMIT
from healer.errors import ConfigError

__all__ = ["read_file"]


def read_file(path: Path) -> str:
    """The text of the configuration file `path`. Blocks on the disk.

    Raises:
        ConfigError: it cannot be read, is no text, or may be written by everybody: it decides what
            is started and what is killed.
    """
    source = str(path)
    try:
        # Without O_NONBLOCK a named pipe would wait for a writer for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                what = "a directory" if stat.S_ISDIR(found.st_mode) else "not a regular file"
                raise ConfigError(source, [f"it is {what}; allowed: a file"])
            if found.st_mode & stat.S_IWOTH:
                mode = f"{stat.S_IMODE(found.st_mode):04o}"
                raise ConfigError(
                    source,
                    [f"it can be written by everybody (mode {mode}); allowed: chmod o-w {source}"],
                )
            content = _read_all(descriptor)
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        why = f"there is no such file; `healer init {source}` writes one"
        raise ConfigError(source, [why]) from error
    except OSError as error:
        raise ConfigError(source, [f"{error.strerror}; allowed: a readable file"]) from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        where = f"byte {error.start} is no UTF-8 text"
        raise ConfigError(source, [f"{where}; allowed: YAML in UTF-8"]) from error


def _read_all(descriptor: int) -> bytes:
    """One byte more than is allowed at most: the document's own bound refuses it then."""
    content = b""
    while len(content) <= SIZE_LIMIT:
        chunk = os.read(descriptor, SIZE_LIMIT + 1 - len(content))
        if not chunk:
            break
        content += chunk
    return content
