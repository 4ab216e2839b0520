"""Watches one component: probes at its pace, the end of its process at once.

Watching and recovering are two questions. This answers the first: it returns a `Detection` when
the evidence of the present epoch is enough, and never acts.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from healer.domain.classification import classify, reaches
from healer.domain.health import Health, HealthState, Thresholds
from healer.domain.playbook import Evidence
from healer.domain.probe import Outcome, ProbeResult
from healer.domain.process import ExitStatus, OwnerProof, ProcessIdentity
from healer.domain.spec import CommandLaunch, IssueType
from healer.playbooks import Instance
from healer.ports import Clock

__all__ = ["Detection", "Watch"]

_GAP: Final = 2.0
"""Seconds by which a pause may overrun before the healer itself is thought to have been stopped."""

_SLOWER: Final = 1.5
"""By how much each look at a component that is down comes later than the one before."""

_log = structlog.get_logger("healer.watch")

HealthListener = Callable[[HealthState, HealthState, ProbeResult | None], Awaitable[None]]
AdoptionListener = Callable[[ProcessIdentity, OwnerProof | None], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Detection:
    """Enough evidence that a component is in need. `first_seen` is monotonic seconds."""

    issue_type: IssueType
    evidence: Evidence
    first_seen: float
    epoch: int


class Watch:
    """Looks after one instance; `on_health` hears of a change before anything follows from it."""

    def __init__(
        self,
        instance: Instance,
        *,
        clock: Clock,
        on_health: HealthListener,
        on_adopted: AdoptionListener,
    ) -> None:
        self._instance = instance
        self._clock = clock
        self._on_health = on_health
        self._on_adopted = on_adopted
        spec = instance.spec
        self._thresholds = Thresholds(spec.failure_threshold, spec.success_threshold)
        self.state = HealthState()
        self.last_probe: ProbeResult | None = None
        self.last_look: datetime | None = None
        self._first_bad: float | None = None
        self._local: bool | None = None
        self._proven: frozenset[int] | None = None
        # Whoever is started by somebody else may be starting just now; what only we start is not.
        self._grace_until = 0.0
        if not isinstance(spec.launch, CommandLaunch):
            self._grace_until = clock.monotonic() + spec.start_period

    def begin_epoch(self, health: Health) -> None:
        """Start counting anew: after a heal, or for a new process."""
        self.state = self.state.next_epoch(health)
        self._first_bad = None
        self._grace_until = 0.0

    async def next_detection(self) -> Detection:
        """Watch until the component is in need. Cancel-safe."""
        while True:
            begun = self._clock.monotonic()
            exit_status = await self._look()
            if exit_status is not None:
                return await self._detection(exit_status)
            if self.state.due(self._thresholds):
                return await self._detection(None)
            await self._pause(self._pace() - (self._clock.monotonic() - begun))

    async def look_on(self) -> None:
        """Watch for ever, whatever is seen: another node heals it. Cancel-safe."""
        while True:
            begun = self._clock.monotonic()
            if await self._look() is not None:
                # Its end was seen, and is nothing that this node has to act on.
                self._instance.hold(None)
            await self._pause(self._pace() - (self._clock.monotonic() - begun))

    async def until_healthy(self) -> Sequence[ProbeResult]:
        """Watch until the component is healthy by itself; the probes that say so. Cancel-safe.

        Soon at first, since many come back at once; then more and more seldom, down to its usual
        interval: it may be waited for for days.
        """
        spec = self._instance.spec
        streak: list[ProbeResult] = []
        pause = self._pace()
        while True:
            result = await self.probe()
            streak = [*streak, result] if result.outcome is Outcome.HEALTHY else []
            if len(streak) >= self._thresholds.success and not await self.usurped():
                return streak
            await asyncio.sleep(spec.fast_interval if streak else pause)
            pause = min(pause * _SLOWER, spec.interval)

    async def usurped(self) -> bool:
        """Whether strangers, and nobody of the component's, serve its port."""
        if not await self._is_local() or not self._provable():
            return False
        async with self._instance.occupants(self._instance.port, members=False) as found:
            # What we start runs as ourselves and is seen: who is not seen is somebody else. A
            # component of another user may just be out of our sight, which says nothing.
            unseen = found.hidden and isinstance(self._instance.spec.launch, CommandLaunch)
            return (bool(found.foreign) or unseen) and not found.serving

    # One look

    async def _look(self) -> ExitStatus | None:
        """Probe once and take the result in; the exit status when the process ended for good."""
        exit_status = await self._exit_status()
        result = await self.probe()
        if exit_status is not None:
            # The end of the process is evidence of its own: it needs no probe that could say so.
            if result.outcome is not Outcome.HEALTHY or await self.usurped():
                await self._change(self.state.exited(), result)
                return exit_status
            # Something of the component's still answers: another process of it took over.
            self._instance.hold(None)
        outcome = result.outcome
        if outcome is Outcome.HEALTHY and await self._impersonated():
            # Its port answers, but it is not the component that does.
            outcome = Outcome.UNHEALTHY
            if self._first_bad is None:
                self._first_bad = self._clock.monotonic()
        starting = self._clock.monotonic() < self._grace_until
        await self._change(self.state.observe(outcome, self._thresholds, starting=starting), result)
        if outcome is Outcome.HEALTHY:
            self._first_bad = None
            self._grace_until = 0.0
            if self._instance.process is None:
                await self._adopt()
        return None

    async def _impersonated(self) -> bool:
        """Whether somebody else answers. The sockets are listed at each look, which is cheap; who
        holds them is looked at when they are not the ones that were the component's."""
        if not await self._is_local():
            return False
        sockets = await self._instance.host.sockets(self._instance.port)
        if sockets == self._proven:
            return False
        if await self.usurped():
            return True
        self._proven = sockets
        return False

    async def _adopt(self) -> None:
        adopted = await self._instance.adopt() if await self._is_local() else None
        if adopted is not None:
            await self._on_adopted(*adopted)

    async def probe(self) -> ProbeResult:
        """One look now; counts nowhere, but for when trouble was first seen."""
        begun = self._clock.monotonic()
        result = await self._instance.prober.probe(self._instance.spec, self._instance.port)
        self.last_probe = result
        self.last_look = self._clock.now()
        if result.outcome is Outcome.UNHEALTHY and self._first_bad is None:
            self._first_bad = begun
        return result

    async def _exit_status(self) -> ExitStatus | None:
        process = self._instance.process
        if process is None or not process.gone():
            return None
        if self._first_bad is None:
            self._first_bad = self._clock.monotonic()
        return await process.exited()

    async def _change(self, after: HealthState, probe: ProbeResult | None) -> None:
        before, self.state = self.state, after
        if before.health is not after.health:
            await self._on_health(before, after, probe)

    # Pauses

    def _pace(self) -> float:
        spec = self._instance.spec
        settled = self.state.health in {Health.HEALTHY, Health.UNHEALTHY}
        calm = settled and (self.state.failures == 0 or self.state.due(self._thresholds))
        return spec.interval if calm else min(spec.interval, spec.fast_interval)

    async def _pause(self, pause: float) -> None:
        """Wait for the next look: `pause` seconds (none if negative) or the end of the process."""
        pause = max(pause, 0.0)
        begun = self._clock.monotonic()
        process = self._instance.process
        if process is None:
            await asyncio.sleep(pause)
        else:
            try:
                async with asyncio.timeout(pause):
                    await process.exited()
            except TimeoutError:
                pass  # the interval is over
            else:
                self._first_bad = self._clock.monotonic()
                return
        if self._clock.monotonic() - begun > pause + _GAP:
            _log.warning("watch_gap", component=self._instance.spec.name, planned=pause)
            self.state = self.state.voided()
            self._first_bad = None

    # Evidence

    async def _detection(self, exit_status: ExitStatus | None) -> Detection:
        evidence = await self.evidence(self.last_probe, exit_status)
        first_seen = self._first_bad
        return Detection(
            issue_type=await self.classify(evidence),
            evidence=evidence,
            first_seen=self._clock.monotonic() if first_seen is None else first_seen,
            epoch=self.state.epoch,
        )

    async def classify(self, evidence: Evidence) -> IssueType:
        """The issue type that the evidence speaks for."""
        local = await self._is_local()
        return classify(evidence, local, self._instance.port, self._instance.spec.host)

    async def evidence(
        self, probe: ProbeResult | None, exit_status: ExitStatus | None = None
    ) -> Evidence:
        """All that can be known of the component now, beside `probe` and how its process ended."""
        process = self._instance.process
        if process is not None and process.gone() and exit_status is None:
            exit_status = await process.exited()
        known = process.identity if process is not None else self._instance.component.process
        alive = not process.gone() if process is not None else (None if known is None else False)
        if not await self._is_local():
            return Evidence(probe=probe)
        owned: bool | None = None
        async with self._instance.occupants(self._instance.port, members=False) as found:
            if found.listeners:
                host = self._instance.spec.host
                ours = (
                    found.serving
                    if any(reaches(listener, host) for listener in found.listeners)
                    else bool(found.owned)
                )
                # An orphan of a dead component is provably ours, and is still not the component.
                owned = ours and alive is not False
        return Evidence(
            probe=probe,
            exit=exit_status,
            process=known,
            alive=alive,
            listeners=found.listeners,
            owned=owned,
        )

    def _provable(self) -> bool:
        spec = self._instance.spec
        return (
            isinstance(spec.launch, CommandLaunch)
            or spec.owner.model_dump(exclude_none=True, exclude={"user"}) != {}
        )

    async def _is_local(self) -> bool:
        """Whether the component's address is one of this machine's; other names than localhost are
        taken for remote."""
        if self._local is None:
            host = self._instance.spec.host
            try:
                loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
            except ValueError:
                self._local = False
            else:
                bind = None if loopback else await self._instance.host.bind_test(host, 0)
                self._local = bind is None or bind.result != "not_local"
        return self._local
