"""What a person sees on a terminal of 80 columns: whole words, and only what says something."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tests.cli.conftest import environment
from tests.conftest import Processes
from tests.projections.build import Log, heal
from tests.replay.on_disk import a_day, write

WIDTH = 80


def seen(processes: Processes, directory: Path, *arguments: str) -> list[str]:
    """The lines that `healer ARGUMENTS` shows on a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, WIDTH, 0, 0))
    try:
        process = processes.start(
            *(sys.executable, "-m", "healer", *arguments),
            cwd=directory,
            env={**environment(), "TERM": "xterm"},
            stdout=theirs,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 65536):
                shown += part
        except OSError:  # how Linux says that the other end is closed
            pass
        assert process.wait(60) == 0
    finally:
        os.close(ours)
    text = re.sub(r"\x1b\[[0-9;]*m", "", shown.decode())
    return text.replace("\r", "").splitlines()


@pytest.fixture
def store(tmp_path: Path) -> str:
    return asyncio.run(write(tmp_path / "log.db", a_day().facts))


@pytest.mark.parametrize(
    ("arguments", "whole"),
    [
        (("issues",), ("issue-0002", "port_not_listening")),
        (("stats",), ("port_not_listening", "restart_component", "success rate %")),
        (("replay", "at", "now"), ("127.0.0.1:8220", "chat_api")),
        (("issues", "issue-0001"), ("port_not_listening", "restart_component")),
    ],
)
def test_no_word_is_broken_and_no_line_is_too_long(
    tmp_path: Path, store: str, processes: Processes, arguments: tuple[str, ...], whole: tuple[str]
) -> None:
    lines = seen(processes, tmp_path, *arguments, "--store", store)
    assert [line for line in lines if len(line) > WIDTH] == []
    for word in whole:
        assert any(word in line for line in lines), lines


def test_a_column_in_which_nothing_stands_is_left_out(tmp_path: Path, processes: Processes) -> None:
    log = Log()
    log.register("chat_api")
    heal(log)
    store = asyncio.run(write(tmp_path / "log.db", log.facts))
    shown = "\n".join(seen(processes, tmp_path, "status", "--store", store))
    assert "chat_api" in shown
    assert "open issue" not in shown


def test_where_nothing_is_that_is_said(tmp_path: Path, processes: Processes) -> None:
    log = Log()
    log.register("chat_api")
    store = asyncio.run(write(tmp_path / "log.db", log.facts))
    assert seen(processes, tmp_path, "issues", "--store", store) == [
        "Issues: none yet: nothing has failed"
    ]
