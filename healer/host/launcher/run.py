"""Run a program to its end, in bounded time and with bounded output."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from healer.domain.duration import format_duration
from healer.errors import LaunchError
from healer.host.launcher.child import Child, end_unheld
from healer.host.launcher.spawn import spawn

__all__ = ["Ran", "printable", "run"]

_CAPTURED: Final = 64 * 1024
"""Bytes of output that are kept, the last ones: what a client says last is why it failed."""

_SHOWN: Final = 300
"""Characters of a line that an error shows."""

_DEATH: Final = 5.0
"""Seconds for SIGKILL to take effect. What is still there then hangs in the kernel."""


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended: its exit code (minus the signal where one killed it), what it said."""

    exit_code: int
    output: str

    @property
    def last_line(self) -> str:
        """The last line that says something, fit to be shown."""
        lines = [line for line in self.output.splitlines() if line.strip()]
        return printable(lines[-1].strip())[:_SHOWN] if lines else "it said nothing"


def printable(text: str) -> str:
    """`text` on one line: whatever could steer a terminal or forge a log line is escaped."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


async def run(
    argv: Sequence[str],
    environment: Mapping[str, str],
    *,
    timeout: float,
    log: int | None = None,
) -> Ran:
    """Run `argv` (its first word a path) and wait for its end, not for that of its children.

    The output is captured; with `log`, a descriptor of a file, it goes there instead, so that what
    the program leaves running keeps a place to write to. After `timeout` seconds, or when the wait
    is cancelled, the program's whole process group is killed.

    Raises:
        LaunchError: it could not be executed, or did not end in time (`errno` is ETIMEDOUT).
    """
    capture = _Capture()
    try:
        sink = capture.sink if log is None else log
        spawning = asyncio.ensure_future(asyncio.to_thread(_start, argv, environment, sink))
        try:
            child = await asyncio.shield(spawning)
        except asyncio.CancelledError:
            # A thread cannot be called back: what it has started is ended before we leave.
            with contextlib.suppress(OSError, ValueError):
                await (await spawning).kill()
            raise
        except (OSError, ValueError) as error:
            raise LaunchError(
                f"cannot run {printable(argv[0])!r}: {error}", errno=getattr(error, "errno", None)
            ) from error
        capture.begin()
        try:
            async with asyncio.timeout(timeout):
                exit_code = await child.exited()
        except TimeoutError:
            raise LaunchError(
                f"cannot wait for {printable(argv[0])!r} any longer: not done after "
                f"{format_duration(timeout)}; {await child.kill()}",
                errno=errno.ETIMEDOUT,
            ) from None
        except asyncio.CancelledError:
            await child.kill()
            raise
        return Ran(exit_code, capture.text())
    finally:
        capture.close()


def _start(argv: Sequence[str], environment: Mapping[str, str], output: int) -> _Running:
    pid = spawn(argv[0], argv, environment, output=output)
    try:
        return _Running(Child(pid))
    except OSError:
        end_unheld(pid)
        raise


class _Running:
    """A program that runs, and will be reaped here."""

    def __init__(self, child: Child) -> None:
        self._child = child

    async def exited(self) -> int:
        """Wait for its end and reap it; cancel-safe."""
        await self._child.ended()
        status = self._child.reap()
        return -status.signal if status.signal is not None else status.code or 0

    async def kill(self) -> str:
        """Kill its whole group and reap it; says what became of it."""
        self._child.kill_group()
        try:
            async with asyncio.timeout(_DEATH):
                await asyncio.shield(self.exited())
        except TimeoutError:
            return "its process group was killed and is still there"
        return "its process group was killed"


class _Capture:
    """A pipe that is always read, so that a talkative program never blocks, and partly kept."""

    def __init__(self) -> None:
        self._source, self.sink = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._source, False)
        self._kept = bytearray()
        self._reading = False

    def begin(self) -> None:
        """Read as output comes."""
        os.close(self.sink)
        self.sink = -1
        asyncio.get_running_loop().add_reader(self._source, self._read)
        self._reading = True

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            chunk = os.read(self._source, _CAPTURED)
            self._kept += chunk
            del self._kept[:-_CAPTURED]
            if not chunk:
                self._end()

    def _end(self) -> None:
        if self._reading:
            asyncio.get_running_loop().remove_reader(self._source)
            self._reading = False

    def text(self) -> str:
        """What was said up to now; what a program's children say later is not waited for."""
        if self._reading:
            self._read()
        return self._kept.decode(errors="replace")

    def close(self) -> None:
        self._end()
        os.close(self._source)
        if self.sink >= 0:
            os.close(self.sink)
