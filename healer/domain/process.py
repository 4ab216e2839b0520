"""Operating-system processes and listeners, as facts, and whose they are.

A process id alone says nothing (it is reused), and process id plus start time says little (the tick
is 10 ms): see `ProcessIdentity`. Everything here is a value; the only code that opens a process is
`healer.host`.
"""

from __future__ import annotations

from enum import StrEnum

from healer.domain.value import Value

__all__ = [
    "ExitStatus",
    "Launch",
    "Listener",
    "OwnerProof",
    "OwnerSpec",
    "ProcessIdentity",
    "ProcessView",
    "prove_owner",
]


class ProcessIdentity(Value):
    """What tells one process from every other, on this machine, for ever.

    `start_ticks` is field 22 of /proc/PID/stat (clock ticks since boot, 10 ms each: two processes
    can share it). `pidfd_inode` is unique in a boot on kernels from 6.9 on, None before. `boot_id`
    is /proc/sys/kernel/random/boot_id. The rest is what a person wants to see.
    """

    boot_id: str
    pid: int
    start_ticks: int
    pidfd_inode: int | None = None
    name: str = ""
    exe: str | None = None
    uid: int | None = None
    cgroup: str | None = None

    def same_as(self, other: ProcessIdentity) -> bool | None:
        """Whether `other` is this process; None where the kernel cannot tell (no pidfd inode)."""
        if (self.boot_id, self.pid, self.start_ticks) != (
            other.boot_id,
            other.pid,
            other.start_ticks,
        ):
            return False
        if self.pidfd_inode is None or other.pidfd_inode is None:
            return None
        return self.pidfd_inode == other.pidfd_inode

    def __str__(self) -> str:
        return f"{self.name or 'process'}[{self.pid}]"


class ExitStatus(Value):
    """How a process ended. Both are None when it was not our child, so nobody told us."""

    code: int | None = None
    signal: int | None = None

    def __str__(self) -> str:
        if self.signal is not None:
            return f"signal {self.signal}"
        return "unknown" if self.code is None else f"exit code {self.code}"


class Launch(Value):
    """One start of a component by the healer. `launch_id` stands in the environment of all that it
    started (HEALER_LAUNCH_ID); `leader` is the process that was started."""

    launch_id: str
    leader: ProcessIdentity | None = None


class ProcessView(Value):
    """A look at a live process, taken while a pidfd holds it. Never stored: `cmdline` may hold
    secrets.

    `forbidden` names why this process may never be signalled (pid 1, a kernel thread, the healer
    itself, an ancestor of it, another network or pid namespace), None when nothing forbids it.
    `state` is the letter of /proc/PID/stat (R, S, D, Z, T, ...).
    """

    identity: ProcessIdentity
    ppid: int = 0
    pgid: int = 0
    sid: int = 0
    state: str = "S"
    user: str | None = None
    cmdline: tuple[str, ...] = ()
    unit: str | None = None
    launch_id: str | None = None
    forbidden: str | None = None


class Listener(Value):
    """One socket in LISTEN state on a port.

    `holders` are the processes that have the socket open; empty with `hidden` set means that
    somebody holds it whom we may not see, which is not the same as nobody. `family` is 4 or 6;
    `dual_stack` is set on an IPv6 wildcard that also takes IPv4.
    """

    address: str
    port: int
    family: int = 4
    inode: int = 0
    uid: int | None = None
    dual_stack: bool = False
    holders: tuple[ProcessIdentity, ...] = ()
    hidden: bool = False

    def serves(self, host: str) -> bool:
        """Whether a connection to the address `host` can reach this socket."""
        if self.address == host:
            return True
        if self.address == "0.0.0.0":  # noqa: S104 - compared, not bound
            return ":" not in host
        return self.address == "::" and (":" in host or self.dual_stack)


class OwnerProof(StrEnum):
    """Why a process is the component's: the one reason that was found first."""

    LAUNCHED = "launched"
    UNIT = "unit"
    CGROUP = "cgroup"
    EXECUTABLE = "executable"
    CMDLINE = "cmdline"


class OwnerSpec(Value):
    """What, besides having been launched by us, proves that a process is the component.

    `cmdline` is a substring of the space-joined command line, `exe` the absolute path of the
    executable, `unit` a systemd unit, `cgroup` a path prefix. `user` (a name or a number) is a
    condition on top of the others, and never a proof of its own: users run many things.
    """

    cmdline: str | None = None
    exe: str | None = None
    user: str | int | None = None
    unit: str | None = None
    cgroup: str | None = None


def prove_owner(
    view: ProcessView, spec: OwnerSpec, launches: tuple[Launch, ...] = ()
) -> OwnerProof | None:
    """Why `view` belongs to the component that `spec` and `launches` describe; None: it is foreign.

    The proofs are tried from the strongest to the weakest. An empty `spec` proves nothing.
    """
    for launch in launches:
        if view.launch_id == launch.launch_id:
            return OwnerProof.LAUNCHED
        if launch.leader is not None and launch.leader.same_as(view.identity):
            return OwnerProof.LAUNCHED
    if spec.user is not None and spec.user not in {view.user, view.identity.uid}:
        return None
    cgroup = view.identity.cgroup or ""
    if spec.unit is not None and spec.unit == view.unit:
        return OwnerProof.UNIT
    if spec.cgroup is not None and f"{cgroup}/".startswith(f"{spec.cgroup.rstrip('/')}/"):
        return OwnerProof.CGROUP
    if spec.exe is not None and spec.exe == view.identity.exe:
        return OwnerProof.EXECUTABLE
    if spec.cmdline is not None and spec.cmdline in " ".join(view.cmdline):
        return OwnerProof.CMDLINE
    return None
