"""Names that would be words of a command, or of a terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from healer.config import parse
from healer.errors import ConfigError
from tests.cli.conftest import House

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
