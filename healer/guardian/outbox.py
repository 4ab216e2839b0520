"""The outbox of one sink: a position in the log, and everything behind it.

A message is delivered at least once, and in log order, hence in order for each issue; consumers
know a repeated one by its id. The position is written down once the sink has taken what stands in
front of it, and not before: whoever dies in between, nothing is left out. Losing the position
repeats messages and loses none.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

import structlog

from healer.domain.events import IssueEscalated, IssueFailed
from healer.errors import HealerError, StoreError
from healer.guardian.message import Message, Messages
from healer.guardian.sink import JsonLines, Sink, UndeliveredError
from healer.ports import EventLog, Recorded

__all__ = ["UNCURED", "Cursor", "Outbox"]

UNCURED: Final = (IssueFailed.TOPIC, IssueEscalated.TOPIC)
"""What a person has to know: it was not cured, or nobody was allowed to try."""

_TRIES: Final = 8
"""Refusals after which a message is set aside: the last pause is then two minutes long."""
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 60.0
_STRIDE: Final = 500
"""Unwanted facts after which the position is written down all the same."""

_log = structlog.get_logger("healer.guardian")


class Cursor:
    """A position in a file of its own, replaced as a whole and durably.

    Raises:
        HealerError: the file that is there does not hold a position.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            text = path.read_text(encoding="ascii", errors="replace").strip()
        except FileNotFoundError:
            text = "0"
        if not (text.isascii() and text.isdigit()):
            raise HealerError(
                f"cannot go on from {path}: it holds {text[:40]!r}; allowed: a position, or no "
                "file, to deliver everything again"
            )
        self.position = int(text)

    def write(self, position: int) -> None:
        """Write the position down. Blocks on the disk.

        Raises:
            OSError: it could not be.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        made = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        with made.open("w", encoding="ascii") as file:
            file.write(f"{position}\n")
            file.flush()
            os.fsync(file.fileno())
        made.replace(self._path)
        self.position = position


@dataclass(frozen=True, slots=True)
class Wants:
    """Which facts a sink wants: globs over topics; with `only_uncured` only what was not cured."""

    topics: tuple[str, ...] = ("*",)
    only_uncured: bool = False

    def __contains__(self, topic: str) -> bool:
        if self.only_uncured and topic not in UNCURED:
            return False
        return any(fnmatchcase(topic, pattern) for pattern in self.topics)


class Outbox:
    """Delivers to one sink while `run` runs. Reads the log as it goes and keeps nothing of it.

    `trouble` says why the sink does not take the next message, `delivered` and `dead` count. A
    message that is refused too often is set aside in `aside` (JSON Lines), and the next one comes.
    """

    def __init__(
        self,
        name: str,
        log: EventLog,
        sink: Sink,
        cursor: Cursor,
        *,
        aside: Path,
        topics: Sequence[str] = ("*",),
        only_uncured: bool = False,
        chance: Callable[[], float],
        pause: float = _FIRST_PAUSE,
    ) -> None:
        self.name = name
        self.trouble: str | None = None
        self.delivered = 0
        self.dead = 0
        self._log = log
        self._sink = sink
        self._cursor = cursor
        self._aside = JsonLines(aside)
        self._wants = Wants(tuple(topics), only_uncured)
        self._messages = Messages(log)
        self._chance = chance
        self._pause = pause
        self._reached = cursor.position
        self._moved = asyncio.Condition()

    @property
    def position(self) -> int:
        """Everything up to here was delivered, or is not wanted."""
        return self._reached

    async def run(self) -> None:
        """Deliver until cancelled; goes on by itself when log or sink come back."""
        while True:
            try:
                async with aclosing(self._log.follow(after=self._reached)) as facts:
                    async for recorded in facts:
                        await self._handle(recorded)
            except (StoreError, OSError) as error:
                self.trouble = str(error)
                _log.warning("outbox_waits", sink=self.name, error=str(error))
                await asyncio.sleep(self._pause)
            else:
                return  # the log was closed

    async def _handle(self, recorded: Recorded) -> None:
        wanted = recorded.event.TOPIC in self._wants
        if wanted:
            await self._deliver(await self._messages.of(recorded))
        self._reached = recorded.position
        if wanted or self._reached - self._cursor.position >= _STRIDE:
            await asyncio.to_thread(self._cursor.write, self._reached)
        async with self._moved:
            self._moved.notify_all()

    async def _deliver(self, message: Message) -> None:
        pause, refusals = self._pause, 0
        while True:
            try:
                await self._sink.take(message)
            except UndeliveredError as error:
                refusals += error.refused
                self.trouble = f"{self.name}: {error} (event {message.position})"
                if refusals >= _TRIES:
                    await self._set_aside(message, error)
                    return
                _log.warning(
                    "undelivered", sink=self.name, message=message.id, error=str(error), again=pause
                )
                await asyncio.sleep(pause * (0.5 + self._chance() / 2))
                pause = min(pause * 2, _LONGEST_PAUSE)
            else:
                self.trouble = None
                self.delivered += 1
                return

    async def _set_aside(self, message: Message, error: UndeliveredError) -> None:
        await self._aside.take(message)
        self.dead += 1
        self.trouble = None
        _log.error("dead_letter", sink=self.name, message=message.id, error=str(error))

    async def reached(self, position: int) -> None:
        """Wait until everything up to `position` was handled; for ever while `run` does not run."""
        async with self._moved:
            await self._moved.wait_for(lambda: self._reached >= position)

    async def close(self) -> None:
        """Let go of the sink."""
        await self._sink.close()
