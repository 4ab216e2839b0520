"""Every command shows how it is called, and is called so."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from healer.cli.command import app
from healer.cli.example import EXAMPLES

ROOT: Any = typer.main.get_command(app)


def commands(command: Any = ROOT, *words: str) -> Iterator[tuple[str, Any]]:
    """All that can be run, by the words that lead to it."""
    if not hasattr(command, "commands"):
        yield " ".join(words), command
        return
    for name, inner in command.commands.items():
        yield from commands(inner, *words, name)


def test_every_command_has_an_example_and_every_example_a_command() -> None:
    assert {words for words, _ in commands()} == set(EXAMPLES)


@pytest.mark.parametrize(("words", "example"), [(w, e) for w in EXAMPLES for e in EXAMPLES[w]])
def test_an_example_is_one_of_its_command(words: str, example: str) -> None:
    program, *arguments = shlex.split(example)
    assert program == "healer"
    context = ROOT.make_context("healer", list(arguments))
    left = arguments
    while hasattr(context.command, "commands"):
        name, command, left = context.command.resolve_command(context, left)
        # Parsed, and every value checked, as it is before the command runs.
        context = command.make_context(name, list(left), parent=context)
    assert " ".join(shlex.split(example)[1:]).startswith(words)
    assert context.command is dict(commands())[words]


@pytest.mark.parametrize("words", EXAMPLES)
def test_the_help_shows_it(words: str) -> None:
    shown = CliRunner().invoke(app, [*words.split(), "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    plain = re.sub("\x1b\\[[0-9;]*m", "", shown.stdout)  # coloured where the run forces it
    for example in EXAMPLES[words]:
        assert example in plain
