"""Which facts move an issue, and by which trigger of the lifecycle."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from healer.domain.events import (
    DiagnosisStarted,
    Event,
    IssueFailed,
    IssueVerified,
    RemediationStarted,
)
from healer.domain.lifecycle import State, Trigger

__all__ = ["TRANSITIONS"]

TRANSITIONS: Final = MappingProxyType[type[Event], tuple[Trigger, State]](
    {
        DiagnosisStarted: (Trigger.DIAGNOSE, State.DIAGNOSING),
        RemediationStarted: (Trigger.REMEDIATE, State.REMEDIATING),
        IssueVerified: (Trigger.VERIFY, State.VERIFIED),
        IssueFailed: (Trigger.FAIL, State.FAILED),
    }
)
"""Class of fact → the trigger that it records, and the state that it sets whatever was before."""
