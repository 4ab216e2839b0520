"""What cannot be used is named in one line, and nothing is half done."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from tests.cli.conftest import environment
from tests.conftest import unmeasured
from tests.projections.build import random_log
from tests.replay.on_disk import a_day, write

FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)), -1))
from healer.__main__ import main
sys.argv[0] = "healer"
main()
"""
"""A limit on the size of files stands for the full disk: any user can set it."""


@pytest.fixture
async def log(tmp_path: Path) -> Path:
    file = tmp_path / "log.db"
    await write(file, a_day().facts)
    return file


@pytest.fixture
async def long(tmp_path: Path) -> Path:
    """One whose export, and whose archive, are larger than the disk below."""
    file = tmp_path / "log.db"
    await write(file, random_log(Random(1), issues=250))
    return file


DISK = 40_000
"""Enough to open the log: SQLite's index of its WAL takes 32,768."""


def healer(*arguments: str, cwd: Path, disk: int | None = None) -> subprocess.CompletedProcess[str]:
    begin = ("-m", "healer") if disk is None else ("-c", FULL, str(disk))
    return subprocess.run(
        [sys.executable, *begin, *arguments],
        cwd=cwd,
        env=environment() if disk is None else unmeasured(),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def refused(ran: subprocess.CompletedProcess[str], *named: str, status: int = 2) -> None:
    assert ran.returncode == status, ran.stderr
    (line,) = ran.stderr.splitlines()
    assert line.startswith("healer: cannot ")
    for word in named:
        assert word in line
    assert ran.stdout == ""


def test_a_log_that_was_cut_short_is_refused_and_left_alone(log: Path) -> None:
    whole = log.read_bytes()
    log.write_bytes(whole[: len(whole) // 2])
    cut = log.read_bytes()
    refused(healer("stats", "--store", f"sqlite:///{log}", cwd=log.parent), str(log))
    assert log.read_bytes() == cut


def test_a_file_that_is_no_log_is_refused_and_left_alone(log: Path) -> None:
    log.write_bytes(b"no log at all\n" * 100)
    refused(healer("history", "--store", f"sqlite:///{log}", cwd=log.parent), str(log))
    assert log.read_bytes() == b"no log at all\n" * 100


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("replay", "at", "99999"), "99999"),
        (("replay", "at", "yesterday"), "'yesterday'"),
        (("replay", "diff", "1", "99999"), "99999"),
        (("archive", "--before", "last year"), "'last year'"),
        (("issues", "nothing"), "'nothing'"),
    ],
)
def test_what_is_not_there_or_cannot_be_read_is_named(
    log: Path, arguments: tuple[str, ...], named: str
) -> None:
    refused(healer(*arguments, "--store", f"sqlite:///{log}", cwd=log.parent), named)


def test_an_export_on_a_full_disk_leaves_no_file_under_its_name(long: Path) -> None:
    store = ("--store", f"sqlite:///{long}")
    export = ("replay", "export", *store, "--format", "jsonl", "--out", "out")
    refused(healer(*export, cwd=long.parent, disk=DISK), "out", status=1)
    files = (long.parent / "out").rglob("*.jsonl")
    assert not [file for file in files if ".staged" not in file.parts]
    assert healer(*export, cwd=long.parent).returncode == 0
    assert list((long.parent / "out").rglob("*.jsonl"))


def test_an_archive_on_a_full_disk_says_that_nothing_was_moved(long: Path) -> None:
    before = healer("history", "--store", f"sqlite:///{long}", cwd=long.parent).stdout
    archive = ("archive", "--before", "2026-03-02", "--store", f"sqlite:///{long}")
    refused(healer(*archive, cwd=long.parent, disk=DISK), "nothing was moved")
    after = healer("history", "--store", f"sqlite:///{long}", cwd=long.parent)
    assert after.returncode == 0
    assert after.stdout == before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("  a:\n\tport: 1", "line 3, column 1: begins with a tab; YAML takes spaces, not tabs"),
        (
            "  a: {port: 81o0}",
            "line 2: components.a.port: '81o0' is text; allowed: a whole number from 1 to 65535",
        ),
        (
            '  a:\n    port: 1\n    launch: {command: "python -m a --port {port}"}',
            "line 4: components.a.launch.command: is one text; "
            'allowed: [python, -m, a, --port, "{port}"]',
        ),
        (
            "  a: {port: 1, creticality: high}",
            "line 2: components.a.creticality: unknown key; did you mean 'criticality'? allowed: ",
        ),
    ],
    ids=["tab", "port", "command", "key"],
)
def test_a_mistake_in_the_configuration_is_named_with_its_line_and_what_is_allowed(
    tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "healer.yaml"
    file.write_text(f"components:\n{text}\n")
    file.chmod(0o600)
    refused(healer("status", cwd=tmp_path), said)
    ran = healer("validate", "-o", "json", cwd=tmp_path)
    assert ran.returncode == 2
    (problem,) = json.loads(ran.stdout)["problems"]
    assert problem.startswith(said)


def test_the_list_that_is_shown_for_a_launch_command_can_be_used(tmp_path: Path) -> None:
    file = tmp_path / "healer.yaml"
    text = "components:\n  a:\n    port: 1\n    launch: {command: %s}\n"
    file.write_text(text % "\"python -m a --name 'a b' --port {port} --at 12:30 --on\"")
    file.chmod(0o600)
    ran = healer("validate", cwd=tmp_path)
    assert ran.returncode == 2
    file.write_text(text % ran.stderr.strip().rpartition("allowed: ")[2])
    assert healer("validate", cwd=tmp_path).returncode == 0


def test_a_configuration_that_is_not_there_is_said_with_how_to_make_one(tmp_path: Path) -> None:
    refused(healer("status", "-c", "my.yaml", cwd=tmp_path), "`healer init my.yaml` writes one")
