"""systemd units: the words that systemctl gets, and what is made of its answers."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from healer.domain.spec import SystemdLaunch
from healer.errors import LaunchError
from healer.host.launcher import SystemdLauncher

from .conftest import Holder, component, eventually, group_lives
from .managers import FakeClient, fake_systemctl

SPEC = component({"systemd": "chat.service"})


@pytest.fixture
def systemctl(script: Callable[[str, str], Path], tmp_path: Path) -> FakeClient:
    return fake_systemctl(script, tmp_path)


def launcher(
    fake: FakeClient, hold: Holder, *, user: bool = False, **more: float
) -> SystemdLauncher:
    launch = SystemdLaunch(systemd="chat.service", user=user)
    return SystemdLauncher(SPEC, launch, hold=hold, binary=fake.binary, **more)


async def test_a_spent_start_limit_is_cleared_before_the_start(
    systemctl: FakeClient, hold: Holder
) -> None:
    started = await launcher(systemctl, hold).start(8220, "launch-1")
    await launcher(systemctl, hold).stop(8220)

    assert started.process is not None
    assert started.process.identity.pid == hold.held[0].identity.pid
    assert systemctl.calls == [
        "reset-failed chat.service",
        "--no-ask-password start chat.service",
        "show --property=MainPID,ActiveState,SubState,Result,NRestarts,ControlGroup chat.service",
        "--no-ask-password stop chat.service",
    ]


async def test_a_users_unit_is_asked_of_the_users_manager(
    systemctl: FakeClient, hold: Holder
) -> None:
    built = launcher(systemctl, hold, user=True)
    await built.start(8220, "launch-1")
    await built.stop(8220)
    assert all(call.startswith("--user ") for call in systemctl.calls)
    assert built.describe(8220) == "systemctl --user start chat.service"


async def test_a_refusal_is_shown_with_its_last_line(systemctl: FakeClient, hold: Holder) -> None:
    systemctl.answer("Warning: x\nUnit chat.service not \033[31mfound.\n\n", 5)
    for act in (launcher(systemctl, hold).start(8220, "l"), launcher(systemctl, hold).stop(8220)):
        with pytest.raises(LaunchError, match=r"ended with 5: Unit chat\.service not ") as caught:
            await act
        assert caught.value.exit_code == 5
        assert str(caught.value).isprintable()


async def test_a_unit_that_failed_at_once_was_not_started(
    systemctl: FakeClient, hold: Holder
) -> None:
    systemctl.report("state", "failed")
    built = launcher(systemctl, hold)
    with pytest.raises(LaunchError, match=r"failed at once \(s, exit-code, 3 restarts\)"):
        await built.start(8220, "launch-1")
    await built.stop(8220)


async def test_a_client_that_hangs_is_ended(
    script: Callable[[str, str], Path], tmp_path: Path, hold: Holder
) -> None:
    pid = tmp_path / "pid"
    hanging = FakeClient(
        script(
            "systemctl", f"#!/bin/sh\ntest $1 = reset-failed && exit\necho $$ > {pid}\nsleep 60\n"
        )
    )
    with pytest.raises(LaunchError, match="not done after 500ms; its process group") as caught:
        await launcher(hanging, hold, timeout=0.5).start(8220, "launch-1")
    assert caught.value.errno == errno.ETIMEDOUT
    leader = int(pid.read_text())
    await eventually(lambda: not group_lives(leader), "the whole group to be gone")


async def test_the_real_client_takes_our_words_and_says_what_is_wrong(hold: Holder) -> None:
    if shutil.which("systemctl") is None:
        pytest.skip("systemctl is not installed")
    unit = "healer-test-no-such-unit.service"
    built = SystemdLauncher(SPEC, SystemdLaunch(systemd=unit), hold=hold)
    with pytest.raises(
        LaunchError, match=f"cannot start 'chat_api': `systemctl .*{unit}`"
    ) as caught:
        await built.start(8220, "launch-1")
    assert caught.value.exit_code not in {None, 0}
    assert "it said nothing" not in str(caught.value)
    assert "nvalid option" not in str(caught.value)
    with pytest.raises(LaunchError, match="cannot stop 'chat_api'"):
        await built.stop(8220)
