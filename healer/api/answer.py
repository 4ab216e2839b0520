"""What the engine answers, as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from healer.api.view import Views
from healer.domain.events import (
    ApprovalRequested,
    FleetPaused,
    MaintenanceStarted,
    ProcessAdopted,
)
from healer.domain.policy import Withhold
from healer.domain.process import ProcessIdentity
from healer.domain.spec import IssueType, Mode
from healer.engine import ComponentStatus, HealReport, PlannedStep
from healer.errors import StoreError
from projections.components import Components, maintenance_view
from projections.pause import pause_view
from projections.projection import Json, ProjectionStoppedError
from projections.record import instant

__all__ = ["component", "healed", "maintenance", "mode", "pause", "planned"]


def healed(report: HealReport) -> dict[str, Json]:
    """How a heal ended, in the words of the user's document and some more."""
    return {
        "success": report.success,
        "component": report.component,
        "port": report.port,
        "healing_result": {
            "playbooks_executed": list(report.playbooks_executed),
            "overall_success": report.success,
        },
        "issue_id": report.issue_id,
        "issue_type": report.issue_type.value,
        "state": report.state.value,
        "reason": report.reason,
        "node": report.node,
    }


def planned(name: str, issue_type: IssueType, steps: Sequence[PlannedStep]) -> dict[str, Json]:
    """A dry run."""
    return {
        "dry_run": True,
        "component": name,
        "issue_type": issue_type.value,
        "steps": [
            {
                "playbook": step.playbook,
                "action": step.action,
                "does": step.does,
                "skipped": step.skipped,
                "targets": [target.model_dump(mode="json") for target in step.targets],
            }
            for step in steps
        ],
    }


def pause(held: FleetPaused | None) -> Json:
    """A pause; None when there is none."""
    return pause_view(held)


def mode(name: str, before: Mode, after: Mode) -> dict[str, Json]:
    """A mode that was set."""
    return {
        "component": name,
        "before": before.value,
        "mode": after.value,
        "changed": before is not after,
    }


def maintenance(window: MaintenanceStarted | None) -> Json:
    """A maintenance window; None when none is open."""
    return maintenance_view(window)


def _process(process: ProcessIdentity | None, adopted: ProcessAdopted | None) -> Json:
    """The process that is held now; since when and by what proof as the log says of this one."""
    if process is None:
        return None
    if adopted is not None and _place(adopted.process) != _place(process):
        adopted = None
    return {
        **process.model_dump(mode="json"),
        "proof": adopted.proof.value if adopted else None,
        "launch_id": adopted.launch_id if adopted else None,
        "since": instant(adopted.timestamp) if adopted else None,
    }


def _place(process: ProcessIdentity) -> tuple[str, int, int]:
    # What is folded are light events, which equal no real ones.
    return process.boot_id, process.pid, process.start_ticks


def component(views: Views, status: ComponentStatus, withheld: Withhold | None) -> dict[str, Json]:
    """A component as it is now, over what the log remembers of it."""
    record = None
    # How it is now is known without the log's views: they may be on their way, or stopped.
    with suppress(ProjectionStoppedError, StoreError):
        state: Components = views.state("components")
        record = state.components.get(status.name)
    process, holder = status.process, status.holder
    return {
        **(record.view() if record else {}),
        "name": status.name,
        "host": status.host,
        "port": status.port,
        "health": status.health.health.value,
        "epoch": status.health.epoch,
        "mode": status.mode.value,
        "in_maintenance": status.maintenance is not None,
        "maintenance": maintenance(status.maintenance),
        "last_probe": status.last_probe.model_dump(mode="json") if status.last_probe else None,
        "last_look": instant(status.last_look),
        "process": _process(process, record.adopted if record else None),
        "open_issue": status.issue.id if status.issue else (holder.issue if holder else None),
        "issue_state": status.issue.state.value if status.issue else None,
        "awaits_approval": status.issue is not None
        and isinstance(status.issue.approval, ApprovalRequested),
        "healing": status.healing,
        "healed_by_node": holder.node if holder else None,
        "withheld": None
        if withheld is None
        else {
            "reason": withheld.reason,
            "cause": withheld.cause,
            "arithmetic": withheld.arithmetic,
            "retry_in": withheld.retry_in,
        },
    }
