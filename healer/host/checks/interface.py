"""Which network interfaces are up, and with which addresses."""

from __future__ import annotations

import socket
from typing import Final

import psutil

from healer.domain.playbook import CheckStatus
from healer.host.checks.reading import Facts, Look, Reading
from healer.host.checks.resolution import literal

__all__ = ["network_interfaces"]

SHOWN: Final = 32
_FAMILIES: Final = {socket.AF_INET: 4, socket.AF_INET6: 6}


async def network_interfaces(look: Look) -> Reading:
    """FAIL when loopback is down, or no interface that is up speaks the host's address family."""
    return await look.threads.run("interfaces", lambda: _read(look.spec.host), look.timeout)


def _read(host: str) -> Reading:
    up = {name for name, state in psutil.net_if_stats().items() if state.isup}
    every = psutil.net_if_addrs()
    families: set[int] = set()
    shown: list[str] = []
    for name in sorted(up):
        for entry in every.get(name, ()):
            family = _FAMILIES.get(socket.AddressFamily(entry.family))
            if family is not None:
                families.add(family)
                shown.append(f"{name} {entry.address.partition('%')[0]}")
    address = literal(host)
    wanted = None if address is None else 6 if ":" in address else 4
    lacking = not families if wanted is None else wanted not in families
    facts: Facts = {
        "up": sorted(up),
        "down": sorted(set(every) - up),
        "addresses": shown[:SHOWN],
        "loopback_up": "lo" in up,
        "family_missing": lacking,
    }
    return Reading(CheckStatus.FAIL if lacking or "lo" not in up else CheckStatus.OK, facts)
