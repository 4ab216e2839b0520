"""A process held by a pidfd, and the only code that sends a signal.

The pidfd is opened *before* the identity is read, and asked *afterwards* whether the process still
lives: had the pid come to mean another process in between, the pidfd would say that its own has
ended.

Reaping: a child of ours is reaped here and nowhere else, once, by `waitid(P_PIDFD)` when somebody
has waited for `exited()`; all who hold it are told the same. Whoever starts a child must therefore
never wait for it himself, least of all by its bare pid.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

from healer.domain.process import ExitStatus, ProcessIdentity
from healer.errors import HostError
from healer.host import procfs

__all__ = ["Open", "PidfdProcess", "boot_id", "hold", "identify", "open_pidfd", "require_pidfds"]

Open = Callable[[int], int]
"""Opens a pidfd for a pid, as `os.pidfd_open` does."""

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_WIDE_INODES: Final = sys.maxsize > 2**32  # pidfs inodes are unique only where they have 64 bits


class _Ending:
    """How one process ended, for all who hold it: the kernel tells only the first who asks."""

    __slots__ = ("__weakref__", "status")

    def __init__(self) -> None:
        self.status: ExitStatus | None = None


# Process-wide because reaping is: a child can be reaped once in a process, whoever holds it.
_endings: WeakValueDictionary[int, _Ending] = WeakValueDictionary()


def boot_id() -> str:
    """The name of this boot of the machine."""
    return _BOOT_ID.read_text().strip()


def open_pidfd(pid: int) -> int:
    """A pidfd; OSError with ENOSYS where Python or the kernel has none."""
    if not hasattr(os, "pidfd_open") or not hasattr(signal, "pidfd_send_signal"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    return os.pidfd_open(pid)


def require_pidfds(opener: Open = open_pidfd) -> None:
    """Prove that a process can be held and signalled by pidfd here.

    Raises:
        HostError: it cannot (Linux before 5.4, or a seccomp filter). Nothing may act then.
    """
    try:
        pidfd = opener(os.getpid())
        try:
            signal.pidfd_send_signal(pidfd, 0)
        finally:
            os.close(pidfd)
    except OSError as error:
        raise HostError(
            f"cannot hold processes safely: no working pidfds here ({error.strerror}); "
            "needed: Linux 5.4 or later, pidfd_open and pidfd_send_signal permitted",
            errno=error.errno,
        ) from error


def _ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _inode(pidfd: int) -> int | None:
    """What tells this process from all others of this boot; None where the kernel has no pidfs.

    Before 6.9 every pidfd shares the one inode of all anonymous descriptors, an epoll's too: so
    the two are compared instead of trusting a version number.
    """
    of_process = os.fstat(pidfd)
    with select.epoll() as anonymous:
        of_anonymous = os.fstat(anonymous.fileno())
    if not _WIDE_INODES or of_process.st_dev == of_anonymous.st_dev:
        return None
    return of_process.st_ino


def _read(pid: int, pidfd: int, boot: str) -> ProcessIdentity:
    stat = procfs.stat_of(pid)
    return ProcessIdentity(
        boot_id=boot,
        pid=pid,
        start_ticks=stat.start_ticks,
        pidfd_inode=_inode(pidfd),
        name=stat.name,
        exe=procfs.exe_of(pid),
        uid=procfs.uid_of(pid),
        cgroup=procfs.cgroup_of(pid),
    )


class PidfdProcess:
    """See `healer.ports.HeldProcess`."""

    __slots__ = ("_ended", "_ending", "_identity", "_loop", "_pidfd", "_waiters")

    def __init__(self, pidfd: int, identity: ProcessIdentity) -> None:
        self._pidfd = pidfd
        self._identity = identity
        self._ended = False
        self._waiters: set[asyncio.Future[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        inode = identity.pidfd_inode
        self._ending = _Ending() if inode is None else _endings.setdefault(inode, _Ending())

    def __repr__(self) -> str:
        return f"<PidfdProcess {self._identity}>"

    def __del__(self) -> None:
        # Forgotten by its holder (a cancelled task, say): the descriptor must not leak for ever.
        if not self._waiters:
            self.close()

    @property
    def identity(self) -> ProcessIdentity:
        return self._identity

    def gone(self) -> bool:
        """Whether it has ended.

        Raises:
            HostError: it was let go while it lived, so that nobody can know.
        """
        if not self._ended:
            self._ended = _ended(self._held())
        return self._ended

    async def exited(self) -> ExitStatus:
        """Wait for its end, and reap it if it is our child; several may wait."""
        while not self.gone():
            loop = asyncio.get_running_loop()
            waiter: asyncio.Future[None] = loop.create_future()
            if not self._waiters:
                self._loop = loop
                loop.add_reader(self._held(), self._wake)
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)
                if not self._waiters:
                    self._unwatch()
        return self._reap()

    def signal(self, number: int) -> bool:
        """Send a signal through the pidfd; False when the process has been reaped already.

        Asking whether it may be signalled at all (`healer.host.protection`) is the caller's.

        Raises:
            HostError: we have no right to signal it, or it was let go.
        """
        try:
            signal.pidfd_send_signal(self._held(), number)
        except ProcessLookupError:
            return False
        except OSError as error:
            raise HostError(
                f"cannot signal {self._identity}: {error.strerror}", errno=error.errno
            ) from error
        return True

    def close(self) -> None:
        """Let go of it. It is not reaped: that needs somebody who wants to know how it ended."""
        if self._pidfd < 0:
            return
        self._unwatch()
        os.close(self._pidfd)
        self._pidfd = -1
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(self._released())

    def unreaped_child(self) -> bool:
        """Whether it is our own child, has ended, and its exit status is still to be had."""
        try:
            found = os.waitid(os.P_PIDFD, self._held(), os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        return found is not None

    def _held(self) -> int:
        if self._pidfd < 0:
            raise self._released()
        return self._pidfd

    def _released(self) -> HostError:
        return HostError(f"cannot ask about {self._identity}: it was let go")

    def _wake(self) -> None:
        self._unwatch()
        self._ended = True
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _unwatch(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None and not loop.is_closed():
            loop.remove_reader(self._pidfd)

    def _reap(self) -> ExitStatus:
        if self._ending.status is None and self._pidfd >= 0:
            # Not our child, or reaped by somebody else: nobody will ever tell us.
            with suppress(ChildProcessError):
                found = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
                if found is not None:
                    self._ending.status = (
                        ExitStatus(code=found.si_status)
                        if found.si_code == os.CLD_EXITED
                        else ExitStatus(signal=found.si_status)
                    )
        return self._ending.status or ExitStatus()


def hold(pid: int, *, boot: str, opener: Open = open_pidfd) -> PidfdProcess | None:
    """Open a pidfd, then read the identity; None when there is no such live process.

    A child of ours that has ended and was not reaped yet is still there to be held, so that its
    exit status is not lost on a launcher whose child died at once.

    Raises:
        HostError: the process exists and may not be opened or seen, or there are no pidfds.
    """
    if pid <= 0:
        raise HostError(f"cannot hold process {pid}: allowed are pids from 1")
    try:
        pidfd = opener(pid)
    except ProcessLookupError:
        return None
    except OSError as error:
        raise HostError(
            f"cannot hold process {pid}: {error.strerror}", errno=error.errno
        ) from error
    try:
        identity = _read(pid, pidfd, boot)
    except OSError as error:
        ended = _ended(pidfd)
        os.close(pidfd)
        if ended:
            return None
        raise HostError(
            f"cannot see the live process {pid} in /proc: {error.strerror}", errno=error.errno
        ) from error
    process = PidfdProcess(pidfd, identity)
    if process.gone() and not process.unreaped_child():
        process.close()
        return None
    return process


def identify(pid: int, *, boot: str, opener: Open = open_pidfd) -> ProcessIdentity | None:
    """The identity of a live process, without keeping hold of it; errors as those of `hold`."""
    process = hold(pid, boot=boot, opener=opener)
    if process is None:
        return None
    try:
        return None if process.gone() else process.identity
    finally:
        process.close()
