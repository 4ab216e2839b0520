"""Who has the component's port, and who the ports beside it."""

from __future__ import annotations

import socket
from typing import Final

from healer.domain.classification import reaches
from healer.domain.playbook import CheckStatus
from healer.host.checks.reading import Facts, Look, Reading, unknown
from healer.host.checks.resolution import addresses, is_local
from healer.host.checks.tcp import listening_ports

__all__ = ["port_conflicts", "port_listening"]

NEARBY: Final = 5
SHOWN: Final = 64
MANY_IN_USE: Final = 0.9
"""Share of the rebind range in use from which moving there is in doubt."""


async def port_listening(look: Look) -> Reading:
    """Who listens on the port, and whether one of them serves the component's host."""
    listeners = await look.listeners(look.port)
    facts: Facts = {
        "port": look.port,
        "listening": bool(listeners),
        "addresses": sorted({each.address for each in listeners}),
        "pids": sorted({holder.pid for each in listeners for holder in each.holders}),
        "hidden": any(each.hidden for each in listeners),
    }
    try:
        hosts = await addresses(look)
    except socket.gaierror as error:
        return unknown("name not resolved", port=look.port, eai=error.errno)
    if not any(is_local(host) for host in hosts):
        return unknown("host is elsewhere", port=look.port, listening=bool(listeners))
    served = any(reaches(each, host) for each in listeners for host in hosts)
    facts |= {"serves": served, "wrong_interface": bool(listeners) and not served}
    return Reading(CheckStatus.OK if served else CheckStatus.FAIL, facts)


async def port_conflicts(look: Look) -> Reading:
    """Several listeners on the port itself, and which of its neighbours are in use.

    WARN when more than one user listens on the port, or hardly a port of the rebind range is free.
    """
    listeners = await look.listeners(look.port)
    used = await look.threads.run("listening ports", listening_ports, look.timeout)
    nearby = range(max(1, look.port - NEARBY), min(65535, look.port + NEARBY) + 1)
    pids = sorted({holder.pid for each in listeners for holder in each.holders})
    users = {each.uid for each in listeners}
    facts: Facts = {
        "port": look.port,
        "listeners": len(listeners),
        "pids": pids,
        "several_users": len(users) > 1,
        "nearby": sorted(used.intersection(nearby) - {look.port}),
    }
    crowded = False
    span = look.spec.rebind
    if span is not None:
        size = span.last - span.first + 1
        taken = sorted(port for port in used if span.first <= port <= span.last)
        crowded = len(taken) / size >= MANY_IN_USE
        facts |= {"rebind_used": taken[:SHOWN], "rebind_free": size - len(taken)}
    facts["rebind_exhausted"] = crowded
    warn = crowded or len(users) > 1
    return Reading(CheckStatus.WARN if warn else CheckStatus.OK, facts)
