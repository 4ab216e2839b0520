"""A real `healer serve` on a real configuration, and the command line beside it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from healer.store import SqliteLog
from healer.store.codec import Codec
from tests.api.ending import end_components
from tests.conftest import COMPONENT, ROOT, Processes, Until

CONFIG = """
node: n1
listen: 127.0.0.1:{listen}
logs: logs
defaults: {{interval: 100ms, timeout: 500ms, failure_threshold: 2, fast_interval: 20ms}}
components:
  chat_api:
    port: {port}
    probe: {{http: /health}}
    launch: {{command: ["{python}", -S, -E, "{component}", --port, "{{port}}"]}}
"""

PATIENCE = 60.0
"""Seconds for what takes one on an idle machine: others may be at work."""

Ran = subprocess.CompletedProcess[str]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}


class House:
    """A directory with a healer.yaml, the healers that serve it, and what they started."""

    def __init__(self, directory: Path, listen: int, port: int, processes: Processes) -> None:
        self.directory = directory
        self.listen = listen
        self.port = port
        self._processes = processes
        self._number = 0
        self.codec = Codec()
        """Reads the log in the end; one that others wrote wants another."""
        self.write(
            CONFIG.format(listen=listen, port=port, python=sys.executable, component=COMPONENT)
        )

    @property
    def config(self) -> Path:
        return self.directory / "healer.yaml"

    @property
    def store(self) -> str:
        return f"sqlite:///{self.directory / 'healer.db'}"

    def write(self, text: str) -> None:
        self.config.write_text(text)
        self.config.chmod(0o600)

    def serve(self, until: Until, *, config: Path | None = None) -> subprocess.Popen[bytes]:
        """Start `healer serve`, and wait until it is ready."""
        process = self.start(config=config)
        until(lambda: process.poll() is not None or self.ready(), PATIENCE)
        assert process.poll() is None, self.log.read_text()
        return process

    def start(self, *, config: Path | None = None) -> subprocess.Popen[bytes]:
        """Start `healer serve`."""
        self._number += 1
        self.log = self.directory / f"serve-{self._number}.log"
        with self.log.open("wb") as said:
            argv = (sys.executable, "-m", "healer", "serve", "-c", str(config or self.config))
            return self._processes.start(
                *argv, cwd=self.directory, env=environment(), stdout=said, stderr=said
            )

    def ready(self) -> bool:
        try:
            return self.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def get(self, path: str) -> httpx.Response:
        with httpx.Client(trust_env=False, timeout=PATIENCE) as client:
            return client.get(f"http://127.0.0.1:{self.listen}{path}")

    def shown(self) -> dict[str, Any]:
        """chat_api, as the running healer sees it."""
        found: dict[str, Any] = self.get("/network-healer/components").json()["components"][0]
        return found

    def healthy(self) -> dict[str, Any] | None:
        shown = self.shown()
        return shown if shown["health"] == "healthy" and shown["process"] else None

    def run(self, *arguments: str, timeout: float = PATIENCE) -> Ran:
        """Run `healer ARGUMENTS` here."""
        return subprocess.run(
            [sys.executable, "-m", "healer", *arguments],
            cwd=self.directory,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def json(self, *arguments: str) -> Any:
        ran = self.run(*arguments)
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)

    def stop(self, process: subprocess.Popen[bytes]) -> int:
        """SIGTERM; the exit status."""
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        return process.wait(PATIENCE)

    def end(self) -> None:
        """End the components; the healers end with the test's processes."""
        self._processes.end()
        file = self.directory / "healer.db"
        if file.exists():
            asyncio.run(_end(file, self.codec))


async def _end(file: Path, codec: Codec) -> None:
    async with SqliteLog.open_readonly(file, codec=codec) as log:
        await end_components(log)


@pytest.fixture
def house(
    tmp_path: Path, free_ports: Callable[[int], list[int]], processes: Processes
) -> Iterator[House]:
    """A healer to be served, with one component to be started."""
    listen, port = free_ports(2)
    house = House(tmp_path, listen, port, processes)
    try:
        yield house
    finally:
        house.end()
