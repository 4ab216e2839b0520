"""Which playbooks an issue type calls for, and what each consists of: tables, nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from healer.domain.playbook import Playbook, Skipped, Step
from healer.domain.spec import ComponentSpec, IssueType
from healer.errors import UnknownNameError

__all__ = ["DIAGNOSE_NETWORK", "PLAYBOOKS", "ROUTES", "Route", "choose_route", "playbook_named"]

DIAGNOSE_NETWORK: Final = "diagnose_network"
"""The playbook that always runs, in the diagnosing state; its steps are the host's checks."""

CLEAR_PORT: Final = "clear_port"
REBIND_PORT: Final = "rebind_port"
RESTART_COMPONENT: Final = "restart_component"

PLAYBOOKS: Final = MappingProxyType(
    {
        RESTART_COMPONENT: Playbook(
            name=RESTART_COMPONENT,
            steps=(
                Step(action="terminate"),
                Step(action="wait_port_free"),
                Step(action="start"),
            ),
        ),
        CLEAR_PORT: Playbook(
            name=CLEAR_PORT,
            steps=(Step(action="evict"), Step(action="wait_port_free")),
        ),
        REBIND_PORT: Playbook(
            name=REBIND_PORT,
            steps=(
                Step(action="reserve_port"),
                Step(action="terminate"),
                Step(action="start_reserved"),
                Step(action="probe_reserved"),
                Step(action="commit_port"),
                Step(action="announce_port"),
                Step(action="terminate_reserved", undo=True),
            ),
        ),
    }
)

ROUTES: Final = MappingProxyType(
    {
        IssueType.PORT_NOT_LISTENING: (RESTART_COMPONENT,),
        IssueType.CONNECTION_TIMEOUT: (CLEAR_PORT, RESTART_COMPONENT),
        IssueType.CONNECTION_REFUSED: (RESTART_COMPONENT, CLEAR_PORT),
        IssueType.PORT_CONFLICT: (CLEAR_PORT, REBIND_PORT),
        IssueType.PROCESS_CRASHED: (RESTART_COMPONENT,),
        IssueType.NETWORK_UNREACHABLE: (),
    }
)


@dataclass(frozen=True, slots=True)
class Route:
    """Ordered playbooks for an issue, with the ones that were candidates and left out.

    `probabilities` holds how likely each candidate was to be chosen first: a fixed table gives 1 to
    the first that was not skipped.
    """

    candidates: tuple[str, ...]
    playbooks: tuple[Playbook, ...]
    skipped: tuple[Skipped, ...]
    chosen_by: str

    @property
    def probabilities(self) -> tuple[float, ...]:
        first = self.playbooks[0].name if self.playbooks else None
        return tuple(1.0 if name == first else 0.0 for name in self.candidates)


def playbook_named(name: str) -> Playbook:
    """The playbook of that name.

    Raises:
        UnknownNameError: there is none; the message names all that there are.
    """
    try:
        return PLAYBOOKS[name]
    except KeyError:
        raise UnknownNameError("playbook", name, sorted(PLAYBOOKS)) from None


def choose_route(
    issue_type: IssueType,
    spec: ComponentSpec,
    *,
    forced: Sequence[str] | None = None,
    skip: Sequence[str] = (),
) -> Route:
    """The route for an issue: what an operator forced, else the component's own, else the table's.

    Raises:
        UnknownNameError: `forced` or `skip` names no playbook.
    """
    for name in skip:
        playbook_named(name)
    if forced is not None:
        names, chosen_by = tuple(forced), "operator"
    elif issue_type in spec.routes:
        names, chosen_by = spec.routes[issue_type], "component"
    else:
        names, chosen_by = ROUTES[issue_type], "table"
    chosen: list[Playbook] = []
    skipped: list[Skipped] = []
    for name in names:
        why = _unusable(name, spec, skip)
        if why is None:
            chosen.append(playbook_named(name))
        else:
            skipped.append(Skipped(playbook=name, why=why))
    return Route(names, tuple(chosen), tuple(skipped), chosen_by)


def _unusable(name: str, spec: ComponentSpec, skip: Sequence[str]) -> str | None:
    if name in skip:
        return "the operator skips it"
    if name == REBIND_PORT and spec.rebind is None:
        return "the component has no rebind range"
    if name == REBIND_PORT and spec.launch is None:
        return "the component has no launcher that could start it elsewhere"
    return None
