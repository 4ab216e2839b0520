"""Starts programs in a `World`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from healer.errors import LaunchError
from healer.ports import Launched
from healer.testing.host import FakeHost
from healer.testing.world import Program

__all__ = ["FakeLauncher"]


class FakeLauncher:
    """See `healer.ports.Launcher`. Starts `program`, or what `program` says for a port.

    With `kind="command"` the process is the healer's own child; any other kind is a manager that
    keeps what it starts, and stops it when `stops` is set. `error` is raised by the next starts.
    """

    def __init__(
        self,
        host: FakeHost,
        program: Program | Callable[[int], Program] | None = None,
        *,
        kind: str = "command",
        stops: bool = False,
        error: BaseException | None = None,
    ) -> None:
        self._host = host
        self._program = program or Program()
        self._kind = kind
        self._stops = stops
        self.error = error
        self.started: list[tuple[int, str]] = []
        self.stopped: list[int] = []

    @property
    def kind(self) -> str:
        return self._kind

    @property
    def stops(self) -> bool:
        return self._stops

    def describe(self, port: int) -> str:
        program = self._on(port)
        return " ".join(program.cmdline or (program.name, "--port", str(port)))

    async def start(self, port: int, launch_id: str) -> Launched:
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        self.started.append((port, launch_id))
        own = self._kind == "command"
        process = self._host.world.run(
            self._on(port), port, ppid=self._host.pid if own else 1, launch_id=launch_id
        )
        self._host.world.managed[self._on(port).name] = process
        held = await self._host.hold(process.pid) if own else None
        if own and held is None:
            raise LaunchError(f"cannot start on port {port}: pid {process.pid} was gone at once")
        return Launched(process=held, manager=self._kind)

    async def stop(self, port: int) -> None:
        await asyncio.sleep(0)
        if not self._stops:
            raise LaunchError(f"cannot stop port {port}: this launcher starts only")
        self.stopped.append(port)
        process = self._host.world.managed.pop(self._on(port).name, None)
        if process is not None:
            self._host.world.end(process, signal=15)

    def _on(self, port: int) -> Program:
        return self._program(port) if callable(self._program) else self._program
