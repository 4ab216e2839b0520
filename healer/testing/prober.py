"""Looks at a component of a `World`."""

from __future__ import annotations

import asyncio
import errno

from healer.domain.classification import reaches
from healer.domain.probe import ProbeResult, Reason
from healer.domain.process import Listener
from healer.domain.spec import ComponentSpec
from healer.testing.world import World, WorldSocket

__all__ = ["FakeProber"]


class FakeProber:
    """See `healer.ports.Prober`: what answers on the port says what the probe meets.

    `says` maps a component's name to what is met instead (UNREACHABLE, PROBER_FAILED, ...). `looks`
    counts the probes of each component. `elapsed`: what an answer takes, in seconds.
    """

    def __init__(self, world: World, *, elapsed: float = 0.001) -> None:
        self._world = world
        self.elapsed = elapsed
        self.says: dict[str, Reason] = {}
        self.looks: dict[str, int] = {}

    async def probe(self, spec: ComponentSpec, port: int) -> ProbeResult:
        """One look; a timeout takes all of its time."""
        self.looks[spec.name] = self.looks.get(spec.name, 0) + 1
        await asyncio.sleep(self.elapsed)
        reason, elapsed = self._meet(spec, port), self.elapsed
        if reason is Reason.TIMEOUT:
            await asyncio.sleep(max(spec.timeout - self.elapsed, 0.0))
            elapsed = spec.timeout
        return ProbeResult(
            kind=spec.probe.kind,
            target=f"{spec.host}:{port}",
            reason=reason,
            elapsed=elapsed,
            errno=errno.ECONNREFUSED if reason is Reason.REFUSED else None,
            status={Reason.OK: 200, Reason.BAD_STATUS: 500}.get(reason)
            if spec.probe.kind == "http"
            else None,
        )

    def _meet(self, spec: ComponentSpec, port: int) -> Reason:
        if spec.name in self.says:
            return self.says[spec.name]
        if not self._world.is_local(spec.host):
            return Reason.UNREACHABLE
        for socket in self._world.on_port(port):
            if not _reaches(socket, spec.host):
                continue
            awake = [process for process in socket.holders if process.state not in {"T", "D"}]
            return awake[0].answers if awake else Reason.TIMEOUT
        return Reason.REFUSED


def _reaches(socket: WorldSocket, host: str) -> bool:
    listener = Listener(
        address=socket.address,
        port=socket.port,
        family=socket.family,
        dual_stack=socket.dual_stack,
    )
    return reaches(listener, host)
