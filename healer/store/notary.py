"""When a checkpoint is due, and what it says: the part that every store has in common.

The store commits the text that `sign` gives, then says so with `stored`; only then does the witness
hear of it, so that a witness never knows more than the log.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from healer.errors import StoreError
from healer.store.checkpoint import Cadence, Checkpoint, Stretch, digest, read, sign
from healer.store.key import KeyFile, public
from healer.store.witness import Witness

__all__ = ["Notary", "Sealing"]


@dataclass(frozen=True, slots=True)
class Sealing:
    """How a log is signed: with the key in which file, how often, and who is told.

    A key that has signed for `rotate_every` seconds hands over to a new one with the next
    checkpoint. None: only when asked.
    """

    key: Path
    cadence: Cadence = field(default_factory=Cadence)
    witness: Witness | None = None
    monotonic: Callable[[], float] = time.monotonic
    rotate_every: float | None = None


class Notary:
    """Signs the head of one log. `newest` is the text of its last checkpoint, None before the
    first; `key_since` is since when its key signs, where that is known.

    `unrotated` says why a key that is due for it did not hand over; it goes on signing.

    Raises:
        StoreError: the key cannot be used.
    """

    def __init__(
        self, sealing: Sealing, log_id: str, newest: str | None, *, key_since: str | None = None
    ) -> None:
        self._sealing = sealing
        self._log_id = log_id
        self._key_file = KeyFile(sealing.key)
        self._newest = newest
        self._last = last = None if newest is None else read(newest)
        self._epoch = 1
        if last is None:
            self._key = self._key_file.create()
        else:
            self._key = self._key_file.load(last.successor or last.key)
            self._epoch = last.epoch + (last.successor is not None)
        self._prepared: Ed25519PrivateKey | None = None
        self._key_since = key_since
        if last is not None and (key_since is None or last.successor is not None):
            self._key_since = last.time
        self.unrotated: str | None = None
        self._size = last.size if last else -1
        # Since when events wait for a checkpoint, or a checkpoint for its witness.
        self._since: float | None = None
        self._ended = False
        self._offered = sealing.witness is None
        self.unwitnessed: str | None = None

    @property
    def key(self) -> bytes:
        """The public key that signs now (32 bytes)."""
        return public(self._key)

    @property
    def size(self) -> int:
        """How many events the newest checkpoint covers; -1 while there is none."""
        return self._size

    def noted(self, *, ended: bool) -> None:
        """Events were committed; `ended`: an issue ended with one of them."""
        self._ended = self._ended or ended
        if self._since is None:
            self._since = self._sealing.monotonic()

    def wait(self, size: int) -> float | None:
        """How many seconds from now a checkpoint is due in a log of `size` events, 0 when it is
        now; None while the last one covers them all and was witnessed."""
        unsigned = size - self._size
        if unsigned <= 0 and self._offered:
            return None
        cadence = self._sealing.cadence
        if unsigned > 0 and (self._size < 0 or self._ended or unsigned >= cadence.events):
            return 0.0
        now = self._sealing.monotonic()
        if self._since is None:
            self._since = now
        return max(0.0, self._since + cadence.period - now)

    def sign(self, size: int, head: bytes, now: str) -> str:
        """The text of the checkpoint for a log of `size` events whose last hash is `head`. Where
        the key is due to be changed, it is the last one of its key: see `hand_over`."""
        if self._is_old(now):
            try:
                return self.hand_over(size, head, now)
            except StoreError as error:
                # Better signed with an old key than not signed.
                self.unrotated = str(error)
        return self._sign(size, head, now)

    def move(self, size: int, head: bytes, now: str, archived: Stretch) -> str:
        """As `sign`; the checkpoint says that these events were moved into an archive."""
        return self._sign(size, head, now, archived=archived)

    def _is_old(self, now: str) -> bool:
        period = self._sealing.rotate_every
        if period is None:
            return False
        if self._key_since is None:
            self._key_since = now
        try:
            age = datetime.fromisoformat(now) - datetime.fromisoformat(self._key_since)
        except (TypeError, ValueError):
            return True
        return age.total_seconds() >= period

    def hand_over(self, size: int, head: bytes, now: str) -> str:
        """As `sign`; the checkpoint is the last one of its key and names the next, which is durable
        before it is named, and in use from `stored` on.

        Raises:
            StoreError: the new key cannot be written.
        """
        self._prepared = self._key_file.prepare()
        return self._sign(size, head, now, public(self._prepared))

    def _sign(
        self,
        size: int,
        head: bytes,
        now: str,
        successor: bytes | None = None,
        archived: Stretch | None = None,
    ) -> str:
        checkpoint = Checkpoint(
            log_id=self._log_id,
            size=size,
            head=head,
            time=now,
            epoch=self._epoch,
            key=self.key,
            successor=successor,
            previous=None if self._newest is None else digest(self._newest),
            archived=archived,
        )
        return sign(checkpoint, self._key)

    def stored(self, note: str) -> None:
        """`note` is durable in the log: the next one builds on it, and the witness hears of it.

        Raises:
            StoreError: the key could not be changed; the next opening does it.
        """
        self._newest = note
        self._last = last = read(note)
        self._size, self._ended, self._since = last.size, False, None
        if last.successor is not None and self._prepared is not None:
            self._key, self._prepared, self._epoch = self._prepared, None, last.epoch + 1
            self._key_since, self.unrotated = last.time, None
            self._key_file.switch()
        self.offer(anew=True)

    def offer(self, *, anew: bool = False) -> None:
        """Tell the witness of the newest checkpoint unless it has heard of it. `unwitnessed` says
        why it has not."""
        witness = self._sealing.witness
        if witness is None or self._newest is None or (self._offered and not anew):
            return
        self._offered = False
        self._since = self._sealing.monotonic()
        try:
            witness(self._newest)
        except Exception as error:
            # Whoever the witness is, its trouble must not become the log's.
            self.unwitnessed = f"cannot tell the witness of {self._size} events: {error}"
        else:
            self._offered, self.unwitnessed = True, None
