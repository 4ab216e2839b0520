"""The prober: looks over the network, and never blames a component for our own trouble."""

from __future__ import annotations

import asyncio
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from healer.domain.probe import ProbeResult, Reason
from healer.domain.spec import ComponentSpec
from healer.ports import Programs
from healer.probes.address import Resolver, is_local
from healer.probes.lag import LagMeter
from healer.probes.look import Look, Verdict
from healer.probes.program import NoPrograms, ProgramLook
from healer.probes.tls import Contexts
from healer.probes.vantage import Vantage

__all__ = ["NetworkProber"]

_NEEDS_TIME: Final = frozenset(
    {Reason.TIMEOUT, Reason.RESET, Reason.CLOSED, Reason.UNRESOLVABLE, Reason.UNREACHABLE}
)
_LAG_ALLOWED: Final = 0.5
"""The share of its time that a probe may lose to a blocked loop and still accuse a component."""


class NetworkProber:
    """Probes by TCP, HTTP, TLS, gRPC and programs; implements `healer.ports.Prober`.

    A new connection for each probe, one deadline for all of it, one request, no redirects. The
    addresses of a name are tried in order, the next one only where the last one refused or could
    not be reached. Whatever needs time is unknown when the event loop took that time; and a
    component of this very machine that gave no answer is accused only if the `vantage` answers,
    which can take its own short time on top of the deadline. So can ending a program that ran out
    of time.
    """

    def __init__(
        self,
        *,
        vantage: Vantage | None = None,
        agent: str | None = None,
        programs: Programs | None = None,
    ) -> None:
        """`agent` is the User-Agent; `network-healer/<version>` by default. Without `programs`,
        what is probed by one stays unknown."""
        self._vantage = vantage or Vantage()
        self._agent = agent or f"network-healer/{_version()}"
        self._programs = programs or NoPrograms()
        self._resolver = Resolver()
        self._contexts = Contexts()

    async def probe(self, spec: ComponentSpec, port: int) -> ProbeResult:
        """One look at `spec` on `port`; never raises for what it meets."""
        started = time.perf_counter()
        look = self._look(spec, port)
        with LagMeter(spec.timeout) as meter:
            try:
                async with asyncio.timeout(spec.timeout):
                    await look.run()
            except TimeoutError:
                pass  # the verdict says what was waited for
            ended = look.ended or time.perf_counter()
            lag = meter.lag
        verdict = look.verdict
        reason = verdict.reason
        if reason in _NEEDS_TIME and lag > spec.timeout * _LAG_ALLOWED:
            reason = Reason.PROBER_FAILED
        elif reason in look.needs_vantage and await self._blind(verdict):
            reason = Reason.VANTAGE_LOST
        return ProbeResult(
            kind=spec.probe.kind,
            target=verdict.target,
            reason=reason,
            elapsed=ended - started,
            errno=verdict.errno,
            status=verdict.status,
        )

    def _look(self, spec: ComponentSpec, port: int) -> Look | ProgramLook:
        if spec.probe.kind == "exec":
            return ProgramLook(spec, port, self._programs)
        return Look(spec, port, resolver=self._resolver, contexts=self._contexts, agent=self._agent)

    async def _blind(self, verdict: Verdict) -> bool:
        if verdict.address is None:
            return False
        try:
            local = is_local(verdict.address)
        except OSError:  # not even a socket for the question
            return True
        return local and await self._vantage.lost()


def _version() -> str:
    try:
        return version("network-healer")
    except PackageNotFoundError:
        return "0"
