"""Bounded bookkeeping: what a healer keeps of its work does not grow with the work."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel

from healer.engine import Engine

__all__ = ["Bounds", "sizes"]

_OURS: Final = ("healer.engine", "healer.watchdog", "healer.playbooks", "healer.domain")
_COLLECTIONS: Final = (dict, set, frozenset, list, tuple, deque)
_LAUNCHES: Final = 8
"""Launches of each component that still prove an owner (`healer.domain.component`)."""


class Bounds:
    """Compares a machine at rest with what it was at its first rest."""

    def __init__(self) -> None:
        self._first: Counter[str] | None = None

    def exceeded(self, engine: Engine, *, tasks: int, timers: int) -> str | None:
        """What has grown, None: nothing. `tasks` and `timers` are those of the healer."""
        now = sizes(engine)
        now |= {"tasks": tasks, "timers": timers}
        if self._first is None:
            self._first = now
        components = len(engine.names)
        for where, size in sorted(now.items()):
            # One entry for each component may come at any time, and its last launches stay.
            each = _LAUNCHES if where.endswith("launches") else 1
            room = 0 if where in {"tasks", "timers"} else each * components
            allowed = max(self._first[where], room)
            if size > allowed:
                return f"{where} holds {size}, at the first rest {self._first[where]}"
        return None


def sizes(engine: Engine) -> Counter[str]:
    """How much each collection holds that the engine keeps, by the way to it. Those of all
    components, or of all entries of a collection, count together."""
    found: Counter[str] = Counter()
    seen = {id(engine)}
    level: list[tuple[str, Any]] = [("engine", engine)]
    while level:
        following: list[tuple[str, Any]] = []
        for where, value in level:
            if isinstance(value, _COLLECTIONS):
                found[where] += len(value)
            for name, part in _parts(value):
                if id(part) not in seen and _is_looked_into(part):
                    seen.add(id(part))
                    following.append((f"{where}{name}", part))
        level = following
    return found


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from (("[]", part) for part in value.values())
    elif isinstance(value, _COLLECTIONS):
        yield from (("[]", part) for part in value)
    else:
        slots: Iterable[str] = (
            slot
            for kind in type(value).__mro__
            for slot in getattr(kind, "__slots__", ())
            if hasattr(value, slot)
        )
        names = [*getattr(value, "__dict__", ()), *slots]
        yield from ((f".{name}", getattr(value, name)) for name in names)


def _is_looked_into(value: Any) -> bool:
    if isinstance(value, _COLLECTIONS):
        return True
    if isinstance(value, BaseModel | type):
        return False
    ours = type(value).__module__.startswith(_OURS)
    return ours or isinstance(value, asyncio.Event | asyncio.Queue)
