"""What a healer has to know of its components' past, read from the log at its start."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from healer.domain.events import (
    POLICY,
    ApprovalDenied,
    BudgetReset,
    HealthChanged,
    IssueDetected,
    RemediationStarted,
)
from healer.domain.health import Health
from healer.domain.label import Label

__all__ = ["REMEMBERED", "Memory", "Past"]

REMEMBERED: Final = frozenset(
    kind.TOPIC
    for kind in (IssueDetected, ApprovalDenied, RemediationStarted, BudgetReset, HealthChanged)
)
"""Topics of the facts that it is made of."""

_OF_AN_ISSUE: Final = frozenset({ApprovalDenied.TOPIC, RemediationStarted.TOPIC})
"""Topics of those that name their issue, and not its component."""


@dataclass(slots=True)
class Past:
    """One component's issues, heals and health.

    `detected` is the detection of its last issue, `begun` the last issue whose remediation began.
    `attempts` counts the heals in a row up to the last one, and `attempted` is when that began: it
    speaks for those before it, whatever their labels say. `denied` is when a person refused to have
    this failure healed. `health` is the last that was seen, `was_healthy` whether it ever was well.
    """

    detected: Any = None
    begun: str | None = None
    attempts: int = 0
    attempted: Label | None = None
    denied: Label | None = None
    health: Health = Health.UNKNOWN
    was_healthy: bool = False

    def read(self, event: Any, label: Label) -> None:
        """Take in its next fact, a light one or a real one."""
        topic = event.TOPIC
        if topic == HealthChanged.TOPIC:
            self.health = event.after
            if event.after is Health.HEALTHY:
                self.was_healthy = True
                self.denied = None  # what was refused was another failure
        elif topic == IssueDetected.TOPIC:
            self.detected = event
        elif topic == RemediationStarted.TOPIC:
            self.begun = event.originator_id
            self.attempts, self.attempted, self.denied = event.attempt, label, None
        elif topic == ApprovalDenied.TOPIC:
            if event.actor != POLICY:  # which says that nobody answered
                self.denied = label
        else:  # its budget was reset
            self.attempts, self.attempted, self.denied = 0, None, None


class Memory:
    """The past of the components of these names by the facts of the log, read in its order.

    What is labelled later than `now` is as old as the next fact of the log that is not.
    """

    def __init__(self, names: Iterable[str], now: datetime) -> None:
        self.pasts = {name: Past() for name in names}
        self._now = now
        self._owners: dict[str, Past] = {}
        self._ahead: list[Label] = []

    def read(self, event: Any) -> None:
        """Take in the next fact, a light one or a real one."""
        label = self._label(event.timestamp)
        if event.TOPIC in _OF_AN_ISSUE:
            past = self._owners.get(event.originator_id)
        else:
            past = self.pasts.get(event.component)
        if past is None:
            return
        if event.TOPIC == IssueDetected.TOPIC:
            self._owners[event.originator_id] = past
        past.read(event, label)

    def _label(self, time: datetime) -> Label:
        label = Label(time)
        if time > self._now:
            self._ahead.append(label)
        else:
            while self._ahead:
                self._ahead.pop().precede(time)
        return label
