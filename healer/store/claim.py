"""At most one open issue per component, as a constraint of the database.

The table is derived from the log: the append that opens or closes an issue changes it in the same
transaction, and it is made anew from the log at each opening.
"""

from __future__ import annotations

import sqlite3

from healer.domain.events import Event, IssueDetected, IssueFailed, IssueVerified
from healer.errors import IssueConflictError, StoreError
from healer.store.codec import Codec
from healer.store.schema import BEGINS, LIFE, archived_claims

__all__ = ["conflict", "open_issues", "rebuild", "settle"]


def conflict(component: str, issue: str, holder: str) -> IssueConflictError:
    """The error of an issue that wants a component which has an open one."""
    return IssueConflictError(
        f"cannot open issue {issue} for component {component!r}: its issue {holder} is open"
    )


def settle(connection: sqlite3.Connection, event: Event) -> None:
    """What `event` means for the open issues: it claims a component, releases it, or neither.

    Raises:
        IssueConflictError: the component has an open issue.
    """
    match event:
        case IssueDetected(component=component, originator_id=issue):
            try:
                connection.execute("INSERT INTO open_issue VALUES (?, ?)", (component, issue))
            except sqlite3.IntegrityError as error:
                (holder,) = connection.execute(
                    "SELECT issue FROM open_issue WHERE component = ?", (component,)
                ).fetchone()
                raise conflict(component, issue, holder) from error
        case IssueVerified(originator_id=issue) | IssueFailed(originator_id=issue):
            connection.execute("DELETE FROM open_issue WHERE issue = ?", (issue,))


def open_issues(connection: sqlite3.Connection) -> dict[str, str]:
    """Component → its open issue, in order of components."""
    return dict(connection.execute("SELECT component, issue FROM open_issue ORDER BY component"))


def rebuild(connection: sqlite3.Connection, codec: Codec) -> str | None:
    """Make the table say what the log says, in the caller's transaction.

    Returns what is wrong with the log, in words, when two issues of one component are open in it or
    one of them cannot be read.
    """
    found: dict[str, int] = {}
    carried = archived_claims(connection)
    for position, begins, stream in connection.execute(
        f"SELECT position, {BEGINS}, stream FROM event "  # noqa: S608 - constants
        f"INDEXED BY event_lifetime WHERE {LIFE} ORDER BY position"
    ):
        if begins:
            found[stream] = position
        else:
            found.pop(stream, None)
            carried.pop(stream, None)
    claims = {component: stream for stream, component in carried.items()}
    for stream, position in found.items():
        version, topic, body = connection.execute(
            "SELECT version, topic, body FROM event WHERE position = ?", (position,)
        ).fetchone()
        try:
            event = codec.decode(stream, version, topic, body, place=f"event {position}")
        except StoreError as error:
            return str(error)
        if not isinstance(event, IssueDetected):
            continue
        holder = claims.setdefault(event.component, stream)
        if holder != stream:
            return (
                f"event {position} opens issue {stream} for component {event.component!r}, "
                f"whose issue {holder} is open"
            )
    if claims != open_issues(connection):
        connection.execute("DELETE FROM open_issue")
        connection.executemany("INSERT INTO open_issue VALUES (?, ?)", claims.items())
    return None
