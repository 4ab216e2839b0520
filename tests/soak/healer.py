"""A healer process from its fork to its death, and what it says meanwhile."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.soak import driver
from tests.soak.world import PATIENCE, Children, wait

__all__ = ["BOUND", "Acknowledged", "Healer", "Heard"]

BOUND: Final = 60.0
"""Seconds after a restart within which everything has to be at rest (the issue's figure)."""

_CHUNK: Final = 65536


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """What a healer said that its log had acknowledged."""

    position: int
    stream: str
    version: int
    digest: str


@dataclass(slots=True)
class Heard:
    """All that the healers of a stack have said."""

    acknowledged: list[Acknowledged] = field(default_factory=list)
    spawns: list[tuple[str, str, tuple[int, ...]]] = field(default_factory=list)
    signalled: list[tuple[int, int, int]] = field(default_factory=list)
    """Pid and start ticks of whom, and which signal."""
    rest: bool | None = None
    restless: int = 0
    """How often a healer came out of its rest."""
    ready: int = 0

    def take(self, line: str) -> None:
        word, *rest = line.split(" ")
        match word:
            case "ack":
                position, stream, version, digest = rest
                self.acknowledged.append(Acknowledged(int(position), stream, int(version), digest))
            case "spawn":
                alive = tuple(int(pid) for pid in rest[2].split(",") if pid)
                self.spawns.append((rest[0], rest[1], alive))
            case "signal":
                pid, ticks, number = map(int, rest)
                self.signalled.append((pid, ticks, number))
            case "rest":
                self.rest = True
            case "busy":
                self.restless += self.rest is True
                self.rest = False
            case "ready":
                self.ready += 1
            case _:
                raise ValueError(f"cannot understand what the healer said: {line!r}")


class Healer:
    """One healer process, from its fork to its death."""

    def __init__(
        self,
        config: str,
        directory: Path,
        children: Children,
        heard: Heard,
        well: Callable[[], bool],
    ) -> None:
        self._children = children
        self._well = well
        self.heard = heard
        heard.rest = None
        said, saying = os.pipe()
        taking, giving = os.pipe()
        self._said, self._orders = said, giving
        self._partial = b""
        os.write(giving, b"die - 0 now\n")
        self._plant: str | None = os.environ.get("SOAK_PLANT")
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(said)
            os.close(giving)
            driver.live(config, directory, taking, saying, self._plant)
        children.ended.pop(self.pid, None)
        os.close(saying)
        os.close(taking)
        self.begun = time.monotonic()

    @property
    def dead(self) -> bool:
        self._children.reap()
        return self.pid in self._children.ended

    @property
    def status(self) -> int:
        return os.waitstatus_to_exitcode(self._children.ended[self.pid])

    def listen(self, seconds: float = 0.0) -> None:
        """Take in what it says, waiting `seconds` at most for the first word."""
        while select.select([self._said], [], [], seconds)[0]:
            piece = os.read(self._said, _CHUNK)
            if not piece:
                time.sleep(0.001)  # its end of the pipe is closed: it is about to be reaped
                return
            *lines, self._partial = (self._partial + piece).split(b"\n")
            for line in lines:
                self.heard.take(line.decode())
            seconds = 0.0

    def order(self, kind: str, number: int, when: str) -> bool:
        """Tell it where to die, and wait until it knows; False when it died meanwhile.

        Raises:
            BrokenPipeError: it was dead already.
        """
        before = self.heard.ready
        os.write(self._orders, f"die {kind} {number} {when}\n".encode())
        return self.until(lambda: self.heard.ready > before, PATIENCE, "the healer takes an order")

    def until(self, condition: Callable[[], bool], timeout: float, name: str) -> bool:
        """Listen until `condition()` is true; False when the healer died before it was."""
        deadline = time.monotonic() + timeout
        while not condition():
            if self.dead:
                self.listen()
                return bool(condition())
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {timeout:g} s: {name}")
            self.listen(0.005)
        return True

    def at_rest(self, after: int | None = None) -> bool:
        """Whether it says that all is well (again, when it was restless `after` times before) and
        the world says so too: a healer that has not noticed yet is at rest as well."""
        settled = self.heard.rest and (after is None or self.heard.restless > after)
        return bool(settled) and self._well()

    def await_rest(self, *, after: int | None = None) -> bool:
        """Wait until it is at rest; False when it died."""
        return self.until(lambda: self.at_rest(after), BOUND, "everything is at rest")

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)  # an unreaped child's pid is nobody else's

    def kill(self) -> None:
        """SIGKILL, if it is not dead already; then hear its last words."""
        if not self.dead:
            self.signal(signal.SIGKILL)
            wait(lambda: self.dead, PATIENCE, "the end of the healer")
        self.close()

    def close(self) -> None:
        self.listen()
        for descriptor in (self._said, self._orders):
            os.close(descriptor)
