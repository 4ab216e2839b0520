"""Which live processes belong to a launch of ours."""

from __future__ import annotations

import os

from healer.domain.process import Launch, ProcessIdentity
from healer.host import procfs
from healer.host.process import Open, PidfdProcess, hold, identify

__all__ = ["members"]


def members(launch: Launch, *, boot: str, opener: Open) -> tuple[PidfdProcess, ...]:
    """Everything alive that `launch` started, each one held; blocks for about a millisecond.

    A process is a member when it carries the launch id (then it may have left group and session),
    or when it is in the leader's group or session and that one is *still the leader's*: the
    leader's pid is the leader, or somebody in there carries the launch id. A group number alone
    proves nothing once the leader is gone, since the kernel gives it out again.
    """
    leader = launch.leader
    if leader is not None and leader.boot_id != boot:
        return ()
    held: dict[int, PidfdProcess] = {}
    carriers: set[int] = set()
    comrades: set[int] = set()
    try:
        for pid in _candidates(launch):
            process = hold(pid, boot=boot, opener=opener)
            if process is None:
                continue
            held[pid] = process
            # Asked once more, now that the pid cannot come to mean another process.
            carried = procfs.launch_id_of(pid)
            grouped = _in_group(pid, leader) and _no_older(process.identity, leader)
            if process.gone():
                continue
            if carried == launch.launch_id:
                carriers.add(pid)
            if grouped and carried in {None, launch.launch_id}:
                comrades.add(pid)
        ours = set(carriers)
        if comrades & carriers or (comrades and _still_leads(leader, boot=boot, opener=opener)):
            ours |= comrades
        return tuple(held.pop(pid) for pid in sorted(ours))
    finally:
        for process in held.values():
            process.close()


def _candidates(launch: Launch) -> list[int]:
    """Pids that look like members, for two system calls a process and one read."""
    group = launch.leader if launch.leader is not None and _inhabited(launch.leader.pid) else None
    return [
        pid
        for pid in procfs.pids()
        if pid != os.getpid()
        and (_in_group(pid, group) or procfs.launch_id_of(pid) == launch.launch_id)
    ]


def _inhabited(group: int) -> bool:
    """Whether a process group has any process. Signal 0 is a look, it is delivered to nobody."""
    if group <= 1:
        return False
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _in_group(pid: int, leader: ProcessIdentity | None) -> bool:
    if leader is None:
        return False
    try:
        return leader.pid in {os.getpgid(pid), os.getsid(pid)}
    except OSError:
        return False


def _no_older(identity: ProcessIdentity, leader: ProcessIdentity | None) -> bool:
    return leader is not None and identity.start_ticks >= leader.start_ticks


def _still_leads(leader: ProcessIdentity | None, *, boot: str, opener: Open) -> bool:
    if leader is None:
        return False
    now = identify(leader.pid, boot=boot, opener=opener)
    return now is not None and leader.same_as(now) is True
