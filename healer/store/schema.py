"""The tables of a log file, and how a file is known to be one."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from healer.domain.events import Event, IssueDetected, IssueFailed, IssueVerified
from healer.errors import StoreError

__all__ = [
    "BEGINS",
    "LIFE",
    "SCHEMA_VERSION",
    "add_archive",
    "add_checkpoints",
    "add_life_index",
    "archived_claims",
    "archived_end",
    "archived_streams",
    "create",
    "deleting",
    "has_checkpoints",
    "key_since",
    "log_id",
    "require_schema",
    "stored_version",
]

SCHEMA_VERSION: Final = 1


def _any_version(*events: type[Event]) -> str:
    # A topic is a name, ".v" and a number. Compared as code points, in both stores.
    names = [event.TOPIC.rpartition(".v")[0] for event in events]
    return " OR ".join(f"(topic >= '{name}.v' AND topic < '{name}.w')" for name in names)


# Written out rather than bound: a partial index serves a query only when its condition is the same.
LIFE: Final = f"({_any_version(IssueDetected, IssueVerified, IssueFailed)})"
"""SQL: the event begins or ends an issue, in whichever version it was stored. Logs live longer than
the versions of their events."""

BEGINS: Final = f"({_any_version(IssueDetected)})"
"""SQL: the event begins an issue."""

_LIFE_INDEX: Final = (
    f"CREATE INDEX IF NOT EXISTS event_lifetime ON event (position, topic, stream) WHERE {LIFE};"
)

_NEVER_DELETED: Final = """
CREATE TRIGGER event_is_never_deleted BEFORE DELETE ON event
BEGIN SELECT RAISE(ABORT, 'cannot delete an event: the log is immutable'); END;
"""

# The triggers guard against accidents, not against who can write the file. Archiving old events is
# the one reason to go round them (`deleting`).
# `created` is a label by the database's own clock; nothing is computed from it.
_TABLES: Final = f"""
CREATE TABLE meta (
    schema_version INTEGER NOT NULL,
    log_id TEXT NOT NULL,
    created TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) STRICT;
CREATE TABLE event (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    stream TEXT NOT NULL,
    version INTEGER NOT NULL,
    topic TEXT NOT NULL,
    time INTEGER NOT NULL,
    body BLOB NOT NULL,
    hash BLOB NOT NULL,
    UNIQUE (stream, version)
) STRICT;
{_LIFE_INDEX}
CREATE TABLE open_issue (component TEXT PRIMARY KEY, issue TEXT NOT NULL) STRICT;
CREATE TRIGGER event_is_never_updated BEFORE UPDATE ON event
BEGIN SELECT RAISE(ABORT, 'cannot update an event: the log is immutable'); END;
{_NEVER_DELETED}"""

# Apart from the others: a log that was written before there were checkpoints gets it later.
_CHECKPOINTS: Final = """
CREATE TABLE checkpoint (
    number INTEGER PRIMARY KEY,
    size INTEGER NOT NULL,
    note TEXT NOT NULL
) STRICT;
CREATE TRIGGER checkpoint_is_never_updated BEFORE UPDATE ON checkpoint
BEGIN SELECT RAISE(ABORT, 'cannot update a checkpoint: the log is immutable'); END;
CREATE TRIGGER checkpoint_is_never_deleted BEFORE DELETE ON checkpoint
BEGIN SELECT RAISE(ABORT, 'cannot delete a checkpoint: the log is immutable'); END;
"""

# Made with the first archive. `archive` repeats what the signed notes say of each, and where its
# file is; `archived_stream` has the versions that streams which go on had reached, and of issues
# that were open at the end of the archive the component.
_ARCHIVE: Final = """
CREATE TABLE IF NOT EXISTS archive (
    last INTEGER PRIMARY KEY,
    first INTEGER NOT NULL,
    head BLOB NOT NULL,
    digest BLOB NOT NULL,
    path TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS archived_stream (
    stream TEXT PRIMARY KEY, version INTEGER NOT NULL, component TEXT
) STRICT;
"""


def create(connection: sqlite3.Connection, new_log_id: Callable[[], str]) -> None:
    """Make an empty database a log, all at once or not at all; the log is named by `new_log_id`."""
    connection.execute("BEGIN IMMEDIATE")
    for statement in _statements(_TABLES):
        connection.execute(statement)
    connection.execute(
        "INSERT INTO meta (schema_version, log_id) VALUES (?, ?)", (SCHEMA_VERSION, new_log_id())
    )
    connection.execute("COMMIT")


def has_checkpoints(connection: sqlite3.Connection) -> bool:
    """Whether the file has a place for checkpoints."""
    return _has(connection, "checkpoint")


def add_checkpoints(connection: sqlite3.Connection) -> None:
    """Give the file a place for checkpoints, in the caller's transaction; harmless when it has."""
    if not has_checkpoints(connection):
        for statement in _statements(_CHECKPOINTS):
            connection.execute(statement)


def add_life_index(connection: sqlite3.Connection) -> None:
    """Give a file whose index knows the first versions of the events only one that knows all of
    them, in the caller's transaction; harmless when it has."""
    connection.execute(_LIFE_INDEX)
    connection.execute("DROP INDEX IF EXISTS event_life")


def add_archive(connection: sqlite3.Connection) -> None:
    """Give the file a place for what is known of archives, in the caller's transaction; harmless
    when it has."""
    for statement in _statements(_ARCHIVE):
        connection.execute(statement)


@contextmanager
def deleting(connection: sqlite3.Connection) -> Iterator[None]:
    """Let events be deleted inside, in the caller's transaction."""
    connection.execute("DROP TRIGGER event_is_never_deleted")
    yield
    for statement in _statements(_NEVER_DELETED):
        connection.execute(statement)


def archived_end(connection: sqlite3.Connection) -> tuple[int, bytes] | None:
    """The position and the hash of the last archived event; None when there is none."""
    if not _has(connection, "archive"):
        return None
    row = connection.execute("SELECT last, head FROM archive ORDER BY last DESC LIMIT 1").fetchone()
    return None if row is None else (int(row[0]), bytes(row[1]))


def archived_streams(connection: sqlite3.Connection) -> dict[str, int]:
    """Streams that go on → the version that they had reached in the archive."""
    if not _has(connection, "archived_stream"):
        return {}
    return dict(connection.execute("SELECT stream, version FROM archived_stream"))


def archived_claims(connection: sqlite3.Connection) -> dict[str, str]:
    """Issues that were open where the archive ends → their component."""
    if not _has(connection, "archived_stream"):
        return {}
    return dict(
        connection.execute(
            "SELECT stream, component FROM archived_stream WHERE component IS NOT NULL"
        )
    )


def _has(connection: sqlite3.Connection, table: str) -> bool:
    return bool(
        connection.execute(
            "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?", (table,)
        ).fetchone()[0]
    )


def key_since(connection: sqlite3.Connection, note: str) -> str | None:
    """Since when the key of the checkpoint `note` signs: the time of the checkpoint that handed
    over to it, of the very first one for the first key; None where it cannot be told."""
    found = re.search(r"^epoch ([0-9]+)$", note, re.MULTILINE)
    if found is None:
        return None
    before = int(found[1]) - 1
    query = "SELECT note FROM checkpoint WHERE instr(note, ?) ORDER BY number DESC LIMIT 1"
    if before == 0:
        query = "SELECT note FROM checkpoint WHERE instr(note, ?) ORDER BY number LIMIT 1"
    row = connection.execute(query, (f"\nepoch {max(before, 1)}\n",)).fetchone()
    time = row and re.search(r"^time (.+)$", row[0], re.MULTILINE)
    return time[1] if time else None


def _statements(script: str) -> list[str]:
    # `executescript` would commit in the middle.
    statements: list[str] = []
    pending = ""
    for line in script.strip().splitlines():
        pending += line + "\n"
        if sqlite3.complete_statement(pending):
            statements.append(pending)
            pending = ""
    return statements


def stored_version(connection: sqlite3.Connection) -> int | None:
    """The schema version of the file; None when it has no tables at all.

    Raises:
        StoreError: it is a database, and not a healer's log.
    """
    tables = {
        name
        for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
    }
    if not tables:
        return None
    if not {"meta", "event", "open_issue"} <= tables:
        raise StoreError("it is a database of another program")
    row = connection.execute("SELECT schema_version FROM meta").fetchone()
    if row is None:
        raise StoreError("its table meta is empty")
    return int(row[0])


def require_schema(connection: sqlite3.Connection, file: Path) -> bool:
    """Whether `file` is a log of the schema that this version knows; False when it is empty.

    Raises:
        StoreError: it is anything else.
    """
    try:
        version = stored_version(connection)
    except StoreError as error:
        raise StoreError(f"cannot open {file}: {error}") from error
    if version not in {None, SCHEMA_VERSION}:
        raise StoreError(
            f"cannot open {file}: its schema version is {version}; allowed: {SCHEMA_VERSION}"
        )
    return version is not None


def log_id(connection: sqlite3.Connection) -> str:
    """The name that the log was given when it was created."""
    return str(connection.execute("SELECT log_id FROM meta").fetchone()[0])
