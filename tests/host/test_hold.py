"""Holding: the descriptor first, then the look, and nothing is believed that was not seen."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from healer.domain.process import ExitStatus
from healer.errors import HostError
from healer.host import procfs
from healer.host.linux import LinuxHost
from healer.host.process import hold, identify, require_pidfds

from .conftest import unprivileged, until, zombie

WAIT = "print('ready', flush=True); input()"


def pidfds(pid: int) -> set[int]:
    """The descriptors by which we hold a process that was not reaped yet."""
    found = set()
    for entry in Path("/proc/self/fdinfo").iterdir():
        with suppress(FileNotFoundError):  # the one by which this directory is read
            if f"Pid:\t{pid}\n" in entry.read_text():
                found.add(int(entry.name))
    return found


def is_closed(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError as error:
        return error.errno == errno.EBADF
    return False


def opening(pid: int, descriptor: Callable[[], int]) -> Callable[[int], int]:
    """Opens pidfds, but for `pid` what `descriptor` says."""
    return lambda asked: descriptor() if asked == pid else os.pidfd_open(asked)


def refusing(number: int) -> int:
    raise OSError(number, os.strerror(number))


async def test_an_identity_is_what_proc_says_of_it(host, program, held):
    child = program(WAIT)
    child.line()
    identity = (await held(child.pid)).identity
    stat = procfs.stat_of(child.pid)
    assert (identity.name, identity.start_ticks) == (stat.name, stat.start_ticks)
    assert identity.cgroup == procfs.cgroup_of(child.pid)
    assert identify(child.pid, boot=host.boot_id) == identity


async def test_a_process_that_may_not_be_opened_is_not_taken_for_gone(program):
    child = program(WAIT)
    host = LinuxHost(opener=opening(child.pid, lambda: refusing(errno.EMFILE)))
    with pytest.raises(HostError) as refused:
        await host.hold(child.pid)
    assert str(refused.value) == f"cannot hold process {child.pid}: Too many open files"
    assert refused.value.errno == errno.EMFILE


async def test_a_process_that_lives_and_cannot_be_seen_is_not_taken_for_gone(program, held, host):
    gone, alive = program("pass"), program(WAIT)
    process = await held(gone.pid)
    await process.exited()
    opener = opening(gone.pid, lambda: os.pidfd_open(alive.pid))
    before = pidfds(alive.pid)
    with pytest.raises(HostError) as refused:
        hold(gone.pid, boot=host.boot_id, opener=opener)
    assert str(refused.value) == (
        f"cannot see the live process {gone.pid} in /proc: No such file or directory"
    )
    assert refused.value.errno == errno.ENOENT
    assert pidfds(alive.pid) == before


async def test_a_process_that_ends_between_the_opening_and_the_look_is_none(program, held, host):
    child = program("input()")
    process = await held(child.pid)
    pidfd = os.pidfd_open(child.pid)
    child.say()
    await process.exited()
    assert hold(child.pid, boot=host.boot_id, opener=opening(child.pid, lambda: pidfd)) is None
    assert is_closed(pidfd)


async def test_what_has_ended_has_no_identity_any_more(program, host):
    child = program("raise SystemExit(3)")
    await until(lambda: zombie(child.pid))
    before = pidfds(child.pid)
    assert identify(child.pid, boot=host.boot_id) is None
    assert pidfds(child.pid) == before
    process = hold(child.pid, boot=host.boot_id)
    assert process is not None, "its exit status is still to be had"
    assert await process.exited() == ExitStatus(code=3)
    process.close()
    assert identify(child.pid, boot=host.boot_id) is None


async def test_a_signal_says_whether_there_was_anybody_to_get_it(program, held):
    child = program("raise SystemExit(3)")
    await until(lambda: zombie(child.pid))
    process = await held(child.pid)
    assert process.signal(0) is True, "it was not reaped yet"
    await process.exited()
    assert process.signal(0) is False
    living = await held(program(WAIT).pid)
    assert living.signal(0) is True
    assert living.signal(signal.SIGKILL) is True


async def test_who_has_no_right_to_signal_is_told_whom_and_why(program, held):
    process = await held(program(WAIT).pid)
    with unprivileged(), pytest.raises(HostError) as refused:
        process.signal(0)
    assert str(refused.value) == f"cannot signal {process.identity}: Operation not permitted"
    assert refused.value.errno == errno.EPERM


async def test_what_was_let_go_is_named_when_it_is_asked_about(program, held):
    process = await held(program(WAIT).pid)
    assert repr(process) == f"<PidfdProcess {process.identity}>"
    process.close()
    with pytest.raises(HostError) as refused:
        process.gone()
    assert str(refused.value) == f"cannot ask about {process.identity}: it was let go"


async def test_an_end_that_was_seen_is_known_after_it_was_let_go(program, held):
    process = await held(program("pass").pid)
    await process.exited()
    process.close()
    assert process.gone()
    assert await process.exited() == ExitStatus(code=0)


async def test_what_nobody_holds_any_more_keeps_no_descriptor(program, host):
    child = program(WAIT)
    before = pidfds(child.pid)
    process = await host.hold(child.pid)
    assert len(pidfds(child.pid)) == len(before) + 1
    del process
    gc.collect()
    assert pidfds(child.pid) == before


async def test_one_that_is_let_go_while_another_waits_leaves_him_waiting(program, held):
    child = program("input(); raise SystemExit(4)")
    one, other = await held(child.pid), await held(child.pid)
    waits = [asyncio.ensure_future(each.exited()) for each in (one, other)]
    await asyncio.sleep(0)
    one.close()
    with pytest.raises(HostError, match="let go"):
        await waits[0]
    child.say()
    assert await asyncio.wait_for(waits[1], 60) == ExitStatus(code=4)


@pytest.mark.parametrize("ends", [True, False])
async def test_nobody_watches_when_nobody_waits(program, host, ends):
    """A loop that went on watching would never rest, or take the next of that number for it."""
    child = program("input()")
    before = pidfds(child.pid)
    process = await host.hold(child.pid)
    (descriptor,) = pidfds(child.pid) - before
    wait = asyncio.ensure_future(process.exited())
    await asyncio.sleep(0)
    if ends:
        child.say()
        await asyncio.wait_for(wait, 60)
    else:
        wait.cancel()
        await asyncio.wait([wait])
    assert not asyncio.get_running_loop().remove_reader(descriptor)
    process.close()


async def test_our_own_child_is_known_until_it_was_reaped(program, held):
    child = program("input()")
    process = await held(child.pid)
    assert not process.unreaped_child(), "it lives"
    child.say()
    await until(lambda: zombie(child.pid))
    assert process.unreaped_child()
    assert process.unreaped_child(), "a look does not reap"
    await process.exited()
    assert not process.unreaped_child()


def test_a_machine_without_pidfds_is_told_what_it_lacks():
    with pytest.raises(HostError) as refused:
        require_pidfds(lambda _pid: refusing(errno.ENOSYS))
    assert str(refused.value) == (
        "cannot hold processes safely: no working pidfds here (Function not implemented); "
        "needed: Linux 5.4 or later, pidfd_open and pidfd_send_signal permitted"
    )
    assert refused.value.errno == errno.ENOSYS


def test_a_descriptor_that_signals_nobody_is_no_pidfd():
    null = os.open("/dev/null", os.O_RDONLY)
    with pytest.raises(HostError, match="no working pidfds here"):
        require_pidfds(lambda _pid: null)
    assert is_closed(null)
    require_pidfds()
    assert pidfds(os.getpid()) == set()
