"""A machine to try a host on: the real one, or a world in memory. Both do as they are told."""

from __future__ import annotations

import os
import signal
import sys
from typing import Protocol

from healer.host.linux import LinuxHost
from healer.ports import Host
from healer.testing import FakeHost, World, WorldProcess
from tests.conftest import Processes

__all__ = ["Machine", "RealMachine", "SimulatedMachine"]

_PROGRAM = """
import os, signal, socket, sys, time
port, forks, deaf, code = (int(word) for word in sys.argv[1:])
if deaf:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if port:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    listening.listen()
children = []
for _ in range(forks):
    child = os.fork()
    if not child:
        time.sleep(600)
    children.append(child)
print(*children, flush=True)
if code:
    sys.stdin.readline()
    sys.exit(code)
time.sleep(600)
"""


class Machine(Protocol):
    """Starts processes and hurts them; `host` looks at the same machine."""

    host: Host

    def start(
        self,
        *,
        port: int = 0,
        forks: int = 0,
        ignores_sigterm: bool = False,
        exit_code: int = 0,
        launch_id: str | None = None,
    ) -> list[int]:
        """Start a child of the healer's, in its own session: its pid and those of its forks, once
        it listens. With `exit_code` it can be told to leave with it."""
        ...

    def leave(self, pid: int) -> None:
        """Tell it to exit by itself."""
        ...

    def suspend(self, pid: int) -> None:
        """SIGSTOP."""
        ...


class RealMachine:
    """This one."""

    def __init__(self, processes: Processes) -> None:
        self.host: Host = LinuxHost(kill_wait=5.0)
        self._processes = processes
        self._inputs: dict[int, int] = {}

    def start(
        self,
        *,
        port: int = 0,
        forks: int = 0,
        ignores_sigterm: bool = False,
        exit_code: int = 0,
        launch_id: str | None = None,
    ) -> list[int]:
        words = (port, forks, int(ignores_sigterm), exit_code)
        read, write = os.pipe()
        with open(read, "rb") as listening:  # noqa: PTH123 - a descriptor
            started = self._processes.start(
                sys.executable,
                "-S",
                "-E",
                "-c",
                _PROGRAM,
                *map(str, words),
                env={**os.environ, **({"HEALER_LAUNCH_ID": launch_id} if launch_id else {})},
                stdin=-1,
                stdout=write,
            )
            os.close(write)
            children = [int(word) for word in listening.readline().split()]
        assert started.stdin is not None
        self._inputs[started.pid] = started.stdin.fileno()
        return [started.pid, *children]

    def leave(self, pid: int) -> None:
        os.write(self._inputs[pid], b"\n")

    def suspend(self, pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)  # a child that nobody has reaped: the pid is still its own


class SimulatedMachine:
    """A world in memory."""

    def __init__(self) -> None:
        self.world = World()
        self._host = FakeHost(self.world, kill_wait=0.2)
        self.host: Host = self._host
        self._codes: dict[WorldProcess, int] = {}

    def start(
        self,
        *,
        port: int = 0,
        forks: int = 0,
        ignores_sigterm: bool = False,
        exit_code: int = 0,
        launch_id: str | None = None,
    ) -> list[int]:
        process = self.world.spawn(
            ppid=self._host.pid, ignores_sigterm=ignores_sigterm, launch_id=launch_id
        )
        self._codes[process] = exit_code
        if port:
            self.world.listen(process, port)
        return [process.pid, *(self.world.fork(process).pid for _ in range(forks))]

    def leave(self, pid: int) -> None:
        process = self.world.processes[pid]
        self.world.end(process, code=self._codes[process])

    def suspend(self, pid: int) -> None:
        self.world.processes[pid].state = "T"
