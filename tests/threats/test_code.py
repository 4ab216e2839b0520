"""What no line of the packages does, whoever asks for it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGES = ("healer", "projections", "replay")
FILES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))

UNSAFE_MODULES = {"pickle", "cPickle", "dill", "marshal", "shelve", "joblib", "imp", "code"}
OUR_OWN_MEMORY = {"projections/fold.py", "replay/past.py"}
"""Pickle what this process or its own child has just written, and nothing that was stored."""
UNSAFE_CALLS = {"eval", "exec", "__import__", "os.system", "os.popen", "yaml.load", "yaml.load_all"}
RE_CALLS = {"compile", "match", "search", "fullmatch", "sub", "split", "findall", "finditer"}


def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


def calls(file: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree(file)) if isinstance(node, ast.Call))


def is_fixed(pattern: ast.expr) -> bool:
    """Whether it is text that stands in the code, perhaps with constants of the module in it."""
    match pattern:
        case ast.Constant() | ast.Name() | ast.BinOp():
            return not isinstance(pattern, ast.Name) or pattern.id.isupper()
        case ast.JoinedStr():
            names = {node.id for node in ast.walk(pattern) if isinstance(node, ast.Name)}
            return all(name.isupper() for name in names)
    return False


def test_there_is_code_to_look_at() -> None:
    assert len(FILES) > 100


def test_nothing_that_was_read_becomes_code() -> None:
    found = []
    for file in FILES:
        for node in ast.walk(tree(file)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            if str(file.relative_to(ROOT)) not in OUR_OWN_MEMORY:
                found += [f"{file}: import {name}" for name in names if name in UNSAFE_MODULES]
        found += [
            f"{file}:{call.lineno}: {ast.unparse(call.func)}"
            for call in calls(file)
            if ast.unparse(call.func) in UNSAFE_CALLS
        ]
    assert found == []


def test_no_shell_is_ever_asked_for() -> None:
    found = [
        f"{file}:{call.lineno}"
        for file in FILES
        for call in calls(file)
        for keyword in call.keywords
        if keyword.arg == "shell" or ast.unparse(call.func).endswith("create_subprocess_shell")
    ]
    assert found == []


def test_no_pattern_is_made_of_what_somebody_sent() -> None:
    """A regular expression of a stranger can run for ever."""
    found = [
        f"{file}:{call.lineno}: {ast.unparse(call)}"
        for file in FILES
        for call in calls(file)
        if isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == "re"
        and call.func.attr in RE_CALLS
        and not is_fixed(call.args[0])
    ]
    assert found == []


@pytest.mark.parametrize("name", ["access.py", "token_book.py"])
def test_what_opens_a_door_is_compared_in_constant_time(name: str) -> None:
    called = {ast.unparse(call.func) for call in calls(ROOT / "healer" / "api" / name)}
    assert "hmac.compare_digest" in called
