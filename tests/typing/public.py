"""What embedders may rely on: type-checked with strict mypy, never run.

A change that makes this file fail is a change of the public surface and belongs in the CHANGELOG.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import assert_type

from healer.demo.component import main
from healer.domain.events import EVENT_TYPES, Event
from healer.domain.lifecycle import State, Trigger, allowed, destination
from healer.errors import (
    ConfigError,
    HealerError,
    HealWithheldError,
    IllegalTransitionError,
    StoreBusyError,
    UnknownNameError,
)

assert_type(destination(Trigger.DIAGNOSE, State.DETECTED), State)
assert_type(allowed(State.DETECTED), tuple[Trigger, ...])
assert_type(main(["--port", "8220"]), int)

topics: Mapping[str, type[Event]] = EVENT_TYPES


def read(event: Event) -> tuple[str, int, datetime, str]:
    """What every fact carries."""
    return event.originator_id, event.originator_version, event.timestamp, event.actor


def tell(error: HealerError) -> str:
    """What a program reads from an error are its attributes, not its text."""
    match error:
        case UnknownNameError():
            return f"{error.kind} {error.name} {assert_type(error.known, tuple[str, ...])}"
        case IllegalTransitionError():
            return f"{error.trigger} {error.state} {assert_type(error.allowed, tuple[str, ...])}"
        case ConfigError():
            return "; ".join(assert_type(error.problems, tuple[str, ...]))
        case HealWithheldError():
            return f"{error.reason} {assert_type(error.arithmetic, dict[str, float])}"
        case StoreBusyError():
            return f"{assert_type(error.holder, int | None)}"
        case _:
            return str(error)
