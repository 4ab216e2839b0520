"""Which processes may never be signalled, whatever anybody proves about them."""

from __future__ import annotations

import os

from healer.host import procfs
from healer.host.procfs import Stat

__all__ = ["forbidden"]


def forbidden(pid: int, stat: Stat) -> str | None:
    """Why the process may never be signalled, as a stable word; None: nothing forbids it.

    `init`, `kernel_thread`, `healer` (ourselves), `ancestor` (of ours), `network_namespace` and
    `pid_namespace` (another than ours), `unreadable` (what cannot be seen is not permitted).
    Ask while a pidfd holds the process.
    """
    if pid == 1:
        return "init"
    if stat.kernel_thread:
        return "kernel_thread"
    if pid == os.getpid():
        return "healer"
    try:
        if pid in _ancestors():
            return "ancestor"
        for kind, reason in (("net", "network_namespace"), ("pid", "pid_namespace")):
            if procfs.namespace_of(pid, kind) != procfs.namespace_of("self", kind):
                return reason
    except OSError:
        return "unreadable"
    return None


def _ancestors() -> set[int]:
    """Read anew each time: a parent that dies hands us to another one."""
    found: set[int] = set()
    parent = os.getppid()
    while parent > 0 and parent not in found:
        found.add(parent)
        parent = procfs.stat_of(parent).ppid
    return found
