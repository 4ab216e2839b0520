"""Whether the healer can do its work, and why not."""

from __future__ import annotations

from typing import Final, Protocol, runtime_checkable

from healer.bootstrap import Healer
from healer.errors import StoreError
from projections.history import History

__all__ = ["examined", "obstacles", "warnings"]

_LAG: Final = 1000
"""Events that a sink may be behind without a word; they come in bursts."""


@runtime_checkable
class _Inspected(Protocol):
    """A log that says how it is."""

    @property
    def broken(self) -> str | None: ...

    @property
    def unavailable(self) -> str | None: ...


def warnings(healer: Healer) -> list[str]:
    """What keeps the log from being trusted as it should be although the healer can do its work."""
    said = (getattr(healer.log, name, None) for name in ("unsigned", "unwitnessed", "unrotated"))
    told = [why for why in said if isinstance(why, str)]
    if "history" in healer.views.names and "history" not in healer.views.stopped:
        try:
            history: History = healer.views.state("history")
        except StoreError as still_read:
            told.append(str(still_read))
        else:
            told += [history.shelf.trouble] if history.shelf.trouble else []
    if healer.files.trouble is not None:
        told.append(f"the healing files are behind: {healer.files.trouble}")
    for each in healer.outboxes:
        lag = max(0, healer.views.position - each.position)
        if each.trouble is not None or lag > _LAG:
            why = each.trouble or "it is slow"
            told.append(f"guardian {each.name} is {lag} events behind: {why}")
        if each.dead:
            told.append(f"guardian {each.name} has refused {each.dead} events: dead letters")
    return told


def examined(healer: Healer) -> dict[str, list[str]]:
    """Each thing that healing or telling about it needs, and what is wrong with it."""
    log, views, engine = healer.log, healer.views, healer.engine
    writable: list[str] = []
    if isinstance(log, _Inspected):
        if log.broken is not None:
            writable.append(f"the log is broken: {log.broken}")
        if log.unavailable is not None:
            writable.append(f"the log cannot be written: {log.unavailable}")
    shown = [] if views.trouble is None else [str(views.trouble)]
    shown += [str(error) for error in views.stopped.values()]
    watched = []
    if engine.names and not engine.running:
        watched.append("components are not watched; POST /network-healer/initialize")
    return {"log": writable, "views": shown, "watch": watched}


def obstacles(healer: Healer) -> list[str]:
    """What keeps the healer from healing or from telling about it; empty when nothing does."""
    return [why for reasons in examined(healer).values() for why in reasons]
