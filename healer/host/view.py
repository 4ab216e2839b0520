"""A look at a held process, for owner proofs and for people."""

from __future__ import annotations

import pwd

from healer.domain.process import ProcessView
from healer.errors import HostError
from healer.host import procfs
from healer.host.protection import forbidden
from healer.ports import HeldProcess

__all__ = ["view"]


def view(process: HeldProcess) -> ProcessView | None:
    """All that can be seen of `process`; None when it has ended. Blocks: the argument vector of a
    process that is stuck in the kernel, and user names from a directory service, can take long.

    Raises:
        HostError: it lives and /proc does not show it.
    """
    identity = process.identity
    pid = identity.pid
    try:
        stat = procfs.stat_of(pid)
    except OSError as error:
        if process.gone():
            return None
        raise HostError(f"cannot see {identity} in /proc", errno=error.errno) from error
    launch_id = procfs.launch_id_of(pid)  # first: it waits for execve, before which all is empty
    seen = ProcessView(
        identity=identity,
        ppid=stat.ppid,
        pgid=stat.pgid,
        sid=stat.sid,
        state=stat.state,
        user=_user(identity.uid),
        cmdline=procfs.cmdline_of(pid),
        unit=procfs.unit_in(identity.cgroup),
        launch_id=launch_id,
        forbidden=forbidden(pid, stat),
    )
    return None if process.gone() else seen


def _user(uid: int | None) -> str | None:
    try:
        return None if uid is None else pwd.getpwuid(uid).pw_name
    except KeyError:
        return None
