"""Which live processes belong to a launch of ours."""

from __future__ import annotations

import os
from collections.abc import Sequence

from healer.domain.process import Launch, ProcessIdentity
from healer.errors import HostError
from healer.host import procfs
from healer.host.process import Open, PidfdProcess, hold, identify

__all__ = ["members"]


def members(
    launches: Sequence[Launch], *, boot: str, opener: Open
) -> list[tuple[PidfdProcess, ...] | HostError]:
    """For each of `launches` everything alive that it started, each process held, or why that
    cannot be said. One walk through /proc for all of them; blocks for about a millisecond.

    A process is a member when it carries the launch id (then it may have left group and session),
    or when it is in the leader's group or session and that one is *still the leader's*: the
    leader's pid is the leader, or somebody in there carries the launch id. A group number alone
    proves nothing once the leader is gone, since the kernel gives it out again.
    """
    found: list[tuple[PidfdProcess, ...] | HostError] = []
    for launch, pids in zip(launches, _candidates(launches, boot), strict=True):
        try:
            found.append(_members(launch, pids, boot=boot, opener=opener))
        except HostError as error:
            found.append(error)
    return found


def _members(
    launch: Launch, candidates: Sequence[int], *, boot: str, opener: Open
) -> tuple[PidfdProcess, ...]:
    leader = launch.leader
    held: dict[int, PidfdProcess] = {}
    carriers: set[int] = set()
    comrades: set[int] = set()
    try:
        for pid in candidates:
            process = hold(pid, boot=boot, opener=opener)
            if process is None:
                continue
            held[pid] = process
            # Asked once more, now that the pid cannot come to mean another process.
            carried = procfs.launch_id_of(pid)
            grouped = (
                leader is not None
                and _in_group(pid, leader)
                and process.identity.start_ticks >= leader.start_ticks
            )
            if process.gone():
                continue
            if carried == launch.launch_id:
                carriers.add(pid)
            if grouped and carried in {None, launch.launch_id}:
                comrades.add(pid)
        ours = set(carriers)
        if comrades & carriers or (
            comrades and leader is not None and _still_leads(leader, boot=boot, opener=opener)
        ):
            ours |= comrades
        return tuple(held.pop(pid) for pid in sorted(ours))
    finally:
        for process in held.values():
            process.close()


def _candidates(launches: Sequence[Launch], boot: str) -> list[list[int]]:
    """For each launch the pids that look like members, for one read and at most two system calls
    a process and inhabited group. Nothing of another boot is alive."""
    found: list[list[int]] = [[] for _ in launches]
    by_id: dict[str, list[list[int]]] = {}
    groups: list[tuple[ProcessIdentity, list[int]]] = []
    for launch, pids in zip(launches, found, strict=True):
        leader = launch.leader
        if leader is None or leader.boot_id == boot:
            by_id.setdefault(launch.launch_id, []).append(pids)
            if leader is not None and _inhabited(leader.pid):
                groups.append((leader, pids))
    for pid in procfs.pids() if by_id else ():
        if pid == os.getpid():
            continue
        for pids in by_id.get(procfs.launch_id_of(pid) or "", ()):
            pids.append(pid)
        for leader, pids in groups:
            if pid not in pids[-1:] and _in_group(pid, leader):
                pids.append(pid)
    return found


def _inhabited(group: int) -> bool:
    """Whether a process group has any process. Signal 0 is a look, it is delivered to nobody.

    Init leads no launch, and to the kernel its group would mean everybody.
    """
    if group <= 1:
        return False
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _in_group(pid: int, leader: ProcessIdentity) -> bool:
    try:
        return leader.pid in {os.getpgid(pid), os.getsid(pid)}
    except OSError:
        return False


def _still_leads(leader: ProcessIdentity, *, boot: str, opener: Open) -> bool:
    now = identify(leader.pid, boot=boot, opener=opener)
    return now is not None and leader.same_as(now) is True
