"""The outbox of one sink: the log itself, and how far the sink has acknowledged it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Final, Protocol

import structlog
from cloudevents.core.v1.event import CloudEvent

from healer.domain.decision import ALERT_RESOLVED
from healer.domain.events import Event, IssueEscalated, IssueFailed
from healer.errors import StoreError
from healer.guardian.cursor import Cursor, add_line
from healer.guardian.event import Subjects, as_json, cloud_event
from healer.ports import EventLog, Recorded
from projections.feed import batches

__all__ = ["Outbox", "RefusedError", "Sink", "UnavailableError"]

_FIRST_WAIT: Final = 0.5
_LONGEST_WAIT: Final = 60.0
_LINGER: Final = 0.25
"""Seconds that a new fact waits for those that follow it. To tell of each takes threads and fsyncs,
which a small service has the better use for while it starts; in a longer start they do not show."""

_log = structlog.get_logger("healer.guardian")


class UnavailableError(Exception):
    """The sink could not be reached: it is tried for ever."""


class RefusedError(Exception):
    """The sink answered, and did not take the event: it is tried a few times."""


class Sink(Protocol):
    """Takes events, one at a time. It returns when the receiver has acknowledged the event."""

    async def deliver(self, event: CloudEvent, body: bytes) -> None: ...

    async def close(self) -> None: ...


class Outbox:
    """Tells `sink` of all facts that it wants, each at least once and in the order of the log.

    An event is acknowledged before the next one is offered, and the position is stored then. What
    is refused `tries` times goes to a file of dead letters, so that it does not hold up the rest.
    A new sink hears of what happens from `begin` on, or, `from_beginning`, of the whole log.
    """

    def __init__(
        self,
        name: str,
        sink: Sink,
        log: EventLog,
        cursor: Cursor,
        *,
        chance: Callable[[], float],
        events: tuple[str, ...] = ("*",),
        only_uncured: bool = False,
        from_beginning: bool = False,
        tries: int = 8,
        first_wait: float = _FIRST_WAIT,
    ) -> None:
        self.name = name
        self.position = 0
        self.told = 0
        self.retries = 0
        self.dead = 0
        self.trouble: str | None = None
        self.offered: datetime | None = None
        """When the fact was recorded that the sink is to acknowledge now."""
        self._begun = False
        self._sink = sink
        self._log = log
        self._cursor = cursor
        self._dead_letters = cursor.path.with_name(f"{cursor.path.name}.dead")
        self._chance = chance
        self._events = events
        self._only_uncured = only_uncured
        self._from_beginning = from_beginning
        self._tries = tries
        self._first_wait = first_wait
        self._subjects = Subjects(log)

    async def begin(self) -> None:
        """Find the position. That of a new sink is durable at once: a restart before the first
        delivery loses nothing of what came between.

        Raises:
            StoreError: the log cannot be read.
        """
        if self._begun:
            return
        position = await asyncio.to_thread(self._cursor.load)
        head = await self._log.head()
        if position is None:
            await self._acknowledged(0 if self._from_beginning else head)
        elif position > head:
            _log.warning("guardian_starts_over", sink=self.name, cursor=position, head=head)
        else:
            self.position = position
        self._begun = True

    async def run(self) -> None:
        """Until cancelled; `begin` comes first.

        Raises:
            StoreError: see `begin`.
        """
        try:
            await self.begin()
            async for facts in batches(
                self._log, after=self.position, read=self._read, linger=_LINGER
            ):
                for recorded in facts:
                    if self._wants(recorded):
                        await self._hand_over(recorded)
                        await self._acknowledged(recorded.position)
                if facts[-1].position != self.position:
                    await self._acknowledged(facts[-1].position)
        finally:
            await self._sink.close()

    async def _read(self, after: int, limit: int) -> Sequence[Recorded]:
        # Whole facts: a consumer is told all that they say.
        return await self._log.read(after=after, limit=limit)

    def _wants(self, recorded: Recorded) -> bool:
        topic = recorded.event.TOPIC
        if self._only_uncured and not _uncured(recorded.event):
            return False
        return any(fnmatchcase(topic, pattern) for pattern in self._events)

    async def _acknowledged(self, position: int) -> None:
        try:
            await asyncio.to_thread(self._cursor.save, position)
        except OSError as error:
            # The sink has it; should we end now, it hears of it again.
            self.trouble = f"the position cannot be stored: {error}"
        self.position = position

    async def _hand_over(self, recorded: Recorded) -> None:
        refused = failures = 0
        self.offered = recorded.event.timestamp
        while True:
            try:
                event = cloud_event(recorded, await self._subjects.of(recorded.event))
                body = as_json(event)
                await self._sink.deliver(event, body)
            except RefusedError as error:
                refused += 1
                self._note(str(error), recorded)
                if refused >= self._tries and await self._bury(body, str(error), recorded):
                    break
            except (UnavailableError, StoreError) as error:
                self._note(str(error), recorded)
            except Exception as error:
                # A defect of ours, or of what the sink is made of: no reason to fall silent.
                self._note(f"a defect: {type(error).__name__}", recorded)
                _log.exception("guardian_defect", sink=self.name)
            else:
                if self.trouble is not None:
                    _log.info("guardian_reached", sink=self.name, position=recorded.position)
                self.trouble = None
                self.told += 1
                break
            wait = min(_LONGEST_WAIT, self._first_wait * 2 ** min(failures, 16))
            failures += 1
            await asyncio.sleep(wait * (0.5 + self._chance() / 2))
            self.retries += 1
        self.offered = None

    def _note(self, why: str, recorded: Recorded) -> None:
        if self.trouble != why:
            _log.warning("guardian_not_told", sink=self.name, position=recorded.position, why=why)
        self.trouble = why

    async def _bury(self, body: bytes, why: str, recorded: Recorded) -> bool:
        """Whether the event is safe among the dead letters."""
        try:
            await asyncio.to_thread(add_line, self._dead_letters, body)
        except OSError as error:
            self._note(f"the dead letter cannot be stored: {error}", recorded)
            return False
        self.dead += 1
        self.trouble = None
        _log.error(
            "guardian_dead_letter",
            sink=self.name,
            event_id=recorded.event.event_id,
            why=why,
            file=str(self._dead_letters),
        )
        return True


def _uncured(event: Event) -> bool:
    """Whether a person has to know of it. Who sent an alert and took it back knows."""
    if isinstance(event, IssueFailed):
        return event.reason != ALERT_RESOLVED
    return isinstance(event, IssueEscalated)
