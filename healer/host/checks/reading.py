"""What a check is given and what it says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from healer.domain.playbook import CheckStatus
from healer.domain.process import Listener
from healer.domain.spec import ComponentSpec
from healer.host.checks.thread import Threads

__all__ = ["Facts", "ListenersFunction", "Look", "Reading", "unknown"]

Facts = dict[str, str | int | float | bool | list[str] | list[int] | None]
ListenersFunction = Callable[[int], Awaitable[tuple[Listener, ...]]]


@dataclass(frozen=True, slots=True)
class Look:
    """One check's subject: the component, the port it lives on now, and the means to look.

    `timeout` is the check's whole bound in seconds; `directories` are where the system's own
    programs may be taken from.
    """

    spec: ComponentSpec
    port: int
    listeners: ListenersFunction
    threads: Threads
    timeout: float
    directories: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """A verdict and the figures and words that it rests on."""

    status: CheckStatus
    facts: Facts = field(default_factory=dict)


def unknown(why: str, **facts: str | int | float | bool | None) -> Reading:
    """The reading of a check that could not be made, and `why` in a stable word or two."""
    return Reading(CheckStatus.UNKNOWN, {"why": why, **facts})
