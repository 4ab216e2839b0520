"""One component of the configuration file: from what people write to a ComponentSpec."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Final

from healer.config.document import Path as Place
from healer.config.problem import Problems, as_list, suggestion, unknown_key, validated
from healer.domain.spec import (
    PROBES,
    CommandLaunch,
    ComponentSpec,
    DockerLaunch,
    HookLaunch,
    LaunchSpec,
    SupervisorLaunch,
    SystemdLaunch,
    check_name,
)

__all__ = ["component_schema", "read_component"]

_LAUNCHES: Final[Mapping[str, type[LaunchSpec]]] = MappingProxyType(
    {
        "command": CommandLaunch,
        "systemd": SystemdLaunch,
        "docker": DockerLaunch,
        "supervisor": SupervisorLaunch,
        "hook": HookLaunch,
    }
)
_PATHS: Final = ("cwd", "log", "config")
_FORMS: Final = "tcp, {http: /path}, {tls: NAME}, {grpc: SERVICE}, or {exec: [PROGRAM, ARGUMENT]}"
_NEEDED: Final = frozenset({"exec"})
"""Kinds of probe that say nothing without their argument."""


def read_component(
    name: str,
    fields: Any,
    shared: Mapping[str, Any],
    directory: Path,
    problems: Problems,
) -> ComponentSpec | None:
    """The component `name`, over the `shared` defaults; None when problems with it were added.

    Relative paths start at `directory`.
    """
    path = ("components", name)
    try:
        check_name(name)
    except ValueError as error:
        problems.add(path, str(error))
        return None
    if not isinstance(fields, dict):
        problems.add(path, "is not a mapping; allowed: {port: 8220, ...}")
        return None
    if "name" in fields:
        problems.add((*path, "name"), "a component's name is its key; allowed: no 'name'")
    given = {key: value for key, value in fields.items() if value is not None and key != "name"}
    sound = _check_probe(given.get("probe"), (*path, "probe"), problems)
    if not sound:
        given.pop("probe")
    if "launch" in given:
        launch = _read_launch(given.pop("launch"), (*path, "launch"), directory, problems)
        given["launch"] = launch
        sound = sound and launch is not None
    spec = validated(ComponentSpec, {**shared, **given, "name": name}, path, problems)
    return spec if sound else None


def _check_probe(probe: Any, path: Place, problems: Problems) -> bool:
    """Whether `probe` names one kind, and options of that kind; what they say is the model's to
    check."""
    if probe is None:
        return True
    kinds = [probe] if isinstance(probe, str) else None
    if isinstance(probe, dict):
        kinds = [probe["kind"]] if "kind" in probe else [key for key in probe if key in PROBES]
        if not kinds and probe:
            kinds = [next(iter(probe))]
    allowed = f"allowed: {_FORMS}"
    if not kinds or len(kinds) > 1:
        problems.add(path, f"is not one kind of probe; {allowed}")
        return False
    kind = str(kinds[0])
    if kind not in PROBES:
        hint = suggestion(kind, PROBES) or ";"
        problems.add(path, f"unknown probe {kinds[0]!r}{hint} {allowed}")
        return False
    if not isinstance(probe, dict) or "kind" in probe:
        return True
    known = {kind, *PROBES[kind]}
    unknown = [key for key in probe if key not in known]
    for key in unknown:
        problems.add((*path, str(key)), unknown_key(str(key), known))
    return not unknown


def _read_launch(
    launch: Any, path: Place, directory: Path, problems: Problems
) -> LaunchSpec | None:
    if isinstance(launch, str) and launch not in _LAUNCHES:
        problems.add(path, f"is one text; allowed: {{command: {as_list(launch)}}}")
        return None
    kinds = [kind for kind in _LAUNCHES if isinstance(launch, dict) and kind in launch]
    allowed = f"allowed: exactly one of {', '.join(_LAUNCHES)}"
    if len(kinds) != 1:
        given = list(launch) if isinstance(launch, dict) else []
        found = f"has {' and '.join(kinds)}" if kinds else "says nothing that starts a component"
        hint = next((close for key in given if (close := suggestion(key, _LAUNCHES))), ";")
        problems.add(path, f"{found}{';' if kinds else hint} {allowed}")
        return None
    fields = {
        key: str(directory / PurePosixPath(value))
        if key in _PATHS and isinstance(value, str)
        else value
        for key, value in launch.items()
        if value is not None
    }
    return validated(_LAUNCHES[kinds[0]], fields, path, problems)


def component_schema(
    shared: Mapping[str, Any], definitions: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """The definitions that differ in the file from those of the models: a component has its name as
    its key, and probes and port ranges have a short form."""
    component = dict(definitions["ComponentSpec"])
    component["properties"] = {
        key: value for key, value in component["properties"].items() if key != "name"
    }
    # What a component does not say comes from `defaults`, so no value is the default here.
    for key in shared:
        component["properties"][key] = {
            part: value for part, value in component["properties"][key].items() if part != "default"
        }
    component["required"] = ["port"]
    options = definitions["ProbeSpec"]["properties"]
    return {
        "ComponentSpec": component,
        "ProbeSpec": {
            "anyOf": [
                {"enum": [kind for kind in PROBES if kind not in _NEEDED]},
                {**definitions["ProbeSpec"], "required": ["kind"]},
                *(_probe_form(kind, options) for kind in PROBES),
            ]
        },
        "PortRange": {
            "anyOf": [
                {"type": "string", "pattern": r"^\s*\d+\s*(-\s*\d+\s*)?$"},
                {"type": "integer", "minimum": 1, "maximum": 65535},
                definitions["PortRange"],
            ]
        },
    }


def _probe_form(kind: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """`{kind: argument, option: ...}`; an argument that is not needed may be left empty."""
    named = "path" if kind == "http" else kind
    argument = options.get(named, {"type": "null"})
    if "anyOf" in argument:
        argument = next(each for each in argument["anyOf"] if each.get("type") != "null")
    if kind not in _NEEDED and argument != {"type": "null"}:
        argument = {"anyOf": [argument, {"type": "null"}]}
    others = {key: options[key] for key in PROBES[kind] if key not in {kind, named}}
    return {
        "type": "object",
        "properties": {kind: argument, **others},
        "required": [kind],
        "additionalProperties": False,
    }
