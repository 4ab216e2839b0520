"""The one connection of a node that appends.

Everything here blocks, and belongs to one thread at a time (`healer.store.postgres.writer`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from healer.domain.component import component_of
from healer.domain.events import IssueDetected, IssueFailed, IssueVerified
from healer.errors import StoreError
from healer.ports import Recorded
from healer.store.chain import Link, first_break
from healer.store.checkpoint import Stretch
from healer.store.codec import Codec
from healer.store.cold import Segment
from healer.store.notary import Sealing
from healer.store.postgres import inspection, schema
from healer.store.postgres.archived import Stored, archived_end, has_archive, move
from healer.store.postgres.connection import Connection, connect, ending, refusals
from healer.store.postgres.lease import Holding
from healer.store.postgres.node import keep_name, take_name
from healer.store.postgres.place import Place
from healer.store.postgres.plan import Entry, Outcome, Plan
from healer.store.postgres.reader import select
from healer.store.postgres.signer import Signer

__all__ = ["Committed", "Ledger"]

_ENDS: Final = (IssueVerified, IssueFailed)
_FOLLOWED: Final = 2000
"""Events of other nodes that are looked at in one go."""

_LOCK_HEAD: Final = "SELECT position, hash FROM healer.head FOR UPDATE"
_VERSIONS: Final = (
    "SELECT wanted.stream, (SELECT max(version) FROM healer.event WHERE stream = wanted.stream) "
    "FROM unnest(%s::text[]) AS wanted (stream)"
)
_ARCHIVED: Final = "SELECT stream, version FROM healer.archived_stream WHERE stream = ANY(%s)"
_HOLDINGS: Final = (
    "SELECT component, issue, node, fence, coalesce(expires > clock_timestamp(), false) "
    "FROM healer.open_issue WHERE component = ANY(%s) OR issue = ANY(%s)"
)
# One statement: each is a question and an answer while the other nodes wait for the head.
_WRITE: Final = (
    "WITH written AS ("
    "INSERT INTO healer.event (position, stream, version, topic, time, body, hash) "
    "SELECT * FROM unnest(%b::bigint[], %b::text[], %b::bigint[], %b::text[], %b::bigint[], "
    "%b::bytea[], %b::bytea[])), "
    "told AS (SELECT pg_notify(%s, %s::bigint::text)) "
    "UPDATE healer.head SET position = %s, hash = %s FROM told"
)
_RELEASE: Final = "DELETE FROM healer.open_issue WHERE component = ANY(%s)"
_HOLD: Final = (
    "INSERT INTO healer.open_issue (component, issue, node, fence, expires) "
    "VALUES (%s, %s, %s, %s, clock_timestamp() + make_interval(secs => %s))"
)
_RENEW: Final = (
    "UPDATE healer.open_issue SET expires = clock_timestamp() + make_interval(secs => %s) "
    "FROM unnest(%s::text[], %s::bigint[]) AS held (issue, fence) "
    "WHERE open_issue.issue = held.issue AND open_issue.fence = held.fence "
    "RETURNING component, open_issue.issue, node, open_issue.fence"
)


class Committed(NamedTuple):
    """What became of a group: it was written behind position `start`."""

    start: int
    outcomes: Sequence[Outcome]


class _Attempt(NamedTuple):
    """A commit that was sent and not yet answered."""

    plan: Plan
    group: Sequence[Entry]


class Ledger:
    """Appends to the log, and reconnects when it lost the database.

    `head` is the position of the last event that this node knows of. `broken` says in words what is
    wrong with the log, if anything is; then it can only be read. With `sealing`, checkpoints are
    signed: whoever uses the ledger calls `seal` after its appends.

    Raises:
        UnreachableError: there is no connection to be had.
        StoreError: it is not a log of this schema, and none can be made.
    """

    def __init__(
        self,
        place: Place,
        codec: Codec,
        new_log_id: Callable[[], str],
        sealing: Sealing | None = None,
        node: str | None = None,
    ) -> None:
        self._signer = Signer(sealing) if sealing else None
        self._place = place
        self._node = node
        self._codec = codec
        self._attempt: _Attempt | None = None
        self._fences: dict[str, int] = {}
        self._stored = Stored()
        with refusals(f"open {place}"):
            connection = connect(place, writing=True)
        try:
            with refusals(f"open {place}"):
                if node is not None:
                    take_name(connection, place, node)
                if not schema.require_schema(connection, place):
                    schema.create(connection, new_log_id)
                schema.add_life_index(connection)
                if sealing is not None:
                    schema.add_checkpoints(connection)
                end, settled = inspection.inspect(connection, codec)
                if not settled:
                    inspection.repair(connection, codec)
        except BaseException:
            connection.close()
            raise
        self._connection: Connection | None = connection
        self._continued = True
        self.head = end.position
        self.broken = end.broken
        self._hash = end.hash
        self._proved = (end.position, end.hash)

    def append(self, group: Sequence[Entry]) -> Committed:
        """Append each entry of `group` wholly or not at all, all of them in one durable commit.

        When a commit's answer was lost, give the same group again: it is looked up first, and
        written only if it is not there.

        Raises:
            StoreError: the log is broken.
            psycopg.Error: nobody knows whether it was written.
        """
        self._require_whole()
        connection = self._open()
        streams = {encoded.stream for entry in group for encoded in entry.events} | {
            stream for entry in group if entry.lease is not None for stream in entry.lease.seen
        }
        names = [_sendable(stream) for stream in streams]
        components = {
            encoded.event.component
            for entry in group
            for encoded in entry.events
            if isinstance(encoded.event, IssueDetected)
        } | {entry.lease.component for entry in group if entry.lease is not None}
        components |= {name for stream in streams if (name := component_of(stream)) is not None}
        with ending(connection):
            with connection.pipeline():
                connection.execute("BEGIN")
                head = connection.execute(_LOCK_HEAD)
                versions = connection.execute(_VERSIONS, (names,))
                holdings = connection.execute(
                    _HOLDINGS, ([_sendable(component) for component in components], names)
                )
            position, hash_ = head.fetchone() or (0, b"")
            self._require_continuity(connection, position, hash_)
            plan = self._committed_already(connection, group)
            if plan is None:
                plan = Plan(
                    position,
                    hash_,
                    self._reached(connection, versions.fetchall()),
                    [
                        Holding(component, issue, node, fence, alive)
                        for component, issue, node, fence, alive in holdings
                    ],
                    self._fences,
                )
                for entry in group:
                    plan.add(entry)
                if plan.rows:
                    # Not in a pipeline: its messages do not count as idleness, and the server would
                    # let a node that froze between them keep the lock from all the others.
                    for query, parameters in _statements(plan):
                        connection.execute(query, parameters)
                    self._attempt = _Attempt(plan, group)
        self._attempt = None
        self.head, self._hash, self._fences = plan.position, plan.hash, plan.fences
        if (plan.start, plan.root) == self._proved:
            self._proved = (plan.position, plan.hash)
        if self._signer is not None and plan.rows:
            ends = (isinstance(encoded.event, _ENDS) for entry in group for encoded in entry.events)
            self._signer.noted(ended=any(ends))
        return Committed(plan.start, plan.outcomes)

    def _reached(self, connection: Connection, found: list[tuple[Any, ...]]) -> dict[str, int]:
        """The version of each stream; one without events may have been archived."""
        versions = {stream: version or 0 for stream, version in found}
        new = [stream for stream, version in versions.items() if not version]
        if new and has_archive(connection):
            versions |= connection.execute(_ARCHIVED, (new,)).fetchall()
        return versions

    def _committed_already(self, connection: Connection, group: Sequence[Entry]) -> Plan | None:
        # The lock on the head is ours: whatever the lost connection was doing, it is over.
        # Until that is answered it is asked again: it may be lost as well.
        attempt = self._attempt
        if attempt is None or attempt.group is not group:
            return None
        # The hash covers every event up to there: it is our commit and nobody else's.
        plan = attempt.plan
        found = self._stored.hash_at(connection, plan.position)
        return plan if found == plan.hash else None

    def _require_continuity(self, connection: Connection, position: int, hash_: bytes) -> None:
        # A database that was restored from yesterday, or failed over to a copy that was behind; or
        # somebody took away the end while we were connected.
        known: bytes | None = None
        if position == self.head:
            known = hash_
        elif position > self.head:
            # Others went on from there. Once for each connection: it costs a question.
            known = self._hash if self._continued else self._acknowledged(connection)
        if known is None:
            self.broken = f"event {self.head} was acknowledged and is missing"
        elif known != self._hash:
            self.broken = f"event {self.head} is not the one that was acknowledged"
        self._require_whole()
        self._continued = True

    def _acknowledged(self, connection: Connection) -> bytes | None:
        found = inspection.hash_at(connection, self.head)
        if found is None:
            # Who archived it has proved it and signed for it; the files may be elsewhere.
            end = archived_end(connection)
            found = self._hash if end is not None and end[0] > self.head else None
        return found

    # --- checkpoints -----------------------------------------------------------------------------

    @property
    def unsigned(self) -> str | None:
        """Why this node signs no checkpoints; None when it does, or was not told to."""
        return self._signer.unsigned if self._signer else None

    @property
    def unwitnessed(self) -> str | None:
        """Why the witness has not heard of the newest checkpoint; None when it has."""
        return self._signer.unwitnessed if self._signer else None

    @property
    def unrotated(self) -> str | None:
        """Why the key that signs is older than it should be; None when it is not."""
        return self._signer.unrotated if self._signer else None

    def until_seal(self) -> float | None:
        """In how many seconds `seal` has something to do; None before the next append."""
        if self._signer is None or self.broken is not None:
            return None
        return self._signer.wait(self.head)

    def seal(self, *, closing: bool = False) -> None:
        """Sign a checkpoint when one is due, or when `closing`; tell the witness what it has not
        heard. What other nodes appended is first followed: nothing is signed that was not proved.

        Raises:
            StoreError: this node has not the key, or the log is broken.
            psycopg.Error: it could not be made durable.
        """
        signer, wait = self._signer, self.until_seal()
        if signer is None or wait is None or (closing and self._connection is None):
            return
        if wait == 0.0 or closing:
            connection = self._open()
            # As much as can be, before the other nodes have to wait for us.
            self._prove(connection, self.reach())
            with connection.transaction():
                note = signer.sign(connection, *self._proved_head(connection))
            signer.stored(note)
        else:
            signer.offer()

    def change_key(self) -> bytes:
        """Sign a last checkpoint with the key in use and go on with a new one; its public half.

        Raises:
            StoreError: the log is not signed by this node, or the new key cannot be kept.
            psycopg.Error: it could not be made durable.
        """
        signer = self._signer
        if signer is None or self.broken is not None:
            why = self.broken or "it is not signed"
            raise StoreError(f"cannot change the key of {self._place}: {why}")
        connection = self._open()
        with connection.transaction():
            note = signer.hand_over(connection, *self._proved_head(connection))
        signer.stored(note)
        return signer.key()

    def archive(self, segment: Segment, streams: Mapping[str, tuple[int, str | None]]) -> None:
        """Sign for the events in `segment` and delete them; all or nothing. `streams` that go on
        have reached these versions in it, and are open issues of these components. Only the
        signing holds up other nodes.

        Raises:
            StoreError: the log is broken or not signed by us, or has not all of these events.
            psycopg.Error: it could not be made durable.
        """
        self._require_whole()
        signer = self._signer
        if signer is None:
            raise StoreError(f"cannot archive {self._place}: it is not signed")
        connection = self._open()
        self._prove(connection, self.reach())
        first, last, head, digest, _ = segment
        stretch = Stretch(first, last, head, digest)
        with connection.transaction():
            move(connection, segment, streams)
            note = signer.move(connection, *self._proved_head(connection), stretch)
        signer.stored(note)

    def postpone(self, why: str) -> None:
        """Sealing failed: leave it for a while."""
        if self._signer is not None:
            self._signer.postpone(why)

    def _proved_head(self, connection: Connection) -> tuple[int, bytes]:
        position, hash_ = connection.execute(_LOCK_HEAD).fetchone() or (0, b"")
        self._require_continuity(connection, position, hash_)
        self._prove(connection, position)
        if self._proved[1] != hash_:
            self._break(f"event {position} is not the one that the head of the log names")
        return self._proved

    def _prove(self, connection: Connection, last: int) -> None:
        position, hash_ = self._proved
        while position < last:
            rows = self._stored.rows(connection, position, _FOLLOWED)
            links = [Link(*row[:4], *row[5:]) for row in rows]
            if not links:
                self._break(f"event {position + 1} is missing")
            broken = first_break(links, after=position, previous=hash_)
            if broken is not None:
                self._break(broken)
            position, hash_ = links[-1].position, links[-1].hash
            self._proved = (position, hash_)

    def _break(self, why: str) -> None:
        self.broken = why
        self._require_whole()

    def _require_whole(self) -> None:
        if self.broken is not None:
            raise StoreError(
                f"cannot append to {self._place}: {self.broken}; the log can only be read"
            )

    def renew(self, ttl: float) -> list[tuple[str, str, int]]:
        """Prolong all that this node holds to `ttl` seconds from now; what it still holds, as
        (component, node, fence).

        Raises:
            psycopg.Error: it could not be done.
        """
        if not self._fences:
            return []
        issues, fences = list(self._fences), list(self._fences.values())
        held = self._open().execute(_RENEW, (ttl, issues, fences)).fetchall()
        self._fences = {issue: fence for _, issue, _, fence in held}
        return [(component, node, fence) for component, _, node, fence in held]

    def reach(self) -> int:
        """The position of the log's last event, whoever wrote it.

        Raises:
            psycopg.Error: the database does not answer.
        """
        row = self._open().execute("SELECT position FROM healer.head").fetchone()
        return int(row[0]) if row else 0

    def between(self, after: int, last: int) -> tuple[list[Recorded], list[StoreError]]:
        """The facts behind `after`, up to `last`; and why some of them cannot be read, or all.

        Raises:
            psycopg.Error: the database does not answer.
        """
        problems: list[StoreError] = []
        try:
            facts = select(
                self._open(),
                self._stored,
                self._codec,
                after=after,
                limit=last - after,
                unreadable=problems.append,
            )
        except StoreError as error:
            # Others archived what was not told yet, and the files are elsewhere.
            return [], [error]
        return facts, problems

    def _open(self) -> Connection:
        if self._connection is None:
            connection = connect(self._place, writing=True)
            try:
                if self._node is not None:
                    keep_name(connection, self._node)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
            self._continued = False
        return self._connection

    def drop(self) -> None:
        """Let go of a connection that failed; the next use makes a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    close = drop


def _statements(plan: Plan) -> Iterator[tuple[str, Sequence[Any]]]:
    columns = [list(column) for column in zip(*plan.rows, strict=True)]
    yield _WRITE, (*columns, schema.CHANNEL, plan.position, plan.position, plan.hash)
    changed = plan.changed
    if changed:
        yield _RELEASE, (changed,)
    for component in changed:
        held = plan.holdings.get(component)
        if held is not None:
            yield _HOLD, (component, held.issue, held.node, held.fence, held.ttl)


def _sendable(text: str) -> str:
    # No text of the database has a NUL: the plan refuses what has one, and the question must not
    # fail the others.
    return text.replace("\0", "\ufffd")
