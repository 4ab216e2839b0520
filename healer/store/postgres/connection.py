"""Connections to the database: how they are set, and what their errors mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg.pq import TransactionStatus

from healer.errors import StoreError
from healer.store.postgres.place import Place

__all__ = ["LOST", "Connection", "UnreachableError", "connect", "ending", "refusals", "words"]

Connection = psycopg.Connection[tuple[Any, ...]]

LOST: Final = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    # Another server took its place; or it gave up on us while we were frozen.
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.IdleInTransactionSessionTimeout,
)
"""What a database answers that may answer better in a moment, over another connection."""

# Every append holds the lock on the head of the log. A node that stops in the middle of one must
# not stop the others for longer than this; where its machine is gone as well, the server learns it
# from the keepalives below.
_IDLE_IN_TRANSACTION: Final = "5s"
_LOCK_TIMEOUT: Final = "20s"

_SETTINGS: Final = """
SELECT current_setting('fsync'), current_setting('server_encoding'),
    set_config('search_path', 'pg_catalog', false),
    set_config('default_transaction_read_only', %(read_only)s, false),
    set_config('idle_in_transaction_session_timeout', %(idle)s, false),
    set_config('lock_timeout', %(lock)s, false),
    set_config('plan_cache_mode', %(plans)s, false),
    set_config('tcp_keepalives_idle', '5', false),
    set_config('tcp_keepalives_interval', '2', false),
    set_config('tcp_keepalives_count', '3', false),
    set_config('synchronous_commit', CASE current_setting('synchronous_commit')
        WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false)
"""


class UnreachableError(StoreError):
    """The database does not answer now; it may answer later."""


def words(error: Exception) -> str:
    """What the database said, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def refusals(doing: str) -> Iterator[None]:
    """Whatever the database refuses inside becomes "cannot <doing>: <why>".

    Raises:
        UnreachableError: it is not there, or the connection to it was lost.
        StoreError: it is there and refuses.
    """
    try:
        yield
    except LOST as error:
        raise UnreachableError(f"cannot {doing}: {words(error)}") from error
    except psycopg.Error as error:
        raise StoreError(f"cannot {doing}: {words(error)}") from error


def connect(place: Place, *, writing: bool) -> Connection:
    """A connection in autocommit mode: one that appends, or one that can only read.

    Raises:
        StoreError: the server would not keep what it acknowledges, or cannot keep every text.
        psycopg.Error: there is no connection to be had.
    """
    options: dict[str, Any] = {**place.options, "client_encoding": "UTF8"}
    if writing:
        # Of several hosts the one that takes writes; a standby alone is "not reachable now".
        options.setdefault("target_session_attrs", "read-write")
    connection: Connection = psycopg.connect(autocommit=True, **options)
    try:
        row = connection.execute(
            _SETTINGS,
            {
                "read_only": "off" if writing else "on",
                "idle": _IDLE_IN_TRANSACTION,
                "lock": _LOCK_TIMEOUT,
                # An append asks the same few questions for ever, each answered by one index:
                # planning them anew each time took longer than answering them.
                "plans": "force_generic_plan" if writing else "auto",
            },
        ).fetchone()
        fsync, encoding, *_ = row or ("", "")
        _check(place, encoding, fsync if writing else "on")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def ending(connection: Connection) -> Iterator[None]:
    """Commit the transaction that is begun inside, or take it back when something is raised. Who
    begins it together with its first questions spares the journey of a BEGIN on its own."""
    try:
        yield
    except BaseException:
        if not connection.broken and connection.info.transaction_status != TransactionStatus.IDLE:
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _check(place: Place, encoding: str, fsync: str) -> None:
    if fsync != "on":
        raise StoreError(
            f"cannot open {place}: the server runs with fsync={fsync} and would lose "
            "acknowledged events in a power cut; allowed: on"
        )
    if encoding != "UTF8":
        raise StoreError(
            f"cannot open {place}: the database's encoding is {encoding}; allowed: UTF8"
        )
