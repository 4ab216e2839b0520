"""What became of one fault, read from the facts that the healer recorded."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from healer.demo.fault import Fault, Scene
from healer.domain import events as fact
from healer.domain.spec import IssueType
from healer.ports import Recorded

__all__ = ["Observation"]


@dataclass(slots=True)
class Observation:
    """The facts about one component since its fault was made at `began`.

    `note` takes facts in the order of the log; `ended` is set once they show an end.
    """

    fault: Fault
    began: datetime
    wants_rearm: bool = False
    issues: list[str] = field(default_factory=list)
    issue_type: IssueType | None = None
    playbooks: list[str] = field(default_factory=list)
    withheld: list[str] = field(default_factory=list)
    escalations: list[str] = field(default_factory=list)
    detected: datetime | None = None
    healthy: datetime | None = None
    failed: str | None = None
    rearmed: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    spent: asyncio.Event = field(default_factory=asyncio.Event)
    problem: str | None = None

    def concerns(self, event: fact.Fact) -> bool:
        """Whether the fact belongs to this component."""
        component = getattr(event, "component", None)
        return component == self.fault.member.name or event.originator_id in self.issues

    def note(self, recorded: Recorded) -> None:
        """Take in one fact that concerns this component."""
        event = recorded.event
        match event:
            case fact.IssueDetected():
                self.issues.append(event.originator_id)
                self.playbooks.clear()
                if self.detected is None:
                    self.detected, self.issue_type = event.timestamp, event.issue_type
            case fact.PlaybookStarted():
                self.playbooks.append(event.playbook)
            case fact.HealWithheld():
                self.withheld.append(event.reason)
            case fact.RemediationStarted():
                self.rearmed = "budget_spent" in self.withheld
            case fact.IssueEscalated():
                self.escalations.append(event.reason)
                if event.reason == "budget_spent":
                    self.spent.set()
            case fact.IssueVerified():
                self.healthy = event.timestamp
                self.ended.set()
            case fact.IssueFailed():
                self.failed = event.reason
                if not self.wants_rearm:
                    self.ended.set()
            case _:
                pass

    @property
    def verdict(self) -> str:
        """How it ended, in words that can be compared with what was expected."""
        words = []
        if self.wants_rearm:
            words += ["backed off"] if "backoff" in self.withheld else []
            words += ["escalated"] if "budget_spent" in self.escalations else []
            words += ["re-armed"] if self.rearmed else []
        if self.healthy is not None:
            return ", ".join([*words, "verified"])
        if self.failed is not None:
            return ", ".join([*words, "escalated" if self.escalations else "failed"])
        return ", ".join([*words, "not ended"])

    async def judge(self, scene: Scene) -> None:
        """Compare with what was expected; `problem` says what is wrong, None when nothing is."""
        expected = self.fault.expected
        if self.problem is not None:
            return
        if self.issue_type is not expected.issue_type:
            self.problem = f"issue type {self.issue_type}, expected {expected.issue_type}"
        elif tuple(self.playbooks) != expected.playbooks:
            self.problem = f"playbooks {self.playbooks}, expected {list(expected.playbooks)}"
        elif self.verdict != expected.verdict:
            self.problem = f"{self.verdict}, expected {expected.verdict}"
        elif expected.also is not None:
            self.problem = await expected.also(scene, self.fault.member.name)

    def view(self) -> dict[str, Any]:
        """One entry of `faults` in the demo's JSON; times in milliseconds since the fault."""
        return {
            "fault": self.fault.title,
            "component": self.fault.member.name,
            "issue_type": self.issue_type,
            "playbooks": list(self.playbooks),
            "detected_ms": self._since(self.detected),
            "healthy_ms": self._since(self.healthy),
            "expected": self.fault.expected.verdict,
            "verdict": self.verdict,
            "ok": self.problem is None,
            "problem": self.problem,
        }

    def _since(self, instant: datetime | None) -> float | None:
        return None if instant is None else round((instant - self.began).total_seconds() * 1000, 1)
