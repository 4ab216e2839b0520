"""What the actions of playbooks do. The playbooks themselves are data: `healer.domain.routing`.

To add an action, write its class and register it here; to add a playbook, add a line to
`healer.domain.routing.PLAYBOOKS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from healer.playbooks.action import Action, Plan, Skip, StepFailedError
from healer.playbooks.instance import Instance, Occupancy
from healer.playbooks.port import AnnouncePort, CommitPort, ReservePort, WaitPortFree
from healer.playbooks.start import ProbeReserved, Start, StartReserved, probe_until
from healer.playbooks.stop import Evict, Terminate, TerminateReserved

__all__ = [
    "ACTIONS",
    "Action",
    "Instance",
    "Occupancy",
    "Plan",
    "Skip",
    "StepFailedError",
    "probe_until",
]

_REGISTERED: Final[tuple[Action, ...]] = (
    Terminate(),
    WaitPortFree(),
    Start(),
    Evict(),
    ReservePort(),
    StartReserved(),
    ProbeReserved(),
    CommitPort(),
    AnnouncePort(),
    TerminateReserved(),
)

ACTIONS: Final[Mapping[str, Action]] = MappingProxyType(
    {action.name: action for action in _REGISTERED}
)
"""Action by name: a fixed registry, so that no stored or posted name can reach anything else."""
