"""The house stands: imports point down, the contract bites, and importing anything does nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

from tests.conftest import ROOT

PACKAGES = ("healer", "projections", "replay")
PURE = ("healer.domain", "healer.ports", "healer.errors")
LINT_IMPORTS = str(Path(sys.executable).parent / "lint-imports")

READ_SIDE = "The read side stands between the machine's floor and the engine's"
REPLAY = "Replay has no way to anything that could act, directly or through others"
THROUGH_PORTS = "reach the machine through ports only"
PURITY = "The domain is pure: no machine, no clock, no chance"
FLOORS = "Every module of the healer stands on a floor, and imports point down"
PROJECTIONS = "Projections know events and the store's reading side, and nothing that acts"


def lint_imports(house: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LINT_IMPORTS, "--no-cache"], cwd=house, capture_output=True, text=True, check=False
    )


def broken(output: str) -> list[str]:
    lines = [line.strip() for line in output.splitlines()]
    return [line.removesuffix(" BROKEN") for line in lines if line.endswith(" BROKEN")]


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the three packages, to be spoiled."""
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_imports_point_down() -> None:
    ran = lint_imports(ROOT)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ("file", "statement", "contract"),
    [
        ("healer/domain/duration.py", "import healer.store", FLOORS),
        ("healer/errors.py", "import healer.domain.spec", FLOORS),
        ("healer/store/__init__.py", "import healer.probes", FLOORS),
        ("healer/nobody_placed_me.py", "", FLOORS),
        ("healer/domain/duration.py", "import random", PURITY),
        ("healer/playbooks/__init__.py", "import healer.host", THROUGH_PORTS),
        ("healer/store/__init__.py", "import projections", READ_SIDE),
        ("projections/__init__.py", "import replay", READ_SIDE),
        ("projections/__init__.py", "import healer.watchdog", READ_SIDE),
        ("projections/__init__.py", "import healer.probes", PROJECTIONS),
        ("replay/__init__.py", "import healer.host", REPLAY),
    ],
)
def test_a_forbidden_import_breaks_the_contract(
    house: Path, file: str, statement: str, contract: str
) -> None:
    with (house / file).open("a") as module:
        module.write(f"\n\ndef spoiled():\n    {statement or 'return 1'}\n")
    ran = lint_imports(house)
    assert ran.returncode != 0
    assert any(contract in name for name in broken(ran.stdout)), ran.stdout + ran.stderr


def test_replay_is_kept_from_acting_through_others_too(house: Path) -> None:
    (house / "healer" / "store" / "helpful.py").write_text("import subprocess\n")
    (house / "replay" / "indirect.py").write_text("import healer.store.helpful\n")
    assert REPLAY in broken(lint_imports(house).stdout)


def test_the_pure_floor_knows_three_libraries_and_the_standard_one() -> None:
    graph = grimp.build_graph(*PACKAGES, include_external_packages=True, cache_dir=None)
    known = {
        imported.partition(".")[0]
        for module in graph.modules
        if module.startswith(PURE)
        for imported in graph.find_modules_directly_imported_by(module)
    }
    assert known - sys.stdlib_module_names <= {
        "eventsourcing",
        "healer",
        "pydantic",
        "transitions",
    }


def test_every_directory_of_code_is_a_package() -> None:
    """Others would be invisible to the contract."""
    directories = {file.parent for package in PACKAGES for file in (ROOT / package).rglob("*.py")}
    assert [str(each) for each in directories if not (each / "__init__.py").exists()] == []


MODULES = """
import pkgutil, sys
packages = [__import__(name) for name in ("healer", "projections", "replay")]
modules = [
    found.name
    for package in packages
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + ".")
    if not found.name.endswith(".__main__")
]
"""

FOREIGN = (
    MODULES
    + """
for module in modules:
    __import__(module)
ours = ("healer", "projections", "replay", "__main__", "__mp_main__")
print(*[name for name in sys.modules if name.partition(".")[0] not in ours])
"""
)

# The libraries' own imports are not ours to judge: they are loaded first. `walk_packages` imports
# the packages, so that all of ours is forgotten before the guard stands.
GUARDED = (
    "import sys\nsys.dont_write_bytecode = True\n"
    + MODULES
    + """
import contextlib, importlib, os, threading
for name in sys.stdin.read().split():
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
for name in list(sys.modules):
    if name.partition(".")[0] in ("healer", "projections", "replay"):
        del sys.modules[name]

EFFECTS = (
    "socket.", "subprocess.", "sqlite3.", "os.system", "os.exec", "os.posix_spawn", "os.fork",
    "os.kill", "os.mkdir", "os.remove", "os.rename", "os.putenv", "signal.", "urllib.", "http.",
    "tempfile.", "shutil.", "syslog.",
)
found = []
module = ""

def guard(event, arguments):
    if event.startswith(EFFECTS):
        found.append(f"{module}: {event} {arguments[:2]}")
    elif event == "open" and not str(arguments[0]).endswith((".py", ".pyc", ".so")):
        found.append(f"{module}: open {arguments[0]}")

def owner(frame):
    return frame.f_globals["__name__"].partition(".")[0]

class Environment:
    def read(self, *names):
        # pydantic asks for its own switches with every model: libraries answer for themselves,
        # what we read through the standard library is ours.
        frame = sys._getframe(1)
        while frame and owner(frame) in {"__main__", *sys.stdlib_module_names}:
            frame = frame.f_back
        if frame and owner(frame) in ("healer", "projections", "replay"):
            found.append(f"{module}: reads the environment {names}")
    def all(self):
        self.read("all of it")
        return []
    get = __getitem__ = __contains__ = read
    keys = values = items = all
    def __iter__(self):
        return iter(self.all())

def start(thread):
    found.append(f"{module}: starts {thread}")

threading.Thread.start = start  # no audit event before Python 3.12
os.environ = os.environb = Environment()
sys.addaudithook(guard)
for module in modules:
    importlib.import_module(module)
print("\\n".join(found))
"""
)


def run_python(program: str, house: Path, given: str = "") -> str:
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=house,
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def test_importing_any_module_opens_nothing_and_reads_no_environment() -> None:
    assert run_python(GUARDED, ROOT, run_python(FOREIGN, ROOT)) == ""


@pytest.mark.parametrize(
    ("statement", "seen"),
    [
        ("import os; os.getenv('HOME')", "reads the environment"),
        ("import os; dict(os.environ)", "reads the environment"),
        ("import pathlib; pathlib.Path.home()", "reads the environment"),
        ("import psutil; psutil.boot_time()", "open /proc/stat"),
        ("import socket; socket.socket().close()", "socket.__new__"),
        ("import sqlite3; sqlite3.connect(':memory:').close()", "sqlite3.connect"),
        ("import subprocess; subprocess.run(['true'])", "subprocess.Popen"),
        ("import threading; threading.Thread(target=int).start()", "starts <Thread"),
    ],
)
def test_an_effect_at_import_is_seen(house: Path, statement: str, seen: str) -> None:
    foreign = run_python(FOREIGN, house)
    with (house / "healer" / "errors.py").open("a") as module:
        module.write(f"\n\n{statement}\n")
    assert seen in run_python(GUARDED, house, foreign)
