"""Real processes and sockets for the tests of the host, all ended and closed afterwards."""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # noqa: F401 - what is imported later may lie where nobody may read
import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import pytest

from healer.host.linux import LinuxHost
from healer.host.process import PidfdProcess


class Program:
    """A Python program of a test, in a session of its own. The healer reaps it; this kills it."""

    def __init__(self, code: str, *arguments: str, env: dict[str, str] | None = None) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, **(env or {})},
        )
        self.pid = self._popen.pid
        self._pidfd = os.pidfd_open(self.pid)
        self._popen.returncode = 0  # it must not reap by bare pid what the host reaps

    def line(self) -> str:
        """The next line that it prints: how it says that it is ready."""
        stdout: IO[str] | None = self._popen.stdout
        assert stdout is not None
        return stdout.readline().strip()

    def say(self, text: str = "") -> None:
        """Give it a line to read: how it is told to go on."""
        stdin: IO[str] | None = self._popen.stdin
        assert stdin is not None
        stdin.write(f"{text}\n")
        stdin.flush()

    def end(self) -> None:
        with suppress(ProcessLookupError, ChildProcessError):  # ended and reaped already
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        os.close(self._pidfd)
        for stream in (self._popen.stdin, self._popen.stdout):
            if stream is not None:
                stream.close()


class Strays:
    """Pids of processes that are not our children and have to be killed all the same."""

    def __init__(self) -> None:
        self._pidfds: list[int] = []

    def add(self, pid: int) -> int:
        self._pidfds.append(os.pidfd_open(pid))
        return pid

    def end(self) -> None:
        for pidfd in self._pidfds:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            # Gone before the next test looks for the processes of its own launch.
            select.select([pidfd], [], [], 5)
            os.close(pidfd)


@pytest.fixture
def host() -> LinuxHost:
    return LinuxHost()


@pytest.fixture
def program() -> Iterator[Callable[..., Program]]:
    started: list[Program] = []

    def start(code: str, *arguments: str, env: dict[str, str] | None = None) -> Program:
        started.append(Program(code, *arguments, env=env))
        return started[-1]

    yield start
    for one in started:
        one.end()


@pytest.fixture
def strays() -> Iterator[Strays]:
    found = Strays()
    yield found
    found.end()


@pytest.fixture
def server_socket() -> Iterator[Callable[..., socket.socket]]:
    """Opens listening (or only bound) sockets: `server_socket(host, port=0, listen=True, ...)`."""
    opened: list[socket.socket] = []

    def open_socket(
        address: str = "127.0.0.1",
        port: int = 0,
        *,
        listen: bool = True,
        reuse_address: bool = True,
        reuse_port: bool = False,
        v6only: bool = False,
    ) -> socket.socket:
        six = ":" in address
        created = socket.socket(socket.AF_INET6 if six else socket.AF_INET)
        opened.append(created)
        if six:
            created.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
        created.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse_address)
        created.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, reuse_port)
        created.bind((address, port))
        if listen:
            created.listen()
        return created

    yield open_socket
    for one in opened:
        one.close()


@pytest.fixture
def held(host: LinuxHost) -> Iterator[Callable[[int], Awaitable[PidfdProcess]]]:
    """Holds a process that must be there, and lets go of it after the test."""
    holding: list[PidfdProcess] = []

    async def hold(pid: int) -> PidfdProcess:
        process = await host.hold(pid)
        assert process is not None
        holding.append(process)
        return process

    yield hold
    for process in holding:
        process.close()


async def until(condition: Callable[[], bool], *, within: float = 60.0) -> None:
    """Wait for a condition that nothing announces."""
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110 - what /proc says, no event announces
            await asyncio.sleep(0.002)


def zombie(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "Z"


@contextmanager
def unprivileged() -> Iterator[None]:
    """As a user who has no right to what root started. Needs root, who it is again afterwards."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to be two users")
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
        ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE, which a change of user takes away
