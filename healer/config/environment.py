"""`${NAME}` in values. Done after parsing, so that a variable can never add structure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from healer.config.document import Path

__all__ = ["substitute"]

_REFERENCE: Final = re.compile(
    r"\$\$|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<fallback>:-(?P<default>[^}]*))?\}|\$\{"
)


def substitute(
    tree: Any, environ: Mapping[str, str], problems: list[tuple[Path, str]], path: Path = ()
) -> Any:
    """A copy of `tree` in which `${NAME}` and `${NAME:-default}` are replaced, `$$` is a dollar.

    The default stands for a variable that is unset or empty. What cannot be replaced is added to
    `problems`.
    """
    if isinstance(tree, dict):
        return {
            key: substitute(value, environ, problems, (*path, key)) for key, value in tree.items()
        }
    if isinstance(tree, list):
        return [
            substitute(value, environ, problems, (*path, str(index)))
            for index, value in enumerate(tree)
        ]
    if not isinstance(tree, str) or "$" not in tree:
        return tree

    def replacement(match: re.Match[str]) -> str:
        name = match["name"]
        if match[0] == "$$":
            return "$"
        if name is None:
            forms = "${NAME}, ${NAME:-default}, $$ for a dollar"
            problems.append((path, f"'${{' begins no variable; allowed: {forms}"))
            return ""
        if match["fallback"] is not None:
            return environ.get(name) or match["default"]
        if name not in environ:
            problems.append(
                (
                    path,
                    f"the environment variable {name} is not set; allowed: set it, or write "
                    f"${{{name}:-default}}",
                )
            )
            return ""
        return environ[name]

    return _REFERENCE.sub(replacement, tree)
