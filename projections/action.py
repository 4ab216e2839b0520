"""What a step did, in short facts: `stop chat_api[4242]: killed`."""

from __future__ import annotations

from typing import cast

from healer.domain.events import StepFailed, StepSettled, StepSucceeded
from healer.domain.playbook import StepResult

__all__ = ["actions"]


def actions(event: StepSucceeded | StepFailed | StepSettled) -> list[str]:
    """One line for each thing that was done; of a failed step, why it failed at the end."""
    lines = [f"{event.action} {fact}" for fact in _effects(event.result)]
    # By topic: a light event is of another class.
    if event.TOPIC == StepSucceeded.TOPIC:
        return lines or [f"{event.action}: done"]
    if event.TOPIC == StepFailed.TOPIC:
        return [*lines, f"{event.action}: failed ({_failure(event.result)})"]
    settled = cast(StepSettled, event)
    return [*lines, f"{settled.action}: interrupted, then {settled.settlement.value}"]


def _effects(result: StepResult) -> list[str]:
    lines: list[str] = []
    # Mostly there are none: three loops over nothing would cost more than the rest.
    if result.stopped:
        killed = result.killed
        lines += [f"{each}: {'killed' if each in killed else 'stopped'}" for each in result.stopped]
    if result.unkillable:
        lines += [f"{process}: unkillable" for process in result.unkillable]
    if result.foreign:
        lines += [f"{process}: foreign, left alone" for process in result.foreign]
    if result.started is not None:
        port = f" on port {result.port}" if result.port is not None else ""
        lines.append(f"{result.started}: started{port}")
    elif result.manager is not None:
        lines.append(f"by {result.manager}: asked")
    elif result.bind is not None:
        lines.append(
            f"port {result.port}: {result.bind}" if result.port else f"port: {result.bind}"
        )
    elif result.port is not None and not lines and result.error is None:
        lines.append(f"port {result.port}: done")
    return lines


def _failure(result: StepResult) -> str:
    words = [result.error or "unknown error"]
    if result.exit_code is not None:
        words.append(f"exit code {result.exit_code}")
    if result.errno is not None:
        words.append(f"errno {result.errno}")
    return ", ".join(words)
