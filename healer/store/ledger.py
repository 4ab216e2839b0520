"""The one connection that writes: a log file opened, verified and appended to.

Everything here blocks, and belongs to one thread at a time (`healer.store.writer`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from healer.errors import IssueConflictError, StoreError
from healer.ports import Recorded
from healer.store import chain, claim, schema, tail
from healer.store.codec import Codec, Encoded
from healer.store.connection import check_file, connect, create_file, refusals
from healer.store.reader import select

__all__ = ["Ledger", "require_schema"]


def require_schema(connection: sqlite3.Connection, file: Path) -> bool:
    """Whether `file` is a log of the schema that this version knows; False when it is empty.

    Raises:
        StoreError: it is anything else.
    """
    try:
        version = schema.stored_version(connection)
    except StoreError as error:
        raise StoreError(f"cannot open {file}: {error}") from error
    if version not in {None, schema.SCHEMA_VERSION}:
        raise StoreError(
            f"cannot open {file}: its schema version is {version}; allowed: {schema.SCHEMA_VERSION}"
        )
    return version is not None


class Ledger:
    """An open log file. The caller holds its lock.

    `head` is the position of the last event. `broken` says in words what is wrong with the log, if
    anything is; then it can only be read, because nobody knows what an append would build on.

    Without `new_log_id` the file must be there already: a log that vanished is not made anew.

    Raises:
        StoreError: the file cannot be opened, or is not a log of this schema.
    """

    def __init__(
        self, file: Path, codec: Codec, new_log_id: Callable[[], str] | None = None
    ) -> None:
        self._file = file
        self._codec = codec
        if new_log_id is not None:
            create_file(file)
        check_file(file, writing=True)
        with refusals(f"open {file}"):
            self._connection = connect(file, writing=True)
        try:
            with refusals(f"open {file}"):
                self._prepare(new_log_id)
                end = self._inspect()
        except StoreError:
            self._connection.close()
            raise
        self.head = end.position
        self.broken = end.broken
        self._hash = end.hash

    def _prepare(self, new_log_id: Callable[[], str] | None) -> None:
        if require_schema(self._connection, self._file):
            return
        if new_log_id is None:
            raise StoreError(f"cannot open {self._file}: it is empty")
        schema.create(self._connection, new_log_id)

    def _inspect(self) -> tail.Tail:
        self._connection.execute("BEGIN IMMEDIATE")
        end = tail.inspect(self._connection)
        if end.broken is None:
            problem = claim.rebuild(self._connection, self._codec)
            end = tail.Tail(end.position, end.hash, problem)
        self._connection.execute("ROLLBACK" if end.broken else "COMMIT")
        return end

    def append(self, group: Sequence[Sequence[Encoded]]) -> list[int | IssueConflictError]:
        """Append each entry of `group` wholly or not at all, all of them in one durable commit.

        Returns for each entry the position of its last event, or why it alone was refused.

        Raises:
            StoreError: the log is broken.
            sqlite3.Error: it could not be made durable; this ledger must not be used again.
        """
        if self.broken is not None:
            raise StoreError(
                f"cannot append to {self._file}: {self.broken}; the log can only be read"
            )
        execute = self._connection.execute
        outcomes: list[int | IssueConflictError] = []
        head, previous = self.head, self._hash
        execute("BEGIN IMMEDIATE")
        for entry in group:
            execute("SAVEPOINT entry")
            try:
                reached = self._insert(entry, head, previous)
            except IssueConflictError as error:
                execute("ROLLBACK TO entry")
                outcomes.append(error)
            else:
                head, previous = reached
                outcomes.append(head)
            execute("RELEASE entry")
        execute("COMMIT")
        self.head, self._hash = head, previous
        return outcomes

    def _insert(self, entry: Sequence[Encoded], head: int, previous: bytes) -> tuple[int, bytes]:
        execute = self._connection.execute
        versions: dict[str, int] = {}
        for event, stream, version, topic, time, body in entry:
            current = versions.get(stream)
            if current is None:
                (current,) = execute(
                    "SELECT coalesce(max(version), 0) FROM event WHERE stream = ?", (stream,)
                ).fetchone()
            if version != current + 1:
                raise IssueConflictError(
                    f"cannot append {stream}/{version}: the stream is at version {current}"
                )
            versions[stream] = version
            head += 1
            previous = chain.link(previous, head, stream, version, topic=topic, body=body)
            execute(
                "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?)",
                (head, stream, version, topic, time, body, previous),
            )
            claim.settle(self._connection, event)
        return head, previous

    def since(self, position: int) -> list[Recorded]:
        """The facts behind `position`.

        Raises:
            StoreError: one of them cannot be read.
        """
        if position >= self.head:
            return []
        return select(self._connection, self._codec, after=position, limit=self.head - position)

    def checkpoint(self) -> None:
        """Bring the whole WAL into the file.

        Raises:
            sqlite3.Error: it could not be done; nothing is lost, the next opening does it.
        """
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the connection; what was not committed is rolled back."""
        self._connection.close()
