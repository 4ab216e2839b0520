"""The demo's stack: one small component for each fault, on free ports of this machine."""

from __future__ import annotations

import socket
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import orjson

__all__ = ["PORTS_EACH", "Member", "Stack", "free_ports", "write_config"]

PORTS_EACH: Final = 10
"""Ports in a row that each component gets: one to live on, the rest to be rebound to."""

_FIRST_PORT: Final = 18200
_LAST_PORT: Final = 32000  # below the usual ephemeral range, so that no client is given one


@dataclass(frozen=True, slots=True)
class Member:
    """A component of the demo's stack, and its name there. `host` is where it is looked for."""

    name: str
    host: str = "127.0.0.1"
    options: tuple[str, ...] = ()
    rebinds: bool = False


@dataclass(frozen=True, slots=True)
class Stack:
    """The stack as it was written into `directory/healer.yaml`."""

    directory: Path
    ports: dict[str, int]

    @property
    def config_file(self) -> Path:
        return self.directory / "healer.yaml"


def free_ports(groups: int) -> list[int]:
    """The first ports of `groups` runs of PORTS_EACH ports that can be bound now.

    Raises:
        OSError: there are not that many.
    """
    found: list[int] = []
    for first in range(_FIRST_PORT, _LAST_PORT - PORTS_EACH, PORTS_EACH):
        if all(_free(port) for port in range(first, first + PORTS_EACH)):
            found.append(first)
            if len(found) == groups:
                return found
    raise OSError(
        f"cannot find {groups} runs of {PORTS_EACH} free ports in {_FIRST_PORT}-{_LAST_PORT}"
    )


def write_config(
    directory: Path,
    members: tuple[Member, ...],
    *,
    store: str | None,
    listen: str | None = None,
    reset_after: str = "1m",
) -> Stack:
    """Write `healer.yaml` for `members`, with the demo's quick pace, and say where each lives.

    `listen` is where the healer itself is asked, `reset_after` the healthy stretch that gives a
    component its whole budget back.

    Raises:
        OSError: it cannot be written, or there are not enough free ports.
    """
    ports = dict(zip((member.name for member in members), free_ports(len(members)), strict=True))
    program = find_spec("healer.demo.component")
    assert program is not None
    assert program.origin is not None
    components: dict[str, Any] = {}
    for member in members:
        port = ports[member.name]
        # -S -E: the component needs the standard library only, and starts in half the time.
        command = [sys.executable, "-S", "-E", program.origin, "--port", "{port}", *member.options]
        entry: dict[str, Any] = {"port": port, "probe": {"http": "/health"}}
        if member.host != "127.0.0.1":
            entry |= {"host": member.host, "start_period": 0}
        else:
            entry["launch"] = {"command": command, "grace": "1s"}
        if member.rebinds:
            entry["rebind"] = f"{port + 1}-{port + PORTS_EACH - 1}"
        components[member.name] = entry
    config = {
        "node": "demo",
        **({} if listen is None else {"listen": listen}),
        "store": store or "sqlite:///healer.db",
        "logs": "logs/network_healer",
        "defaults": {
            "interval": "200ms",
            "fast_interval": "100ms",
            "timeout": "200ms",
            "failure_threshold": 2,
            "success_threshold": 2,
            "start_period": "5s",
        },
        "budget": {
            "max_concurrent": 4,
            "attempts": 3,
            "rearm_after": "3s",
            # Longer than a loaded machine takes to see a crash: the wait is seen there, too.
            "backoff": {
                "initial": "500ms",
                "factor": 2,
                "max": "2s",
                "jitter": 0,
                "reset_after": reset_after,
            },
        },
        "components": components,
    }
    stack = Stack(directory, ports)
    # JSON is YAML: the file can be read by people and by `healer serve -c`.
    stack.config_file.write_bytes(orjson.dumps(config, option=orjson.OPT_INDENT_2))
    return stack


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
