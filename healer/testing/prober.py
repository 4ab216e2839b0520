"""Looks at a component of a `World`."""

from __future__ import annotations

import asyncio
import errno
from functools import cache, lru_cache
from typing import Final

from healer.domain.classification import reaches
from healer.domain.probe import ProbeResult, Reason
from healer.domain.process import Listener
from healer.domain.spec import ComponentSpec
from healer.testing.world import World

__all__ = ["FakeProber"]

_ANSWERS: Final = frozenset({Reason.OK, Reason.BAD_STATUS})


class FakeProber:
    """See `healer.ports.Prober`: what answers on the port says what the probe meets.

    `says` maps a component's name to what is met instead (UNREACHABLE, PROBER_FAILED, ...). `looks`
    counts the probes of each component. `elapsed`: what an answer takes, in seconds; `lags` maps a
    component's name to what its own take instead. One that takes the spec's timeout comes too late.
    """

    def __init__(self, world: World, *, elapsed: float = 0.001) -> None:
        self._world = world
        self.elapsed = elapsed
        self.says: dict[str, Reason] = {}
        self.lags: dict[str, float] = {}
        self.looks: dict[str, int] = {}

    async def probe(self, spec: ComponentSpec, port: int) -> ProbeResult:
        """One look; a timeout takes all of its time."""
        self.looks[spec.name] = self.looks.get(spec.name, 0) + 1
        elapsed, lag = self.elapsed, self.lags.get(spec.name, 0.0)
        await asyncio.sleep(elapsed)
        reason = self._meet(spec, port)
        if reason in _ANSWERS and lag > elapsed:
            late = lag >= spec.timeout
            if not late:
                await asyncio.sleep(lag - elapsed)
            reason, elapsed = (Reason.TIMEOUT, elapsed) if late else (self._meet(spec, port), lag)
        if reason is Reason.TIMEOUT:
            await asyncio.sleep(max(spec.timeout - elapsed, 0.0))
            elapsed = spec.timeout
        return _result(spec.probe.kind, f"{spec.host}:{port}", reason, elapsed)

    def _meet(self, spec: ComponentSpec, port: int) -> Reason:
        if spec.name in self.says:
            return self.says[spec.name]
        if not self._world.is_local(spec.host):
            return Reason.UNREACHABLE
        for socket in self._world.on_port(port):
            if not _reaches(socket.address, spec.host, dual_stack=socket.dual_stack):
                continue
            awake = [process for process in socket.holders if process.state not in {"T", "D"}]
            return awake[0].answers if awake else Reason.TIMEOUT
        return Reason.REFUSED


@lru_cache(4096)
def _result(kind: str, target: str, reason: Reason, elapsed: float) -> ProbeResult:
    """Nobody can change it: what is seen again and again is one and the same."""
    status = {Reason.OK: 200, Reason.BAD_STATUS: 500}.get(reason) if kind == "http" else None
    return ProbeResult(
        kind=kind,
        target=target,
        reason=reason,
        elapsed=elapsed,
        errno=errno.ECONNREFUSED if reason is Reason.REFUSED else None,
        status=status,
    )


@cache
def _reaches(address: str, host: str, *, dual_stack: bool) -> bool:
    listener = Listener(
        address=address, port=1, family=6 if ":" in address else 4, dual_stack=dual_stack
    )
    return reaches(listener, host)
