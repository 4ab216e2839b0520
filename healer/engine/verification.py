"""Looks again, with fresh probes: nothing else makes an issue verified."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from healer.domain import decision
from healer.domain.events import POLICY, StepSettled, StepSucceeded
from healer.domain.lifecycle import State
from healer.domain.playbook import PlaybookOutcome, Settlement
from healer.domain.probe import ProbeResult
from healer.domain.process import ProcessIdentity
from healer.domain.routing import RESTART_COMPONENT, playbook_named
from healer.engine.diagnosis import PATIENCE, Diagnosis
from healer.engine.patient import Patient
from healer.playbooks import probe_until

__all__ = ["Verification"]


class Verification:
    """The looks that follow what was done."""

    def __init__(self, patient: Patient, diagnosis: Diagnosis) -> None:
        self._patient = patient
        self._instance = patient.instance
        self._issue = patient.issue
        self._diagnosis = diagnosis

    async def verify(self) -> None:
        """Look, for as long as the component deserves."""
        begun = self._patient.clock.monotonic()
        spec = self._instance.spec
        patient = self._awaits_start()
        if not patient and self._instance.process is not None and self._instance.process.gone():
            self._instance.hold(None)
        looking = probe_until(
            self._instance,
            self._instance.port,
            within=spec.start_period if patient else 0.0,
            patient=patient,
            answered=self._diagnosis.start_deferred,
        )
        overdue = asyncio.get_running_loop().call_later(PATIENCE, self._diagnosis.start_deferred)
        try:
            seen = await self._patient.unless_stopping(looking)
        finally:
            overdue.cancel()
        if seen is None:
            return
        self._diagnosis.start_deferred()
        healthy, probes = seen
        if not await self.record(healthy=healthy, probes=probes, begun=begun):
            await self._fill_cleared_port()

    async def record(
        self, *, healthy: bool, probes: Sequence[ProbeResult], begun: float | None
    ) -> bool:
        """Take down what was seen; whether it is a cure. Strangers that answer are none."""
        foreign: tuple[ProcessIdentity, ...] = ()
        await self._instance.look_again()
        if healthy and await self._patient.watch.usurped():
            async with self._instance.occupants(self._instance.port, members=False) as found:
                foreign = found.strangers
            healthy = False
        if healthy and self._instance.process is None:
            adopted = await self._instance.adopt()
            if adopted is not None and adopted[1] is not None:
                self._instance.component.adopt(
                    adopted[0],
                    proof=adopted[1],
                    port=self._instance.port,
                    epoch=self._patient.watch.state.epoch,
                    launch_id=None,
                    stamp=self._patient.stamp(),
                )
        self._issue.record_verification(
            healthy=healthy,
            probes=probes,
            epoch=self._patient.watch.state.epoch,
            elapsed=0.0 if begun is None else self._patient.clock.monotonic() - begun,
            foreign=foreign,
            stamp=self._patient.stamp(),
        )
        return healthy

    def _awaits_start(self) -> bool:
        """Whether somebody is starting the component now, so that it deserves its start period."""
        if not self._issue.finished:
            return False
        _, last_outcome = self._issue.finished[-1]
        if last_outcome is not PlaybookOutcome.COMPLETED:
            return False
        for outcome in self._issue.outcomes.values():
            if outcome.action not in {"start", "start_reserved"}:
                continue
            if isinstance(outcome, StepSucceeded):
                return True
            if isinstance(outcome, StepSettled):
                return outcome.settlement is Settlement.OBSERVED
        return self._instance.launcher is None and not self._issue.remaining

    async def _fill_cleared_port(self) -> None:
        """A cleared port with nothing on it is not a cure: the component's launcher comes next."""
        issue = self._issue
        if issue.state is not State.REMEDIATING or not issue.finished:
            return
        bind = await self._instance.host.bind_test(self._instance.spec.host, self._instance.port)
        if decision.wants_launcher(
            issue, port_free=bind.free, has_launcher=self._instance.launcher is not None
        ):
            restart = playbook_named(RESTART_COMPONENT)
            playbooks = (restart, *issue.remaining)
            issue.choose_route(
                playbooks,
                candidates=tuple(playbook.name for playbook in playbooks),
                probabilities=(1.0, *(0.0 for _ in issue.remaining)),
                chosen_by="cleared_port",
                stamp=self._patient.stamp(POLICY),
            )
