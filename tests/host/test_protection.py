"""What may never be signalled, whatever anybody proves about it. No test here signals."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace

import pytest

from healer.host import procfs
from healer.host.protection import forbidden

from .conftest import unprivileged

WAIT = "print('ready', flush=True); input()"


def ancestors() -> list[int]:
    """Our parent, its parent, and so on, as far as this PID namespace shows them."""
    found = [os.getppid()]
    while parent := procfs.stat_of(found[-1]).ppid:
        found.append(parent)
    return found


def test_a_child_of_ours_may_be(program):
    child = program(WAIT)
    assert forbidden(child.pid, procfs.stat_of(child.pid)) is None


def test_a_sibling_of_our_parent_s_may_be(program, strays):
    """Only the line above us is forbidden, not all that it started."""
    child = program(
        "import os\npid = os.fork()\nif pid == 0: input()\nprint(pid, flush=True); input()"
    )
    grandchild = strays.add(int(child.line()))
    assert forbidden(grandchild, procfs.stat_of(grandchild)) is None


def test_init_may_not(program):
    ordinary = procfs.stat_of(program(WAIT).pid)
    assert forbidden(1, ordinary) == "init"


def test_a_kernel_thread_may_not(program):
    child = program(WAIT)
    disguised = replace(procfs.stat_of(child.pid), flags=0x00200000)
    assert forbidden(child.pid, disguised) == "kernel_thread"


def test_a_real_kernel_thread_may_not():
    for pid in procfs.pids():
        with suppress(OSError):  # it may end between list and look
            stat = procfs.stat_of(pid)
            if stat.kernel_thread:
                assert forbidden(pid, stat) == "kernel_thread"
                return
    pytest.skip("no kernel thread is visible here")


def test_we_ourselves_may_not():
    assert forbidden(os.getpid(), procfs.stat_of(os.getpid())) == "healer"


def test_none_of_our_ancestors_may():
    line = ancestors()
    assert line
    for pid in line:
        reason = forbidden(pid, procfs.stat_of(pid))
        assert reason == ("init" if pid == 1 else "ancestor"), pid


@pytest.mark.parametrize(
    ("flag", "reason"), [(0x40000000, "network_namespace"), (0x20000000, "pid_namespace")]
)
def test_what_lives_in_another_namespace_may_not(program, strays, flag, reason):
    parent = program(
        "import ctypes, os, sys\n"
        "if ctypes.CDLL(None).unshare(int(sys.argv[1])) != 0: raise SystemExit\n"
        "pid = os.fork()\n"
        "if pid == 0: input()\n"
        "print(pid, flush=True); input()",
        str(flag),
    )
    line = parent.line()
    if not line:
        pytest.skip("making a namespace is not permitted here")
    pid = strays.add(int(line))
    assert forbidden(pid, procfs.stat_of(pid)) == reason


def test_what_cannot_be_seen_may_not(program):
    child = program(WAIT)
    with unprivileged():
        assert forbidden(child.pid, procfs.stat_of(child.pid)) == "unreadable"


async def test_what_is_gone_may_not(program, host):
    child = program("pass")
    process = await host.hold(child.pid)
    last_seen = procfs.stat_of(os.getpid())
    await process.exited()
    process.close()
    assert forbidden(child.pid, last_seen) == "unreadable"
