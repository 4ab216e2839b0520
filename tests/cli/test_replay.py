"""`healer replay`, as a person and as a program calls it, on real logs."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest

from projections import ALL
from replay.issue import find, tell
from tests.cli.conftest import House, environment
from tests.conftest import ROOT, Processes, Until
from tests.projections.build import MemoryLog
from tests.replay.on_disk import a_day, write

GOLDEN = ROOT / "tests" / "replay" / "golden"
FACTS = a_day().facts

Ran = subprocess.CompletedProcess[str]


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A log in a file: `a_day`."""
    return asyncio.run(write(tmp_path / "log.db", FACTS))


def replay(*arguments: str, cwd: Path) -> Ran:
    return subprocess.run(
        [sys.executable, "-m", "healer", "replay", *arguments],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_issue_is_told_for_a_person(tmp_path: Path, store: str) -> None:
    ran = replay("issue", "issue-0001", "-o", "table", "--store", store, cwd=tmp_path)
    title, _, story = ran.stdout.partition("\n")
    assert ran.returncode == 0, ran.stderr
    assert title == "issue issue-0001 of chat_api, 2026-03-01T13:00:00.004000Z"
    assert story == (GOLDEN / "issue.txt").read_text()


def test_an_incident_is_written_as_a_case_for_the_simulator(tmp_path: Path, store: str) -> None:
    ran = replay("export-case", "issue-0001", "--store", store, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    case = json.loads(ran.stdout)
    assert case["incident"]["issue"] == "issue-0001"
    into = replay("export-case", "issue-0001", "--out", "case", "--store", store, cwd=tmp_path)
    assert (into.returncode, into.stdout) == (0, "")
    assert json.loads((tmp_path / "case").read_text()) == case
    none = replay("export-case", "issue-9", "--store", store, cwd=tmp_path)
    assert (none.returncode, none.stdout) == (2, "")


def test_the_case_is_told_for_a_person_and_is_one_json_document_for_a_program(
    tmp_path: Path, store: str
) -> None:
    def export(*words: str) -> Ran:
        ran = replay("export-case", "issue-0001", *words, "--store", store, cwd=tmp_path)
        assert (ran.returncode, ran.stderr) == (0, "")
        return ran

    case = json.loads(export("-o", "json").stdout)
    assert case == json.loads(export().stdout)
    told = export("-o", "table", "--out", "case").stdout
    assert json.loads((tmp_path / "case").read_text()) == case
    assert "issue-0001" in told
    assert all(fault["kind"] in told for fault in case["faults"])
    assert ", ".join(case["incident"]["course"]) in told
    assert "python -m tests.simulator --case case" in told
    assert export("-o", "json", "--out", "case").stdout == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("issue-0001", "--out", "none/case"), "cannot write none/case: No such file or directory"),
        (("issue-0001", "--out", "."), "cannot write .: Is a directory"),
        (("issue-9",), "cannot find issue 'issue-9'; known: "),
        (("issue",), "cannot tell which issue 'issue' is: "),
        (("issue-0001", "--store", "sqlite:///none.db"), "none.db: No such file or directory"),
    ],
)
def test_a_case_that_cannot_be_written_is_status_2_and_one_line(
    tmp_path: Path, store: str, words: tuple[str, ...], said: str
) -> None:
    ran = replay("export-case", "--store", store, *words, "-o", "json", cwd=tmp_path)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("healer: cannot ")
    assert ran.stderr.count("\n") == 1
    assert said in ran.stderr


def test_the_issue_is_told_for_a_program(tmp_path: Path, store: str) -> None:
    ran = replay("issue", "issue-0002", "--store", store, cwd=tmp_path)
    found = json.loads(ran.stdout)
    assert (found["component"], found["outcome"], found["reason"]) == (
        "search_api",
        "failed",
        "no_playbook",
    )
    assert found["events"][0]["type"] == "issue.detected.v1"
    assert [each["position"] for each in found["events"]] == sorted(
        each["position"] for each in found["events"]
    )


def test_following_an_issue_that_has_ended_tells_it_line_by_line(
    tmp_path: Path, store: str
) -> None:
    ran = replay("issue", "issue-0001", "--follow", "--store", store, cwd=tmp_path)

    async def told() -> list[dict[str, object]]:
        log = MemoryLog(FACTS)
        return [each.view() for each in await tell(log, await find(log, "issue-0001"))]

    assert [json.loads(line) for line in ran.stdout.splitlines()] == asyncio.run(told())


@pytest.mark.parametrize("when", ["14", "2026-03-01T13:00:00.012Z", "2026-03-01T15:00:00.012+02"])
def test_the_world_is_shown_as_it_was(tmp_path: Path, store: str, when: str) -> None:
    found = json.loads(replay("at", when, "--store", store, cwd=tmp_path).stdout)
    [active] = found["views"]["active"]
    assert (active["issue_id"], active["state"]) == ("issue-0001", "remediating")
    assert found["stopped"] == {}


def test_one_view_is_enough_and_people_get_a_table(tmp_path: Path, store: str) -> None:
    ran = replay("at", "-1s", "--view", "stats", "--store", store, cwd=tmp_path)
    assert set(json.loads(ran.stdout)["views"]) == {"stats"}
    shown = replay("at", "14", "-o", "table", "--store", store, cwd=tmp_path).stdout
    assert "at 14: position 14" in shown
    assert "issue-00" in shown
    assert "successful_healings" in shown


def test_a_while_ago_is_counted_from_now(tmp_path: Path, store: str) -> None:
    found = json.loads(replay("at", "-10m", "--store", store, cwd=tmp_path).stdout)
    assert found["position"] == len(FACTS)  # the log is of a day long past


def test_what_changed_is_shown(tmp_path: Path, store: str) -> None:
    found = json.loads(replay("diff", "5", "-1s", "--store", store, cwd=tmp_path).stdout)
    assert [each["after"] for each in found["issues"]] == ["healed", "failed", "diagnosing"]
    shown = replay("diff", "5", "-1s", "-o", "table", "--store", store, cwd=tmp_path).stdout
    assert "chat_api.process" in shown
    assert "chat_api[43]" in shown
    assert shown.startswith("from 5: position 5")
    assert "success_by_component" not in shown
    assert "finer figures: -o json" in shown
    same = replay("diff", "5", "5", "-o", "table", "--store", store, cwd=tmp_path).stdout
    assert same.endswith("nothing changed\n")


def test_without_a_healer_a_rebuild_is_compared_with_a_second_fold(
    tmp_path: Path, store: str
) -> None:
    ran = replay("rebuild", "--store", store, cwd=tmp_path)
    found = json.loads(ran.stdout)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert (found["position"], found["compared_with"]) == (len(FACTS), "a second fold")
    assert found["equal"]
    assert all(each["equal"] for each in found["projections"])


def test_with_a_healer_a_rebuild_is_compared_with_what_it_shows(house: House, until: Until) -> None:
    process = house.serve(until)
    shown = until(house.healthy)
    os.kill(shown["process"]["pid"], 9)
    [issue] = until(
        lambda: [
            each
            for each in house.get("/network-healer/history").json()["records"]
            if each["issue_type"] == "process_crashed" and each["ended"]
        ],
        20,
    )
    found = house.json("replay", "rebuild")
    assert (found["compared_with"], found["equal"]) == ("the healer that runs", True)
    assert all(each["equal"] for each in found["projections"])
    assert {each["projection"] for each in found["projections"]} == {each.name for each in ALL}
    story = house.json("replay", "issue", issue["issue_id"][:12])
    assert {**story, "events": None} == {**issue, "events": None}
    assert any(each["state"] == "component" for each in story["events"])
    assert house.stop(process) == 0
    assert house.json("replay", "rebuild")["compared_with"] == "a second fold"


def test_a_projection_that_shows_what_the_log_does_not_say_is_named(
    house: House, until: Until
) -> None:
    process = house.serve(until)
    house.json("pause", "--reason", "storm")
    with closing(sqlite3.connect(house.directory / "healer.db")) as file, file:
        file.execute("DROP TRIGGER event_is_never_updated")
        file.execute(
            "UPDATE event SET body = CAST(replace(body, 'storm', 'quiet') AS BLOB) "
            "WHERE topic = 'fleet.paused.v1'"
        )
    ran = house.run("replay", "rebuild")
    found = json.loads(ran.stdout)
    assert (ran.returncode, found["compared_with"], found["equal"]) == (
        1,
        "the healer that runs",
        False,
    )
    assert [each["projection"] for each in found["projections"] if not each["equal"]] == ["pause"]
    shown = house.run("replay", "rebuild", "-o", "table")
    assert (shown.returncode, shown.stdout.splitlines()[-1]) == (1, "NOT EQUAL: pause")
    assert house.stop(process) == 0


def test_a_log_that_is_whole_is_verified(tmp_path: Path, store: str) -> None:
    ran = replay("verify", "--store", store, cwd=tmp_path)
    found = json.loads(ran.stdout)
    assert (ran.returncode, found["ok"], found["events"]) == (0, True, len(FACTS))
    shown = replay("verify", "--quick", "-o", "table", "--store", store, cwd=tmp_path)
    assert f"log log-1: {len(FACTS)} events" in shown.stdout
    assert "fine" in shown.stdout


def test_the_first_event_that_was_edited_is_named_and_status_1(tmp_path: Path, store: str) -> None:
    with closing(sqlite3.connect(tmp_path / "log.db")) as file, file:
        file.execute("DROP TRIGGER event_is_never_updated")
        for position in (9, 12):
            file.execute(
                "UPDATE event SET body = CAST(replace(body, 'watchdog', 'nobody') AS BLOB) "
                "WHERE position = ?",
                (position,),
            )
    ran = replay("verify", "--store", store, cwd=tmp_path)
    assert ran.returncode == 1
    assert "event 9" in json.loads(ran.stdout)["first_problem"]
    shown = replay("verify", "-o", "table", "--store", store, cwd=tmp_path)
    assert shown.returncode == 1
    assert "event 9" in shown.stdout.splitlines()[0]
    assert "NOT TO BE BELIEVED" in shown.stdout


def test_another_log_than_the_expected_one_is_not_believed(tmp_path: Path, store: str) -> None:
    ran = replay("verify", "--log-id", "log-2", "--store", store, cwd=tmp_path)
    assert ran.returncode == 1
    assert "'log-1'" in json.loads(ran.stdout)["problems"][0]["message"]


def test_an_export_can_be_continued(tmp_path: Path, store: str) -> None:
    arguments = ("export", "--out", "out", "--format", "jsonl", "--store", store)
    first = json.loads(replay(*arguments, cwd=tmp_path).stdout)
    again = json.loads(replay(*arguments, cwd=tmp_path).stdout)
    assert first["position"] == again["position"] == len(FACTS)
    assert first["tables"]["events"]["rows"] == len(FACTS)
    assert again["tables"]["events"]["rows"] == 0
    bandit = ("export", "--out", "bandit", "--format", "bandit", "--store", store)
    assert set(json.loads(replay(*bandit, cwd=tmp_path).stdout)["tables"]) == {"bandit"}


END = len(FACTS)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("at", "yesterday"), "cannot read the time 'yesterday'; allowed: .*-10m"),
        (("at", "-10"), "cannot read the time '-10'; allowed"),
        (("at", "--frobnicate"), "cannot read the time '--frobnicate'; allowed"),
        (("at", "99999"), f"cannot go to position 99999: the log ends at {END}"),
        (("diff", "0", "99999"), f"cannot go to position 99999: the log ends at {END}"),
        (("at", "3", "--view", "news"), "cannot find projection 'news'; known: stats, "),
        (("issue", "nobody"), "cannot find issue 'nobody'; known: issue-0001"),
        (("issue", "issue-"), "cannot tell which issue 'issue-' is: 3 begin so"),
        (("verify", "--public-key", "abc"), "cannot use 'abc' as a public key; allowed: 64"),
        (("verify", "--witness", "no.jsonl"), "cannot read the witness no.jsonl: "),
        (("export", "--out", "o", "--since", "99999"), "position 99999: the log ends at"),
        (("export", "--out", "o", "--format", "xml"), "cannot find format 'xml'; known: "),
        (("export", "--out", "o", "--table", "news"), "cannot find table 'news'; known: "),
    ],
)
def test_a_bad_input_is_one_line_and_status_2(
    tmp_path: Path, store: str, arguments: tuple[str, ...], line: str
) -> None:
    ran = replay(*arguments, "--store", store, cwd=tmp_path)
    assert (ran.returncode, ran.stdout) == (2, "")
    [said] = ran.stderr.splitlines()
    assert re.match(f"healer: {line}" if line.startswith("cannot") else f"healer: .*{line}", said)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    "arguments", [("at",), ("diff", "3"), ("issue",), ("export",), ("rebuild", "3"), ("fly",)]
)
def test_wrong_usage_is_status_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    ran = replay(*arguments, cwd=tmp_path)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("command", ["rebuild", "verify"])
def test_a_log_that_is_not_there_is_said(tmp_path: Path, command: str) -> None:
    ran = replay(command, "--store", f"sqlite:///{tmp_path}/no.db", cwd=tmp_path)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("healer: cannot ")
    assert list(tmp_path.iterdir()) == []


EVERY = {
    "verify": ("verify",),
    "rebuild": ("rebuild",),
    "at": ("at", "-10m"),
    "issue": ("issue", "issue-0001"),
    "diff": ("diff", "1", "-10m"),
    "export": ("export", "--out", "out", "--format", "jsonl"),
    "export-case": ("export-case", "issue-0001"),
}

LOADED = """
import sys
from healer.cli import main
sys.argv = ["healer", "replay", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    assert end.code == 0, end.code
print(*sorted(sys.modules), file=sys.stderr)
"""

ACTING = {
    f"healer.{room}"
    for room in (
        "bootstrap", "engine", "guardian", "host", "playbooks", "probes", "testing", "watchdog",
    )
} | {"psutil"}  # fmt: skip


@pytest.mark.parametrize("command", EVERY)
def test_nothing_that_could_act_is_ever_loaded_and_the_log_is_only_read(
    tmp_path: Path, store: str, command: str
) -> None:
    before = sha256((tmp_path / "log.db").read_bytes()).digest()
    ran = subprocess.run(
        [sys.executable, "-c", LOADED, *EVERY[command], "--store", store],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    loaded = {".".join(name.split(".")[:2]) for name in ran.stderr.splitlines()[-1].split()}
    assert "healer.store" in loaded
    assert loaded & ACTING == set()
    assert sha256((tmp_path / "log.db").read_bytes()).digest() == before


def test_a_terminal_sees_progress_and_a_pipe_does_not(
    tmp_path: Path, store: str, processes: Processes
) -> None:
    assert replay("rebuild", "--store", store, cwd=tmp_path).stderr == ""
    ours, theirs = pty.openpty()
    try:
        process = processes.start(
            *(sys.executable, "-m", "healer", "replay", "rebuild", "--store", store),
            cwd=tmp_path,
            env={**environment(), "TERM": "xterm"},
            stdout=subprocess.DEVNULL,
            stderr=theirs,
        )
        assert process.wait(30) == 0
        assert b"folding the log" in os.read(ours, 65536)
    finally:
        os.close(ours)
        os.close(theirs)
