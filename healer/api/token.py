"""The token that acting needs: made at the first start, in a file that only its owner reads."""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from pathlib import Path
from typing import Final

from healer.config import Config
from healer.errors import ConfigError

__all__ = ["make_token", "read_token", "token_path"]

_BYTES: Final = 32
_TOKEN: Final = re.compile(rf"[0-9a-f]{{{2 * _BYTES}}}")
_NAME: Final = "healer.token"
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def token_path(config: Config) -> Path:
    """Where the token of this configuration lies: `token_file`, else beside the log, else where the
    files of a log that is not a file go."""
    if config.token_file is not None:
        return config.token_file
    scheme, _, file = config.store.partition(":///")
    directory = Path(file).parent if scheme == "sqlite" else config.logs
    return directory / _NAME


def make_token(path: Path) -> str:
    """The token in `path`, which is made where there is none. Blocks on the disk.

    Raises:
        ConfigError: it cannot be made, or the one that is there cannot be used.
    """
    made = path.with_name(f".{path.name}.{os.getpid()}")
    token = secrets.token_hex(_BYTES)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(
            made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        try:
            os.write(descriptor, f"{token}\n".encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        try:
            # The name appears with the whole content or not at all, and never replaces another.
            os.link(made, path)
        except FileExistsError:
            return read_token(path)
        finally:
            made.unlink()
    except OSError as error:
        raise _refusal(
            path, f"{error.strerror}; allowed: a directory that can be written"
        ) from error
    return token


def read_token(path: Path) -> str:
    """The token in `path`. Blocks on the disk.

    Raises:
        ConfigError: there is none, others may read it, or it is no token.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise _refusal(path, "it is not a regular file; allowed: a file with a token")
            if found.st_mode & _OTHERS:
                mode = f"{stat.S_IMODE(found.st_mode):04o}"
                raise _refusal(
                    path, f"others may use it too (mode {mode}); allowed: chmod 600 {path}"
                )
            content = os.read(descriptor, 4 * _BYTES)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _refusal(path, _unreadable(error)) from error
    token = content.decode("ascii", "replace").strip()
    if not _TOKEN.fullmatch(token):
        # What it holds instead may be a secret of something else.
        raise _refusal(
            path,
            f"it holds no token; allowed: {2 * _BYTES} hexadecimal digits, or no file: "
            "`healer serve` makes one",
        )
    return token


def _unreadable(error: OSError) -> str:
    match error.errno:
        case errno.ENOENT:
            return f"{error.strerror}; `healer serve` makes it at its start"
        case errno.ELOOP:
            return "it is a symbolic link; allowed: a file of its own"
        case _:
            return f"{error.strerror}; allowed: a file that the user of `healer serve` can read"


def _refusal(path: Path, why: str) -> ConfigError:
    return ConfigError(f"the token file {path}", [why])
