"""What systemd is told (sd_notify): one datagram to the socket that it names; nothing elsewhere.

The watchdog is fed from the event loop, and only while the thread that writes the log lives: a
healer whose loop or whose log hangs is ended by systemd and started anew. A log that cannot be
written (a full disk) is no reason: a restart would not help, and `/readyz` says so.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

__all__ = ["Notifier", "pulse"]

_BEAT: Final = 1.0
"""Seconds between two looks at the event loop's own lateness."""


class Notifier:
    """Speaks to the service manager that `environ` names; says nothing where there is none."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self.watchdog = _watchdog(environ)

    @property
    def heard(self) -> bool:
        """Whether somebody listens."""
        return self._address.startswith(("/", "@"))

    def ready(self, status: str) -> None:
        """Start-up, or a reload, is done."""
        self._tell("READY=1", f"STATUS={_line(status)}")

    def reloading(self) -> None:
        """A reload begins. systemd takes it only with the moment, in the same datagram."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell("RELOADING=1", f"MONOTONIC_USEC={now}")

    def reload(self, word: str) -> None:
        """For `healer.api.reload`: "reloading", then "ready", however it went."""
        if word == "reloading":
            self.reloading()
        else:
            self.ready("watching")

    def stopping(self) -> None:
        """The end has begun."""
        self._tell("STOPPING=1", "STATUS=finishing what is in flight")

    def status(self, status: str) -> None:
        """One line for `systemctl status`."""
        self._tell(f"STATUS={_line(status)}")

    def extend(self, seconds: float) -> None:
        """Starting or stopping goes on, and may take `seconds` more."""
        self._tell(f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}")

    def alive(self) -> None:
        """Feed the watchdog."""
        self._tell("WATCHDOG=1")

    def _tell(self, *fields: str) -> None:
        if not self.heard:
            return
        # A leading @ stands for the NUL byte of the abstract namespace.
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        # Nobody is held up by a manager that does not read, nor ended by one that has gone.
        with (
            suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel,
        ):
            channel.setblocking(False)
            channel.sendto("\n".join(fields).encode(), address)


async def pulse(
    notifier: Notifier, *, works: Callable[[], bool], lagged: Callable[[float], None]
) -> None:
    """Until cancelled: tell `lagged` how late the event loop is, and feed the watchdog while
    `works` says so."""
    loop = asyncio.get_running_loop()
    beat = min(_BEAT, notifier.watchdog / 2) if notifier.watchdog else _BEAT
    while True:
        due = loop.time() + beat
        await asyncio.sleep(beat)
        lagged(loop.time() - due)
        if notifier.watchdog and works():
            notifier.alive()


def _watchdog(environ: Mapping[str, str]) -> float | None:
    """Seconds within which systemd wants to hear of us; None where it does not."""
    span, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not span.isdecimal() or int(span) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(span) / 1_000_000


def _line(text: str) -> str:
    return " ".join(text.split())
