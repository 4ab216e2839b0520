"""What is alive, seen from outside the healer, and what the harness itself started."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

__all__ = [
    "PATIENCE",
    "Children",
    "Found",
    "become_subreaper",
    "components",
    "is_alive",
    "request",
    "start_ticks",
    "wait",
    "who_answers",
]

_PR_SET_CHILD_SUBREAPER: Final = 36
PATIENCE: Final = 60.0
"""Seconds within which the machine does what it was told, however many others it works for."""

_PAUSE: Final = 0.003
_RESET: Final = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Found:
    """A living process that a healer launched."""

    pid: int
    name: str
    launch_id: str


def components() -> Iterator[Found]:
    """Every living process that a healer of this run launched, by its marks; no zombies."""
    mark = os.environ["SOAK_RUN"].encode()
    for entry in os.listdir("/proc"):  # noqa: PTH208 - asked often
        if not entry.isdecimal():
            continue
        with suppress(OSError):
            content = Path("/proc", entry, "environ").read_bytes()
            if b"HEALER_LAUNCH_ID=" not in content or mark not in content:
                continue
            variables = dict(
                part.partition(b"=")[::2] for part in content.split(b"\0") if b"=" in part
            )
            if is_alive(int(entry)):
                yield Found(
                    int(entry),
                    variables[b"HEALER_COMPONENT"].decode(),
                    variables[b"HEALER_LAUNCH_ID"].decode(),
                )


def _stat(pid: int) -> list[str]:
    return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()


def is_alive(pid: int) -> bool:
    try:
        return _stat(pid)[0] not in "ZX"
    except OSError:
        return False


def start_ticks(pid: int) -> int:
    return int(_stat(pid)[19])


def become_subreaper() -> None:
    """What a killed healer leaves behind becomes our child, to be reaped and counted by us."""
    if ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise SystemExit("cannot adopt the orphans of a killed healer: prctl refused")


class Children:
    """All that dies below us is reaped here."""

    def __init__(self) -> None:
        self.ended: dict[int, int] = {}

    def reap(self) -> None:
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                self.ended[pid] = status

    def spawn(self, *argv: str) -> int:
        """Start a program with an empty environment: nothing proves that it is anybody's."""
        null = os.devnull
        actions = [
            (os.POSIX_SPAWN_OPEN, descriptor, null, os.O_RDWR, 0) for descriptor in (0, 1, 2)
        ]
        pid = os.posix_spawn(argv[0], list(argv), {}, file_actions=actions, setsid=True)
        self.ended.pop(pid, None)
        return pid

    def kill(self, pid: int) -> None:
        """End a child of ours and wait until it is reaped."""
        if pid not in self.ended:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)  # an unreaped child's pid is nobody else's
            wait(lambda: self._gone(pid), PATIENCE, f"the end of {pid}")

    def _gone(self, pid: int) -> bool:
        self.reap()
        return pid in self.ended


def wait(condition: Callable[[], Any], timeout: float, name: str) -> Any:
    """Wait until `condition` is true; its answer. TimeoutError names what did not come."""
    deadline = time.monotonic() + timeout
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout:g} s: {name}")
        time.sleep(_PAUSE)
    return answer


def request(port: int, line: str, body: bytes = b"", *, timeout: float = 2.0) -> bytes:
    """One HTTP request to a component; what it answers, empty when it does not."""
    head = f"{line} HTTP/1.1\r\nHost: soak\r\nContent-Length: {len(body)}\r\n\r\n"
    received = b""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
            # Closed by a reset: TIME_WAIT would keep a component out that sets no SO_REUSEADDR.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            connection.sendall(head.encode() + body)
            while piece := connection.recv(65536):
                received += piece
    except OSError:
        return b""
    return received


def who_answers(port: int) -> int | None:
    """The pid that says on `port` that it is well; None: nobody does."""
    head, _, body = request(port, "GET /health", timeout=0.2).partition(b"\r\n\r\n")
    return int(json.loads(body)["pid"]) if b" 200 " in head.split(b"\r\n")[0] else None
