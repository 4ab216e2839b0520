"""A healer's home: a directory with a log, components, bystanders, and healers that come and go."""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import shutil
import signal
import socket
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import orjson

from healer.demo import component as demo_component
from healer.domain.component import component_stream
from healer.domain.events import PortRebound
from tests.soak.healer import Healer, Heard
from tests.soak.world import (
    PATIENCE,
    Children,
    Found,
    components,
    request,
    start_ticks,
    wait,
    who_answers,
)

__all__ = ["COMPONENTS", "Stack", "run_mark"]

_PORTS_EACH: Final = 8
_RANGE: Final = range(10_000, 19_000, _PORTS_EACH)
"""Away from the demo's ports and the tests', and below those of outgoing connections."""

_FIRST: Final = os.getpid() * 61 % len(_RANGE)
_turn: Final = itertools.cycle([*_RANGE[_FIRST:], *_RANGE[:_FIRST]])
_PROGRAM: Final = str(Path(demo_component.__file__))
_UNWILLING: Final = str(Path(__file__).with_name("program.py"))
COMPONENTS: Final = {
    "alpha": (),
    "beta": ("--ignore-sigterm",),
    "gamma": ("--start-delay", "0.15"),
}
"""The components: a plain one, one that only SIGKILL ends, and one that takes its time to start.
(None without SO_REUSEADDR: a healer killed in mid-probe leaves a connection in TIME_WAIT, which by
the kernel's own rule keeps such a component from its port for a minute, whoever starts it.)"""


class Stack:
    """Three components, two bystanders, and the healers of one log, one after the other."""

    def __init__(self, directory: Path, children: Children) -> None:
        self.directory = directory
        self.children = children
        self.heard = Heard()
        self.names = tuple(COMPONENTS)
        self._ports = [Ports() for _ in range(len(self.names) + 1)]
        firsts = [ports.first for ports in self._ports]
        self.firsts = dict(zip(self.names, firsts, strict=False))
        self.config = orjson.dumps(self._config()).decode()
        self.strangers: dict[int, int] = {}
        """Start ticks by pid of all that were ever here, the thieves of ports among them."""
        self.sent_away: set[int] = set()
        self.thieves: list[int] = []
        self.healer: Healer | None = None
        # One beside the components on a port of its own, one that listens nowhere.
        self.bring_stranger(firsts[-1])
        self._know(children.spawn("/bin/sleep", "100000"))

    def flop(self, name: str) -> Path:
        """While this file exists the component does not work; see `tests.soak.program`."""
        return self.directory / f"{name}.flop"

    def _argv(self, name: str) -> list[str]:
        argv = [sys.executable, "-S", "-E", _UNWILLING, str(Path(_PROGRAM).parent)]
        return [*argv, str(self.flop(name)), "--port", "{port}", *COMPONENTS[name]]

    def _config(self) -> dict[str, object]:
        return {
            "node": "soak",
            "store": f"sqlite:///{self.directory}/healer.db",
            "logs": str(self.directory / "logs"),
            "defaults": {
                "interval": "100ms",
                "fast_interval": "20ms",
                "timeout": "250ms",
                "failure_threshold": 2,
                "success_threshold": 1,
                "start_period": "1s",
            },
            "budget": {
                "attempts": 100000,
                "backoff": {"initial": 0},
                "max_unhealthy": "100%",
                "max_concurrent": 8,
            },
            "components": {
                name: {
                    "port": first,
                    "probe": {"http": "/health"},
                    "launch": {"command": self._argv(name), "grace": "200ms"},
                    "rebind": f"{first}-{first + _PORTS_EACH - 1}",
                }
                for name, first in self.firsts.items()
            },
        }

    # Healers

    def start_healer(self) -> Healer:
        def well() -> bool:
            return all(self.serves(name) for name in self.names)

        self.healer = Healer(self.config, self.directory, self.children, self.heard, well)
        return self.healer

    # The world

    def alive(self, name: str) -> list[Found]:
        """Living processes of one component."""
        return [found for found in components() if found.name == name]

    def port(self, name: str) -> int:
        """Where the log says that the component lives."""
        with self.rows() as connection:
            row = connection.execute(
                "SELECT body FROM event WHERE stream = ? AND topic = ? "
                "ORDER BY version DESC LIMIT 1",
                (component_stream(name), PortRebound.TOPIC),
            ).fetchone()
        return int(orjson.loads(row[0])["new_port"]) if row else self.firsts[name]

    @contextlib.contextmanager
    def rows(self) -> Iterator[sqlite3.Connection]:
        """The log file, read by nobody's code but SQLite's."""
        file = self.directory / "healer.db"
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            yield connection

    def serves(self, name: str) -> bool:
        """Whether a process of the component answers where the log says that it lives."""
        return who_answers(self.port(name)) in {found.pid for found in self.alive(name)}

    def bring_stranger(self, port: int) -> int:
        """A process that is nobody's, listening on `port`; its pid."""
        pid = self.children.spawn(
            sys.executable, "-S", "-E", _PROGRAM, "--port", str(port), "--name", "stranger"
        )
        self._know(pid)
        wait(lambda: request(port, "GET /health"), PATIENCE, f"a stranger listens on {port}")
        return pid

    def _know(self, pid: int) -> None:
        self.strangers[pid] = start_ticks(pid)

    def send_away(self, pid: int) -> None:
        """End a stranger of ours. It stays known: it must never have been touched before."""
        self.sent_away.add(pid)
        self.children.kill(pid)

    # The end

    def end(self, *, keep: bool) -> None:
        """End everything that was started here."""
        if self.healer is not None:
            self.healer.kill()
            self.healer = None

        def nobody() -> bool:
            for found in components():
                if found.name in self.names:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(found.pid, signal.SIGKILL)
            self.children.reap()
            return not any(found.name in self.names for found in components())

        wait(nobody, PATIENCE, "the end of all components")
        for pid in self.strangers:
            self.children.kill(pid)
        for ports in self._ports:
            ports.leave()
        if not keep:
            shutil.rmtree(self.directory)


def run_mark() -> str:
    """Mark all that descends from this run, and find it by that; see `world.components`."""
    mark = f"/nonexistent/healer-soak-{secrets.token_hex(8)}"
    os.environ["SOAK_RUN"] = mark
    os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin:{mark}"
    return mark


class Ports:
    """A run of ports that can be bound now and that no other soak on this machine takes: `first`
    and those behind it. They are taken by the name of a socket, which ends with its process."""

    def __init__(self) -> None:
        for _ in _RANGE:
            self.first = next(_turn)
            self._taken = socket.socket(socket.AF_UNIX)
            with contextlib.suppress(OSError):
                self._taken.bind(f"\0healer-soak-{self.first}")
                if all(_is_free(port) for port in range(self.first, self.first + _PORTS_EACH)):
                    return
            self._taken.close()
        raise SystemExit(f"cannot find {_PORTS_EACH} free ports in {_RANGE.start}-{_RANGE.stop}")

    def leave(self) -> None:
        """Let others have them."""
        self._taken.close()


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
