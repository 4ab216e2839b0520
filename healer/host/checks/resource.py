"""CPU, memory, disk, file descriptors and connections of this machine."""

from __future__ import annotations

import os
import resource
import shutil
from pathlib import Path
from typing import Final

import psutil

from healer.domain.playbook import CheckStatus
from healer.host.checks.reading import Facts, Look, Reading
from healer.host.checks.tcp import TABLE_LIMIT, socket_counts, states

__all__ = ["CpuMeter", "system_resources"]

# From these figures on (share of what there is) a resource is called strained.
CPU_BUSY: Final = 0.90
CPU_PRESSURE: Final = 40.0  # percent of the last 10 s in which some task waited for a CPU
LOAD_PER_CORE: Final = 2.0
MEMORY_AVAILABLE: Final = 0.10
SWAP_USED: Final = 0.80
DISK_FREE: Final = 0.05
DESCRIPTORS_USED: Final = 0.90
EPHEMERAL_USED: Final = 0.80

_PRESSURE: Final = Path("/proc/pressure/cpu")
_FILES: Final = Path("/proc/sys/fs/file-nr")
_OWN_FILES: Final = Path("/proc/self/fd")
_EPHEMERAL: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")


class CpuMeter:
    """CPU use between one reading and the next; never waits for an interval to pass."""

    def __init__(self) -> None:
        self._busy, self._total = _cpu_seconds()

    def share(self) -> float | None:
        """Busy share since the last call, 0 to 1; None when no time has passed."""
        busy, total = _cpu_seconds()
        spent, passed = busy - self._busy, total - self._total
        if passed <= 0:
            return None
        self._busy, self._total = busy, total
        return min(1.0, max(0.0, spent / passed))


async def system_resources(look: Look, meter: CpuMeter) -> Reading:
    """WARN when a resource is strained; `strained` names which ones."""
    return await look.threads.run("resources", lambda: _read(meter), look.timeout)


def _read(meter: CpuMeter) -> Reading:
    strained: list[str] = []
    facts: Facts = {}
    for part, strain in (
        _cpu(meter),
        _memory(),
        _disk(),
        _descriptors(),
        _connections(),
    ):
        facts |= part
        strained += strain
    facts["strained"] = strained
    return Reading(CheckStatus.WARN if strained else CheckStatus.OK, facts)


def _cpu(meter: CpuMeter) -> tuple[Facts, list[str]]:
    cores = os.cpu_count() or 1
    load = os.getloadavg()[0]
    share = meter.share()
    pressure = _pressure()
    facts: Facts = {"cores": cores, "load_1m": round(load, 2)}
    facts["cpu_percent"] = None if share is None else round(share * 100, 1)
    facts["cpu_pressure_percent"] = pressure
    # A busy CPU alone is a used one: it is strained when work also has to wait for it.
    waits = pressure >= CPU_PRESSURE if pressure is not None else load / cores >= LOAD_PER_CORE
    busy = load / cores >= LOAD_PER_CORE or (waits and (share is None or share >= CPU_BUSY))
    return facts, ["cpu"] if busy else []


def _cpu_seconds() -> tuple[float, float]:
    """Busy seconds and all seconds of all cores since boot."""
    times = psutil.cpu_times()
    counted = (times.user, times.nice, times.system, times.irq, times.softirq, times.steal)
    busy = float(sum(counted))  # guest time is a part of user time
    return busy, busy + float(times.idle) + float(times.iowait)


def _pressure() -> float | None:
    """The `some avg10` figure of the kernel's pressure stall information; None without it."""
    try:
        words = _PRESSURE.read_text().split()
    except OSError:  # not built in, or switched off (EOPNOTSUPP)
        return None
    return float(words[1].removeprefix("avg10="))


def _memory() -> tuple[Facts, list[str]]:
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    facts: Facts = {
        "memory_available_percent": round(memory.available / memory.total * 100, 1),
        "memory_available_bytes": memory.available,
        "swap_used_percent": swap.percent,
    }
    strained = []
    if memory.available / memory.total < MEMORY_AVAILABLE:
        strained.append("memory")
    if swap.total and swap.used / swap.total > SWAP_USED:
        strained.append("swap")
    return facts, strained


def _disk() -> tuple[Facts, list[str]]:
    root, here = shutil.disk_usage("/"), shutil.disk_usage(".")
    shares = {"disk_root_free_percent": root.free / root.total if root.total else 1.0}
    shares["disk_cwd_free_percent"] = here.free / here.total if here.total else 1.0
    facts: Facts = {key: round(share * 100, 1) for key, share in shares.items()}
    return facts, ["disk"] if min(shares.values()) < DISK_FREE else []


def _descriptors() -> tuple[Facts, list[str]]:
    used, _, most = (int(word) for word in _FILES.read_text().split())
    # From Linux 6.2 on the size is the count; before, it is 0 and the entries must be counted.
    own = _OWN_FILES.stat().st_size or sum(1 for _ in os.scandir(_OWN_FILES))
    own_most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    facts: Facts = {"files_open": used, "files_max": most}
    facts |= {"own_files_open": own, "own_files_max": own_most}
    unlimited = own_most == resource.RLIM_INFINITY
    own_strained = not unlimited and own / own_most >= DESCRIPTORS_USED
    return facts, ["descriptors"] if own_strained or used / most >= DESCRIPTORS_USED else []


def _connections() -> tuple[Facts, list[str]]:
    counts = socket_counts()
    facts: Facts = {f"sockets_{key}": value for key, value in counts.items()}
    first, last = (int(word) for word in _EPHEMERAL.read_text().split())
    sockets = counts["inuse"] + counts["tw"] + counts["orphan"]
    total = last - first + 1
    facts["ephemeral_total"] = total
    if sockets > TABLE_LIMIT:
        facts["ephemeral_used"] = None
        return facts, []
    by_state, ports = states()
    used = sum(1 for port in ports if first <= port <= last)
    facts |= {f"tcp_{state}": count for state, count in by_state.items()}
    facts["ephemeral_used"] = used
    return facts, ["ports"] if used / total >= EPHEMERAL_USED else []
