"""Names that would be words of a command, and secrets that would be read by others."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from healer.config import parse
from healer.errors import ConfigError
from tests.cli.conftest import House
from tests.conftest import Until

HOSTILE = [
    "",
    "-rf",
    "--force",
    ".hidden",
    "../../etc/passwd",
    "a/b",
    "a\\b",
    "a b",
    "a;b",
    "a|b",
    "$(reboot)",
    "`reboot`",
    "${HOME}",
    "{port}",
    "{0.__class__}",
    "%s%n",
    "a\nb",
    "a\x00b",
    "a\x1b[2Jb",
    "a\u202eb",
    "caf\u00e9",
    "<script>alert(1)</script>",
    "' OR 1=1 --",
    "x" * 64,
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_could_mean_something_else_is_refused(name: str) -> None:
    text = json.dumps({"components": {name: {"port": 8220}}})
    with pytest.raises(ConfigError) as refused:
        parse(text, source="healer.yaml", environ={}, hostname="h", directory=Path("/etc/healer"))
    assert refused.value.problems


def test_a_refusal_says_nothing_to_the_terminal(house: House) -> None:
    names = [name for name in HOSTILE if not name.isprintable()]
    house.write(json.dumps({"components": {name: {"port": 8220} for name in names}}))
    ran = house.run("validate")
    assert ran.returncode == 2
    said = ran.stdout + ran.stderr
    assert "is not a name" in said
    assert said.replace("\n", "").isprintable()


CANARY = "hunter2-canary-7d1f"
ADDRESSES = (
    *(f"/network-healer/{name}" for name in ("stats", "history", "active", "components")),
    *(f"/network-healer/{name}" for name in ("playbook-stats", "recommendations/chat_api")),
    *("/network-healer/components/chat_api", "/metrics", "/readyz", "/openapi.json"),
)


def written(directory: Path) -> Iterator[tuple[Path, bytes]]:
    """All that a healer wrote there, and what it was told."""
    for file in sorted(directory.rglob("*")):
        if file.is_file():
            yield file, file.read_bytes()


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_a_secret_of_a_component_is_in_nothing_that_is_kept_or_shown(
    house: House, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THEIR_PASSWORD", CANARY)
    text = house.config.read_text().rstrip()
    assert text.endswith("]}")
    house.write(text[:-1] + ', env: {PASSWORD: "${THEIR_PASSWORD}"}}\n')
    daemon = house.serve(until)
    first = until(house.healthy, 60)["process"]["pid"]
    assert CANARY.encode() in Path(f"/proc/{first}/environ").read_bytes()
    os.kill(first, signal.SIGKILL)

    def healed() -> bool:
        shown = house.healthy()
        return shown is not None and shown["process"]["pid"] != first

    until(healed, 60)
    for address in ADDRESSES:
        assert CANARY not in house.get(address).text, address
    # A refusal does not show it either.
    house.write(house.config.read_text().replace("interval: 100ms", "interval: soon"))
    refused = house.run("reload")
    assert refused.returncode == 2
    assert CANARY not in refused.stdout + refused.stderr
    assert house.stop(daemon) == 0
    found = [str(file) for file, content in written(house.directory) if CANARY.encode() in content]
    assert found == []
    assert any(file.name == "healer.db" for file, _ in written(house.directory))
