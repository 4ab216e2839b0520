"""Starts programs in a `World`."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable

from healer.errors import HostError, LaunchError
from healer.ports import Launched
from healer.testing.host import FakeHost
from healer.testing.world import Job, Program, WorldProcess

__all__ = ["FakeLauncher"]


class FakeLauncher:
    """See `healer.ports.Launcher`. Starts `program`, or what `program` says for a port.

    With `kind="command"` the process is the healer's own child; any other kind is a manager that
    keeps what it starts, and stops it when `stops` is set. `error` is raised by the next starts.

    A start takes `takes` seconds. A command that is being started is not called back by who is
    cancelled, and is lost with the healer that dies. A manager's client gives up after `limit`
    seconds, or when it is cancelled; the manager goes on, and starts nothing twice. A hook is
    killed then, and starts nothing.
    """

    def __init__(
        self,
        host: FakeHost,
        program: Program | Callable[[int], Program] | None = None,
        *,
        kind: str = "command",
        stops: bool = False,
        error: BaseException | None = None,
        takes: float = 0.0,
        limit: float = 100.0,
    ) -> None:
        self._host = host
        self._program = program or Program()
        self._kind = kind
        self._stops = stops
        self.error = error
        self.takes = takes
        self.limit = limit
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
        own = self._kind == "command"
        process = await (self._load(port, launch_id) if own else self._request(port, launch_id))
        try:
            held = await self._host.hold(process.pid) if own else None
        except HostError as error:
            self._host.world.end(process)
            raise LaunchError(f"cannot start on port {port}: ended again: {error}") from error
        if own and held is None:
            raise LaunchError(f"cannot start on port {port}: pid {process.pid} was gone at once")
        return Launched(process=held, manager=self._kind)

    async def stop(self, port: int) -> None:
        await asyncio.sleep(0)
        if not self._stops:
            raise LaunchError(f"cannot stop port {port}: this launcher starts only")
        self.stopped.append(port)
        job = self._host.world.jobs.get(self._on(port).name)
        if job is not None and not job.done.done():
            job.fail(
                LaunchError(f"cannot start on port {port}: the job was cancelled", exit_code=1)
            )
        process = self._host.world.managed.pop(self._on(port).name, None)
        if process is not None:
            self._host.world.end(process, signal=15)

    def launch(self, port: int, launch_id: str) -> WorldProcess:
        """The moment in which it is started, or refused."""
        if self.error is not None:
            raise self.error
        self.started.append((port, launch_id))
        own = self._kind == "command" and self._host.alive
        program = self._on(port)
        process = self._host.world.run(
            program, port, ppid=self._host.pid if own else 1, launch_id=launch_id
        )
        self._host.world.managed[program.name] = process
        return process

    async def _load(self, port: int, launch_id: str) -> WorldProcess:
        if not self.takes:
            return self.launch(port, launch_id)
        job = Job(self.takes, lambda: self.launch(port, launch_id))
        self._host.loading.add(job)
        job.done.add_done_callback(lambda _: self._host.loading.discard(job))
        return await asyncio.shield(job.done)

    async def _request(self, port: int, launch_id: str) -> WorldProcess:
        world, name = self._host.world, self._on(port).name
        keeps = self._kind != "hook"
        running = world.managed.get(name)
        if keeps and running is not None and running.alive:
            return running
        job = world.jobs.get(name) if keeps else None
        if job is None or job.done.done():
            if not self.takes:
                return self.launch(port, launch_id)
            job = Job(self.takes, lambda: self.launch(port, launch_id))
            if keeps:
                world.jobs[name] = job
        try:
            async with asyncio.timeout(self.limit):
                return await asyncio.shield(job.done)
        except TimeoutError:
            why = f"cannot start on port {port}: not done after {self.limit:g} s"
            raise LaunchError(why, errno=errno.ETIMEDOUT) from None
        finally:
            if not keeps:
                job.cancel()

    def _on(self, port: int) -> Program:
        return self._program(port) if callable(self._program) else self._program
