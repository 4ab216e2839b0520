"""What /proc says of one process, read as the kernel wrote it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from healer.host import procfs
from healer.host.procfs import Stat

from .conftest import unprivileged, until, zombie

WAIT = "print('ready', flush=True); input()"
KERNEL_THREAD = 0x00200000


def stat(**fields: object) -> Stat:
    defaults = {
        "name": "x",
        "state": "S",
        "ppid": 1,
        "pgid": 1,
        "sid": 1,
        "flags": 0x00400040,
        "start_ticks": 1,
        "env_end": 140_000,
    }
    return Stat(**(defaults | fields))  # type: ignore[arg-type]


@pytest.fixture
async def gone(program, host) -> int:
    """The pid of a process that has ended and was reaped."""
    child = program("pass")
    process = await host.hold(child.pid)
    await process.exited()
    process.close()
    return child.pid


def test_the_fields_are_those_of_proc_5(program):
    child = program(WAIT)
    child.line()
    fields = Path(f"/proc/{child.pid}/stat").read_text().split()
    read = procfs.stat_of(child.pid)
    assert f"({read.name})" == fields[1]
    assert (read.ppid, read.pgid, read.sid) == (os.getpid(), child.pid, child.pid)
    assert (read.flags, read.start_ticks) == (int(fields[8]), int(fields[21]))
    assert read.env_end == int(fields[50]) > 0
    assert read.state in "SRD"
    assert not read.kernel_thread


@pytest.mark.parametrize(
    ("fields", "kernel_thread", "executing"),
    [
        ({}, False, False),
        ({"env_end": 0}, False, True),
        ({"env_end": 0, "state": "Z"}, False, False),
        ({"env_end": 0, "flags": KERNEL_THREAD}, True, False),
        ({"flags": KERNEL_THREAD | 0x40}, True, False),
        ({"env_end": 1}, False, False),
    ],
)
def test_a_process_without_an_environment_is_executing_unless_it_never_gets_one(
    fields, kernel_thread, executing
):
    read = stat(**fields)
    assert read.kernel_thread is kernel_thread
    assert read.executing is executing


def test_every_process_is_listed_by_its_number(program):
    child = program(WAIT)
    listed = list(procfs.pids())
    assert {1, os.getpid(), child.pid} <= set(listed)
    assert len(listed) == len(set(listed))


def test_arguments_are_read_whole_however_long(program):
    child = program(WAIT, "x" * 100_000, "a b", "y" * 100_000, "\udcff", "")
    child.line()
    assert procfs.cmdline_of(child.pid)[3:] == ("x" * 100_000, "a b", "y" * 100_000, "\ufffd", "")


def test_the_user_is_the_effective_one(program):
    if os.geteuid() != 0:
        pytest.skip("needs root, to have two users")
    child = program("import os; os.setresuid(1, 65534, 0); " + WAIT)
    child.line()
    assert procfs.uid_of(child.pid) == 65534


def test_an_executable_is_known_by_its_path_though_it_was_replaced(processes, tmp_path):
    sleep = tmp_path / "sleep"
    shutil.copy2(shutil.which("sleep") or "/bin/sleep", sleep)
    pid = processes.start(str(sleep), "600").pid
    assert procfs.exe_of(pid) == str(sleep)
    sleep.unlink()
    assert procfs.exe_of(pid) == str(sleep)


@pytest.mark.parametrize(
    ("lines", "path"),
    [
        (["0::/system.slice/a.service"], "/system.slice/a.service"),
        (["0::/"], "/"),
        (["0::/", "1:name=systemd:/a.service"], "/a.service"),
        (["1:name=systemd:/a.service", "0::/"], "/a.service"),
        (["1:name=systemd:/a.service", "0::/b.service"], "/b.service"),
        (["3:cpu,cpuacct:/c", "1:name=systemd:/a:b.service"], "/a:b.service"),
        (["3:cpu,cpuacct:/c"], None),
        ([], None),
    ],
)
def test_the_cgroup_is_the_unified_one_and_else_systemd_s(lines, path):
    assert procfs.cgroup_in("".join(f"{line}\n" for line in lines)) == path


def test_the_cgroup_of_a_process_is_read_from_its_own_file(program):
    child = program(WAIT)
    text = Path(f"/proc/{child.pid}/cgroup").read_text()
    assert procfs.cgroup_of(child.pid) == procfs.cgroup_in(text)


@pytest.mark.parametrize(
    ("env", "launch_id"),
    [
        ({procfs.LAUNCH_ID: "abc"}, "abc"),
        ({procfs.LAUNCH_ID: "a=b"}, "a=b"),
        ({procfs.LAUNCH_ID: ""}, ""),
        ({"NOT_THE_" + procfs.LAUNCH_ID: "abc"}, None),
        ({"OTHER": f"{procfs.LAUNCH_ID}=abc"}, None),
        ({procfs.LAUNCH_ID: "x" * 100_000}, "x" * 100_000),
        ({procfs.LAUNCH_ID: "\udcff"}, "\ufffd"),
        ({}, None),
    ],
)
def test_the_launch_is_what_the_environment_says_under_that_very_name(program, env, launch_id):
    child = program(WAIT, env=env)
    child.line()
    assert procfs.launch_id_of(child.pid) == launch_id


def test_namespaces_are_told_apart_by_process_and_kind(program):
    child = program(WAIT)
    for kind in ("net", "pid"):
        inode = Path(f"/proc/{child.pid}/ns/{kind}").stat().st_ino
        assert procfs.namespace_of(child.pid, kind) == inode == procfs.namespace_of("self", kind)
    assert procfs.namespace_of("self", "net") != procfs.namespace_of("self", "pid")


async def test_what_is_gone_shows_nothing(gone):
    assert procfs.exe_of(gone) is None
    assert procfs.cmdline_of(gone) == ()
    assert procfs.launch_id_of(gone) is None
    for look in (procfs.stat_of, procfs.uid_of, procfs.cgroup_of):
        with pytest.raises(OSError, match=str(gone)):
            look(gone)
    with pytest.raises(OSError, match=str(gone)):
        procfs.namespace_of(gone, "net")


async def test_what_has_ended_and_was_not_reaped_shows_only_its_numbers(program):
    child = program("raise SystemExit(3)", env={procfs.LAUNCH_ID: "abc"})
    await until(lambda: zombie(child.pid))
    read = procfs.stat_of(child.pid)
    assert (read.state, read.ppid, read.executing) == ("Z", os.getpid(), False)
    assert procfs.cmdline_of(child.pid) == ()
    assert procfs.exe_of(child.pid) is None
    assert procfs.launch_id_of(child.pid) is None


def test_what_may_not_be_seen_shows_nothing(program):
    child = program(WAIT, env={procfs.LAUNCH_ID: "abc"})
    child.line()
    with unprivileged():
        assert procfs.launch_id_of(child.pid) is None
        assert procfs.exe_of(child.pid) is None
