"""Signing a log that several nodes append to.

The key belongs to the log: whichever node has a copy of it signs, under the lock of the head, and
builds on the newest checkpoint whoever signed that. A node without it appends and does not sign.
"""

from __future__ import annotations

from healer.store.checkpoint import Stretch
from healer.store.notary import Notary, Sealing
from healer.store.postgres import schema
from healer.store.postgres.connection import Connection

__all__ = ["Signer"]

_NOW = """SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"""


class Signer:
    """Signs for one node. `unsigned` says why it does not; it is tried again once a period."""

    def __init__(self, sealing: Sealing) -> None:
        self.unsigned: str | None = None
        self._sealing = sealing
        self._notary: Notary | None = None
        self._newest: str | None = None
        self._again = sealing.monotonic()

    @property
    def unwitnessed(self) -> str | None:
        """Why the witness has not heard of the newest checkpoint; None when it has."""
        return self._notary.unwitnessed if self._notary else None

    @property
    def unrotated(self) -> str | None:
        """Why the key that signs is older than it should be; None when it is not."""
        return self._notary.unrotated if self._notary else None

    def noted(self, *, ended: bool) -> None:
        """This node committed events; `ended`: an issue ended with one of them."""
        if self._notary is not None:
            self._notary.noted(ended=ended)

    def wait(self, size: int) -> float | None:
        """See `Notary.wait`."""
        if self._notary is None:
            return max(0.0, self._again - self._sealing.monotonic())
        return self._notary.wait(size)

    def offer(self) -> None:
        """See `Notary.offer`."""
        if self._notary is not None:
            self._notary.offer()

    def sign(self, connection: Connection, size: int, head: bytes) -> str | None:
        """Write a checkpoint of the log's `size` events in the caller's transaction, which holds
        the lock of the head; its text, or None where there is one of them all.

        Raises:
            StoreError: this node has not the log's key.
        """
        notary = self._adopt(connection)
        if notary.size >= size:
            return None
        return _write(connection, size, notary.sign(size, head, _now(connection)))

    def hand_over(self, connection: Connection, size: int, head: bytes) -> str:
        """As `sign`, in any case; the checkpoint names the next key.

        Raises:
            StoreError: this node has not the log's key, or the new one cannot be kept.
        """
        notary = self._adopt(connection)
        return _write(connection, size, notary.hand_over(size, head, _now(connection)))

    def move(self, connection: Connection, size: int, head: bytes, archived: Stretch) -> str:
        """As `sign`, in any case; the checkpoint says that these events were archived.

        Raises:
            StoreError: this node has not the log's key.
        """
        notary = self._adopt(connection)
        return _write(connection, size, notary.move(size, head, _now(connection), archived))

    def _adopt(self, connection: Connection) -> Notary:
        newest = schema.newest_checkpoint(connection)
        if self._notary is None or newest != self._newest:
            # The first look; or another node signed, or this one did and was not told.
            since = None if newest is None else schema.key_since(connection, newest)
            name = schema.log_id(connection)
            self._notary = Notary(self._sealing, name, newest, key_since=since)
            self._newest = newest
        self.unsigned = None
        return self._notary

    def stored(self, note: str | None) -> None:
        """What `sign` gave is durable: the witness hears of it.

        Raises:
            StoreError: the key could not be changed; it is finished at the next checkpoint.
        """
        if self._notary is None:
            return
        if note is None:
            self._notary.offer()
        else:
            self._notary.stored(note)
            self._newest = note

    def key(self) -> bytes:
        """The public half of the key that signs now; empty where none does."""
        return self._notary.key if self._notary else b""

    def postpone(self, why: str) -> None:
        """It failed; look at everything anew in a while."""
        self.unsigned = why
        self._notary = None
        self._again = self._sealing.monotonic() + self._sealing.cadence.period


def _write(connection: Connection, size: int, note: str) -> str:
    connection.execute(
        "INSERT INTO healer.checkpoint (number, size, note) "
        "SELECT coalesce(max(number), 0) + 1, %s, %s FROM healer.checkpoint",
        (size, note),
    )
    return note


def _now(connection: Connection) -> str:
    # A label by the database's own clock; nothing is computed from it.
    row = connection.execute(_NOW).fetchone()
    return str(row[0]) if row else ""
