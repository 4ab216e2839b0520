"""The machine, for real: `healer.ports.Host` on Linux."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import cached_property
from typing import Protocol

from healer.domain.playbook import Check
from healer.domain.process import Launch, Listener, ProcessIdentity, ProcessView
from healer.domain.spec import ComponentSpec, PortRange
from healer.errors import HostError
from healer.host import listener, membership, process, termination
from healer.host import port as binding
from healer.host.checks import FAST, Checks
from healer.host.process import Open, PidfdProcess, open_pidfd
from healer.host.sockdiag import listen_sockets
from healer.host.view import view
from healer.ports import Bind, HeldProcess, Permit, Reservation, Stopped, always

__all__ = ["Diagnostics", "LinuxHost"]


class Diagnostics(Protocol):
    """What makes the diagnostic checks; `healer.host.checks.Checks` does."""

    def names(self) -> tuple[str, ...]: ...

    async def run(self, name: str, spec: ComponentSpec, port: int) -> Check: ...


class LinuxHost:
    """See `healer.ports.Host`.

    Making one opens nothing and changes nothing. The first use that needs a pidfd proves that they
    work here, and every one fails with HostError (ENOSYS) where they do not: without them nothing
    can be signalled safely, so nothing is. `kill_wait` is how many seconds after SIGKILL a process
    counts as unkillable. `checks` makes the diagnostic checks out of the function that lists
    listeners.
    """

    def __init__(
        self,
        *,
        kill_wait: float = termination.KILL_WAIT,
        opener: Open = open_pidfd,
        checks: Callable[[Callable[[int], Awaitable[tuple[Listener, ...]]]], Diagnostics] = Checks,
    ) -> None:
        self._kill_wait = kill_wait
        self._untested_opener = opener
        self._checks = checks(self.listeners)
        self._asked: list[Launch] = []
        self._walk: asyncio.Task[Sequence[tuple[PidfdProcess, ...] | HostError]] | None = None

    @cached_property
    def boot_id(self) -> str:
        return process.boot_id()

    @cached_property
    def _opener(self) -> Open:
        process.require_pidfds(self._untested_opener)
        return self._untested_opener

    async def listeners(self, port: int) -> tuple[Listener, ...]:
        return await listener.listeners(port, boot=self.boot_id, opener=self._opener)

    async def sockets(self, port: int) -> frozenset[int]:
        return frozenset(found.inode for found in listen_sockets(port))

    async def holds(self, process: HeldProcess, inode: int) -> bool:
        """Whether a held process has the socket `inode` open: one process looked at, not all.

        Raises:
            HostError: its descriptors may not be seen.
        """
        pid = process.identity.pid
        try:
            held = await asyncio.to_thread(listener.holds, pid, (inode,))
        except PermissionError as error:
            raise HostError(
                f"cannot see the descriptors of {process.identity}: {error.strerror}",
                errno=error.errno,
            ) from error
        return bool(held) and not process.gone()

    async def hold(self, pid: int) -> PidfdProcess | None:
        return process.hold(pid, boot=self.boot_id, opener=self._opener)

    async def reacquire(self, identity: ProcessIdentity) -> PidfdProcess | None:
        if identity.boot_id != self.boot_id:
            return None
        held = process.hold(identity.pid, boot=self.boot_id, opener=self._opener)
        if held is None:
            return None
        if held.identity.same_as(identity) is not True:
            held.close()
            return None
        return held

    async def inspect(self, process: HeldProcess) -> ProcessView | None:
        return await asyncio.to_thread(view, process)

    async def members(self, launch: Launch) -> tuple[PidfdProcess, ...]:
        """See `healer.ports.Host.members`. All who ask in one turn of the loop share one walk."""
        if not self._asked:
            self._walk = asyncio.ensure_future(self._find_members(self._asked))
        walk, place = self._walk, len(self._asked)
        assert walk is not None
        self._asked.append(launch)
        found = (await asyncio.shield(walk))[place]
        if isinstance(found, HostError):
            raise HostError(str(found), errno=found.errno) from found
        return found

    async def _find_members(
        self, asked: list[Launch]
    ) -> Sequence[tuple[PidfdProcess, ...] | HostError]:
        # The walk begins now: who asks from here on needs one that begins later.
        self._asked = []
        return await asyncio.to_thread(
            membership.members, asked, boot=self.boot_id, opener=self._opener
        )

    async def stop(
        self, processes: Sequence[HeldProcess], *, grace: float, permit: Permit = always
    ) -> Stopped:
        held = [process for process in processes if isinstance(process, PidfdProcess)]
        if len(held) != len(processes):
            raise HostError("cannot signal a process that is not held by a pidfd of this host")
        return await termination.stop(held, grace=grace, kill_wait=self._kill_wait, permit=permit)

    async def bind_test(self, host: str, port: int) -> Bind:
        return await binding.bind_test(host, port)

    async def wait_bindable(self, host: str, port: int, *, timeout: float) -> Bind:
        return await binding.wait_bindable(host, port, timeout=timeout)

    async def reserve(
        self, host: str, ports: PortRange, *, excluding: Sequence[int] = ()
    ) -> Reservation | None:
        return await binding.reserve(host, ports, excluding=excluding)

    async def check(self, name: str, spec: ComponentSpec, port: int) -> Check:
        return await self._checks.run(name, spec, port)

    def fast_checks(self) -> tuple[str, ...]:
        return FAST

    def check_names(self) -> tuple[str, ...]:
        return self._checks.names()
