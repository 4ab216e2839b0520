"""A real `healer serve` over four real components, and a real Chromium that looks at it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from healer.domain.events import Event
from healer.store import SqliteLog
from tests.api.ending import end_components
from tests.conftest import COMPONENT, ROOT, Processes, Until

CHROMIUM: Final = shutil.which("chromium")
ARGUMENTS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DESKTOP: Final = {"width": 1280, "height": 900}
PHONE: Final = {"width": 390, "height": 844}
SOON: Final = 60_000
"""Milliseconds that the page gets for anything: the machine may be busy."""

CONFIG = """
node: n1
listen: 127.0.0.1:{listen}
logs: logs
defaults: {{interval: 100ms, timeout: 1s, failure_threshold: 2, fast_interval: 30ms}}
budget: {{attempts: 100, backoff: {{initial: 10m, max: 10m}}, max_unhealthy: 100%}}
components:
  chat_api: {{port: {ports[0]}, probe: {{http: /health}}, launch: {launch}}}
  search_api: {{port: {ports[1]}, probe: {{http: /health}}, launch: {launch}}}
  orders_api: {{port: {ports[2]}, probe: {{http: /health}}, launch: {launch}, mode: suggest}}
  memory_kernel: {{port: {ports[3]}, probe: {{http: /health}}, launch: {launch}}}
"""

ACTING: Final = ("chat_api", "search_api", "memory_kernel")


def in_a_thread(work: Callable[[], Any]) -> Any:
    """Playwright's own loop runs in this thread while a browser is open."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join(60)
    assert found, "the work in the thread failed"
    return found[0]


class Served:
    """A healer that is served, from a directory of its own."""

    def __init__(self, directory: Path, ports: Sequence[int], processes: Processes) -> None:
        self.directory = directory
        self.listen, *self.ports = ports
        self.url = f"http://127.0.0.1:{self.listen}"
        self._processes = processes
        command = [sys.executable, "-S", "-E", COMPONENT, "--port", "{port}"]
        launch = json.dumps({"command": command, "grace": "1s"})
        self.config = directory / "healer.yaml"
        self.config.write_text(CONFIG.format(listen=self.listen, ports=self.ports, launch=launch))
        self.config.chmod(0o600)

    @property
    def file(self) -> Path:
        return self.directory / "healer.db"

    @property
    def token(self) -> str:
        return (self.directory / "healer.token").read_text().strip()

    def write(self, events: Sequence[Event]) -> None:
        """Put `events` into the log; the healer is not running."""

        async def append() -> bool:
            async with SqliteLog.open(self.file, new_log_id=lambda: "1" * 32) as log:
                for at in range(0, len(events), 500):
                    await log.append(events[at : at + 500])
            return True

        in_a_thread(lambda: asyncio.run(append()))

    def serve(self, until: Until) -> None:
        """Start it, and wait until it is ready."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
        log = self.directory / "serve.log"
        argv = (sys.executable, "-m", "healer", "serve", "-c", str(self.config))
        with log.open("wb") as stderr:
            self.process = self._processes.start(
                *argv, cwd=self.directory, env=environment, stderr=stderr
            )
        until(lambda: self.process.poll() is not None or self.ready())
        assert self.process.poll() is None, log.read_text()

    def ready(self) -> bool:
        try:
            return self.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def get(self, path: str, **query: Any) -> httpx.Response:
        with httpx.Client(trust_env=False, timeout=120) as client:
            return client.get(f"{self.url}{path}", params=query)

    def component(self, name: str) -> dict[str, Any]:
        found = self.get("/network-healer/components").json()["components"]
        return next(each for each in found if each["name"] == name)

    def healthy(self, *names: str) -> bool:
        """Whether these are healthy, with a process and no open issue."""
        found = self.get("/network-healer/components").json()["components"]
        return all(
            each["health"] == "healthy" and each["process"] and not each["open_issue"]
            for each in found
            if each["name"] in names
        )

    def kill(self, name: str, *, again: bool = False) -> None:
        """kill -9. The heal waits for nothing, unless it is `again`: then the back-off holds it."""
        if not again:
            self.rearm(name)
        pid = self.component(name)["process"]["pid"]
        os.kill(pid, signal.SIGKILL)

    def last(self, name: str) -> Any:
        """The id of the component's last issue."""
        found = self.get(f"/network-healer/history/{name}", limit=1).json()["records"]
        return found[0]["issue_id"] if found else None

    def story(self, name: str) -> dict[str, Any]:
        """The component's last issue with its facts."""
        issue: dict[str, Any] = self.get(f"/network-healer/issues/{self.last(name)}").json()
        return issue

    def healed(self, until: Until, name: str) -> dict[str, Any]:
        """Break `name`, wait until it is healed; the issue."""
        until(lambda: self.healthy(name))
        before = self.last(name)
        self.kill(name)
        until(lambda: self.last(name) != before and self.healthy(name))
        return self.story(name)

    def rearm(self, name: str) -> None:
        """Its whole budget back: a heal may begin at once."""
        assert self.post(f"/components/{name}/rearm", {}).status_code == 200

    def fault(self, name: str, kind: str) -> None:
        """Make the trouble `kind` inside the component."""
        self.rearm(name)
        url = f"http://127.0.0.1:{self.component(name)['port']}/fault"
        with httpx.Client(trust_env=False, timeout=60) as client:
            client.post(url, json={"kind": kind}).raise_for_status()

    def post(self, path: str, body: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}"}
        with httpx.Client(trust_env=False, timeout=120) as client:
            return client.post(f"{self.url}/network-healer{path}", json=body, headers=headers)

    def end(self) -> None:
        """End the healer, and what it started."""
        process: subprocess.Popen[bytes] | None = getattr(self, "process", None)
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(20)
        self._processes.end()

        async def end() -> bool:
            async with SqliteLog.open_readonly(self.file) as log:
                await end_components(log)
            return True

        if self.file.exists():
            in_a_thread(lambda: asyncio.run(end()))


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory,
    free_ports: Callable[[int], list[int]],
    until: Until,
) -> Iterator[Served]:
    """One healer for the module; its components are healthy, but for the one that waits for a yes
    (`orders_api`)."""
    it = Served(tmp_path_factory.mktemp("served"), free_ports(5), Processes())
    try:
        it.serve(until)
        until(lambda: it.healthy(*ACTING))
        yield it
    finally:
        it.end()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """One browser for the module, with a fresh profile."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=list(ARGUMENTS), headless=True
        )
        yield browser
        browser.close()


class Watched:
    """A page, and whatever went wrong in it."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.wrong: list[str] = []
        self.asked: set[str] = set()
        page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        page.on("dialog", self._dialog)
        page.on("console", self._console)
        page.on("request", lambda request: self.asked.add(request.url))

    def _dialog(self, dialog: Any) -> None:
        self.wrong.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _console(self, message: Any) -> None:
        text = str(message.text)
        # Chromium says so of every answer that is not 2xx, or does not come: what the page makes of
        # it is tested.
        if message.type in {"error", "warning"} and "Failed to load resource" not in text:
            self.wrong.append(f"{message.type}: {text}")


Look = Callable[..., Watched]


@pytest.fixture
def look(chromium: Any) -> Iterator[Look]:
    """`look(served, ...)`: the dashboard in a fresh profile; nothing may go wrong in it."""
    contexts: list[Any] = []
    pages: list[Watched] = []

    def open_page(served: Served, path: str = "/", **options: Any) -> Watched:
        context = chromium.new_context(**{"viewport": DESKTOP, "locale": "en-GB", **options})
        context.set_default_timeout(SOON)
        contexts.append(context)
        watched = Watched(context.new_page())
        pages.append(watched)
        watched.page.goto(f"{served.url}{path}")
        return watched

    try:
        yield open_page
        assert [each for page in pages for each in page.wrong] == []
    finally:
        for context in contexts:
            context.close()
