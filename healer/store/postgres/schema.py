"""The tables of a log in PostgreSQL, in a schema of their own, and who may do what with them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from psycopg import sql

from healer.errors import StoreError
from healer.store.chain import genesis
from healer.store.postgres.connection import Connection
from healer.store.postgres.place import Place
from healer.store.schema import LIFE

__all__ = [
    "CHANNEL",
    "SCHEMA_VERSION",
    "add_checkpoints",
    "add_life_index",
    "create",
    "grants",
    "has_checkpoints",
    "key_since",
    "log_id",
    "newest_checkpoint",
    "require_schema",
    "stored_version",
]

SCHEMA_VERSION: Final = 1
CHANNEL: Final = "healer_log"
"""Where each commit is announced by NOTIFY; the payload is the position of its last event."""

# Two nodes that find an empty database must not both make the log: any number will do, as long as
# every version of the healer takes the same.
_CREATION_LOCK: Final = 0x4EA1E2106
_TABLE_NAMES: Final = {"meta", "head", "event", "open_issue"}

# `head` is the row that every append locks: it puts the nodes' commits in one order, which is the
# order of positions and of the chain. It also remembers the highest position ever given.
# The collation "C" is the order of code points, the same on every machine.
# The triggers guard against accidents, also of the owner; who may drop them can do anything.
# `created` is a label by the database's own clock; nothing is computed from it.
_LIFE_INDEX: Final = (
    "CREATE INDEX IF NOT EXISTS event_lifetime ON healer.event (stream, topic, position) "
    f"WHERE {LIFE}"
)
_TABLES: Final = f"""
CREATE TABLE healer.meta (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    schema_version integer NOT NULL,
    log_id text NOT NULL,
    created timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE healer.head (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    position bigint NOT NULL,
    hash bytea NOT NULL
);
CREATE TABLE healer.event (
    position bigint PRIMARY KEY,
    stream text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    topic text COLLATE "C" NOT NULL,
    time bigint NOT NULL,
    body bytea NOT NULL,
    hash bytea NOT NULL,
    UNIQUE (stream, version)
);
{_LIFE_INDEX};
CREATE TABLE healer.open_issue (
    component text COLLATE "C" PRIMARY KEY,
    issue text COLLATE "C" NOT NULL,
    node text,
    fence bigint,
    expires timestamptz
);
CREATE INDEX open_issue_issue ON healer.open_issue (issue);
CREATE FUNCTION healer.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'cannot % an event: the log is immutable', lower(TG_OP); END $$;
CREATE TRIGGER event_is_never_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON healer.event
    FOR EACH STATEMENT EXECUTE FUNCTION healer.refuse();
REVOKE UPDATE, DELETE, TRUNCATE ON healer.event FROM CURRENT_USER, PUBLIC
"""

# Apart from the others: a log that was written before there were checkpoints gets it later.
_CHECKPOINTS: Final = """
CREATE TABLE healer.checkpoint (
    number bigint PRIMARY KEY,
    size bigint NOT NULL,
    note text COLLATE "C" NOT NULL
);
CREATE FUNCTION healer.refuse_checkpoint() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'cannot % a checkpoint: the log is immutable', lower(TG_OP); END $$;
CREATE TRIGGER checkpoint_is_never_changed BEFORE UPDATE OR DELETE OR TRUNCATE
    ON healer.checkpoint FOR EACH STATEMENT EXECUTE FUNCTION healer.refuse_checkpoint();
REVOKE UPDATE, DELETE, TRUNCATE ON healer.checkpoint FROM CURRENT_USER, PUBLIC
"""

_GRANTS: Final = """
GRANT USAGE ON SCHEMA healer TO {role};
GRANT SELECT ON healer.meta TO {role};
GRANT SELECT, UPDATE ON healer.head TO {role};
GRANT SELECT, INSERT ON healer.event TO {role};
GRANT SELECT, INSERT ON healer.checkpoint TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON healer.open_issue TO {role}
"""


def create(connection: Connection, new_log_id: Callable[[], str]) -> None:
    """Make an empty schema a log, all at once or not at all; the log is named by `new_log_id`.

    Harmless when another node was faster.

    Raises:
        StoreError: the schema belongs to another program.
        psycopg.Error: the role may not create it.
    """
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_CREATION_LOCK,))
        if stored_version(connection) is not None:
            return
        # IF NOT EXISTS would ask for the right to create even where there is nothing to create.
        if _one(connection, "SELECT to_regnamespace('healer') IS NULL"):
            connection.execute("CREATE SCHEMA healer")
        connection.execute(_TABLES)
        connection.execute(_CHECKPOINTS)
        name = new_log_id()
        connection.execute(
            "INSERT INTO healer.meta (schema_version, log_id) VALUES (%s, %s)",
            (SCHEMA_VERSION, name),
        )
        connection.execute(
            "INSERT INTO healer.head (position, hash) VALUES (0, %s)", (genesis(name),)
        )


def has_checkpoints(connection: Connection) -> bool:
    """Whether the log has a place for checkpoints."""
    return _one(connection, "SELECT to_regclass('healer.checkpoint')") is not None


def add_checkpoints(connection: Connection) -> None:
    """Give the log a place for checkpoints; harmless when it has.

    Raises:
        psycopg.Error: the role may not: the owner of the log does it by opening it once.
    """
    if has_checkpoints(connection):
        return
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_CREATION_LOCK,))
        if not has_checkpoints(connection):
            connection.execute(_CHECKPOINTS)


def add_life_index(connection: Connection) -> None:
    """Give a log whose index knows the first versions of the events only one that knows all of
    them, where the role may; without it opening takes longer, and finds the same."""
    query = "SELECT to_regclass('healer.event_lifetime') IS NULL AND pg_has_role(relowner, 'USAGE')"
    if _one(connection, f"{query} FROM pg_class WHERE oid = 'healer.event'::regclass"):
        connection.execute(_LIFE_INDEX.encode())
        connection.execute("DROP INDEX IF EXISTS healer.event_life")


def newest_checkpoint(connection: Connection) -> str | None:
    """The text of the last checkpoint; None before the first."""
    note = _one(connection, "SELECT note FROM healer.checkpoint ORDER BY number DESC LIMIT 1")
    return None if note is None else str(note)


def key_since(connection: Connection, note: str) -> str | None:
    """Since when the key of the checkpoint `note` signs: the time of the checkpoint that handed
    over to it, of the very first one for the first key; None where it cannot be told."""
    found = re.search(r"^epoch ([0-9]+)$", note, re.MULTILINE)
    before = int(found[1]) - 1 if found else 0
    order = "DESC" if before else "ASC"
    row = connection.execute(
        "SELECT note FROM healer.checkpoint WHERE strpos(note, %s) > 0 "  # noqa: S608 - a word
        f"ORDER BY number {order} LIMIT 1".encode(),
        (f"\nepoch {max(before, 1)}\n",),
    ).fetchone()
    time = row and re.search(r"^time (.+)$", row[0], re.MULTILINE)
    return time[1] if time else None


def stored_version(connection: Connection) -> int | None:
    """The schema version of the log; None when there is none.

    Raises:
        StoreError: the schema belongs to another program.
    """
    tables = {
        name
        for (name,) in connection.execute(
            "SELECT relname::text FROM pg_class WHERE relkind = 'r' "
            "AND relnamespace = to_regnamespace('healer')"
        )
    }
    if not tables:
        return None
    if not tables >= _TABLE_NAMES:
        raise StoreError("its schema healer belongs to another program")
    version = _one(connection, "SELECT max(schema_version) FROM healer.meta")
    if not isinstance(version, int):
        raise StoreError("its table healer.meta is empty")
    return version


def require_schema(connection: Connection, place: Place) -> bool:
    """Whether there is a log of the schema that this version knows; False when there is none.

    Raises:
        StoreError: there is anything else.
    """
    try:
        version = stored_version(connection)
    except StoreError as error:
        raise StoreError(f"cannot open {place}: {error}") from error
    if version not in {None, SCHEMA_VERSION}:
        raise StoreError(
            f"cannot open {place}: its schema version is {version}; allowed: {SCHEMA_VERSION}"
        )
    return version is not None


def log_id(connection: Connection) -> str:
    """The name that the log was given when it was created."""
    return str(_one(connection, "SELECT log_id FROM healer.meta"))


def grants(role: str) -> str:
    """SQL by which the owner of the log lets `role` append to it and no more: a healer that runs
    under a role that owns nothing cannot change what was recorded, whatever becomes of it."""
    return sql.SQL(_GRANTS.strip()).format(role=sql.Identifier(role)).as_string()


def _one(connection: Connection, query: str) -> object:
    row = connection.execute(query.encode()).fetchone()
    return row[0] if row else None
