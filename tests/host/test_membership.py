"""Who belongs to a launch: whoever carries its id, and the leader's group while it is his."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import signal

import pytest

from healer.domain.process import Launch
from healer.errors import HostError
from healer.host import procfs
from healer.host.linux import LinuxHost

from .conftest import until, zombie

LAUNCH = secrets.token_hex(16)
MARK = {procfs.LAUNCH_ID: LAUNCH}
"""Of this run alone: others may run the same tests at the same time."""

FAMILY = """
import os, subprocess, sys, time
child = subprocess.Popen(["sleep", "600"])
stray = subprocess.Popen(["sleep", "600"], start_new_session=True)
print(child.pid, stray.pid, flush=True)
time.sleep(600)
"""
"""A leader with a child in its group, and one that left group and session."""

UNMARKED = """
import os, subprocess, time
os.environ.pop("HEALER_LAUNCH_ID", None)
child = subprocess.Popen(["sleep", "600"])
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
async def members(host):
    """The pids of a launch's members; lets go of them after the test."""
    holding = []

    async def pids(launch: Launch) -> set[int]:
        found = await host.members(launch)
        holding.extend(found)
        return {process.identity.pid for process in found}

    yield pids
    for process in holding:
        process.close()


async def test_a_launch_has_its_group_and_whoever_left_the_session(
    host, program, strays, held, members
):
    leader = program(FAMILY, env=MARK)
    child, stray = (strays.add(int(pid)) for pid in leader.line().split())
    process = await held(leader.pid)
    launch = Launch(launch_id=LAUNCH, leader=process.identity)
    assert await members(launch) == {leader.pid, child, stray}
    process.signal(signal.SIGKILL)
    await process.exited()
    assert await members(launch) == {child, stray}, "the leader is gone, its family is not"
    found = await host.members(launch)
    stopped = await host.stop(found, grace=5)
    assert {identity.pid for identity in stopped.stopped} == {child, stray}
    for one in found:
        one.close()
    assert await members(launch) == set()


async def test_the_launch_id_alone_finds_them(program, strays, members):
    leader = program(FAMILY, env=MARK)
    child, stray = (strays.add(int(pid)) for pid in leader.line().split())
    assert await members(Launch(launch_id=LAUNCH)) == {leader.pid, child, stray}
    assert await members(Launch(launch_id="another")) == set()


async def test_a_child_without_the_mark_belongs_to_its_living_leader(
    program, strays, held, members
):
    leader = program(UNMARKED, env=MARK)
    child = strays.add(int(leader.line()))
    process = await held(leader.pid)
    if process.identity.pidfd_inode is None:
        pytest.skip("this kernel has no pidfs (before 6.9)")
    launch = Launch(launch_id=LAUNCH, leader=process.identity)
    assert await members(launch) == {leader.pid, child}


async def test_a_group_that_nobody_marks_is_its_leaders_while_it_lives(
    program, strays, held, members
):
    leader = program(UNMARKED)
    child = strays.add(int(leader.line()))
    process = await held(leader.pid)
    if process.identity.pidfd_inode is None:
        pytest.skip("this kernel has no pidfs (before 6.9)")
    launch = Launch(launch_id=LAUNCH, leader=process.identity)
    assert await members(launch) == {leader.pid, child}
    process.signal(signal.SIGKILL)
    await process.exited()
    assert await members(launch) == set()


async def test_what_is_older_than_the_leader_is_none_of_its_launch(program, strays, held, members):
    leader = program(UNMARKED, env=MARK)
    strays.add(int(leader.line()))
    identity = (await held(leader.pid)).identity
    later = identity.model_copy(update={"start_ticks": identity.start_ticks + 1_000_000})
    assert await members(Launch(launch_id=LAUNCH, leader=later)) == {leader.pid}, "by its mark"


async def test_a_leader_that_ended_and_was_not_reaped_hides_none_of_its_family(
    program, strays, held, members
):
    leader = program(FAMILY, env=MARK)
    family = {strays.add(int(pid)) for pid in leader.line().split()}
    process = await held(leader.pid)
    process.signal(signal.SIGKILL)
    await until(lambda: zombie(leader.pid))
    assert await members(Launch(launch_id=LAUNCH, leader=process.identity)) == family


def failing(pid: int, error: OSError):
    """A host that cannot open one process."""

    def opener(asked: int) -> int:
        if asked == pid:
            raise error
        return os.pidfd_open(asked)

    return LinuxHost(opener=opener)


async def test_a_member_that_ends_meanwhile_hides_no_other(program, strays):
    leader = program(FAMILY, env=MARK)
    family = {strays.add(int(pid)) for pid in leader.line().split()}
    host = failing(leader.pid, ProcessLookupError(errno.ESRCH, "it has just ended"))
    found = await host.members(Launch(launch_id=LAUNCH))
    assert {process.identity.pid for process in found} == family
    for process in found:
        process.close()


async def test_members_of_whom_one_cannot_be_held_are_not_known(program, strays):
    """A launch that is believed to be without that one might be thought to be at its end."""
    leader = program(FAMILY, env=MARK)
    child, _ = (strays.add(int(pid)) for pid in leader.line().split())
    host = failing(child, OSError(errno.EMFILE, "Too many open files"))
    with pytest.raises(HostError, match=f"^cannot hold process {child}: Too many open files$"):
        await host.members(Launch(launch_id=LAUNCH))


async def test_a_group_of_which_it_cannot_be_said_who_leads_it_is_not_known(program, strays, held):
    leader = program(UNMARKED, env=MARK)
    strays.add(int(leader.line()))
    process = await held(leader.pid)
    asked = []

    def opener(pid: int) -> int:
        asked.append(pid)
        if asked.count(leader.pid) > 1:  # once as one of the group, once as its leader
            raise OSError(errno.EMFILE, "Too many open files")
        return os.pidfd_open(pid)

    with pytest.raises(HostError, match=f"^cannot hold process {leader.pid}: Too many open files$"):
        await LinuxHost(opener=opener).members(Launch(launch_id="another", leader=process.identity))


async def test_init_leads_no_launch(held, members):
    init = await held(1)
    assert await members(Launch(launch_id=LAUNCH, leader=init.identity)) == set()


async def test_a_group_that_nobody_marks_is_not_ours_once_the_leader_is_gone(
    program, strays, held, members
):
    """Its number might have been given to others meanwhile: nothing in there says it is ours."""
    leader = program(UNMARKED, env=MARK)
    child = strays.add(int(leader.line()))
    process = await held(leader.pid)
    process.signal(signal.SIGKILL)
    await process.exited()
    assert os.getpgid(child) == leader.pid
    assert await members(Launch(launch_id=LAUNCH, leader=process.identity)) == set()


async def test_a_group_of_another_leader_with_our_leaders_pid_is_not_ours(
    program, strays, held, members
):
    leader = program(UNMARKED)
    strays.add(int(leader.line()))
    identity = (await held(leader.pid)).identity
    assert identity.pidfd_inode is not None or pytest.skip("this kernel has no pidfs")
    former = identity.model_copy(update={"pidfd_inode": identity.pidfd_inode - 1})
    assert await members(Launch(launch_id=LAUNCH, leader=former)) == set()


async def test_a_member_of_another_launch_in_our_group_is_not_ours(program, strays, held, members):
    leader = program(
        "import os, subprocess, time\n"
        "child = subprocess.Popen(['sleep', '600'],"
        " env={**os.environ, 'HEALER_LAUNCH_ID': 'another'})\n"
        "print(child.pid, flush=True); time.sleep(600)",
        env=MARK,
    )
    strays.add(int(leader.line()))
    identity = (await held(leader.pid)).identity
    assert await members(Launch(launch_id=LAUNCH, leader=identity)) == {leader.pid}


async def test_a_launch_of_another_boot_has_no_members(program, held, members):
    leader = program("print('ready', flush=True); input()", env=MARK)
    leader.line()
    identity = (await held(leader.pid)).identity
    former = identity.model_copy(update={"boot_id": "another"})
    assert await members(Launch(launch_id=LAUNCH, leader=former)) == set()


async def test_members_are_found_the_moment_they_are_started(program, members):
    """Inside execve a process has no environment yet; that must not make it a stranger."""
    mother = program(
        "import os, signal\n"
        "while input() == 'more':\n"
        "    pid = os.posix_spawnp('sleep', ['sleep', '600'], os.environ, setsid=True)\n"
        "    print(pid, flush=True); input()\n"
        "    os.kill(pid, signal.SIGKILL); os.waitpid(pid, 0); print('ended', flush=True)\n",
        env=MARK,
    )
    for _ in range(50):
        mother.say("more")
        pid = int(mother.line())
        assert await members(Launch(launch_id=LAUNCH)) == {mother.pid, pid}
        mother.say()
        assert mother.line() == "ended"


async def test_launches_that_are_asked_for_together_keep_their_own_members(
    host, program, strays, held, members
):
    other_id = secrets.token_hex(16)
    one, other = program(FAMILY, env=MARK), program(FAMILY, env={procfs.LAUNCH_ID: other_id})
    children = [{strays.add(int(pid)) for pid in each.line().split()} for each in (one, other)]
    mine = Launch(launch_id=LAUNCH, leader=(await held(one.pid)).identity)
    others = Launch(launch_id=other_id, leader=(await held(other.pid)).identity)
    nobodys = Launch(launch_id="nobody's")
    asked = (mine, others, nobodys, mine)
    first, second, third, fourth = await asyncio.gather(*map(members, asked))
    assert first == fourth == {one.pid, *children[0]}
    assert second == {other.pid, *children[1]}
    assert third == set()
