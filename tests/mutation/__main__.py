"""Plant every mistake that mutmut knows in one part of the house, and count which are noticed.

    python -m tests.mutation [domain|identity|postgres|store|verifier ...] [--children N] [--json]
    python -m tests.mutation domain --function 'healer.domain.issue.*'   only these

The score is raw: mistakes that no test reaches, and those that change nothing that can be seen,
count as not noticed. What survives must stand, with the reason, in `survivors/PART.tsv` (the
function, the changed line as it reads then, why). Exit status 1: the score is under 90 %, or a
survivor is not explained.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import orjson

from tests.mutation.part import PARTS, Part
from tests.store.cluster import SHARED, Cluster, find_programs

ROOT: Final = Path(__file__).parents[2]
SURVIVORS: Final = Path(__file__).with_name("survivors")
MUTMUT: Final = Path(sys.executable).with_name("mutmut")
ENOUGH: Final = 0.90
"""Of all mistakes, how many must be noticed."""

_NOTICED: Final = {1, 3, -24, 24, 36, 152, 255, -6, -9, -11, -15}
"""Exit codes of a failed test (1, 3: pytest's), of a mistake that never ends (mutmut's), and of one
that took the test run's own life."""

_APART: Final = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
# A shell as the namespace's init: it reaps what loses its parent, and mutmut must not. Another one
# between, so that the tests have an ancestor that is not init.
_INIT: Final = ("sh", "-c", '"$@"; exit "$?"', "sh") * 2


def copy(into: Path, part: Part) -> None:
    """The tracked files, and a `pyproject.toml` that says what to plant where."""
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE, check=True
    )
    for name in filter(None, listing.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, into / name)
    settings = {
        "source_paths": ["healer", "projections", "replay"],
        # Each by its name: mutmut's own patterns would go down into directories.
        "only_mutate": [
            str(path.relative_to(ROOT)) for glob in part.modules for path in sorted(ROOT.glob(glob))
        ],
        "also_copy": [
            "schemas",
            "docs",
            "README.md",
            "Makefile",
            "healer",
            "projections",
            "replay",
        ],
        "pytest_add_cli_args": [
            "-q",
            "-x",
            "--timeout=0",
            "-p",
            "no:randomly",
            "-p",
            "no:cacheprovider",
            *(f"--deselect={test}" for test in part.without),
            *(("-k", part.words) if part.words else ()),
        ],
        "pytest_add_cli_args_test_selection": part.tests,
        # What takes three times as long as without a mistake, and two minutes more, hangs: on a
        # loaded machine a slow test would count as one that noticed.
        "timeout_constant": 40.0,
        "timeout_multiplier": 3.0,
    }
    with (into / "pyproject.toml").open("a") as file:
        file.write("\n[tool.mutmut]\n")
        # A list of strings reads the same in JSON and in TOML.
        file.writelines(
            f"{key} = {orjson.dumps(value).decode()}\n" for key, value in settings.items()
        )


@contextmanager
def environment(directory: Path, part: Part) -> Iterator[dict[str, str]]:
    """That of the tests: a server runs for as long as it is used, where the part wants one."""
    common = {**os.environ, "HYPOTHESIS_STORAGE_DIRECTORY": str(directory / ".hypothesis")}
    if not part.server:
        yield common
        return
    programs = find_programs()
    if programs is None:
        raise SystemExit("initdb is neither in PATH nor below /usr/lib/postgresql")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    cluster = Cluster(programs, port)
    try:
        cluster.start()
        yield {**common, SHARED: f"{port}:{cluster.directory}"}
    finally:
        cluster.remove()


def verdicts(directory: Path) -> dict[str, int | None]:
    """Each mistake by its name, with the exit code of its tests (33: no test reaches it)."""
    return {
        name: code
        for meta in sorted((directory / "mutants").rglob("*.meta"))
        for name, code in orjson.loads(meta.read_bytes())["exit_code_by_key"].items()
    }


def changed_line(directory: Path, name: str) -> str:
    """The line that the mistake makes, as it reads then; "(gone)" where it only takes away."""
    shown = subprocess.run(
        [MUTMUT, "show", name], cwd=directory, capture_output=True, text=True, check=True
    ).stdout
    added = [
        line[1:].strip() for line in shown.splitlines() if line[:1] == "+" and line[:3] != "+++"
    ]
    return " ".join(filter(None, added)) or "(gone)"


def explained(part: str) -> set[tuple[str, str]]:
    file = SURVIVORS / f"{part}.tsv"
    if not file.exists():
        return set()
    rows = (line.split("\t") for line in file.read_text().splitlines() if line and line[0] != "#")
    return {(function, line) for function, line, why in rows if why}


def run(name: str, arguments: argparse.Namespace) -> bool:
    directory = Path(tempfile.mkdtemp(prefix=f"healer-mutants-{name}-"))
    try:
        copy(directory, PARTS[name])
        command = [MUTMUT, "run", "--max-children", str(arguments.children), *arguments.function]
        if PARTS[name].kills:
            command = [*_APART, *_INIT, *command]
        with (
            (directory / "output").open("wb") as output,
            environment(directory, PARTS[name]) as env,
        ):
            ended = subprocess.run(
                command, cwd=directory, env=env, stdout=output, stderr=output, check=False
            )
        found = verdicts(directory)
        if ended.returncode or not any(code is not None for code in found.values()):
            print((directory / "output").read_text(errors="replace")[-4000:], file=sys.stderr)
            print(f"{name}: mutmut ended with {ended.returncode}", file=sys.stderr)
            return False
        return report(
            name, directory, {key: code for key, code in found.items() if code is not None}
        )
    finally:
        shutil.rmtree(directory)


def report(name: str, directory: Path, found: dict[str, int]) -> bool:
    """A line for each module and for all, then every survivor that is not explained."""
    total, noticed = Counter[str](), Counter[str]()
    for mutant, code in found.items():
        module = mutant.rsplit(".", 1)[0]
        total[module] += 1
        noticed[module] += code in _NOTICED
    for module in sorted(total):
        print(_row(module, noticed[module], total[module]))
    print(_row(name, noticed.total(), total.total()))
    score = noticed.total() / total.total()
    known = explained(name)
    unexplained = 0
    for mutant, code in found.items():
        if code in _NOTICED:
            continue
        function = mutant.rsplit("__mutmut_", 1)[0]
        line = changed_line(directory, mutant)
        if (function, line) not in known:
            unexplained += 1
            print(f"{'no test' if code == 33 else 'survived'}\t{function}\t{line}")
    return score >= ENOUGH and not unexplained


def _row(name: str, noticed: int, total: int) -> str:
    return f"{name:40} {noticed:5} of {total:5}  {noticed / total:6.1%}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], default=[])
    parser.add_argument("--children", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--function", action="append", default=[], help="a pattern of mutmut's")
    arguments = parser.parse_args()
    good = [run(name, arguments) for name in arguments.parts or PARTS]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
