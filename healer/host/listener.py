"""Who listens on a port: each LISTEN socket with all of its holders.

A socket belongs to every process that has a descriptor of it (workers of a pre-fork server, whoever
inherited it), so the only complete answer is a walk through /proc/*/fd. It is made only when
something listens at all, and in a thread; whoever needs to know of one process asks `holds`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable

from healer.domain.process import Listener, ProcessIdentity
from healer.errors import HostError
from healer.host import procfs
from healer.host.process import Open, hold
from healer.host.sockdiag import ListenSocket, listen_sockets

__all__ = ["holders", "holds", "listeners"]


async def listeners(port: int, *, boot: str, opener: Open) -> tuple[Listener, ...]:
    """See `healer.ports.Host.listeners`. The question to the kernel takes some 50 µs."""
    sockets = listen_sockets(port)
    if not sockets:
        return ()
    return await asyncio.to_thread(_look, sockets, port, boot, opener)


def holds(pid: int, inodes: Iterable[int]) -> frozenset[int]:
    """Those of `inodes` that the process has open; PermissionError where that may not be seen."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: set[int] = set()
    path = f"/proc/{pid}/fd"
    try:
        descriptors = os.listdir(path)  # noqa: PTH208 - hot path, see healer.host.procfs.pids
    except (FileNotFoundError, ProcessLookupError):
        return frozenset()
    for descriptor in descriptors:
        try:
            inode = wanted.get(os.readlink(f"{path}/{descriptor}"))  # noqa: PTH115 - hot path
        except OSError:
            continue  # closed while we looked
        if inode is not None:
            found.add(inode)
            if len(found) == len(wanted):
                break
    return frozenset(found)


def holders(inodes: Iterable[int]) -> dict[int, list[int]]:
    """Socket inode → pids of all the processes that we can see holding it; blocks."""
    found: dict[int, list[int]] = {inode: [] for inode in inodes}
    for pid in procfs.pids():
        try:
            held = holds(pid, found)
        except PermissionError:
            continue  # whoever is not seen here leaves its socket without a visible holder
        for inode in held:
            found[inode].append(pid)
    return found


def _look(
    sockets: tuple[ListenSocket, ...], port: int, boot: str, opener: Open
) -> tuple[Listener, ...]:
    found = holders(listening.inode for listening in sockets)
    names = {
        inode: _identities(inode, pids, boot=boot, opener=opener) for inode, pids in found.items()
    }
    if not all(names.values()):
        # Closed while we looked, or held by somebody whom we may not see? The kernel knows.
        still = {listening.inode for listening in listen_sockets(port)}
        sockets = tuple(one for one in sockets if names[one.inode] or one.inode in still)
    return tuple(
        Listener(
            address=listening.address,
            port=listening.port,
            family=listening.family,
            inode=listening.inode,
            uid=listening.uid,
            dual_stack=listening.dual_stack,
            holders=names[listening.inode],
            hidden=not names[listening.inode],
        )
        for listening in sockets
    )


def _identities(
    inode: int, pids: list[int], *, boot: str, opener: Open
) -> tuple[ProcessIdentity, ...]:
    found: list[ProcessIdentity] = []
    for pid in sorted(pids):
        try:
            process = hold(pid, boot=boot, opener=opener)
        except HostError:
            continue  # seen a moment ago and not any more: then it is not a visible holder
        if process is None:
            continue
        try:
            # Once more, now that the pid cannot come to mean another process.
            if holds(pid, (inode,)) and not process.gone():
                found.append(process.identity)
        except PermissionError:
            continue
        finally:
            process.close()
    return tuple(found)
