"""Several healers over one log, on one machine, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Self

from healer.domain.spec import ComponentSpec, OwnerSpec
from healer.engine import Engine
from healer.ports import Clock
from healer.testing import FakeHost, Program, SharedLog, SharedMemory, World
from tests.engine.stage import Stage, spec

__all__ = ["TERM", "Node", "Nodes"]

TERM = 10.0
"""Seconds of a lease."""


class Gate:
    """What a node goes through before it touches machine or log: nobody passes while it is shut.

    `passed` counts; `shuts_at` is the number of the passage (from 1) at which it shuts by itself.
    """

    def __init__(self) -> None:
        self.passed = 0
        self.shuts_at = 0
        self._open = asyncio.Event()
        self._open.set()

    @property
    def shut(self) -> bool:
        return not self._open.is_set()

    def close(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self.shuts_at = 0
        self._open.set()

    async def __call__(self) -> None:
        self.passed += 1
        if self.passed == self.shuts_at:
            self.close()
        await self._open.wait()


class GatedHost(FakeHost):
    def __init__(self, world: World, gate: Gate) -> None:
        super().__init__(world)
        self._gate = gate

    async def _called(self, method: str) -> None:
        await self._gate()
        await super()._called(method)


class GatedLog(SharedLog):
    def __init__(self, memory: SharedMemory, gate: Gate) -> None:
        super().__init__(memory)
        self._gate = gate

    async def _reach(self) -> None:
        await self._gate()
        await super()._reach()


class Node:
    """One healer. Whose gate is shut is stopped as by SIGSTOP; one that is never opened again is
    dead: time goes on, and it can do nothing with it."""

    def __init__(
        self,
        stage: Stage,
        memory: SharedMemory,
        name: str,
        world: World | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.name = name
        self.gate = Gate()
        self.log = GatedLog(memory, self.gate)
        self.host = stage.host = GatedHost(world or stage.world, self.gate)
        self.engine = Engine(
            stage.specs,
            stage.budget,
            log=self.log,
            host=self.host,
            prober=stage.prober,
            clock=clock or stage.clock,
            ids=stage.ids,
            node=name,
            launchers=stage._launcher,
            lease=TERM,
        )


class Nodes(Stage):
    """A stage with several healers, and components that run before the first of them is started.
    `engine` is the first one's."""

    def __init__(self, *specs: ComponentSpec, names: str = "ab", **options: object) -> None:
        owned = [
            each.model_copy(update={"owner": OwnerSpec(cmdline=each.name)})
            for each in specs or (spec(),)
        ]
        super().__init__(*owned, **options)  # type: ignore[arg-type]
        self.memory = SharedMemory(self.clock.monotonic, self.log)
        self.nodes = {name: Node(self, self.memory, name) for name in names}
        self.engine = self.nodes[names[0]].engine

    def add(self, name: str, world: World | None = None, clock: Clock | None = None) -> Node:
        """Another healer, not started yet, perhaps on a machine of its own or by a clock of its
        own; also one of the name of another that is dead."""
        self.nodes[name] = Node(self, self.memory, name, world, clock)
        return self.nodes[name]

    async def __aenter__(self) -> Self:
        for name, component in self.specs.items():
            program = self.programs.get(name, Program(name=name))
            program = program(component.port) if callable(program) else program
            self.world.run(replace(program, ready_after=0.0), component.port, launch_id="before")
        await asyncio.sleep(0.01)
        self.world.starts.clear()
        for node in self.nodes.values():
            await node.engine.start()
        await self.until(self.all_see_it_healthy)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.bury()

    def all_see_it_healthy(self) -> bool:
        """Whether all that live see every component as healthy."""
        return all(
            node.engine.status(name).health.health.value == "healthy"
            for node in self.nodes.values()
            if not node.gate.shut
            for name in self.specs
        )

    def holder(self, name: str = "chat_api") -> Node | None:
        """The node that holds the component's open issue."""
        holding = self.memory.holdings.get(name)
        return self.nodes[holding.node] if holding is not None else None

    async def held(self) -> Node:
        """Wait until a node holds an issue; which."""
        found: Node = await self.until(self.holder)
        return found

    def other(self, node: Node) -> Node:
        return next(each for each in self.nodes.values() if each is not node)

    def done(self) -> Callable[[], tuple[int, int]]:
        """What was done to the machine: signals sent, processes started."""
        return lambda: (len(self.world.signals), len(self.world.starts))
