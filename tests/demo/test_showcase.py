"""`healer demo --dashboard` breaks and heals until it is told to stop, and leaves nothing."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx

from tests.conftest import Processes, Until


def test_something_breaks_and_is_healed_while_the_dashboard_is_served(
    tmp_path: Path, processes: Processes, free_port: int, until: Until
) -> None:
    told = tmp_path / "told"
    with told.open("wb") as out, (tmp_path / "log").open("wb") as log:
        process = processes.start(
            sys.executable, "-m", "healer", "demo", "--dashboard", "--every", "0.2",
            "--port", str(free_port), stdout=out, stderr=log, cwd=tmp_path,
        )  # fmt: skip
    url = f"http://127.0.0.1:{free_port}"
    until(lambda: url in told.read_text())
    directory = Path(re.findall(r"components in (\S+)", told.read_text())[0])
    assert re.search(r"token +[0-9a-f]{64}", told.read_text())
    with httpx.Client(trust_env=False, timeout=120, base_url=url) as client:
        assert "<title>Network healer" in client.get("/").text

        def crashed_and_healed() -> bool:
            asked = {"issue_type": "process_crashed", "outcome": "healed"}
            return bool(client.get("/network-healer/history", params=asked).json()["records"])

        until(crashed_and_healed)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0, (tmp_path / "log").read_text()
    assert not directory.exists()
    assert processes.descendants() == []


def test_a_port_that_is_taken_is_said_and_nothing_is_started(
    tmp_path: Path, free_port: int
) -> None:
    with socket.create_server(("127.0.0.1", free_port)):
        ran = subprocess.run(
            [sys.executable, "-m", "healer", "demo", "--dashboard", "--port", str(free_port)],
            cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert (ran.returncode, ran.stdout) == (2, "")
    assert f"cannot listen on 127.0.0.1 port {free_port}: Address already in use" in ran.stderr
