"""Whether the healer can do its work, and why not."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from healer.bootstrap import Healer

__all__ = ["obstacles", "warnings"]


@runtime_checkable
class _Inspected(Protocol):
    """A log that says how it is."""

    @property
    def broken(self) -> str | None: ...

    @property
    def unavailable(self) -> str | None: ...


def warnings(healer: Healer) -> list[str]:
    """What keeps the log from being trusted as it should be although the healer can do its work."""
    said = (getattr(healer.log, name, None) for name in ("unwitnessed", "unrotated"))
    return [why for why in said if isinstance(why, str)]


def obstacles(healer: Healer) -> list[str]:
    """What keeps the healer from healing or from telling about it; empty when nothing does."""
    found: list[str] = []
    log = healer.log
    if isinstance(log, _Inspected):
        if log.broken is not None:
            found.append(f"the log is broken: {log.broken}")
        if log.unavailable is not None:
            found.append(f"the log cannot be written: {log.unavailable}")
    if healer.views.trouble is not None:
        found.append(str(healer.views.trouble))
    found += [str(error) for error in healer.views.stopped.values()]
    if healer.engine.names and not healer.engine.running:
        found.append("components are not watched; POST /network-healer/initialize")
    return found
