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


ASKED = {("guard.py", "_caller"), ("access.py", "caller"), ("token_book.py", "find")}
"""The way of a token that somebody sends, from the request to the comparison."""
GIVES = {"digest", "bytes.fromhex", "token.strip"}
"""Calls that give what is as secret as what they are given."""
TAKES = {*GIVES, "hmac.compare_digest", "self._access.caller", "self.caller", "self._book.find"}
"""Calls that may be given it: their time says nothing of where two of them differ."""


def functions(file: Path) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(tree(file)) if isinstance(node, ast.FunctionDef))


def other_uses(function: ast.FunctionDef) -> list[str]:
    """What `function` does with tokens and digests but keep them, or give them to one of `TAKES`:
    compare them with ==, look them up, take a part."""
    names = {"token"}

    def is_secret(node: ast.AST) -> bool:
        match node:
            case ast.Name(id=name):
                return name in names
            case ast.Attribute(attr=name):
                return name in {"sha256", "_digest"}
            case ast.Call(func=called):
                return ast.unparse(called) in GIVES
        return False

    def may(parent: ast.AST, node: ast.AST) -> bool:
        match parent:
            case ast.Call(func=called):
                return node is not called and ast.unparse(called) in TAKES
            case ast.Attribute():
                return ast.unparse(parent) in GIVES
        return isinstance(parent, ast.Assign) or isinstance(getattr(node, "ctx", None), ast.Store)

    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and is_secret(node.value):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return [
        f"{function.name}:{parent.lineno}: {ast.unparse(parent)}"
        for parent in ast.walk(function)
        for node in ast.iter_child_nodes(parent)
        if is_secret(node) and not may(parent, node)
    ]


def test_what_opens_a_door_is_compared_in_constant_time() -> None:
    found = {
        (file.name, function.name): function
        for file in (ROOT / "healer" / "api").glob("*.py")
        for function in functions(file)
        if (file.name, function.name) in ASKED
    }
    assert found.keys() == ASKED
    assert [use for function in found.values() for use in other_uses(function)] == []
    for name in ("access.py", "token_book.py"):
        called = {ast.unparse(call.func) for call in calls(ROOT / "healer" / "api" / name)}
        assert "hmac.compare_digest" in called


def test_a_digest_is_made_and_looked_at_nowhere_else() -> None:
    """Another way to the door would not be looked at above."""
    made = {
        (file.name, function.name)
        for file in (ROOT / "healer" / "api").glob("*.py")
        for function in functions(file)
        for node in ast.walk(function)
        if (isinstance(node, ast.Call) and ast.unparse(node.func) == "digest")
        or (isinstance(node, ast.Attribute) and ast.unparse(node) == "each.sha256")
    }
    # Besides: the token of this machine is read, one of somebody else's is made, both are written.
    rest = {("access.py", "__init__"), ("token_book.py", "create"), ("token_book.py", "_write")}
    assert made <= ASKED | rest, made


@pytest.mark.parametrize(
    "line",
    [
        "return digest(token) == self._digest",
        "return self._digest != wanted",
        "return token in self._tokens",
        "return wanted in {each.sha256 for each in self._tokens}",
        "return self._by_digest[wanted]",
        "return self._by_digest.get(digest(token))",
        "return wanted.startswith(self._digest)",
        "return wanted[:8]",
        "return set(wanted)",
        "return (wanted, 1) in self._seen",
        "return [each for each in self._tokens if bytes.fromhex(each.sha256) == x]",
    ],
)
def test_a_comparison_that_tells_by_its_time_is_found(line: str) -> None:
    source = f"def find(self, token):\n    wanted = digest(token)\n    {line}\n"
    (function,) = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef)
    assert other_uses(function)
