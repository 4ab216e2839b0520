"""What the database knows of archives: where the files are, and where streams stood in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from healer.errors import StoreError
from healer.store.cold import Cold, Row, Segment
from healer.store.postgres.connection import Connection

__all__ = [
    "ROW",
    "Stored",
    "add_archive",
    "archived_claims",
    "archived_end",
    "archived_streams",
    "has_archive",
    "move",
    "segments_of",
]

# `archive` repeats what the signed notes say of each, and where its file is. `archived_stream` has
# the versions that streams which go on had reached, and of issues that were open at the end of the
# archive the component.
_TABLES: Final = """
CREATE TABLE healer.archive (
    last bigint PRIMARY KEY,
    first bigint NOT NULL,
    head bytea NOT NULL,
    digest bytea NOT NULL,
    path text NOT NULL
);
CREATE TABLE healer.archived_stream (
    stream text COLLATE "C" PRIMARY KEY,
    version bigint NOT NULL,
    component text COLLATE "C"
)
"""

# In the transaction that archives, and only there, the trigger lets events go.
_REFUSE: Final = """
CREATE OR REPLACE FUNCTION healer.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'DELETE' OR current_setting('healer.archiving', true) IS DISTINCT FROM 'on' THEN
        RAISE EXCEPTION 'cannot % an event: the log is immutable', lower(TG_OP);
    END IF;
    RETURN NULL;
END $$
"""
_READERS: Final = (
    "SELECT DISTINCT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END "
    "FROM pg_class, aclexplode(relacl) "
    "WHERE pg_class.oid = 'healer.event'::regclass AND privilege_type = 'SELECT'"
)
_REACHED: Final = (
    "INSERT INTO healer.archived_stream (stream, version, component) VALUES (%s, %s, %s) "
    "ON CONFLICT (stream) DO UPDATE SET version = excluded.version, component = excluded.component"
)
ROW: Final = "SELECT position, stream, version, topic, time, body, hash FROM healer.event "
"""An event as `Row` has it; which ones is for who asks to say."""

_ROWS: Final = f"{ROW}WHERE position > %s ORDER BY position LIMIT %s".encode()
_STREAM: Final = f"{ROW}WHERE stream = %s ORDER BY version".encode()


def has_archive(connection: Connection) -> bool:
    """Whether anything was ever archived, or was about to be."""
    row = connection.execute("SELECT to_regclass('healer.archived_stream') IS NOT NULL").fetchone()
    return bool(row and row[0])


def add_archive(connection: Connection) -> None:
    """Give the log a place for what is known of archives, which whoever may read events may read;
    harmless when it has.

    Raises:
        psycopg.Error: the role may not: the owner of the log may.
    """
    with connection.transaction():
        connection.execute(_REFUSE)
        if not has_archive(connection):
            connection.execute(_TABLES)
        for (role,) in connection.execute(_READERS).fetchall():
            granted = f"GRANT SELECT ON healer.archive, healer.archived_stream TO {role}"
            connection.execute(granted.encode())


def segments_of(connection: Connection) -> tuple[Segment, ...]:
    """The archives of the log, in order."""
    if not has_archive(connection):
        return ()
    query = "SELECT first, last, head, digest, path FROM healer.archive ORDER BY last"
    return tuple(
        Segment(first, last, bytes(head), bytes(digest), Path(path))
        for first, last, head, digest, path in connection.execute(query)
    )


def archived_end(connection: Connection) -> tuple[int, bytes] | None:
    """The position and the hash of the last archived event; None when there is none."""
    if not has_archive(connection):
        return None
    query = "SELECT last, head FROM healer.archive ORDER BY last DESC LIMIT 1"
    row = connection.execute(query).fetchone()
    return None if row is None else (int(row[0]), bytes(row[1]))


def archived_streams(connection: Connection) -> dict[str, int]:
    """Streams that go on → the version that they had reached in the archive."""
    if not has_archive(connection):
        return {}
    return dict(connection.execute("SELECT stream, version FROM healer.archived_stream").fetchall())


def archived_claims(connection: Connection) -> dict[str, str]:
    """Issues that were open where the archive ends → their component."""
    if not has_archive(connection):
        return {}
    query = (
        "SELECT stream, component FROM healer.archived_stream WHERE component IS NOT NULL "
        "ORDER BY stream"
    )
    return dict(connection.execute(query).fetchall())


def move(
    connection: Connection, segment: Segment, streams: Mapping[str, tuple[int, str | None]]
) -> None:
    """Delete the events of `segment` and remember where they are, in the caller's transaction, that
    of the owner of the log. `streams` that go on have reached these versions in it, and are open
    issues of these components. Other nodes append meanwhile.

    Raises:
        StoreError: the log has not all of them.
    """
    first, last, head, digest, path = segment
    # The owner, too, has not the right; it is given back in the same breath.
    connection.execute("SELECT set_config('healer.archiving', 'on', true)")
    connection.execute("GRANT DELETE ON healer.event TO CURRENT_USER")
    deleted = connection.execute("DELETE FROM healer.event WHERE position <= %s", (last,)).rowcount
    connection.execute("REVOKE DELETE ON healer.event FROM CURRENT_USER")
    if deleted != last - first + 1:
        raise StoreError(f"the log has {deleted} of the events {first} to {last}")
    connection.execute(
        "INSERT INTO healer.archive (last, first, head, digest, path) VALUES (%s, %s, %s, %s, %s)",
        (last, first, head, digest, str(path)),
    )
    with connection.cursor() as cursor:
        cursor.executemany(_REACHED, [(stream, *reached) for stream, reached in streams.items()])


class Stored:
    """The events of the log, in its table or in an archive; safe for threads. Its methods raise
    StoreError where an archive cannot be read.

    Nodes go on while another archives, so the table is asked first and the archives after it: what
    was moved in between was still seen, and what was not seen is in the archives by then.
    """

    def __init__(self) -> None:
        self._cold = Cold(())

    def rows(self, connection: Connection, after: int, limit: int) -> list[Row]:
        """At most `limit` events behind `after`, in log order."""
        found = connection.execute(_ROWS, (after, limit), binary=True).fetchall()
        if found and found[0][0] == max(after, 0) + 1:
            return found
        return self.cold(connection).joined(after, limit, found)

    def stream(self, connection: Connection, stream: str) -> Sequence[Row]:
        """The events of one stream, in order."""
        found = connection.execute(_STREAM, (stream,), binary=True).fetchall()
        if found and found[0][2] == 1:
            return found
        first = found[0][2] if found else None
        cold = self.cold(connection).stream(stream)
        return [*(row for row in cold if first is None or row[2] < first), *found]

    def hash_at(self, connection: Connection, position: int) -> bytes | None:
        """The hash of an event; None: there is none at that position."""
        rows = self.rows(connection, position - 1, 1)
        return rows[0][6] if rows and rows[0][0] == position else None

    def head(self, connection: Connection) -> int:
        """The position of the last event; 0 in an empty log."""
        row = connection.execute("SELECT max(position) FROM healer.event").fetchone()
        if row is not None and row[0] is not None:
            return int(row[0])
        end = archived_end(connection)
        return end[0] if end else 0

    def cold(self, connection: Connection) -> Cold:
        """What is archived now."""
        segments = segments_of(connection)
        if segments != self._cold.segments:
            self._cold = Cold(segments)
        return self._cold

    def close(self) -> None:
        """Let go of the files."""
        self._cold.close()
