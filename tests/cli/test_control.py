"""The switches of operators on the command line, against a real daemon."""

from __future__ import annotations

import os
import signal

from tests.cli.conftest import House
from tests.conftest import Until


def test_operators_switch_what_the_healer_may_do(house: House, until: Until) -> None:
    daemon = house.serve(until)
    until(house.healthy)
    told = house.run("mode", "chat_api", "observe", "--reason", "release", "-o", "table")
    assert (told.returncode, told.stdout) == (0, "chat_api: act → observe\n")
    told = house.run("mode", "--all", "act", "-o", "table")
    assert told.stdout == "chat_api: observe → act\n"
    told = house.run("maintenance", "chat_api", "--for", "10m", "--reason", "deploy")
    assert told.returncode == 0, told.stderr
    assert "maintenance until" in house.run("status", "-o", "table").stdout

    process = house.shown()["process"]["pid"]
    os.kill(process, signal.SIGKILL)
    until(lambda: house.shown()["withheld"] and house.shown()["open_issue"])
    assert house.shown()["withheld"]["reason"] == "maintenance"
    told = house.run("maintenance", "chat_api", "--end", "-o", "table")
    assert told.stdout == "chat_api: maintenance ended\n"
    until(house.healthy)
    assert house.shown()["process"]["pid"] != process

    assert house.json("rearm", "chat_api")["component"] == "chat_api"
    assert house.json("pause", "--reason", "storm")["paused"]["reason"] == "storm"
    assert house.stop(daemon) == 0
    # A pause outlives the daemon, and is shown also when none runs.
    assert house.json("status")["paused"]["reason"] == "storm"
    daemon = house.serve(until)
    assert house.json("status")["paused"]["actor"] == "api:local"
    refused = house.run("heal", "chat_api", "--issue-type", "process_crashed")
    assert refused.returncode == 1
    assert "paused" in refused.stderr
    assert "All healing is paused" in house.run("status", "-o", "table").stdout
    assert house.run("resume", "-o", "table").stdout == "healing goes on\n"
    assert house.run("resume", "-o", "table").stdout == "healing was not paused\n"
    assert house.stop(daemon) == 0


def test_a_suggested_heal_is_approved_by_the_name_of_its_component(
    house: House, until: Until
) -> None:
    daemon = house.serve(until)
    until(house.healthy)
    assert house.run("approve", "chat_api").returncode == 1
    house.json("mode", "chat_api", "suggest")
    os.kill(house.shown()["process"]["pid"], signal.SIGKILL)
    until(lambda: house.shown()["awaits_approval"])
    assert "healer approve chat_api" in house.run("status", "-o", "table").stdout
    told = house.run("approve", "chat_api", "-o", "table")
    assert told.stdout.startswith("chat_api: issue ")
    until(house.healthy)
    assert house.stop(daemon) == 0


def test_wrong_words_are_answered_with_what_is_allowed(house: House) -> None:
    for words, said in (
        (("mode", "chat_api"), "mode NAME MODE"),
        (("mode", "chat_api", "sleep"), "observe, suggest, act"),
        (("mode", "--all", "chat_api", "act"), "mode --all MODE"),
        (("maintenance", "chat_api"), "--for 10m, or --end"),
        (("maintenance", "chat_api", "--for", "1m", "--end"), "--for 10m, or --end"),
    ):
        ran = house.run(*words)
        assert ran.returncode == 2
        assert said in ran.stderr
        assert ran.stderr.startswith("healer: cannot")
    assert house.run("pause").returncode == 1  # nothing runs
