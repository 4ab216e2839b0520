"""The programs of `exec` probes: started, waited for, and ended with all that they started."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import select
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

from healer.domain.process import ExitStatus
from healer.domain.spec import ComponentSpec
from healer.errors import HostError, LaunchError
from healer.host import process, procfs
from healer.host.launcher.child import Child, end_unheld
from healer.host.launcher.environment import clean_environment, find_program, substitute
from healer.host.launcher.run import printable
from healer.host.launcher.spawn import spawn
from healer.host.process import PidfdProcess, open_pidfd
from healer.host.protection import forbidden
from healer.ports import Program

__all__ = ["LinuxPrograms", "find_probe"]

_AT_ONCE: Final = 32
"""Programs that run at the same time; the others wait, within their own probe's deadline."""

_PATIENCE: Final = 0.5
"""Seconds that a probe waits for SIGKILL to take effect; what takes longer hangs in the kernel, and
is reaped whenever it ends."""

_ROUNDS: Final = 20
"""How often is looked for what left the group, as long as each look finds something."""


class LinuxPrograms:
    """See `healer.ports.Programs`.

    A program gets what a hook gets: arguments and no shell, a small clean environment, a session of
    its own. Nobody reads its output (/dev/null): it is neither kept nor can it fill anything. It is
    started by a thread, since the kernel may take as long as a disk does to load it.
    """

    def __init__(self, *, new_id: Callable[[], str], at_once: int = _AT_ONCE) -> None:
        """`new_id` makes the mark that a program and all that it starts carry."""
        self._new_id = new_id
        self._room = asyncio.Semaphore(at_once)
        self._ending: set[asyncio.Task[None]] = set()

    def running(self, spec: ComponentSpec, port: int) -> AbstractAsyncContextManager[Program]:
        return self._running(spec, port)

    @asynccontextmanager
    async def _running(self, spec: ComponentSpec, port: int) -> AsyncIterator[Program]:
        mark = self._new_id()
        await self._room.acquire()
        starting = _start(spec, port, mark)
        try:
            child = await asyncio.shield(starting)
        except asyncio.CancelledError:
            # A thread cannot be called back: what it starts is ended when it has.
            starting.add_done_callback(lambda started: self._abandon(started, mark))
            raise
        except LaunchError:
            self._room.release()
            raise
        program = _Running(child)
        try:
            yield program
        finally:
            if program.reaped:
                self._room.release()
            else:
                child.kill_group()
                await asyncio.wait([self._end(child, mark)], timeout=_PATIENCE)

    def _abandon(self, starting: asyncio.Future[Child], mark: str) -> None:
        if starting.cancelled() or starting.exception() is not None:
            self._room.release()
            return
        starting.result().kill_group()
        self._end(starting.result(), mark)

    def _end(self, child: Child, mark: str) -> asyncio.Task[None]:
        """End what left the group, reap the child, make room: by a task that nobody can cancel by
        giving up."""
        task = asyncio.create_task(self._finish(child, mark), name=f"end {child.pid}")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        return task

    async def _finish(self, child: Child, mark: str) -> None:
        try:
            # Until it is reaped, its session's number is nobody else's.
            with contextlib.suppress(OSError, HostError, RuntimeError):
                await asyncio.to_thread(_kill_session, child.pid, mark)
            await child.ended()
            with contextlib.suppress(ChildProcessError):
                child.reap()
        finally:
            self._room.release()


class _Running:
    """See `healer.ports.Program`."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self.reaped = False

    async def exited(self) -> ExitStatus:
        await self._child.ended()
        # Before it is reaped: until then the group is its own, and what it left there is its own.
        self._child.kill_group()
        self.reaped = True
        try:
            return self._child.reap()
        except ChildProcessError:  # where SIGCHLD is ignored the kernel tells nobody
            return ExitStatus()


def _start(spec: ComponentSpec, port: int, mark: str) -> asyncio.Future[Child]:
    """Start the program by a thread of its own: one that hangs in the kernel holds up neither what
    else uses threads nor the healer's exit."""
    loop = asyncio.get_running_loop()
    started: asyncio.Future[Child] = loop.create_future()

    def settle(result: Child | LaunchError) -> None:
        if isinstance(result, Child):
            started.set_result(result)
        else:
            started.set_exception(result)

    def work() -> None:
        result: Child | LaunchError
        try:
            result = _spawn(spec, port, mark)
        except LaunchError as error:
            result = error
        try:
            loop.call_soon_threadsafe(settle, result)
        except RuntimeError:  # the loop was closed meanwhile: nobody waits
            if isinstance(result, Child):
                end_unheld(result.pid)

    try:
        threading.Thread(target=work, name=f"probe {spec.name}", daemon=True).start()
    except RuntimeError as error:  # "can't start new thread"
        started.set_exception(LaunchError(f"cannot look: {error}", errno=errno.EAGAIN))
    return started


def find_probe(spec: ComponentSpec, port: int) -> str:
    """The absolute path of the program that looks at `spec`, found as a launcher finds one.

    Raises:
        LaunchError: there is no such file, or it may not be executed.
    """
    (program, *_) = substitute(spec.probe.exec or ("",), name=spec.name, port=port)
    path = clean_environment(spec.name, port, "")["PATH"]
    return find_program(f"probe of {spec.name}", program, path=path)


def _spawn(spec: ComponentSpec, port: int, mark: str) -> Child:
    environment = clean_environment(spec.name, port, mark)
    argv = substitute(spec.probe.exec or (), name=spec.name, port=port)
    try:
        program = find_probe(spec, port)
        output = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            pid = spawn(program, [program, *argv[1:]], environment, output=output)
        finally:
            os.close(output)
        try:
            return Child(pid)
        except OSError:
            end_unheld(pid)
            raise
    except (OSError, ValueError) as error:
        raise LaunchError(
            f"cannot run {printable(argv[0])!r}: {error}", errno=getattr(error, "errno", None)
        ) from error


def _kill_session(leader: int, mark: str) -> None:
    """Kill what is left of a session whose leader is not reaped, and whatever carries `mark` (it
    may have a session of its own by now), until nothing is found. Blocks for milliseconds."""
    boot = process.boot_id()
    for _ in range(_ROUNDS):
        found = [held for pid in procfs.pids() if (held := _remnant(pid, leader, mark, boot))]
        if not found:
            return
        deadline = time.monotonic() + _PATIENCE
        try:
            for held in found:
                with contextlib.suppress(HostError):
                    held.signal(signal.SIGKILL)
            while not all(held.gone() for held in found) and time.monotonic() < deadline:
                select.select([], [], [], 0.001)
        finally:
            for held in found:
                held.close()


def _remnant(pid: int, leader: int, mark: str, boot: str) -> PidfdProcess | None:
    if pid in {leader, os.getpid()} or not _belongs(pid, leader, mark):
        return None
    try:
        held = process.hold(pid, boot=boot, opener=open_pidfd)
        if held is None:
            return None
        # Asked once more, now that the pid cannot come to mean another process.
        belongs = _belongs(pid, leader, mark) and not held.gone()
        if belongs and forbidden(pid, procfs.stat_of(pid)) is None:
            return held
        held.close()
    except (OSError, HostError):
        return None  # it has ended meanwhile, or cannot be held: then it cannot be signalled either
    return None


def _belongs(pid: int, leader: int, mark: str) -> bool:
    try:
        return os.getsid(pid) == leader or procfs.launch_id_of(pid) == mark
    except OSError:
        return False
