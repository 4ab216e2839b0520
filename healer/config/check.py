"""What no component can see alone: whether the parts of a configuration fit together."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from healer.config.document import Path
from healer.config.problem import Problems, suggestion
from healer.domain.spec import ComponentSpec

__all__ = ["ALWAYS_RUNS", "check_components"]

ALWAYS_RUNS: Final = "diagnose_network"
_EVERYWHERE: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, not bound
_HERE: Final = frozenset({"127.0.0.1", "::1", "localhost"})


def check_components(
    components: Mapping[str, ComponentSpec],
    *,
    names: Collection[str],
    listen: tuple[str, int] | None,
    playbooks: Collection[str],
    problems: Problems,
) -> None:
    """Add to `problems` what is wrong between components. `names` are all that the file has, also
    those that could not be read."""
    _check_ports(components, listen, problems)
    _check_dependencies(components, names, problems)
    for name, spec in components.items():
        _check_routes(("components", name, "routes"), spec, playbooks, problems)
        if spec.probe.status_max < spec.probe.status_min:
            problems.add(
                ("components", name, "probe", "status_max"),
                f"{spec.probe.status_max} is below status_min; "
                f"allowed: {spec.probe.status_min} to 599",
            )


def _overlap(one: str, other: str) -> bool:
    if one == other or {one, other} <= _HERE:
        return True
    return bool({one, other} & _EVERYWHERE)


def _check_ports(
    components: Mapping[str, ComponentSpec], listen: tuple[str, int] | None, problems: Problems
) -> None:
    owners: dict[int, list[tuple[str, str]]] = {}
    for name, spec in components.items():
        path = ("components", name, "port")
        for owner, host in owners.get(spec.port, []):
            if _overlap(spec.host, host):
                problems.add(
                    path,
                    f"{spec.port} is {owner}'s port already; allowed: a port that no other "
                    f"component has on {spec.host}",
                )
                break
        if listen is not None and spec.port == listen[1] and _overlap(spec.host, listen[0]):
            problems.add(
                path,
                f"{spec.port} is the port that the healer itself listens on; "
                "allowed: another port, here or in 'listen'",
            )
        owners.setdefault(spec.port, []).append((name, spec.host))


def _check_dependencies(
    components: Mapping[str, ComponentSpec], names: Collection[str], problems: Problems
) -> None:
    for name, spec in components.items():
        for index, needed in enumerate(spec.depends_on):
            if needed not in names:
                others = sorted(set(names) - {name})
                hint = suggestion(needed, others) or ";"
                problems.add(
                    ("components", name, "depends_on", str(index)),
                    f"there is no component {needed!r}{hint} "
                    f"allowed: {', '.join(others) or 'none, there is no other component'}",
                )
    for cycle in _cycles(components):
        problems.add(
            ("components", cycle[0], "depends_on"),
            f"a cycle: {' → '.join((*cycle, cycle[0]))}; allowed: an order without one",
        )


def _cycles(components: Mapping[str, ComponentSpec]) -> list[Path]:
    """A cycle for each component that is reached again from itself, each cycle once. Walks with a
    stack of its own: a long chain must not meet Python's recursion limit."""
    cycles: list[Path] = []
    done: set[str] = set()
    for start in components:
        trail: list[str] = []
        pending = [(start, False)]
        while pending:
            name, leaving = pending.pop()
            if leaving:
                done.add(trail.pop())
            elif name in trail:
                cycles.append(tuple(trail[trail.index(name) :]))
            elif name in components and name not in done:
                trail.append(name)
                pending.append((name, True))
                pending += [(needed, False) for needed in reversed(components[name].depends_on)]
    return cycles


def _check_routes(
    path: Path, spec: ComponentSpec, playbooks: Collection[str], problems: Problems
) -> None:
    routable = [name for name in playbooks if name != ALWAYS_RUNS]
    for issue_type, route in spec.routes.items():
        for index, name in enumerate(route):
            where = (*path, issue_type.value, str(index))
            if name == ALWAYS_RUNS:
                problems.add(
                    where,
                    f"{name!r} always runs, before every route; allowed: {', '.join(routable)}",
                )
            elif name not in routable:
                hint = suggestion(name, routable) or ";"
                problems.add(
                    where, f"unknown playbook {name!r}{hint} allowed: {', '.join(routable)}"
                )
