"""What /proc says of one process: small readers, each one file.

All of them take a pid, so none of them proves anything by itself: `healer.host.process` opens a
pidfd first and asks it afterwards whether the process that was read about still lived.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

__all__ = [
    "LAUNCH_ID",
    "Stat",
    "cgroup_in",
    "cgroup_of",
    "cmdline_of",
    "exe_of",
    "launch_id_of",
    "namespace_of",
    "pids",
    "read",
    "stat_of",
    "uid_of",
    "unit_in",
]

LAUNCH_ID: Final = "HEALER_LAUNCH_ID"
"""The variable that names the launch; nothing else is ever read out of an environment."""

_CHUNK: Final = 65536
_EXEC_WAIT: Final = 0.1
"""Seconds that a process is given to come out of execve; it takes microseconds, or a disk read."""

_EXEC_PAUSE: Final = 0.0005
_PF_KTHREAD: Final = 0x00200000  # include/linux/sched.h
_DELETED: Final = " (deleted)"
_UNIT: Final = re.compile(r".+\.(?:service|scope)")


@dataclass(frozen=True, slots=True)
class Stat:
    """The fields of /proc/PID/stat that matter here; `start_ticks` counts from boot."""

    name: str
    state: str
    ppid: int
    pgid: int
    sid: int
    flags: int
    start_ticks: int
    env_end: int

    @property
    def kernel_thread(self) -> bool:
        return bool(self.flags & _PF_KTHREAD)

    @property
    def executing(self) -> bool:
        """Whether it is inside execve: arguments and environment are not there yet."""
        return self.env_end == 0 and self.state != "Z" and not self.kernel_thread


def read(path: str) -> bytes:
    """All of a file of /proc, whose size is not known beforehand."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = os.read(descriptor, _CHUNK)
        # A short read of an ordinary seq_file is its end; a page that came full may have more.
        while more := os.read(descriptor, _CHUNK):
            content += more
        return content
    finally:
        os.close(descriptor)


def pids() -> Iterator[int]:
    """Every process that /proc shows us, in no order."""
    for name in os.listdir("/proc"):  # noqa: PTH208 - hot path: a Path for each pid doubles the cost
        if name.isdecimal():
            yield int(name)


def stat_of(pid: int) -> Stat:
    """Raises OSError where it cannot be read (FileNotFoundError, ProcessLookupError: no such)."""
    text = read(f"/proc/{pid}/stat").decode(errors="replace")
    # The name stands in brackets and may itself hold brackets and blanks.
    before, _, after = text.rpartition(")")
    fields = after.split()
    return Stat(
        name=before.partition("(")[2],
        state=fields[0],
        ppid=int(fields[1]),
        pgid=int(fields[2]),
        sid=int(fields[3]),
        flags=int(fields[6]),
        start_ticks=int(fields[19]),
        env_end=int(fields[48]),
    )


def uid_of(pid: int) -> int:
    """The effective user id. (/proc/PID itself is owned by root where it is not dumpable.)"""
    for line in read(f"/proc/{pid}/status").splitlines():
        if line.startswith(b"Uid:"):
            return int(line.split()[2])
    raise ProcessLookupError(f"no Uid line in /proc/{pid}/status")


def exe_of(pid: int) -> str | None:
    """The executable's path; None where it may not be seen or there is none (a kernel thread).

    An executable that was replaced on disk while it runs is still known by its path.
    """
    try:
        return os.readlink(f"/proc/{pid}/exe").removesuffix(_DELETED)  # noqa: PTH115 - hot path
    except OSError:
        return None


def cgroup_of(pid: int) -> str | None:
    """The control group that a process is in, see `cgroup_in`."""
    return cgroup_in(read(f"/proc/{pid}/cgroup").decode(errors="replace"))


def cgroup_in(text: str) -> str | None:
    """The path in the unified hierarchy; in systemd's own where that one is not in use."""
    unified = named = None
    for line in text.splitlines():
        hierarchy, controllers, path = line.split(":", 2)
        if hierarchy == "0":
            unified = path
        elif controllers == "name=systemd":
            named = path
    return named or unified if unified in {None, "/"} else unified


def unit_in(cgroup: str | None) -> str | None:
    """The systemd service or scope that a cgroup path lies in: the innermost one."""
    for part in reversed((cgroup or "").split("/")):
        if _UNIT.fullmatch(part):
            return part
    return None


def cmdline_of(pid: int) -> tuple[str, ...]:
    """The argument vector; empty for a kernel thread or where it may not be seen."""
    try:
        content = read(f"/proc/{pid}/cmdline")
    except OSError:
        return ()
    arguments = content.decode(errors="replace").removesuffix("\0")
    return tuple(arguments.split("\0")) if arguments else ()


def launch_id_of(pid: int) -> str | None:
    """The launch that the process says it belongs to; None where it says or shows nothing.

    Blocks: a process that is just being executed shows an empty environment for a moment (whoever
    started it has been told already), and is waited for, since empty would mean "not ours".
    """
    try:
        content = read(f"/proc/{pid}/environ")
        deadline = time.monotonic() + _EXEC_WAIT
        while not content and stat_of(pid).executing and time.monotonic() < deadline:
            time.sleep(_EXEC_PAUSE)
            content = read(f"/proc/{pid}/environ")
    except OSError:
        return None
    prefix = f"{LAUNCH_ID}=".encode()
    if prefix not in content:
        return None
    for variable in content.split(b"\0"):
        if variable.startswith(prefix):
            return variable.removeprefix(prefix).decode(errors="replace")
    return None


def namespace_of(pid: int | str, kind: str) -> int:
    """The inode that names a namespace (`net`, `pid`) of a process; OSError where unreadable."""
    return os.stat(f"/proc/{pid}/ns/{kind}").st_ino  # noqa: PTH116 - hot path, see `pids`
