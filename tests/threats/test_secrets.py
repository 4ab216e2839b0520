"""What is told in confidence is told nobody: a word is planted wherever a secret may stand."""

from __future__ import annotations

import base64
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from healer.api.token_book import Scope, TokenBook
from tests.cli.conftest import PATIENCE, House
from tests.conftest import COMPONENT, Until

ENVIRON: Final = {
    name: f"hunter2-{name.lower()}-7d1f"
    for name in ("ENV", "ARGUMENT", "HOOK", "PROBE", "URL", "NATS", "HEADER")
} | {"SECRET": "whsec_" + base64.b64encode(b"hunter2-signature-of-webhooks-7d1f").decode()}
"""Variable of the healer → a secret, which the configuration takes from there."""

CONFIG: Final = """
node: n1
listen: 127.0.0.1:{listen}
logs: logs
defaults: {{interval: 100ms, timeout: 30s, failure_threshold: 1, fast_interval: 50ms}}
telemetry: {{traces: "http://127.0.0.1:{nobody}/v1/traces", headers: {{X-Key: "${{HEADER}}"}}}}
guardian:
- {{name: hook, webhook: "http://127.0.0.1:{nobody}/${{URL}}", secrets: ["${{SECRET}}"]}}
- {{name: stream, nats: "nats://healer:${{NATS}}@127.0.0.1:{nobody}"}}
- {{name: file, file: cloudevents.jsonl}}
components:
  chat_api:
    port: {port}
    probe: {{http: /health}}
    launch:
      command: ["{python}", -S, -E, -X, "${{ARGUMENT}}", "{component}", --port, "{{port}}"]
      env: {{PASSWORD: "${{ENV}}"}}
  failing:
    port: {nobody}
    start_period: 0
    interval: 1s
    fast_interval: 1s
    probe: {{exec: ["false", "${{PROBE}}"]}}
    launch: {{hook: ["false", "${{HOOK}}"]}}
"""

EVENTS: Final = "/network-healer/cloudevents?after=0&limit=500"
READING: Final = (
    *(f"/network-healer/{name}" for name in ("stats", "history", "active", "issues", "routes")),
    *(f"/network-healer/{name}" for name in ("components", "playbooks", "playbook-stats", "mttr")),
    *(f"/network-healer/components/{name}" for name in ("chat_api", "failing")),
    *(f"/network-healer/recommendations/{name}" for name in ("chat_api", "failing")),
    *("/network-healer/openapi.json", "/metrics", "/readyz", "/livez", "/"),
)


LOOKED_AT: Final = (
    *("healer.db", "serve-1.log", "cloudevents.jsonl", "logs/healings_"),
    *("e/events/", "e/history/", "e/training", "GET /metrics", "GET /network-healer/events"),
    *(
        f"GET /network-healer/{name}"
        for name in ("at", "cloudevents", "history", "issues/", "stats")
    ),
)
"""Places that must be among those that were looked at: the component's name stands in each."""


def leaks(secrets: dict[str, str], content: bytes) -> list[str]:
    """The names of the secrets that stand in `content`."""
    return [name for name, secret in secrets.items() if secret.encode() in content]


def written(directory: Path) -> Iterator[tuple[str, bytes]]:
    """All that a healer wrote there, and what it was told, by its name there."""
    for file in sorted(directory.rglob("*")):
        if file.is_file():
            yield str(file.relative_to(directory)), file.read_bytes()


class Asked:
    """Asks a healer, and keeps every answer whole: status, headers and body."""

    def __init__(self, client: httpx.Client) -> None:
        self.answers: dict[str, bytes] = {}
        self._client = client

    def __call__(self, path: str, body: Any = None, *, token: str | None = None) -> httpx.Response:
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        method = "GET" if body is None else "POST"
        answer = self._client.request(method, path, json=body, headers=headers)
        told = f"{answer.status_code} {answer.headers.raw}".encode() + answer.content
        self.answers[f"{method} {path} {body} {answer.status_code}"] = told
        return answer

    def stream(self, until: int) -> None:
        """Read the event stream from the first event to that at the position `until`."""
        told: list[str] = []
        with self._client.stream("GET", "/network-healer/events?after=0") as answer:
            for line in answer.iter_lines():
                told.append(line)
                if line == f"id: {until}":
                    break
        self.answers["GET /network-healer/events"] = "\n".join(told).encode()


@pytest.fixture
def client(house: House) -> Iterator[httpx.Client]:
    address = f"http://127.0.0.1:{house.listen}"
    with httpx.Client(base_url=address, trust_env=False, timeout=PATIENCE) as client:
        yield client


def test_no_secret_is_in_anything_that_is_kept_or_shown(
    house: House,
    client: httpx.Client,
    until: Until,
    free_ports: Callable[[int], list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, secret in ENVIRON.items():
        monkeypatch.setenv(name, secret)
    (nobody,) = free_ports(1)
    house.write(
        CONFIG.format(
            listen=house.listen,
            port=house.port,
            nobody=nobody,
            python=sys.executable,
            component=COMPONENT,
        )
    )
    book = TokenBook(house.directory / "healer.tokens")
    _, theirs = book.create("alice", Scope.ADMIN, now=datetime.now(UTC), lasts=None)
    daemon = house.serve(until)
    local = (house.directory / "healer.token").read_text().strip()
    guessed = "hunter2-guessed-7d1f"
    secrets = {**ENVIRON, "theirs": theirs, "local": local, "guessed": guessed}
    ask = Asked(client)

    # What it starts does get them.
    first = until(house.healthy, PATIENCE)["process"]["pid"]
    assert ENVIRON["ENV"].encode() in Path(f"/proc/{first}/environ").read_bytes()
    assert ENVIRON["ARGUMENT"].encode() in Path(f"/proc/{first}/cmdline").read_bytes()

    # A heal that cures and one that cannot, receivers that are not there, tokens good and bad.
    os.kill(first, signal.SIGKILL)

    def healed() -> bool:
        shown = house.healthy()
        return shown is not None and shown["process"]["pid"] != first

    def tried_again() -> bool:
        counts = re.findall(
            r'guardian_retries_total{sink="(hook|stream)"} [1-9]', ask("/metrics").text
        )
        return sorted(counts) == ["hook", "stream"]

    until(healed, PATIENCE)
    until(lambda: "issue.step_failed.v1" in ask(EVENTS).text, PATIENCE)
    until(tried_again, PATIENCE)
    for token, status in ((local, 200), (theirs, 200), (guessed, 401)):
        assert ask("/network-healer/pause", {"reason": "x"}, token=token).status_code == status
    good = house.config.read_text()
    house.write(good.replace("interval: 100ms", "interval: soon"))
    assert ask("/network-healer/reload", {}, token=theirs).status_code == 422
    house.write(good)

    events = ask(EVENTS).json()
    ask.stream(int(events[-1]["sequence"]))
    ask(f"/network-healer/at?position={len(events)}")
    for issue in ask("/network-healer/history").json()["records"]:
        ask(f"/network-healer/issues/{issue['issue_id']}")
    for path in READING:
        ask(path)
    for component in ("chat_api", "failing"):
        wish = {"component_name": component, "issue_type": "process_crashed", "dry_run": True}
        assert ask("/network-healer/heal", wish, token=local).status_code == 200
    assert house.stop(daemon) == 0
    ran = house.run("replay", "export", "--store", house.store, "--format", "jsonl", "--out", "e")
    assert ran.returncode == 0, ran.stderr

    places = {**dict(written(house.directory)), **ask.answers}
    places["what the export said"] = (ran.stdout + ran.stderr).encode()
    looked_at = [name for name, content in places.items() if b"chat_api" in content]
    for beginning in LOOKED_AT:
        assert any(name.startswith(beginning) for name in looked_at), beginning
    found = {name: names for name, content in places.items() if (names := leaks(secrets, content))}
    assert found.pop("healer.token") == ["local"]
    # A dry run says which program it would run, with its arguments: docs/security.md.
    assert sorted(found.values()) == [["ARGUMENT"], ["HOOK"]]
    assert all("'dry_run': True" in name for name in found)
