"""A bare machine gets the whole program, and exactly the one that was tested."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = ("requirements.txt", "requirements-dev.txt")
PACKAGES = ("healer", "projections", "replay")


def pins(lock: str) -> dict[str, str]:
    found = re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / lock).read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def declared(extra: str | None = None) -> list[Requirement]:
    project, build = PROJECT["project"], PROJECT["build-system"]
    wanted = [*project["dependencies"], *build["requires"]]
    if extra:
        wanted += project["optional-dependencies"][extra]
    return [Requirement(line) for line in wanted]


@pytest.mark.parametrize(("lock", "extra"), [(LOCKS[0], None), (LOCKS[1], "dev")])
def test_a_lock_pins_every_declared_dependency(lock: str, extra: str | None) -> None:
    pinned = pins(lock)
    wrong = [
        str(wanted)
        for wanted in declared(extra)
        if pinned.get(canonicalize_name(wanted.name), "") not in wanted.specifier
        or canonicalize_name(wanted.name) not in pinned
    ]
    assert wrong == [], f"{lock} is older than pyproject.toml: make lock"


@pytest.mark.parametrize("lock", [*LOCKS, "requirements-spark.txt", "requirements-audit.txt"])
def test_every_pin_has_hashes_and_the_lock_names_no_place(lock: str) -> None:
    text = (ROOT / lock).read_text()
    blocks = re.split(r"\n(?=\S)", text.strip())
    assert [each for each in blocks if "--hash=sha256:" not in each and each[0] != "#"] == []
    assert re.findall(r"://|--index|--find-links|--trusted-host|(?:^| )/\S+", text) == []


def test_tests_run_with_the_very_versions_that_are_shipped() -> None:
    assert pins(LOCKS[0]).items() <= pins(LOCKS[1]).items()


def tracked() -> list[Path]:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout: what is committed cannot be told")
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_committed_file_names_a_registry_or_a_place_on_somebodys_machine() -> None:
    # In brackets, so that this line does not name them either.
    never = re.compile("pypi[.]org|python[h]osted|/[r]oot/|/[w]ork/")
    named = [
        f"{file.relative_to(ROOT)}: {found.group()}"
        for file in tracked()
        if (found := never.search(file.read_text(errors="replace")))
    ]
    assert named == []


def test_the_wheel_holds_the_three_packages_and_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for package in (*PACKAGES, "tests"):
        shutil.copytree(
            ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    wheels = tmp_path / "wheels"
    offline = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *offline, "--wheel-dir", str(wheels), str(source)],
        check=True,
        capture_output=True,
    )
    (wheel,) = wheels.iterdir()
    names = zipfile.ZipFile(wheel).namelist()
    information = f"network_healer-{PROJECT['project']['version']}.dist-info"
    assert {name.partition("/")[0] for name in names} == {*PACKAGES, information}
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    assert f"{information}/licenses/LICENSE" in names
    code = {str(each.relative_to(ROOT)) for each in ROOT.glob("healer/**/*.py")}
    assert code <= set(names)
    static = ROOT / "healer" / "api" / "static"
    page = {str(each.relative_to(ROOT)) for each in static.rglob("*") if each.is_file()}
    assert page <= set(names), "the dashboard is not in the wheel"


def test_the_command_leads_to_a_function() -> None:
    pytest.importorskip("healer.cli", reason="the command line does not exist yet")
    (command,) = entry_points(group="console_scripts", name="healer")
    assert callable(command.load())


@pytest.fixture
def door(tmp_path: Path) -> Path:
    """The Makefile and what it looks at, away from the real environment."""
    for name in ("Makefile", "pyproject.toml", *LOCKS):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def make(where: Path, *words: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    # A make that runs these tests must not pass its own flags on.
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    env.pop("MFLAGS", None)
    return subprocess.run(
        ["make", *words], cwd=where, env=env, capture_output=True, text=True, check=False
    )


def test_make_alone_lists_every_door(door: Path) -> None:
    phony = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    listed = re.findall(r"^make (\S+) ", make(door).stdout, re.MULTILINE)
    assert sorted(listed) == sorted(" ".join(phony).split())


@pytest.mark.parametrize("changed", ["pyproject.toml", "requirements-dev.txt"])
def test_the_environment_is_set_up_once_and_again_when_a_lock_changes(
    door: Path, changed: str
) -> None:
    (door / ".venv").mkdir()
    for place, instant in [("Makefile", 1), (".venv/.created", 2), (".venv/.development", 3)]:
        (door / place).touch()
        os.utime(door / place, (instant, instant))
    for name in ("pyproject.toml", *LOCKS):
        os.utime(door / name, (1, 1))
    assert "pip install" not in make(door, "--dry-run", "test").stdout
    os.utime(door / changed, (9, 9))
    assert "pip install" in make(door, "--dry-run", "test").stdout


def test_an_old_python_is_refused_by_name(door: Path) -> None:
    old = door / "python-old"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    ran = make(door, "test", f"PYTHON={old}")
    assert ran.returncode == 2
    assert f"cannot set up: {old} is not Python 3.11 or newer" in ran.stderr


FOUND = "Name Version ID\nh11 0.1 GHSA-1"


@pytest.mark.parametrize(
    ("make", "status", "said"),
    [
        ("exit 0", 0, ""),
        ("exit 1", 0, "cannot ask for known weaknesses here: not audited"),
        (f"echo '{FOUND}' > ${{2#*--output=}}; exit 1", 1, FOUND),
    ],
    ids=["nothing is known", "nobody can be asked", "something is known"],
)
def test_a_known_weakness_fails_the_build_and_silence_does_not(
    tmp_path: Path, make: str, status: int, said: str
) -> None:
    """The audit of `.ci/run`, with a `make audit` that ends in each way that there is."""
    (audit,) = re.findall(
        r"^audit\(\) \{.*?^\}\naudit\n", (ROOT / ".ci/run").read_text(), re.M | re.S
    )
    (tmp_path / "make").write_text(f"#!/bin/sh\ntest $1 = audit || exit 0\n{make}\n")
    (tmp_path / "make").chmod(0o755)
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"{audit}echo went on"],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (status, "")
    assert ran.stdout.startswith(said)
    assert ran.stdout.endswith("went on\n") is (status == 0)
    assert [file.name for file in tmp_path.iterdir()] == ["make"]
