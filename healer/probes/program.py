"""One look at a component by a program of the operator's: its exit status is the answer."""

from __future__ import annotations

import errno
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from ipaddress import ip_address
from typing import Final

from healer.domain.probe import Reason
from healer.domain.process import ExitStatus
from healer.domain.spec import ComponentSpec
from healer.errors import LaunchError
from healer.ports import Program, Programs
from healer.probes.address import Address
from healer.probes.look import Verdict

__all__ = ["NoPrograms", "ProgramLook"]

_LOOPBACK: Final = Address(socket.AF_INET, "127.0.0.1")
_FROM_OUTSIDE: Final = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
"""What others send: the kernel when memory is short, a supervisor, an administrator. A program that
was ended so has said nothing of the component; one that crashed has failed at its task."""


class NoPrograms:
    """For a prober that was given no way to run programs: `exec` probes are unknown."""

    def running(self, spec: ComponentSpec, port: int) -> AbstractAsyncContextManager[Program]:
        return self._running()

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[Program]:
        raise LaunchError("cannot run programs here", errno=errno.ENOSYS)
        yield  # makes a generator of it


class ProgramLook:
    """Runs under its caller's deadline; `verdict` and `ended` are right at every moment, so that
    the caller can stop it anywhere."""

    # What a program met is known to it alone: without our own network it may have met nothing.
    needs_vantage = frozenset({Reason.TIMEOUT, Reason.BAD_STATUS, Reason.BAD_RESPONSE})

    def __init__(self, spec: ComponentSpec, port: int, programs: Programs) -> None:
        self._spec = spec
        self._port = port
        self._programs = programs
        self._target = (spec.probe.exec or ("",))[0]
        self._address = _address(spec.host)
        self.ended: float | None = None
        """`time.perf_counter` when the verdict was final."""
        # There is no room for one more program, or the kernel does not load it: our trouble.
        self.verdict = Verdict(Reason.PROBER_FAILED, self._target, errno=errno.EAGAIN)

    async def run(self) -> None:
        """Look; never raises for what it meets."""
        try:
            async with self._programs.running(self._spec, self._port) as program:
                self.verdict = Verdict(Reason.TIMEOUT, self._target, self._address)
                try:
                    self.verdict = self._judge(await program.exited())
                finally:
                    self.ended = time.perf_counter()  # what follows is our own tidying up
        except LaunchError as error:
            self.verdict = Verdict(Reason.PROBER_FAILED, self._target, errno=error.errno)
            self.ended = time.perf_counter()

    def _judge(self, status: ExitStatus) -> Verdict:
        if status.signal is not None:
            outside = status.signal in _FROM_OUTSIDE
            reason = Reason.PROBER_FAILED if outside else Reason.BAD_RESPONSE
        elif status.code is None:
            reason = Reason.PROBER_FAILED
        else:
            reason = Reason.BAD_STATUS if status.code else Reason.OK
        return Verdict(reason, self._target, self._address, status=status.code)


def _address(host: str) -> Address | None:
    """Where the component lives, where that can be told without asking anybody."""
    if host == "localhost":
        return _LOOPBACK
    try:
        version = ip_address(host).version
    except ValueError:
        return None
    return Address(socket.AF_INET if version == 4 else socket.AF_INET6, host)
