"""Opening a log file: what is looked at before SQLite is, and how SQLite is set."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

from healer.errors import StoreError

__all__ = ["check_directory", "check_file", "connect", "create_file", "refusals", "write_ahead"]

# Another program (a backup, the sqlite3 shell) may hold the file's lock for a moment.
_BUSY_TIMEOUT: Final = 5.0
_WAL_SIZE_LIMIT: Final = 64 * 1024 * 1024


@contextmanager
def refusals(doing: str) -> Iterator[None]:
    """Whatever SQLite or the system refuse inside becomes "cannot <doing>: <why>".

    Raises:
        StoreError: with the database's or the system's own words.
    """
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorname", None)
        raise StoreError(f"cannot {doing}: {error}" + (f" ({code})" if code else "")) from error
    except UnicodeDecodeError as error:
        raise StoreError(f"cannot {doing}: a text in it is not in UTF-8 ({error})") from error
    except OSError as error:
        raise StoreError(f"cannot {doing}: {error.strerror or error}") from error


def check_directory(file: Path) -> None:
    """The directory of `file` is there.

    Raises:
        StoreError: naming the directory.
    """
    directory = file.parent
    if not directory.is_dir():
        raise StoreError(f"cannot open {file}: there is no directory {directory}")


def check_file(file: Path, *, writing: bool) -> None:
    """`file` is a regular file that we may use and that not every user may write.

    Raises:
        StoreError: naming what is wrong and what is allowed.
    """
    with refusals(f"open {file}"):
        try:
            mode = file.stat().st_mode
        except FileNotFoundError as error:
            why = f"{error.strerror}; `healer serve` begins a log"
            raise StoreError(f"cannot open {file}: {why}") from error
    if not stat.S_ISREG(mode):
        raise StoreError(f"cannot open {file}: it is not a regular file")
    if mode & stat.S_IWOTH:
        raise StoreError(
            f"cannot open {file}: its mode {stat.S_IMODE(mode):04o} lets every user write it; "
            "allowed: 0600"
        )
    if writing and not os.access(file, os.W_OK):
        raise StoreError(f"cannot open {file}: it is not writable for us")
    if writing and not os.access(file.parent, os.W_OK | os.X_OK):
        raise StoreError(f"cannot open {file}: the directory {file.parent} is not writable for us")


def create_file(file: Path) -> None:
    """Create `file`, empty and for its owner only, where there is none. SQLite gives its mode to
    the files that it keeps beside it.

    Raises:
        StoreError: it cannot be created.
    """
    with refusals(f"create {file}"):
        try:
            os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            return


def connect(file: Path, *, writing: bool, briefly: bool = False) -> sqlite3.Connection:
    """A connection to `file`, of which it changes nothing: the one that writes and checkpoints
    (`write_ahead` prepares it for that), or one that can only read. Who reads `briefly` leaves
    nothing beside a file that nobody has open, and may see what is being written half.

    SQLite before 3.51.3 can corrupt a database in WAL mode when two connections write or checkpoint
    at once; a connection made here without `writing` can do neither.

    Raises:
        sqlite3.Error: it cannot be opened, or is not a database.
    """
    location = f"file:{quote(str(file))}"
    mode = "rw" if writing else "ro"
    if not writing and _is_at_rest(file) and (briefly or not os.access(file.parent, os.W_OK)):
        # Reading a file in WAL mode needs files beside it. Where they are absent and cannot be
        # made (a read-only disk), nobody writes it either.
        mode = "ro&immutable=1"
    connection = sqlite3.connect(
        f"{location}?mode={mode}",
        uri=True,
        isolation_level=None,
        timeout=_BUSY_TIMEOUT,
        check_same_thread=False,
    )
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute("PRAGMA foreign_keys = ON")
        if not writing:
            connection.execute("PRAGMA query_only = ON")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def write_ahead(connection: sqlite3.Connection) -> None:
    """Put the file into WAL mode, and let each commit wait for the disk.

    Raises:
        sqlite3.Error: the file system does not allow it.
    """
    (journal,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if journal != "wal":
        raise sqlite3.OperationalError(f"the file system does not allow WAL, only {journal}")
    # NORMAL loses acknowledged events in a power cut.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA journal_size_limit = {_WAL_SIZE_LIMIT}")


def _is_at_rest(file: Path) -> bool:
    return not file.with_name(f"{file.name}-wal").exists()
