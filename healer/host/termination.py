"""Ending processes: SIGTERM, wait, SIGKILL, wait; believed only when the pidfds say so."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from typing import Final

from healer.errors import HostError
from healer.host import procfs
from healer.host.process import PidfdProcess
from healer.host.protection import forbidden
from healer.ports import Permit, Stopped, always

__all__ = ["KILL_WAIT", "stop", "wait_gone"]

KILL_WAIT: Final = 10.0
"""Seconds after SIGKILL at which a process counts as unkillable (state D, or frozen)."""

_STOPPED: Final = "Tt"


async def stop(
    processes: Sequence[PidfdProcess],
    *,
    grace: float,
    kill_wait: float = KILL_WAIT,
    permit: Permit = always,
) -> Stopped:
    """End all of `processes`; see `healer.ports.Host.stop`.

    A process that is stopped (SIGSTOP, or a debugger) cannot act on SIGTERM, and waking it to let
    it try might undo what somebody stopped it for: it gets no grace and is killed at once.
    """
    await permit()
    alive = [process for process in processes if not process.gone()]
    killed = {process for process in alive if _permit(process) in _STOPPED}
    for process in alive:
        process.signal(signal.SIGKILL if process in killed else signal.SIGTERM)
    survivors = await wait_gone(alive, timeout=grace)
    if survivors:
        await permit()
    for process in survivors:
        if process not in killed:
            process.signal(signal.SIGKILL)
    killed.update(survivors)
    unkillable = set(await wait_gone(survivors, timeout=kill_wait))
    gone = [process for process in processes if process not in unkillable]
    return Stopped(
        stopped=tuple(process.identity for process in gone),
        killed=tuple(process.identity for process in gone if process in killed),
        unkillable=tuple(process.identity for process in survivors if process in unkillable),
    )


async def wait_gone(
    processes: Sequence[PidfdProcess], *, timeout: float
) -> tuple[PidfdProcess, ...]:
    """Wait until all have ended, `timeout` seconds at most; those that have not."""
    waits = [asyncio.ensure_future(process.exited()) for process in processes]
    try:
        if waits:
            await asyncio.wait(waits, timeout=timeout)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
    return tuple(process for process in processes if not process.gone())


def _permit(process: PidfdProcess) -> str:
    """The state letter of a process that may be signalled; HostError when it may not be."""
    pid = process.identity.pid
    try:
        stat = procfs.stat_of(pid)
    except OSError as error:
        if process.gone():
            return "Z"
        raise HostError(
            f"cannot signal {process.identity}: it cannot be seen", errno=error.errno
        ) from error
    reason = forbidden(pid, stat)
    if process.gone():
        return "Z"
    if reason is not None:
        raise HostError(f"cannot signal {process.identity}: forbidden ({reason})")
    process.signal(0)  # asks for the right to, and raises without it, before anything was sent
    return stat.state
