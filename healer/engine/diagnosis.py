"""Looks for what is wrong, in the diagnosing state and beside what follows it; changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import structlog

from healer.domain.classification import is_conclusive
from healer.domain.diagnosis import conclude
from healer.domain.lifecycle import State
from healer.domain.playbook import Check, CheckStatus
from healer.domain.routing import DIAGNOSE_NETWORK
from healer.engine.patient import Patient

__all__ = ["PATIENCE", "Diagnosis"]

PATIENCE: Final = 0.25
"""Seconds that slow checks may hold up a remediation whose evidence is not conclusive; those that
are not done by then go on beside it, and are recorded when they are."""

_log = structlog.get_logger("healer.heal")


class Diagnosis:
    """The checks of one issue."""

    def __init__(self, patient: Patient) -> None:
        self._patient = patient
        self._instance = patient.instance
        self._issue = patient.issue
        self._late: dict[str, asyncio.Task[Check]] = {}
        self._deferred: list[str] = []

    async def diagnose(self) -> None:
        """Look, and conclude."""
        issue, host = self._issue, self._instance.host
        names = host.check_names()
        fast = host.fast_checks()
        slow = [name for name in names if name not in fast]
        if issue.state is State.DETECTED:
            issue.start_diagnosis(DIAGNOSE_NETWORK, names, stamp=self._patient.stamp())
        if is_conclusive(issue.evidence, issue.issue_type):
            # Nothing is waited for but the fast checks: all this is written with the first intent,
            # so that the disk is waited for once.
            self._deferred = slow
            self._start(fast)
            await asyncio.gather(*self._late.values())
        else:
            self._start(names)
            # The log writes while the host looks: neither waits for the other.
            await asyncio.gather(self._patient.save(), self._wait())
        self.record_late()
        found = conclude(
            issue.evidence,
            issue.issue_type,
            tuple(issue.checks.values()),
            self._instance.spec,
        )
        issue.complete_diagnosis(
            issue_type=found.issue_type,
            findings=found.findings,
            recommendations=found.recommendations,
            pending=[name for name in names if name in self._late or name in self._deferred],
            stamp=self._patient.stamp(),
        )

    def start_deferred(self) -> None:
        """Slow checks that could not have changed the decision run beside the verification, and
        not while the component needs the processors for its start."""
        self._start(self._deferred)
        self._deferred = []

    def record_late(self) -> None:
        """Take down what was found meanwhile."""
        for name in [name for name, task in self._late.items() if task.done()]:
            check = self._late.pop(name).result()
            if not self._issue.closed:
                self._issue.record_check(check, stamp=self._patient.stamp())

    async def finish(self) -> None:
        """Before the issue closes: wait a little for what still looks, and say what did not end."""
        self.start_deferred()
        await self._wait()
        self.record_late()
        for name, task in self._late.items():
            task.cancel()
            unfinished = Check(
                name=name, status=CheckStatus.UNKNOWN, facts={"why": "not finished in time"}
            )
            self._issue.record_check(unfinished, stamp=self._patient.stamp())
        self._late.clear()

    def _start(self, names: Sequence[str]) -> None:
        for name in names:
            self._late[name] = asyncio.create_task(self._check(name))

    async def _check(self, name: str) -> Check:
        """Make one check. A defect in it is a reading that says nothing, not the end of a heal."""
        begun = self._patient.clock.monotonic()
        try:
            return await self._instance.host.check(name, self._instance.spec, self._instance.port)
        except Exception as error:
            _log.exception("check_defect", issue=self._issue.id, check=name)
            elapsed = self._patient.clock.monotonic() - begun
            why: dict[str, Any] = {"why": type(error).__name__}
            return Check(name=name, status=CheckStatus.UNKNOWN, facts=why, elapsed=elapsed)

    async def _wait(self) -> None:
        if self._late:
            await asyncio.wait(self._late.values(), timeout=PATIENCE)

    def close(self) -> None:
        """Look no further."""
        for task in self._late.values():
            task.cancel()
