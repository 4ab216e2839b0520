"""The diagnostic checks: readings of this machine that change nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from healer.domain.playbook import Check
from healer.domain.spec import ComponentSpec
from healer.errors import HostError, UnknownNameError
from healer.host.checks.firewall import firewall_rules
from healer.host.checks.interface import network_interfaces
from healer.host.checks.loopback import localhost_reachable
from healer.host.checks.port import port_conflicts, port_listening
from healer.host.checks.reading import ListenersFunction, Look, Reading, unknown
from healer.host.checks.resolution import name_resolution
from healer.host.checks.resource import CpuMeter, system_resources
from healer.host.checks.route import route
from healer.host.checks.thread import Threads
from healer.host.checks.tool import DIRECTORIES

__all__ = ["FAST", "SLOW", "Checks", "ListenersFunction"]

FAST: Final = ("port_listening", "localhost_reachable", "name_resolution", "route")
"""Cheap enough to be waited for before a restart; a resolver that must be asked is given little
time."""

SLOW: Final = ("network_interfaces", "firewall_rules", "port_conflicts", "system_resources")
"""These start a thread or a program each, and run beside the restart where it need not wait."""

_ORDER: Final = (
    "port_listening",
    "localhost_reachable",
    "network_interfaces",
    "firewall_rules",
    "port_conflicts",
    "system_resources",
    "name_resolution",
    "route",
)

_CheckFunction = Callable[[Look], Awaitable[Reading]]


class Checks:
    """Makes diagnostic checks by name.

    `listeners` tells who listens on a port. A check that takes more than `timeout` seconds is
    given up and says so. `directories` are where the system's own programs are looked for.
    """

    def __init__(
        self,
        listeners: ListenersFunction,
        timeout: float = 2.0,
        directories: Sequence[str] = DIRECTORIES,
    ) -> None:
        meter = CpuMeter()
        self._listeners = listeners
        self._timeout = timeout
        self._directories = tuple(directories)
        self._threads = Threads()
        self._functions: dict[str, _CheckFunction] = {
            "port_listening": port_listening,
            "localhost_reachable": localhost_reachable,
            "network_interfaces": network_interfaces,
            "firewall_rules": firewall_rules,
            "port_conflicts": port_conflicts,
            "system_resources": lambda look: system_resources(look, meter),
            "name_resolution": name_resolution,
            "route": route,
        }

    def names(self) -> tuple[str, ...]:
        """All checks, in the order in which they are shown."""
        return _ORDER

    async def run(self, name: str, spec: ComponentSpec, port: int) -> Check:
        """Make the check `name` of `spec` on `port`.

        What it finds is in its result, also that it could not be made: then its status is UNKNOWN
        and the fact `why` says what stood in its way.

        Raises:
            UnknownNameError: there is no check of that name.
        """
        function = self._functions.get(name)
        if function is None:
            raise UnknownNameError("check", name, _ORDER)
        look = Look(spec, port, self._listeners, self._threads, self._timeout, self._directories)
        started = time.perf_counter()
        reading = await self._read(function, look)
        elapsed = time.perf_counter() - started
        return Check(name=name, status=reading.status, facts=reading.facts, elapsed=elapsed)

    async def _read(self, function: _CheckFunction, look: Look) -> Reading:
        try:
            async with asyncio.timeout(self._timeout):
                return await function(look)
        except TimeoutError:
            return unknown("timed out")
        except PermissionError as error:
            return unknown("not permitted", errno=error.errno)
        except (OSError, HostError) as error:
            return unknown("failed", error=str(error), errno=error.errno)
        except ValueError as error:
            return unknown("not understood", error=str(error))
