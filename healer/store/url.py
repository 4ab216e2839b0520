"""Which log a URL names."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from healer.errors import StoreError
from healer.store.memory import MemoryLog
from healer.store.sqlite import SqliteLog

if TYPE_CHECKING:
    from healer.store.postgres import PostgresLog

__all__ = ["is_postgres", "open_log", "postgres_log", "sqlite_file"]

_ALLOWED: Final = (
    "allowed: sqlite:///FILE, sqlite:////ABSOLUTE/FILE, "
    "postgresql://USER[:PASSWORD]@HOST[:PORT]/DATABASE, memory:"
)
_SECRETS: Final = (
    (re.compile(r"^([^/]*//[^:/@]*):.*@", re.DOTALL), r"\1:***@"),
    (re.compile(r"^([^:/@]*):(?!//).*@", re.DOTALL), r"\1:***@"),
    (re.compile(r"(password\s*[=:]).*", re.DOTALL | re.IGNORECASE), r"\1***"),
    (re.compile(r"\?.*", re.DOTALL), "?***"),
)


def open_log(
    url: str,
    *,
    new_log_id: Callable[[], str],
    read_only: bool = False,
    node: str | None = None,
    witness: Path | None = None,
    rotate_every: float | None = None,
    key: Path | None = None,
) -> SqliteLog | PostgresLog | MemoryLog:
    """Open the log that `url` names; blocks for some milliseconds, or until a server answers.

    `sqlite:///FILE` is relative to the current directory, `sqlite:////FILE` absolute,
    `postgresql://` is what libpq takes (a password is better kept in ~/.pgpass), `memory:` is gone
    with the process. `new_log_id` names a log that has to be created. `node` is the name under
    which a healer appends to a log that several share; no two may bear it at once. `witness` is the
    file that gains a line with each checkpoint, whose key is changed when it has signed for
    `rotate_every` seconds. A log in SQLite has its key beside it; one in PostgreSQL is signed with
    the one in the file `key`, and not without it; one in memory never.

    Raises:
        StoreBusyError: another healer has it open; open it `read_only`.
        NodeBusyError: another healer of the same `node` has it open.
        StoreError: the URL names no log of a known kind, or the log cannot be opened.
    """
    if url == "memory:":
        if read_only:
            raise StoreError("cannot open memory: for reading only: there is nothing in it")
        return MemoryLog()
    scheme, separator, rest = url.partition("://")
    if is_postgres(url):
        postgres = postgres_log(url)
        if read_only:
            return postgres.open_readonly(url)
        return postgres.open(
            url,
            new_log_id=new_log_id,
            node=node,
            key=key,
            witness=witness,
            rotate_every=rotate_every,
        )
    if scheme != "sqlite" or not separator:
        raise StoreError(f"cannot open {_shown(url)!r}: it is not the URL of a log; {_ALLOWED}")
    name = rest.removeprefix("/")
    if not rest.startswith("/") or not name or name.endswith("/") or set(name) & set("?#\0"):
        raise StoreError(f"cannot open {_shown(url)!r}: it does not name a file; {_ALLOWED}")
    if read_only:
        return SqliteLog.open_readonly(Path(name))
    return SqliteLog.open(
        Path(name), new_log_id=new_log_id, witness=witness, rotate_every=rotate_every
    )


def sqlite_file(url: str, purpose: str) -> Path:
    """The file of a log in SQLite; `purpose` is a verb for the refusal.

    Raises:
        StoreError: `url` names another kind of log, or none.
    """
    name = url.removeprefix("sqlite:///")
    if name == url or not name or name.endswith("/") or set(name) & set("?#\0"):
        raise StoreError(
            f"cannot {purpose} {_shown(url)!r}; allowed: sqlite:///FILE, sqlite:////ABSOLUTE/FILE"
        )
    return Path(name)


def is_postgres(url: str) -> bool:
    """Whether `url` names a log in PostgreSQL."""
    return url.startswith(("postgresql://", "postgres://"))


def postgres_log(url: str) -> type[PostgresLog]:
    """What opens a log in PostgreSQL; `url` is only for the refusal.

    Raises:
        StoreError: psycopg is missing.
    """
    try:
        from healer.store.postgres import PostgresLog  # noqa: PLC0415 - psycopg is an extra
    except ImportError as error:
        raise StoreError(
            f"cannot open {_shown(url)}: psycopg is missing ({error}); "
            "install it with: pip install 'network-healer[postgres]'"
        ) from error
    return PostgresLog


def _shown(url: str) -> str:
    for pattern, replacement in _SECRETS:
        url = pattern.sub(replacement, url)
    return url
