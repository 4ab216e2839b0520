"""What is looked at when a log is opened: its last events, and who has an open issue."""

from __future__ import annotations

from itertools import starmap
from typing import Any

import psycopg
from psycopg import IsolationLevel

from healer.domain.events import IssueDetected
from healer.errors import StoreError
from healer.store.chain import Link, first_break, genesis
from healer.store.codec import Codec
from healer.store.postgres import schema
from healer.store.postgres.archived import archived_claims, archived_end
from healer.store.postgres.connection import Connection
from healer.store.schema import BEGINS, LIFE
from healer.store.tail import TAIL, Tail, contradiction

__all__ = ["hash_at", "inspect", "open_issues", "repair"]

# By the index alone, in the order of the streams: no statistics of the server can lead it astray.
_OPEN = f"""
SELECT position, stream, version, topic, body FROM healer.event
WHERE position IN (
    SELECT min(position) FROM healer.event WHERE {LIFE} GROUP BY stream HAVING bool_and({BEGINS}))
ORDER BY position
"""  # noqa: S608 - constants
_ENDED = f"""
SELECT stream FROM healer.event WHERE stream = ANY(%s) AND {LIFE} AND NOT {BEGINS}
"""  # noqa: S608 - constants


def inspect(connection: Connection, codec: Codec) -> tuple[Tail, bool]:
    """Verify the last events against the chain, and that none behind them was taken away.

    All is read from one state of the log while other nodes go on appending. The second answer is
    whether the open issues are those of the log: see `repair`.
    """
    isolation, connection.isolation_level = (
        connection.isolation_level,
        IsolationLevel.REPEATABLE_READ,
    )
    try:
        with connection.transaction():
            end = _verify(connection)
            if end.broken is not None:
                return end, True
            try:
                wanted = _open_in_the_log(connection, codec)
            except StoreError as error:
                return Tail(end.position, end.hash, str(error)), True
            return end, wanted == open_issues(connection)
    finally:
        if not connection.closed:
            connection.isolation_level = isolation


def open_issues(connection: Connection) -> dict[str, str]:
    """Component → its open issue, in order of components."""
    query = "SELECT component, issue FROM healer.open_issue ORDER BY component"
    return dict(connection.execute(query).fetchall())


def repair(connection: Connection, codec: Codec) -> None:
    """Make the table of open issues say what the log says, while nobody can append.

    Raises:
        StoreError: the log cannot be read.
    """
    with connection.transaction():
        connection.execute("SELECT FROM healer.head FOR UPDATE")
        wanted = _open_in_the_log(connection, codec)
        present = open_issues(connection)
        wrong = [each for each in present if present[each] != wanted.get(each)]
        missing = [each for each in wanted if present.get(each) != wanted[each]]
        connection.execute("DELETE FROM healer.open_issue WHERE component = ANY(%s)", (wrong,))
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO healer.open_issue (component, issue) VALUES (%s, %s)",
                [(each, wanted[each]) for each in missing],
            )


def _open_in_the_log(connection: Connection, codec: Codec) -> dict[str, str]:
    carried = archived_claims(connection)
    for (stream,) in connection.execute(_ENDED.encode(), (list(carried),)):
        del carried[stream]
    claims = {component: stream for stream, component in carried.items()}
    for position, stream, version, topic, body in connection.execute(_OPEN.encode()):
        event = codec.decode(stream, version, topic, body, place=f"event {position}")
        if not isinstance(event, IssueDetected):
            continue
        holder = claims.setdefault(event.component, stream)
        if holder != stream:
            raise StoreError(
                f"event {position} opens issue {stream} for component {event.component!r}, "
                f"whose issue {holder} is open"
            )
    return claims


def _verify(connection: Connection) -> Tail:
    name = schema.log_id(connection)
    base, start = archived_end(connection) or (0, genesis(name))
    last = _row(connection, "SELECT max(position) FROM healer.event")[0] or base
    given, remembered = _row(connection, "SELECT position, hash FROM healer.head")
    after = max(last - TAIL - 1, base)
    links = list(
        starmap(
            Link,
            connection.execute(
                "SELECT position, stream, version, topic, body, hash FROM healer.event "
                "WHERE position > %s ORDER BY position",
                (after,),
            ),
        )
    )
    end = links[-1].hash if links else start
    if after > base:
        first, *links = links
        after, start = first.position, first.hash
    broken = first_break(links, after=after, previous=start)
    if broken is None and given > last:
        broken = f"event {last + 1} is missing"
    elif broken is None and (given, remembered) != (last, end):
        broken = f"event {last} is not the one that the head of the log names ({given})"
    note = schema.newest_checkpoint(connection) if schema.has_checkpoints(connection) else None
    if broken is None and note is not None:
        broken = contradiction(note, name, last, lambda size: hash_at(connection, size))
    return Tail(last, end, broken)


def hash_at(connection: Connection, position: int) -> bytes | None:
    """The hash of the event at `position`, of the log's name at 0; None: there is no such event, or
    it stands in an archive and is not the last one there."""
    if position == 0:
        return genesis(schema.log_id(connection))
    row = connection.execute(
        "SELECT hash FROM healer.event WHERE position = %s", (position,)
    ).fetchone()
    if row is not None:
        return bytes(row[0])
    end = archived_end(connection)
    return end[1] if end is not None and end[0] == position else None


def _row(connection: Connection, query: str) -> tuple[Any, ...]:
    row = connection.execute(query.encode()).fetchone()
    if row is None:
        raise psycopg.DataError("a table of the log lacks its only row")
    return row
