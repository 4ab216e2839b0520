"""Moving the oldest events of a log in PostgreSQL into files; the nodes that share it go on.

The files are written from one state of the log, read back and verified. Then one transaction
deletes the rows and signs for them: only for the signature the other nodes wait. Killed before it,
nothing has changed, and what lies around is removed by the next run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

import psycopg
from psycopg import IsolationLevel

from healer.errors import StoreError
from healer.store.archive import Archived, microseconds
from healer.store.codec import Codec
from healer.store.cold import GROUP, Row, Segment, parquet
from healer.store.cut import Cut, cut_of
from healer.store.notary import Sealing
from healer.store.postgres import schema
from healer.store.postgres.archived import ROW, add_archive, archived_claims, segments_of
from healer.store.postgres.connection import (
    Connection,
    UnreachableError,
    connect,
    refusals,
    words,
)
from healer.store.postgres.ledger import Ledger
from healer.store.postgres.place import Place, locate
from healer.store.segment import Progress, tidy, write
from healer.store.witness import FileWitness

__all__ = ["ARCHIVING", "archive"]

# One at a time, whichever machine it runs on: any number will do.
ARCHIVING: Final = 0x4EA1EA2C
_OWNED: Final = (
    "SELECT pg_has_role(relowner, 'USAGE'), current_user::text, relowner::regrole::text "
    "FROM pg_class WHERE oid = 'healer.event'::regclass"
)


def archive(
    url: str,
    before: datetime,
    *,
    directory: Path,
    key: Path,
    codec: Codec | None = None,
    witness: Path | None = None,
    on_progress: Progress = lambda _done, _total: None,
) -> Archived:
    """Move the events of the log that `url` names that are older than `before`, as far as all
    issues among them have ended, into `directory`, which every machine that reads the past has to
    reach under the same name. Blocks; nodes may use the log meanwhile.

    `url` is that of the owner of the log; `key` is the file of the key that signs it.

    Raises:
        StoreError: the log is broken or cannot be reached, somebody else archives it, the role or
            the key may not, or something could not be written. Nothing has changed then, or the
            error says that it is not known: the next run finds out and finishes it.
    """
    parquet()
    place = locate(url)
    sealing = Sealing(key, witness=FileWitness(witness) if witness else None)
    try:
        with (
            refusals(f"archive {place}"),
            closing(connect(place, writing=True)) as connection,
        ):
            _begin(connection, place, key)
            ledger = Ledger(place, codec or Codec(), _no_log, sealing)
            with closing(ledger):
                _require_whole(place, ledger)
                held = _size_of(connection)
                cut, segment = _write(place, directory.resolve(), before, on_progress)
                if segment is not None:
                    ledger.archive(segment, cut.streams)
                return _told(connection, cut, segment, held)
    except UnreachableError as error:
        why = "whether anything was moved is not known; run it again when it is back"
        raise StoreError(f"{error}; {why}") from error
    except StoreError as error:
        raise StoreError(f"{error}; nothing was moved") from error
    except OSError as error:
        why = f"{error.filename or directory}: {error.strerror or error}"
        raise StoreError(f"cannot archive {place}: {why}; nothing was moved") from error


def _no_log() -> str:
    raise StoreError("there is no log")


def _begin(connection: Connection, place: Place, key: Path) -> None:
    """Refuse what cannot end well, before anything is touched.

    Raises:
        StoreError: it says why.
    """
    if not schema.require_schema(connection, place):
        raise StoreError(f"cannot archive {place}: it is empty")
    ours, role, owner = connection.execute(_OWNED).fetchone() or (False, "", "")
    if not ours:
        raise StoreError(
            f"cannot archive {place} as {role}: only the owner of the log may, {owner}; "
            "name that role in --store"
        )
    if not key.exists():
        raise StoreError(f"cannot archive {place}: there is no key {key}, and it has to be signed")
    row = connection.execute("SELECT pg_try_advisory_lock(%s)", (ARCHIVING,)).fetchone()
    if row is None or not row[0]:
        raise StoreError(f"cannot archive {place}: it is being archived by somebody else")
    add_archive(connection)


def _require_whole(place: Place, ledger: Ledger) -> None:
    if ledger.broken is not None:
        raise StoreError(f"cannot archive {place}: {ledger.broken}")


def _told(connection: Connection, cut: Cut, segment: Segment | None, held: int) -> Archived:
    """What was moved from a table that took `held` bytes; its space is given back."""
    files = (segment.path, segment.streams) if segment else ()
    unreturned = _return_space(connection)
    return Archived(
        events=cut.last - cut.first + 1,
        last=cut.last,
        path=segment.path if segment else None,
        size=sum(path.stat().st_size for path in files),
        freed=max(0, held - _size_of(connection)),
        held_by=cut.held_by,
        unreturned=unreturned,
    )


def _write(
    place: Place, directory: Path, before: datetime, on_progress: Progress
) -> tuple[Cut, Segment | None]:
    """What may go, and its files; None where nothing may."""
    with _one_state(place) as connection:
        known = segments_of(connection)
        warm = _Rows(connection)
        tidy(warm, directory, known)
        cut = cut_of(
            lambda query: connection.execute(query.encode()),
            microseconds(before),
            archived_claims(connection),
        )
        if cut.last < cut.first:
            return cut, None
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        return cut, write(warm, directory, cut, known, on_progress)


@contextmanager
def _one_state(place: Place) -> Iterator[Connection]:
    """One state of the log for as long as it is read; it locks nothing that an append needs."""
    with closing(connect(place, writing=False)) as connection:
        connection.execute(
            "SELECT set_config('idle_in_transaction_session_timeout', '0', false), "
            "set_config('search_path', 'healer, pg_catalog', false)"
        )
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        with connection.transaction():
            yield connection


class _Rows:
    """The events in the database, in one state of it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.log_id = schema.log_id(connection)

    def hash_at(self, position: int) -> bytes | None:
        """See `Warm.hash_at`."""
        query = "SELECT hash FROM healer.event WHERE position = %s"
        row = self._connection.execute(query, (position,)).fetchone()
        return None if row is None else bytes(row[0])

    def rows(self, last: int) -> Iterator[list[Row]]:
        """See `Warm.rows`."""
        with self._connection.cursor("rows") as cursor:
            query = f"{ROW}WHERE position <= %s ORDER BY position".encode()
            cursor.execute(query, (last,), binary=True)
            while batch := cursor.fetchmany(GROUP):
                yield batch

    def stream(self, stream: str, version: int) -> Sequence[Row]:
        """See `Warm.stream`."""
        query = f"{ROW}WHERE stream = %s AND version <= %s ORDER BY version".encode()
        return self._connection.execute(query, (stream, version), binary=True).fetchall()


def _size_of(connection: Connection) -> int:
    row = connection.execute("SELECT pg_total_relation_size('healer.event')").fetchone()
    return int(row[0]) if row else 0


def _return_space(connection: Connection) -> str | None:
    """Let what comes have the space of deleted rows; why that could not be done."""
    try:
        connection.execute("VACUUM (ANALYZE) healer.event")
    except psycopg.Error as error:
        return words(error)
    return None
