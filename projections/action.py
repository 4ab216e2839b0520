"""What a step did, in short facts: `stop chat_api[4242]: killed`."""

from __future__ import annotations

from typing import cast

from healer.domain.events import StepFailed, StepSettled, StepSucceeded
from healer.domain.playbook import StepResult

__all__ = ["actions"]


def actions(event: StepSucceeded | StepFailed | StepSettled) -> list[str]:
    """One line for each thing that was done; of a failed step, why it failed at the end."""
    action, result = event.action, event.result
    lines = _effects(action, result)
    # By topic: a light event is of another class.
    if event.TOPIC == StepSucceeded.TOPIC:
        return lines or [f"{action}: done"]
    if event.TOPIC == StepFailed.TOPIC:
        return [*lines, f"{action}: failed ({_failure(result)})"]
    settled = cast(StepSettled, event)
    return [*lines, f"{action}: interrupted, then {settled.settlement.value}"]


def _effects(action: str, result: StepResult) -> list[str]:
    lines: list[str] = []
    # Mostly there are none: three loops over nothing would cost more than the rest.
    if result.stopped:
        killed = result.killed
        lines += [
            f"{action} {each}: {'killed' if each in killed else 'stopped'}"
            for each in result.stopped
        ]
    if result.unkillable:
        lines += [f"{action} {process}: unkillable" for process in result.unkillable]
    if result.foreign:
        lines += [f"{action} {process}: foreign, left alone" for process in result.foreign]
    port = result.port
    if result.started is not None:
        lines.append(
            f"{action} {result.started}: started{f' on port {port}' if port is not None else ''}"
        )
    elif result.manager is not None:
        lines.append(f"{action} by {result.manager}: asked")
    elif result.bind is not None:
        lines.append(
            f"{action} port {port}: {result.bind}" if port else f"{action} port: {result.bind}"
        )
    elif port is not None and not lines and result.error is None:
        lines.append(f"{action} port {port}: done")
    return lines


def _failure(result: StepResult) -> str:
    words = [result.error or "unknown error"]
    if result.exit_code is not None:
        words.append(f"exit code {result.exit_code}")
    if result.errno is not None:
        words.append(f"errno {result.errno}")
    return ", ".join(words)
