"""Commands that make the healer that runs act."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from healer.cli.client import Client
from healer.cli.form import Output
from healer.cli.outcome import FAILED, FINE
from healer.cli.output import as_table, print_json, print_line, print_table
from healer.cli.source import config_in

__all__ = ["auto_heal", "heal"]


def heal(file: Path | None, wish: dict[str, Any], output: Output | None) -> int:
    """Heal one component, as `wish` (the body of POST heal) says; 1 when it was not cured."""
    answer = Client(config_in(file)).post("/heal", wish)
    if not as_table(output):
        print_json(answer)
    elif answer.get("dry_run"):
        _print_plan(answer)
    elif answer.get("accepted"):
        print_line(f"{answer['component']}: issue {answer['issue_id']} is open")
    else:
        _print_result(answer)
    return FAILED if answer.get("success") is False else FINE


def auto_heal(file: Path | None, output: Output | None) -> int:
    """Heal all that fails; 1 when something was not cured."""
    answer = Client(config_in(file)).post("/auto-heal", {})
    if as_table(output):
        for result in answer["results"]:
            _print_result(result)
        print_line(
            f"{answer['total_components']} failing, {answer['components_healed']} healed, "
            f"{answer['components_failed']} not healed"
        )
    else:
        print_json(answer)
    return FAILED if answer["components_failed"] else FINE


def _print_result(result: dict[str, Any]) -> None:
    executed = " → ".join(result["healing_result"]["playbooks_executed"]) or "no playbook"
    reason = f" ({result['reason']})" if result.get("reason") else ""
    word = "healthy" if result["success"] else "not cured"
    style = "healthy" if result["success"] else "failed"
    print_line(f"{result['component']}:{result['port']} {word} after {executed}{reason}", style)


def _print_plan(answer: dict[str, Any]) -> None:
    print_table(
        f"What would be done for {answer['component']}: {answer['issue_type']}",
        ("playbook", "action", "would do", "nothing to do because", "processes"),
        [
            (
                step["playbook"],
                step["action"],
                step["does"],
                step["skipped"],
                ", ".join(
                    f"{target['process']['name']}[{target['process']['pid']}]"
                    for target in step["targets"]
                )
                or None,
            )
            for step in answer["steps"]
        ],
        spare=("processes",),
        none="nothing",
    )
