"""Every command, as a person and as a program calls it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from healer.errors import StoreError
from tests.cli.conftest import House, environment
from tests.conftest import ROOT, Processes, Until

COMMANDS = (
    "serve", "validate", "status", "heal", "auto-heal", "issues", "history", "stats", "playbooks",
    "recommend", "events", "demo", "version",
)  # fmt: skip

CRASHED = ("--issue-type", "process_crashed")


def healer(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "healer", *arguments],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


# Without a healer


def test_no_arguments_print_the_help(tmp_path: Path) -> None:
    bare, asked = healer(cwd=tmp_path), healer("--help", cwd=tmp_path)
    assert (bare.returncode, asked.returncode) == (0, 0)
    assert bare.stdout == asked.stdout
    for command in COMMANDS:
        assert command in bare.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("fly",),
        ("heal",),
        ("status", "--frobnicate"),
        ("status", "-o", "xml"),
        ("issues", "--limit", "many"),
        ("events", "--after", "-1"),
        ("history", "--since", "yesterday"),
    ],
)
def test_wrong_usage_is_status_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    ran = healer(*arguments, cwd=tmp_path)
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("serve",),
        ("status",),
        ("stats",),
        ("heal", "x"),
    ],
)
def test_without_a_configuration_one_line_says_how_to_begin(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    ran = healer(*arguments, cwd=tmp_path)
    assert ran.returncode == 2
    (line,) = ran.stderr.splitlines()
    assert line.startswith("healer: cannot use ./healer.yaml: ")
    assert f"there is none in {tmp_path}; " in line
    assert "`healer init` writes one" in line
    assert "healer demo" in line
    assert "docs/" in line


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("heal", "chat_api", "--issue-type", "tired"), "'tired'; known: port_not_listening"),
        (("heal", "chat_api", "--severity", "very"), "'very'; known: low"),
        (("history", "--issue-type", "tired"), "'tired'; known: port_not_listening"),
        (("history", "--outcome", "great"), "outcome 'great'; allowed: "),
        (("history", "--limit", "0"), "limit 0; allowed: 1 to 1000"),
        (("stats", "--store", "sqlite:///nowhere.db"), "cannot open "),
        (("stats", "--store", "mysql://x"), "allowed: sqlite:///FILE"),
        (("stats", "--store", "memory:"), "nothing in it"),
        (("stats", "-c", "nowhere.yaml"), "cannot use nowhere.yaml: "),
        (("status", "--store", "sqlite:///nowhere.db"), "cannot open "),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    house: House, arguments: tuple[str, ...], named: str
) -> None:
    ran = house.run(*arguments)
    assert ran.returncode == 2
    (line,) = ran.stderr.splitlines()
    assert line.startswith("healer: cannot ")
    assert named in line
    assert ran.stdout == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ("heal", "chat_api"),
        ("auto-heal",),
        ("pause",),
        ("resume",),
        ("mode", "chat_api", "observe"),
        ("maintenance", "chat_api", "--for", "5m"),
        ("rearm", "chat_api"),
        ("reload",),
        ("rebuild", "stats"),
    ],
)
def test_acting_needs_a_healer_that_runs(house: House, arguments: tuple[str, ...]) -> None:
    ran = house.run(*arguments)
    assert ran.returncode == 1
    (line,) = ran.stderr.splitlines()
    where = f"healer: cannot reach a healer at 127.0.0.1:{house.listen}: "
    assert line.startswith(f"{where}nothing listens there, so none is running; ")
    assert "healer serve" in line
    assert "Errno" not in line


def test_something_else_that_answers_is_no_healer(house: House, processes: Processes) -> None:
    processes.start(
        sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(house.listen),
        cwd=house.directory,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    Until()(lambda: _answers(house.listen), 10)
    ran = house.run("heal", "chat_api")
    assert ran.returncode == 2, ran.stderr  # there is no token to send
    (house.directory / "healer.token").touch(0o600)
    (house.directory / "healer.token").write_text("ab" * 32)
    ran = house.run("heal", "chat_api")
    assert ran.returncode == 1
    assert "it is no healer" in ran.stderr


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_validate_says_fine_or_everything_that_is_wrong(house: House) -> None:
    ran = house.run("validate")
    assert (ran.returncode, ran.stdout) == (0, "healer.yaml: 1 component, fine\n")
    assert house.json("validate", "-o", "json")["components"] == 1
    house.write("wach: 1\ncomponents:\n  a: {port: 0}\n  b: {port: 8221, interval: soon}\n")
    ran = house.run("validate")
    assert ran.returncode == 2
    assert ran.stderr.startswith("healer: cannot use healer.yaml:\n")
    assert len(ran.stderr.splitlines()) == 4
    ran = house.run("validate", "-o", "json")
    assert ran.returncode == 2
    assert len(json.loads(ran.stdout)["problems"]) == 3


def test_help_and_status_wait_for_no_web_framework(house: House) -> None:
    for arguments in (["--help"], ["status"], ["version"]):
        ran = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "healer", *arguments],
            cwd=house.directory, env=environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        imported = {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines()}
        assert "healer.cli.command" in imported
        assert imported.isdisjoint({"fastapi", "starlette", "uvicorn", "httpx"})
        if arguments != ["status"]:
            assert imported.isdisjoint({"eventsourcing", "structlog", "psutil"})


# With a healer


def test_the_log_is_read_while_a_healer_writes_it_and_when_none_does(
    house: House, until: Until
) -> None:
    process = house.serve(until)
    until(house.healthy)
    answer = house.json("heal", "chat_api", "--issue-type", "process_crashed", "--reason", "test")
    assert answer["success"] is True
    issue = answer["issue_id"]

    live = house.json("status")
    assert live["live"] is True
    assert live["components"][0]["health"] == "healthy"
    from_log = house.json("status", "--store", house.store)
    assert from_log["live"] is False
    assert from_log["components"][0]["name"] == "chat_api"

    assert house.json("stats") == house.get("/network-healer/stats").json()
    assert house.json("history") == house.get("/network-healer/history").json()
    assert house.json("playbooks") == house.get("/network-healer/playbook-stats").json()
    assert house.json("issues", issue) == house.get(f"/network-healer/issues/{issue}").json()
    advice = house.get("/network-healer/recommendations/chat_api").json()
    assert house.json("recommend", "chat_api") == advice
    first = house.json("history", "--limit", "1")
    assert first["records"][0]["issue_id"] == issue
    older = house.json("history", "--limit", "1", "--cursor", str(first["next"]))
    assert older["records"][0]["issue_id"] != issue
    assert house.json("history", "--since", "2100-01-01")["records"] == []
    assert house.json("issues", "--component", "chat_api")["records"][0]["issue_id"] == issue

    assert house.stop(process) == 0
    assert house.json("stats", "--store", house.store)["total_healings"] == 2
    assert house.json("status")["live"] is False
    lines = house.run("events", "--after", "0").stdout.splitlines()
    assert [json.loads(line)["position"] for line in lines] == list(range(1, len(lines) + 1))
    last = house.run("events", "--limit", "2").stdout.splitlines()
    assert last == lines[-2:]


def test_tables_are_for_people(house: House, until: Until) -> None:
    house.serve(until)
    until(house.healthy)
    answer = house.run("heal", "chat_api", *CRASHED, "-o", "table")
    assert answer.stdout.startswith(f"chat_api:{house.port} healthy after ")
    issue = house.json("issues")["records"][0]["issue_id"]
    for arguments, expected in (
        (("status",), "healthy"),
        (("stats",), "total_healings"),
        (("history",), issue[:8]),
        (("issues",), issue[:8]),
        (("issues", issue), "verified"),
        (("issues", issue[:12]), "verified"),
        (("issues", issue[:12], "--follow"), "verified"),
        (("playbooks",), "restart_component"),
        (("recommend", "chat_api"), ""),
        (("rebuild", "history"), "history: folded anew to position "),
        (("events",), "healed by"),
        (
            ("heal", "chat_api", "--issue-type", "process_crashed", "--dry-run"),
            "What would be done for chat_api",
        ),
        (("heal", "chat_api", *CRASHED, "--no-wait"), "is open"),
    ):
        ran = house.run(*arguments, "-o", "table")
        assert ran.returncode == 0, ran.stderr
        assert expected in ran.stdout
        assert not ran.stdout.startswith("{")


def test_what_the_healer_refuses_is_one_line(house: House, until: Until) -> None:
    house.serve(until)
    until(house.healthy)
    for arguments, named in (
        (("heal", "nobody"), "component 'nobody'; known: chat_api"),
        (("heal", "nobody", "--dry-run"), "component 'nobody'; known: chat_api"),
        (("heal", "chat_api", "--playbook", "pray"), "playbook 'pray'; known: clear_port"),
        (("heal", "chat_api", "--skip", "pray"), "playbook 'pray'; known: clear_port"),
        (("recommend", "nobody"), "component 'nobody'; known: chat_api"),
        (("history", "--component", "nobody"), "component 'nobody'; known: chat_api"),
        (("rebuild", "nothing"), "view 'nothing'; known: stats, history, active"),
        (("issues", "nothing"), "issue 'nothing'"),
    ):
        ran = house.run(*arguments)
        assert ran.returncode == 2
        (line,) = ran.stderr.splitlines()
        assert line.startswith("healer: cannot ")
        assert named in line
    (house.directory / "healer.token").write_text("cd" * 32)
    ran = house.run("auto-heal")
    assert ran.returncode == 2
    assert "token" in ran.stderr


def test_a_healthy_component_is_not_healed_without_a_word(house: House, until: Until) -> None:
    house.serve(until)
    until(house.healthy)
    ran = house.run("heal", "chat_api")
    assert ran.returncode == 1
    (line,) = ran.stderr.splitlines()
    assert line.startswith("healer: cannot heal 'chat_api' now: ")
    assert "healthy" in line


def test_an_unhealthy_component_is_status_1(house: House, until: Until) -> None:
    text = house.config.read_text()
    house.write(
        text[: text.index("    launch:")]
        + "    launch: {hook: [/bin/false]}\n    start_period: 200ms\n"
    )
    house.serve(until)
    until(lambda: house.shown()["last_issue"] and not house.shown()["healing"])
    assert house.run("status").returncode == 1

    def healed_in_vain() -> bool:
        """What is being healed already, by the watchdog, is not healed once more."""
        ran = house.run("auto-heal")
        return ran.returncode == 1 and json.loads(ran.stdout)["components_failed"] == 1

    until(healed_in_vain)


def test_the_tail_follows_the_log(house: House, until: Until, processes: Processes) -> None:
    house.serve(until)
    until(house.healthy)
    tail = processes.start(
        sys.executable, "-m", "healer", "events", "--follow", "--limit", "1",
        cwd=house.directory, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert tail.stdout is not None
    assert tail.stderr is not None
    position = json.loads(tail.stdout.readline())["position"]
    house.run("heal", "chat_api", *CRASHED)
    assert json.loads(tail.stdout.readline())["position"] == position + 1
    tail.send_signal(signal.SIGINT)
    tail.stdout.read()
    assert tail.wait(10) == 0
    assert tail.stderr.read() == b""


def test_a_reader_that_leaves_is_no_defect(house: House, until: Until) -> None:
    house.stop(house.serve(until))
    ran = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m healer events --after 0 | true"],
        cwd=house.directory, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.stderr == ""


def test_the_same_error_has_one_exit_status() -> None:
    from healer.cli.client import RefusedError
    from healer.cli.outcome import exit_status

    assert exit_status(StoreError("cannot")) == 2
    why = {"detail": "cannot"}
    assert [exit_status(RefusedError(status, why)) for status in (404, 422, 401, 409, 503)] == [
        2, 2, 2, 1, 1,
    ]  # fmt: skip


def test_the_script_is_the_module() -> None:
    import tomllib

    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"healer": "healer.cli:main"}
