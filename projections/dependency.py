"""Whether what a component depends on was well, at any position of the log.

Another component's facts may be in another part of the log when parts are folded apart, so what
was asked is kept and answered when the parts are together: 8 bytes for each question of a component
that depends on something, 9 for each change of health.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from healer.domain.health import Health
from projections.projection import Json

__all__ = ["Dependencies"]

_CODES: Final = {health.value: code for code, health in enumerate(Health)}
_UNHEALTHY: Final = _CODES[Health.UNHEALTHY.value]
_HEALTHY: Final = _CODES[Health.HEALTHY.value]
_UNKNOWN: Final = _CODES[Health.UNKNOWN.value]
_NOTHING: Final[Json] = {
    "dependencies": 0,
    "dependencies_unhealthy": 0,
    "dependency_state": "none",
}


@dataclass(slots=True)
class _Component:
    changes: array[int] = field(default_factory=lambda: array("q"))
    healths: bytearray = field(default_factory=bytearray)
    registered: list[tuple[int, tuple[str, ...]]] = field(default_factory=list)
    asked: array[int] = field(default_factory=lambda: array("q"))

    def health_before(self, position: int) -> int:
        place = bisect_left(self.changes, position)
        return self.healths[place - 1] if place else _UNKNOWN

    def depends_on(self, position: int) -> tuple[str, ...]:
        place = bisect_left(self.registered, position, key=lambda entry: entry[0])
        return self.registered[place - 1][1] if place else ()


@dataclass(slots=True)
class Dependencies:
    """The changes of health and of dependencies of all components, by position."""

    components: dict[str, _Component] = field(default_factory=dict)

    def _of(self, name: str) -> _Component:
        found = self.components.get(name)
        if found is None:
            found = self.components[name] = _Component()
        return found

    def register(self, name: str, position: int, depends_on: tuple[str, ...]) -> None:
        """From `position` on `name` depends on these."""
        registered = self._of(name).registered
        if depends_on != (registered[-1][1] if registered else ()):
            registered.append((position, depends_on))

    def change(self, name: str, position: int, health: str) -> None:
        """From `position` on the health of `name` is this one."""
        component = self._of(name)
        component.changes.append(position)
        component.healths.append(_CODES[health])

    def ask(self, name: str, position: int) -> Json:
        """The dependency columns of `name` in front of `position`, as far as this part of the log
        tells; the question is kept."""
        component = self.components.get(name)
        if component is None or not component.registered or not component.registered[-1][1]:
            return _NOTHING
        component.asked.append(position)
        return self._answer(component, position)

    def _answer(self, component: _Component, position: int) -> Json:
        depends_on = component.depends_on(position)
        healths = [self._health(name, position) for name in depends_on]
        unhealthy = healths.count(_UNHEALTHY)
        if unhealthy:
            state = "unhealthy"
        else:
            state = "healthy" if healths.count(_HEALTHY) == len(healths) else "unknown"
        return {
            "dependencies": len(depends_on),
            "dependencies_unhealthy": unhealthy,
            "dependency_state": state,
        }

    def _health(self, name: str, position: int) -> int:
        component = self.components.get(name)
        return _UNKNOWN if component is None else component.health_before(position)

    def answers(self) -> Iterator[Json]:
        """Every question that was asked, with its answer."""
        for component in self.components.values():
            for position in component.asked:
                yield {"position": position, **self._answer(component, position)}

    def merge(self, other: Dependencies) -> None:
        """Join those of a part that holds other components."""
        self.components.update(other.components)
