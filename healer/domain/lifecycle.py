"""The life of an issue: the only place that names its states and triggers.

The table below is read by the commands of `NetworkIssue`, by the audit's legality check and by the
README's diagram. `transitions` compiles and guards it. One shared machine without a model is a
table: asking it costs about a microsecond, building one per aggregate eighty.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from transitions import Machine

from healer.errors import IllegalTransitionError

__all__ = ["TERMINAL", "State", "Trigger", "allowed", "destination", "mermaid"]


class State(StrEnum):
    """Where an issue stands. `VERIFIED` and `FAILED` are terminal."""

    DETECTED = "detected"
    DIAGNOSING = "diagnosing"
    REMEDIATING = "remediating"
    VERIFIED = "verified"
    FAILED = "failed"


class Trigger(StrEnum):
    """What moves an issue from one state to another."""

    DIAGNOSE = "diagnose"
    REMEDIATE = "remediate"
    VERIFY = "verify"
    FAIL = "fail"


TERMINAL: Final = frozenset({State.VERIFIED, State.FAILED})

_ARROWS: Final[tuple[tuple[Trigger, tuple[State, ...], State], ...]] = (
    (Trigger.DIAGNOSE, (State.DETECTED,), State.DIAGNOSING),
    (Trigger.REMEDIATE, (State.DIAGNOSING,), State.REMEDIATING),
    (Trigger.VERIFY, (State.DIAGNOSING, State.REMEDIATING), State.VERIFIED),
    (Trigger.FAIL, (State.DETECTED, State.DIAGNOSING, State.REMEDIATING), State.FAILED),
)

# Strings, not enum members: with enum states `transitions` keys its table by member name.
_machine: Final = Machine(
    model=None,
    states=[state.value for state in State],
    transitions=[
        {
            "trigger": trigger.value,
            "source": [source.value for source in sources],
            "dest": destination.value,
        }
        for trigger, sources, destination in _ARROWS
    ],
    initial=State.DETECTED.value,
    auto_transitions=False,
)


def destination(trigger: Trigger, state: State) -> State:
    """Where `trigger` leads from `state`.

    Raises:
        IllegalTransitionError: the table has no such arrow.
    """
    arrows = _machine.get_transitions(trigger.value, state.value)
    if not arrows:
        raise IllegalTransitionError(trigger, state, [str(option) for option in allowed(state)])
    return State(str(arrows[0].dest))


def allowed(state: State) -> tuple[Trigger, ...]:
    """The triggers that the table allows in `state`; none in a terminal one."""
    return tuple(Trigger(name) for name in _machine.get_triggers(state.value))


def mermaid() -> str:
    """The table as a Mermaid state diagram, as it stands in the README."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.DETECTED}"]
    for trigger, sources, target in _ARROWS:
        lines += [f"    {source} --> {target}: {trigger}" for source in sources]
    lines += [f"    {state} --> [*]" for state in State if state in TERMINAL]
    return "\n".join(lines)
