"""Hooks: programs of the operator's that start and stop a component."""

from __future__ import annotations

import asyncio
import errno
import time
from pathlib import Path

import pytest

from healer.errors import LaunchError
from healer.host.launcher import build_launcher
from healer.ports import Launcher

from .conftest import Holder, component, eventually, group_lives


def launcher(tmp_path: Path, hold: Holder, *hook: str, **more: object) -> Launcher:
    spec = component({"hook": hook, **more})
    built = build_launcher(spec, logs=tmp_path, hold=hold)
    assert built is not None
    return built


def shell(tmp_path: Path, hold: Holder, text: str, **more: object) -> Launcher:
    return launcher(tmp_path, hold, "sh", "-c", text, "{name}", "{port}", **more)


def log(tmp_path: Path) -> str:
    return (tmp_path / "components/chat_api.log").read_text()


async def test_it_is_told_what_to_start_and_where(tmp_path: Path, hold: Holder) -> None:
    said = 'echo "$0 $1 $HEALER_COMPONENT $PORT $HEALER_LAUNCH_ID"'
    started = await shell(tmp_path, hold, said).start(9001, "launch-1")
    assert started.process is None
    assert log(tmp_path) == "chat_api 9001 chat_api 9001 launch-1\n"


async def test_stop_is_told_where_the_component_lives(tmp_path: Path, hold: Holder) -> None:
    built = launcher(tmp_path, hold, "true", stop=["echo", "stop {name} {port}"])
    assert built.stops
    await built.stop(8220)
    await built.stop(9001)
    assert log(tmp_path) == "stop chat_api 8220\nstop chat_api 9001\n"


async def test_without_a_stop_it_cannot_stop(tmp_path: Path, hold: Holder) -> None:
    built = launcher(tmp_path, hold, "true")
    assert not built.stops
    with pytest.raises(LaunchError, match=r"cannot stop .*launch\.stop is not given"):
        await built.stop(8220)


async def test_a_failure_is_shown_with_its_own_last_line(tmp_path: Path, hold: Holder) -> None:
    await shell(tmp_path, hold, "echo of an earlier run").start(8220, "launch-0")
    with pytest.raises(LaunchError, match=r"ended with 3: no \\x1b\[1mdisk$") as caught:
        await shell(tmp_path, hold, "echo hm; printf 'no \\033[1mdisk\\n' >&2; exit 3").start(
            1, "l"
        )
    assert caught.value.exit_code == 3
    with pytest.raises(LaunchError, match="ended with -9: it said nothing") as caught:
        await shell(tmp_path, hold, "kill -9 $$").start(1, "l")
    assert caught.value.exit_code == -9


async def test_a_failure_names_the_program_and_not_its_other_words(
    tmp_path: Path, hold: Holder
) -> None:
    hook = ("sh", "-c", "exit 3", "--token", "hunter2")
    built = launcher(tmp_path, hold, *hook, stop=list(hook))
    with pytest.raises(LaunchError, match="cannot start 'chat_api': 'sh' ended with 3") as caught:
        await built.start(8220, "launch-1")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(LaunchError, match="cannot stop 'chat_api': 'sh' ended with 3") as caught:
        await built.stop(8220)
    assert "hunter2" not in str(caught.value)


async def test_what_it_leaves_running_is_not_waited_for_and_can_write(
    tmp_path: Path, hold: Holder
) -> None:
    go = tmp_path / "go"
    daemon = f"(while ! test -e {go}; do sleep 0.01; done; echo daemon) & echo started"
    begin = time.monotonic()
    await shell(tmp_path, hold, daemon, timeout="20s").start(8220, "launch-1")
    assert time.monotonic() - begin < 10
    assert log(tmp_path) == "started\n"
    go.touch()
    await eventually(lambda: log(tmp_path) == "started\ndaemon\n", "the daemon's line")


async def test_after_its_time_its_whole_group_is_killed(tmp_path: Path, hold: Holder) -> None:
    hanging = shell(tmp_path, hold, "echo $$; sleep 60 & sleep 60", timeout="300ms")
    with pytest.raises(LaunchError, match="not done after 300ms; its process group") as caught:
        await hanging.start(8220, "launch-1")
    assert caught.value.errno == errno.ETIMEDOUT
    leader = int(log(tmp_path))
    await eventually(lambda: not group_lives(leader), "the whole group to be gone")


async def test_a_cancelled_hook_is_ended(tmp_path: Path, hold: Holder) -> None:
    hanging = shell(tmp_path, hold, "echo $$; sleep 60 & sleep 60")
    starting = asyncio.create_task(hanging.start(8220, "launch-1"))
    path = tmp_path / "components/chat_api.log"
    await eventually(lambda: path.exists() and "\n" in log(tmp_path), "the hook")
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    leader = int(log(tmp_path))
    await eventually(lambda: not group_lives(leader), "the whole group to be gone")


async def test_a_missing_hook_is_named(tmp_path: Path, hold: Holder) -> None:
    with pytest.raises(LaunchError, match="'no-such-hook'") as caught:
        await launcher(tmp_path, hold, "no-such-hook").start(8220, "launch-1")
    assert caught.value.errno == errno.ENOENT


def test_a_dry_run_names_the_words_on_one_line(tmp_path: Path, hold: Holder) -> None:
    built = launcher(tmp_path, hold, "up", "{port}", "a b", "new\nline\033[0m")
    assert built.describe(8221) == "up 8221 'a b' 'new\\nline\\x1b[0m'"
