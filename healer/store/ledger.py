"""The one connection that writes: a log file opened, verified and appended to.

Everything here blocks, and belongs to one thread at a time (`healer.store.writer`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from itertools import chain as joined
from pathlib import Path
from typing import Final

from healer.domain.events import IssueDetected, IssueFailed, IssueVerified
from healer.errors import IssueConflictError, StoreError
from healer.ports import Recorded
from healer.store import chain, checkpoint, claim, schema, tail
from healer.store.codec import Codec, Encoded
from healer.store.cold import Segment
from healer.store.connection import check_file, connect, create_file, refusals, write_ahead
from healer.store.notary import Notary, Sealing
from healer.store.reader import select

__all__ = ["Ledger", "require_log"]

_ENDS: Final = (IssueVerified, IssueFailed)
_SETTLES: Final = frozenset({IssueDetected, *_ENDS})
# Streams whose version is remembered.
_KNOWN: Final = 10_000
_ROWS_AT_ONCE: Final = (64, 16, 4, 1)
_INSERTS: Final = {
    size: "INSERT INTO event VALUES " + ", ".join(["(?, ?, ?, ?, ?, ?, ?)"] * size)  # noqa: S608
    for size in _ROWS_AT_ONCE
}

_Row = tuple[int, str, int, str, int, bytes, bytes]


def require_log(file: Path, *, new: bool) -> None:
    """Look that `file` is a log of this schema or, where a `new` one may begin, empty; it stays as
    it is, and nothing is left beside it. To be asked before its lock is: that would stay.

    Raises:
        StoreError: it is anything else.
    """
    with (
        refusals(f"open {file}"),
        closing(connect(file, writing=False, briefly=True)) as connection,
    ):
        _is_log(connection, file, new=new)


def _is_log(connection: sqlite3.Connection, file: Path, *, new: bool) -> bool:
    if schema.require_schema(connection, file):
        return True
    if not new:
        raise StoreError(f"cannot open {file}: it is empty")
    return False


class Ledger:
    """An open log file. The caller holds its lock.

    `head` is the position of the last event. `broken` says in words what is wrong with the log, if
    anything is; then it can only be read, because nobody knows what an append would build on.

    Without `new_log_id` the file must be there already: a log that vanished is not made anew.
    With `sealing`, checkpoints are signed: whoever uses the ledger calls `seal` after its appends.

    Raises:
        StoreError: the file cannot be opened, or is not a log of this schema.
    """

    def __init__(
        self,
        file: Path,
        codec: Codec,
        new_log_id: Callable[[], str] | None = None,
        *,
        sealing: Sealing | None = None,
    ) -> None:
        self._file = file
        self._codec = codec
        self._sealing = sealing
        self._notary: Notary | None = None
        self._versions: dict[str, int] = {}
        if new_log_id is not None:
            create_file(file)
        check_file(file, writing=True)
        with refusals(f"open {file}"):
            self._connection = connect(file, writing=True)
        try:
            with refusals(f"open {file}"):
                self._prepare(new_log_id)
                end = self._inspect()
                self.head = end.position
                self.broken = end.broken
                self._hash = end.hash
                self._archived = schema.archived_streams(self._connection)
                self._call_notary()
        except StoreError:
            self._connection.close()
            raise

    def _prepare(self, new_log_id: Callable[[], str] | None) -> None:
        # What is no log would be changed by the first write.
        there = _is_log(self._connection, self._file, new=new_log_id is not None)
        write_ahead(self._connection)
        if not there and new_log_id is not None:
            schema.create(self._connection, new_log_id)

    def _inspect(self) -> tail.Tail:
        self._connection.execute("BEGIN IMMEDIATE")
        end = tail.inspect(self._connection)
        if end.broken is None:
            schema.add_life_index(self._connection)
            problem = claim.rebuild(self._connection, self._codec)
            end = tail.Tail(end.position, end.hash, problem)
        if end.broken is None and self._sealing is not None:
            schema.add_checkpoints(self._connection)
        self._connection.execute("ROLLBACK" if end.broken else "COMMIT")
        return end

    def _call_notary(self) -> None:
        # What is broken is never signed.
        if self._sealing is None or self.broken is not None:
            return
        newest = self._connection.execute(
            "SELECT note FROM checkpoint ORDER BY number DESC LIMIT 1"
        ).fetchone()
        name = schema.log_id(self._connection)
        self._notary = Notary(
            self._sealing,
            name,
            newest[0] if newest else None,
            key_since=schema.key_since(self._connection, newest[0]) if newest else None,
        )
        self.seal()

    @property
    def unwitnessed(self) -> str | None:
        """Why the witness has not heard of the newest checkpoint; None when it has."""
        return self._notary.unwitnessed if self._notary else None

    @property
    def unrotated(self) -> str | None:
        """Why the key that signs is older than it should be; None when it is not."""
        return self._notary.unrotated if self._notary else None

    def until_seal(self) -> float | None:
        """In how many seconds `seal` has something to do; None before the next append."""
        return self._notary.wait(self.head) if self._notary else None

    def seal(self, *, closing: bool = False) -> None:
        """Sign a checkpoint when one is due, or when `closing` with events that none covers; tell
        the witness what it has not heard.

        Raises:
            sqlite3.Error: it could not be made durable; this ledger must not be used again.
            StoreError: a change of keys could not be finished; the next opening does it.
        """
        if self._notary is None:
            return
        wait = self._notary.wait(self.head)
        if wait == 0.0 or (closing and self.head > self._notary.size):
            self._keep(self._notary, self._notary.sign(self.head, self._hash, self._now()))
        elif wait is not None:
            self._notary.offer()

    def change_key(self) -> bytes:
        """Sign a last checkpoint with the key in use and go on with a new one; its public half.

        Raises:
            StoreError: the log is not signed, or the new key cannot be kept.
            sqlite3.Error: it could not be made durable; this ledger must not be used again.
        """
        notary = self._notary
        if notary is None:
            raise StoreError(
                f"cannot change the key of {self._file}: {self.broken or 'it is not signed'}"
            )
        self._keep(notary, notary.hand_over(self.head, self._hash, self._now()))
        return notary.key

    def _keep(self, notary: Notary, note: str) -> None:
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        execute("INSERT INTO checkpoint (size, note) VALUES (?, ?)", (self.head, note))
        execute("COMMIT")
        notary.stored(note)

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection that writes, for who archives."""
        return self._connection

    def archive(
        self, segment: Segment, path: Path, streams: Mapping[str, tuple[int, str | None]]
    ) -> None:
        """Sign for the events in `segment`, whose file is to be found at `path`, and delete them;
        all or nothing. `streams` that go on have reached these versions in it, and are open issues
        of these components.

        Raises:
            StoreError: the log is not signed.
            sqlite3.Error: it could not be made durable; this ledger must not be used again.
        """
        notary, execute = self._notary, self._connection.execute
        if notary is None:
            raise StoreError(f"cannot archive {self._file}: {self.broken or 'it is not signed'}")
        first, last, head, digest, _ = segment
        stretch = checkpoint.Stretch(first, last, head, digest)
        note = notary.move(self.head, self._hash, self._now(), stretch)
        execute("BEGIN IMMEDIATE")
        schema.add_archive(self._connection)
        execute("INSERT INTO checkpoint (size, note) VALUES (?, ?)", (self.head, note))
        execute(
            "INSERT INTO archive (last, first, head, digest, path) VALUES (?, ?, ?, ?, ?)",
            (last, first, head, digest, str(path)),
        )
        self._connection.executemany(
            "INSERT OR REPLACE INTO archived_stream VALUES (?, ?, ?)",
            [(stream, *reached) for stream, reached in streams.items()],
        )
        with schema.deleting(self._connection):
            execute("DELETE FROM event WHERE position <= ?", (last,))
        execute("COMMIT")
        self._archived |= {stream: version for stream, (version, _) in streams.items()}
        notary.stored(note)

    def _now(self) -> str:
        # A label by the database's own clock; nothing is computed from it.
        (now,) = self._connection.execute("SELECT strftime('%Y-%m-%dT%H:%M:%fZ', 'now')").fetchone()
        return str(now)

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
        rows: list[_Row] = []
        reached: dict[str, int] = {}
        head, previous = self.head, self._hash
        ended = False
        # What is a row and no more: its INSERT is a transaction of its own.
        lone = len(group) == 1 and len(group[0]) == 1 and type(group[0][0].event) not in _SETTLES
        if not lone:
            execute("BEGIN IMMEDIATE")
        for entry in group:
            try:
                versions = self._follow(entry, reached)
                if not lone:
                    self._settle(entry)
            except IssueConflictError as error:
                outcomes.append(error)
                continue
            reached.update(versions)
            for event, stream, version, topic, time, body in entry:
                head += 1
                previous = chain.link(previous, head, stream, version, topic=topic, body=body)
                rows.append((head, stream, version, topic, time, body, previous))
                ended = ended or type(event) in _ENDS
            outcomes.append(head)
        if lone and rows:
            execute(_INSERTS[1], rows[0])
        elif not lone:
            self._insert(rows)
            execute("COMMIT")
        if self._notary is not None and head > self.head:
            self._notary.noted(ended=ended)
        self.head, self._hash = head, previous
        if len(self._versions) > _KNOWN:
            self._versions.clear()
        self._versions.update(reached)
        return outcomes

    def _follow(self, entry: Sequence[Encoded], reached: Mapping[str, int]) -> dict[str, int]:
        """The versions that the streams of `entry` have behind it; `reached` are those behind the
        entries of the same commit that were taken.

        Raises:
            IssueConflictError: an event of it is not the next one of its stream.
        """
        versions: dict[str, int] = {}
        for _, stream, version, _, _, _ in entry:
            current = versions.get(stream) or reached.get(stream) or self._version(stream)
            if version != current + 1:
                raise IssueConflictError(
                    f"cannot append {stream}/{version}: the stream is at version {current}"
                )
            versions[stream] = version
        return versions

    def _version(self, stream: str) -> int:
        # Nobody else writes: what was once read or written is still so.
        known = self._versions.get(stream)
        if known is None:
            (known,) = self._connection.execute(
                "SELECT coalesce(max(version), 0) FROM event WHERE stream = ?", (stream,)
            ).fetchone()
            known = self._versions[stream] = known or self._archived.get(stream, 0)
        return known

    def _settle(self, entry: Sequence[Encoded]) -> None:
        """What `entry` means for the open issues, wholly or not at all.

        Raises:
            IssueConflictError: a component that it opens an issue of has an open one.
        """
        execute = self._connection.execute
        kinds = {type(encoded.event) for encoded in entry}
        if kinds.isdisjoint(_SETTLES):
            return
        if IssueDetected not in kinds:
            # Only who claims can be refused: there is nothing to take back.
            for encoded in entry:
                claim.settle(self._connection, encoded.event)
            return
        execute("SAVEPOINT entry")
        try:
            for encoded in entry:
                claim.settle(self._connection, encoded.event)
        except IssueConflictError:
            execute("ROLLBACK TO entry")
            raise
        finally:
            execute("RELEASE entry")

    def _insert(self, rows: Sequence[_Row]) -> None:
        # Many rows a statement: SQLite is entered and left once for all of them, and each time the
        # event loop's thread may take the interpreter for milliseconds.
        done = 0
        for size in _ROWS_AT_ONCE:
            while len(rows) - done >= size:
                self._connection.execute(
                    _INSERTS[size], tuple(joined.from_iterable(rows[done : done + size]))
                )
                done += size

    def since(self, position: int) -> list[Recorded]:
        """The facts behind `position`.

        Raises:
            StoreError: one of them cannot be read.
        """
        if position >= self.head:
            return []
        return select(self._connection, self._codec, after=position, limit=self.head - position)

    def prove(self) -> None:
        """Make something durable that changes nothing.

        Raises:
            sqlite3.Error: it could not be done; this ledger must not be used again.
        """
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        self._connection.execute(f"PRAGMA user_version = {version}")

    def checkpoint(self) -> None:
        """Bring the whole WAL into the file.

        Raises:
            sqlite3.Error: it could not be done; nothing is lost, the next opening does it.
        """
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the connection; what was not committed is rolled back."""
        self._connection.close()
