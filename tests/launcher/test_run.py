"""Bounded runs of a client."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from healer.errors import LaunchError
from healer.host.launcher.environment import find_tool, tool_environment
from healer.host.launcher.run import Ran, run


async def test_a_flood_of_output_neither_blocks_nor_is_kept() -> None:
    ran = await run(
        ["/bin/sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x; echo; echo last"],
        tool_environment(),
        timeout=20,
    )
    assert ran.exit_code == 0
    assert ran.last_line == "last"
    assert len(ran.output) <= 64 * 1024


async def test_a_child_that_keeps_the_output_open_is_not_waited_for() -> None:
    ran = await run(["/bin/sh", "-c", "sleep 3 & echo done"], tool_environment(), timeout=2.5)
    assert ran == Ran(0, "done\n")


async def test_a_client_is_not_found_by_a_path_of_somebody_else(
    tmp_path: Path, script: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = script("systemctl-planted", "#!/bin/sh\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LaunchError, match="cannot run 'systemctl-planted': it is in none of"):
        find_tool("systemctl-planted")
    assert find_tool("ignored", binary=str(planted)) == str(planted)
    with pytest.raises(LaunchError, match="cannot run 'systemctl-planted'"):
        find_tool("ignored", binary="systemctl-planted")
    assert str(tmp_path) not in tool_environment()["PATH"]


def test_a_client_that_others_can_change_is_not_used(
    tmp_path: Path, script: Callable[[str, str], Path]
) -> None:
    client = script("client", "#!/bin/sh\n")
    client.chmod(client.stat().st_mode | stat.S_IWOTH)
    with pytest.raises(LaunchError, match="others than root can change it"):
        find_tool("client", directories=[str(tmp_path)])
