"""A child of ours that leads a process group: its end, and the end of all that is in its group."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
from typing import Final

from healer.domain.process import ExitStatus

__all__ = ["Child", "end_unheld"]

_WHOLE_GROUP: Final = 1 << 2
"""PIDFD_SIGNAL_PROCESS_GROUP of <linux/pidfd.h>, Linux 6.9."""


class Child:
    """A child that leads its own group. Until we reap it, its pid can mean nobody else."""

    def __init__(self, pid: int) -> None:
        """Hold the child `pid`; OSError when there is no descriptor left for it."""
        self.pid = pid
        self._pidfd = os.pidfd_open(pid)

    async def ended(self) -> None:
        """Wait for its end; it is not reaped. Cancel-safe."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(self._pidfd, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self._pidfd)

    def kill_group(self) -> None:
        """SIGKILL to its whole group, also when it has ended itself and is not yet reaped. What we
        have no right to signal (a program with other rights than ours) stays."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            try:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL, None, _WHOLE_GROUP)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                # Before Linux 6.9. The group bears the pid of our child, which is not yet reaped.
                os.killpg(self.pid, signal.SIGKILL)

    def reap(self) -> ExitStatus:
        """How it ended, which it has; it is forgotten by the kernel and by us.

        Raises:
            ChildProcessError: the kernel does not say.
        """
        try:
            result = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        finally:
            os.close(self._pidfd)
        if result is None:
            raise ChildProcessError(errno.ECHILD, "the kernel forgot a child", str(self.pid))
        if result.si_code == os.CLD_EXITED:
            return ExitStatus(code=result.si_status)
        return ExitStatus(signal=result.si_status)


def end_unheld(pid: int) -> None:
    """Kill and reap a child, with its group, that could not be held: nothing may be left running
    that nobody watches. Blocks until it is gone; nobody else may have reaped it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
