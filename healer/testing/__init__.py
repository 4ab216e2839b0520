"""In-memory twins of every port, to test with what embeds the healer: no machine is touched.

    world = World()
    host = FakeHost(world)
    engine = Engine(specs, budget, log=MemoryLog(), host=host, prober=FakeProber(world), ...)

Run such a test with `simulate`: minutes of back-off then pass in milliseconds.
"""

from __future__ import annotations

from healer.store.memory import MemoryLog
from healer.testing.clock import FakeClock, FakeIds
from healer.testing.host import FakeHeld, FakeHost, FakeReservation
from healer.testing.launcher import FakeLauncher
from healer.testing.loop import SimLoop, simulate
from healer.testing.prober import FakeProber
from healer.testing.shared import SharedLog, SharedMemory
from healer.testing.world import Program, World, WorldProcess, WorldSocket

__all__ = [
    "FakeClock",
    "FakeHeld",
    "FakeHost",
    "FakeIds",
    "FakeLauncher",
    "FakeProber",
    "FakeReservation",
    "MemoryLog",
    "Program",
    "SharedLog",
    "SharedMemory",
    "SimLoop",
    "World",
    "WorldProcess",
    "WorldSocket",
    "simulate",
]
