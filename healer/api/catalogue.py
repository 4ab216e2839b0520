"""What the healer could do: its playbooks, and which of them each issue type calls for."""

from __future__ import annotations

from collections.abc import Mapping

from healer.domain.routing import DIAGNOSE_NETWORK, PLAYBOOKS, choose_route
from healer.domain.spec import ComponentSpec, IssueType
from projections.projection import Json

__all__ = ["playbooks", "routes"]


def playbooks(checks: tuple[str, ...]) -> dict[str, Json]:
    """All playbooks with their steps; `checks` are those of the diagnosis, which always runs."""
    shown = [
        {
            "name": playbook.name,
            "steps": [{"action": step.action, "undo": step.undo} for step in playbook.steps],
        }
        for playbook in PLAYBOOKS.values()
    ]
    diagnosis = [{"action": check, "undo": False} for check in checks]
    return {"playbooks": [{"name": DIAGNOSE_NETWORK, "steps": diagnosis}, *shown]}


def routes(specs: Mapping[str, ComponentSpec]) -> dict[str, Json]:
    """The playbooks of each issue type, for each component, in order; what is left out, and why."""
    return {
        "routes": [
            {"component": name, "issue_type": issue_type.value, **_route(issue_type, spec)}
            for name, spec in specs.items()
            for issue_type in IssueType
        ]
    }


def _route(issue_type: IssueType, spec: ComponentSpec) -> dict[str, Json]:
    route = choose_route(issue_type, spec)
    return {
        "playbooks": [playbook.name for playbook in route.playbooks],
        "chosen_by": route.chosen_by,
        "skipped": [skipped.model_dump(mode="json") for skipped in route.skipped],
    }
