"""A heal that somebody asks for."""

from __future__ import annotations

from dataclasses import dataclass

from healer.domain.spec import IssueType, Severity
from healer.engine.patient import Wishes

__all__ = ["HealRequest"]


@dataclass(frozen=True, slots=True)
class HealRequest:
    """A heal that somebody asked for. Without an issue type it is what the evidence says; `reason`
    is what they said it is for. Who is no person (`forced` false) waits as the watch does for what
    withholds a heal, and changes nothing about one that is open. `cause` is the causation id of an
    issue that is opened for it."""

    actor: str
    issue_type: IssueType | None = None
    severity: Severity | None = None
    playbooks: tuple[str, ...] | None = None
    skip: tuple[str, ...] = ()
    reason: str | None = None
    forced: bool = True
    cause: str | None = None

    @property
    def wishes(self) -> Wishes:
        """What the heal has to keep to."""
        return Wishes(
            actor=self.actor, forced=self.forced, playbooks=self.playbooks, skip=self.skip
        )
