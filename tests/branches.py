"""Whether the tests took enough of the branches of each part; `make coverage` asks in the end.

    coverage json -o - | python -m tests.branches

Exit status 1: of some part fewer than 95 % were taken. The share is that of branches alone, and
each part has to reach it: in coverage's own figure, lines and all parts are mixed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["shares"]

_PARTS: Final = ("healer/domain", "healer/engine", "healer/playbooks", "projections", "replay")
_LEAST: Final = 95.0


def shares(report: Mapping[str, Any]) -> dict[str, float]:
    """Part → percentage of its branches that were taken, of what `coverage json` says; a part in
    which nothing was measured has 0."""
    found: dict[str, float] = {}
    for part in _PARTS:
        summaries = [
            each["summary"] for name, each in report["files"].items() if name.startswith(f"{part}/")
        ]
        branches = sum(each["num_branches"] for each in summaries)
        taken = sum(each["covered_branches"] for each in summaries)
        found[part] = 100 * taken / branches if branches else 0.0
    return found


def main() -> int:
    """See the module."""
    found = shares(json.load(sys.stdin))
    for part, share in found.items():
        wanted = "" if share >= _LEAST else f": fewer than the {_LEAST:g} % that it has to be"
        print(f"branches taken of {part}: {share:.2f} %{wanted}")
    return 0 if min(found.values()) >= _LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
