"""The component to break, for the demo, tests and benchmarks, makes the trouble that it says."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import COMPONENT, Processes, Until


def ask(
    port: int, method: str = "GET", path: str = "/health", body: object = None, **where: Any
) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection(where.get("host", "127.0.0.1"), port, timeout=2)
    try:
        connection.request(method, path, body=None if body is None else json.dumps(body))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def is_listening(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex((host, port)) == 0


def make(port: int, kind: str) -> int:
    return ask(port, "POST", "/fault", {"kind": kind})[0]


@pytest.fixture
def component(processes: Processes, free_port: int, until: Until) -> subprocess.Popen[bytes]:
    process = processes.component(free_port, "--name", "chat_api", env={"HEALER_LAUNCH_ID": "l-1"})
    until(lambda: is_listening(free_port))
    return process


def test_health_says_who_answers(component: subprocess.Popen[bytes], free_port: int) -> None:
    assert ask(free_port) == (
        200,
        {"name": "chat_api", "pid": component.pid, "port": free_port, "launch": "l-1"},
    )


def test_it_ends_at_sigterm_with_status_zero(component: subprocess.Popen[bytes]) -> None:
    component.terminate()
    assert component.wait(5) == 0


@pytest.mark.parametrize(("kind", "status"), [("crash", -signal.SIGKILL), ("exit", 3)])
def test_it_dies_when_told(
    component: subprocess.Popen[bytes], free_port: int, kind: str, status: int
) -> None:
    assert make(free_port, kind) == 202
    assert component.wait(5) == status


def test_sick_it_answers_500_from_now_on(
    component: subprocess.Popen[bytes], free_port: int
) -> None:
    assert make(free_port, "500") == 202
    assert [ask(free_port)[0] for _ in range(2)] == [500, 500]
    assert component.poll() is None


def test_hung_it_accepts_and_never_answers(
    component: subprocess.Popen[bytes], free_port: int
) -> None:
    assert make(free_port, "hang") == 202
    with socket.create_connection(("127.0.0.1", free_port), 1) as client:
        client.sendall(b"GET /health HTTP/1.1\r\n\r\n")
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(1)


def test_with_its_listener_closed_it_lives_on(
    component: subprocess.Popen[bytes], free_port: int, until: Until
) -> None:
    assert make(free_port, "close_listener") == 202
    until(lambda: not is_listening(free_port))
    assert component.poll() is None


def test_an_orphan_holds_the_port_after_its_parent_died(
    component: subprocess.Popen[bytes], free_port: int, processes: Processes
) -> None:
    assert make(free_port, "orphan") == 202
    assert component.wait(5) == 3
    assert is_listening(free_port)
    assert len(processes.descendants()) == 1


def test_bound_to_the_wrong_address_it_answers_there_only(
    component: subprocess.Popen[bytes], free_port: int, until: Until
) -> None:
    assert make(free_port, "rebind_wrong") == 202
    until(lambda: is_listening(free_port, "127.0.0.2"))
    assert not is_listening(free_port)
    assert ask(free_port, host="127.0.0.2")[0] == 200


def test_an_unknown_fault_is_refused_with_those_it_knows(
    component: subprocess.Popen[bytes], free_port: int
) -> None:
    status, answer = ask(free_port, "POST", "/fault", {"kind": "melt"})
    assert status == 400
    assert "crash" in answer["allowed"]
    assert ask(free_port)[0] == 200


def test_it_ignores_sigterm_when_told(processes: Processes, free_port: int, until: Until) -> None:
    process = processes.component(free_port, "--ignore-sigterm")
    until(lambda: is_listening(free_port))
    process.terminate()
    assert ask(free_port)[0] == 200


def test_broken_until_restart(
    processes: Processes, free_port: int, until: Until, tmp_path: Path
) -> None:
    flag = tmp_path / "broken"
    process = processes.component(free_port, "--broken-until-restart", str(flag))
    until(lambda: is_listening(free_port))
    assert ask(free_port)[0] == 200
    flag.touch()
    assert ask(free_port)[0] == 500
    process.terminate()
    process.wait(5)
    processes.component(free_port, "--broken-until-restart", str(flag))
    until(lambda: is_listening(free_port))
    assert ask(free_port)[0] == 200


def test_a_crash_loop_lasts_as_long_as_its_file(
    processes: Processes, free_port: int, until: Until, tmp_path: Path
) -> None:
    loop = tmp_path / "loop"
    loop.touch()
    assert processes.component(free_port, "--crash-loop", str(loop)).wait(5) == 4
    loop.unlink()
    processes.component(free_port, "--crash-loop", str(loop))
    until(lambda: is_listening(free_port))


def test_a_child_can_hold_the_socket(processes: Processes, free_port: int, until: Until) -> None:
    process = processes.component(free_port, "--child-holds")
    until(lambda: is_listening(free_port))
    until(lambda: len(processes.descendants()) == 2)
    process.kill()
    process.wait(5)
    assert is_listening(free_port)


def test_workers_share_the_port(processes: Processes, free_port: int, until: Until) -> None:
    processes.component(free_port, "--workers", "2")
    until(lambda: is_listening(free_port))
    until(lambda: len({ask(free_port)[1]["pid"] for _ in range(8)}) > 1)
    assert len(processes.descendants()) == 3


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--melt"], "'--melt' is not an option"),
        (["--port"], "--port wants a value"),
        (["--port", "http"], "cannot start"),
        (["--port", "8220", "--fast=1"], "'--fast=1' is not an option"),
    ],
)
def test_bad_usage_is_told_and_exits_with_status_2(arguments: list[str], told: str) -> None:
    ran = subprocess.run(
        [sys.executable, COMPONENT, *arguments], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, told in ran.stderr) == (2, True)


def test_a_taken_port_is_told_and_exits_with_status_1(
    component: subprocess.Popen[bytes], free_port: int
) -> None:
    ran = subprocess.run(
        [sys.executable, COMPONENT, "--port", str(free_port)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert f"cannot listen on 127.0.0.1 port {free_port}" in ran.stderr


def test_importing_it_loads_nothing_heavy() -> None:
    program = "import sys, healer.demo.component; print(*sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert not {"pydantic", "asyncio", "http", "eventsourcing"} & set(ran.stdout.split())
