"""`healer status` and `healer validate`: how things stand, and whether a configuration is good."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from healer.cli.client import Client, NoHealerError
from healer.cli.form import Output
from healer.cli.outcome import BAD_INPUT, FAILED, FINE
from healer.cli.output import as_table, print_json, print_line, print_table, short_ids
from healer.cli.source import config_in
from healer.config import Config, check_store
from healer.errors import ConfigError, LaunchError
from healer.host.program import find_probe

__all__ = ["status", "validate"]


def status(file: Path | None, store: str | None, output: Output | None) -> int:
    """The components: from the healer that runs, else as the log last saw them. 1 when one of them
    is unhealthy."""
    found, live = _components(file, store)
    components: list[dict[str, Any]] = found["components"]
    if as_table(output):
        for warning in found["warnings"]:
            print_line(warning, "warn")
        _print_pause(found["paused"])
        _print(components, live=live)
    else:
        shown = {"live": live, "paused": found["paused"], "warnings": found["warnings"]}
        print_json({**shown, "components": components})
    unhealthy = any(component["health"] == "unhealthy" for component in components)
    return FAILED if unhealthy else FINE


def _components(file: Path | None, store: str | None) -> tuple[dict[str, Any], bool]:
    if store is None:
        config = config_in(file)
        try:
            return Client(config).get("/components"), True
        except NoHealerError:
            store = config.store
    return asyncio.run(_remembered(store)), False


async def _remembered(store: str) -> dict[str, Any]:
    # The healer's own answer, which is the usual case, needs none of this.
    from healer.cli.source import open_store, read_views  # noqa: PLC0415
    from projections.components import COMPONENTS  # noqa: PLC0415
    from projections.pause import PAUSE  # noqa: PLC0415

    async with open_store(store) as log:
        views = await read_views(log, [COMPONENTS, PAUSE])
        broken = getattr(log, "broken", None)
        return {
            "paused": views.view("pause"),
            "warnings": [f"the log is broken: {broken}"] if broken else [],
            "components": views.view("components"),
        }


def _print_pause(paused: dict[str, Any] | None) -> None:
    if paused is not None:
        print_line(
            f"All healing is paused since {paused['since']} by {paused['actor']}: "
            f"{paused['reason']} (healer resume)",
            "withheld",
        )


def _print(components: list[dict[str, Any]], *, live: bool) -> None:
    columns = (
        "component",
        "health",
        "mode",
        "address",
        "process",
        "open issue",
        "last look",
        "now",
    )
    issues = short_ids([component["open_issue"] for component in components])
    print_table(
        "Components" if live else "Components, as the log last saw them (no healer runs)",
        columns,
        [
            (
                component["name"],
                component["health"],
                component["mode"],
                f"{component['host']}:{component['port']}",
                _process(component["process"]),
                issue,
                _look(component),
                _now(component),
            )
            for component, issue in zip(components, issues, strict=True)
        ],
        spare=("process", "open issue", "last look"),
        none="none; `healer.yaml` names them" if live else "none: no healer has run on this log",
    )


def _look(component: dict[str, Any]) -> str | None:
    """When the healer that runs looked last, to the second."""
    instant = component.get("last_look")
    return None if instant is None else f"{instant[:19]}Z"


def _now(component: dict[str, Any]) -> str | None:
    """What is being done about the component, or what keeps it from being done."""
    if component.get("healing"):
        return "healing"
    if component.get("healed_by_node"):
        return f"healed by node {component['healed_by_node']}"
    if component.get("awaits_approval"):
        return f"awaits approval: healer approve {component['name']}"
    window = component["maintenance"]
    if window is not None:
        return f"maintenance until {window['until'] or 'ended'} ({window['reason']})"
    withheld = component.get("withheld")
    if component["open_issue"] is None or withheld is None:
        return None
    return f"withheld: {withheld['reason']}"


def _process(process: dict[str, Any] | None) -> str | None:
    return None if process is None else f"{process['name']}[{process['pid']}]"


def validate(file: Path | None, output: Output | None) -> int:
    """Whether the configuration can be used; if not, every problem of it."""
    try:
        config = config_in(file)
        check_store(config, source=str(file or "healer.yaml"))
    except ConfigError as error:
        if not as_table(output) and output is not None:
            print_json({"ok": False, "source": error.source, "problems": list(error.problems)})
        else:
            sys.stderr.write(f"healer: cannot use {error.source}:\n")
            sys.stderr.writelines(f"  {problem}\n" for problem in error.problems)
        return BAD_INPUT
    count = len(config.components)
    noun = "component" if count == 1 else "components"
    warnings = _not_here(config)
    if not as_table(output) and output is not None:
        found = {"ok": True, "source": str(file or "healer.yaml"), "components": count}
        print_json({**found, "warnings": warnings} if warnings else found)
    else:
        print_line(f"{file or 'healer.yaml'}: {count} {noun}, fine")
        sys.stderr.writelines(f"  but {warning}\n" for warning in warnings)
    return FINE


def _not_here(config: Config) -> list[str]:
    """Programs that look at components and are not on this machine; they may be on the one that
    the configuration is for."""
    missing = []
    for spec in config.components.values():
        if spec.probe.kind == "exec":
            try:
                find_probe(spec, spec.port)
            except LaunchError as error:
                missing.append(f"on this machine the healer {error}")
    return missing
