"""A small machine with components on it, and healers that live and die there, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

from healer.domain.component import Component, component_stream
from healer.domain.events import Event, Fact, IssueDetected
from healer.domain.health import Health
from healer.domain.issue import NetworkIssue
from healer.domain.probe import Reason
from healer.domain.process import ProcessIdentity
from healer.domain.spec import Budget, CommandLaunch, ComponentSpec, HookLaunch
from healer.engine import Engine
from healer.errors import StoreError
from healer.ports import Launcher
from healer.testing import (
    FakeClock,
    FakeHost,
    FakeIds,
    FakeLauncher,
    FakeProber,
    MemoryLog,
    Program,
    World,
    WorldProcess,
    simulate,
)

P = ParamSpec("P")
T = TypeVar("T")
FactType = TypeVar("FactType", bound=Event)

PORT: Final = 8220


def in_virtual_time(
    test: Callable[P, Coroutine[Any, Any, None]],
) -> Callable[P, None]:
    """Run a test on a loop whose time is virtual; an hour of it is a bound for every test."""

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(24 * 3600):
                await test(*args, **kwargs)

        simulate(bounded())

    return run


def spec(name: str = "chat_api", port: int = PORT, **fields: Any) -> ComponentSpec:
    """A component that the healer launches, looked at often."""
    defaults: dict[str, Any] = {
        "launch": CommandLaunch(command=(name,), grace=1.0),
        "interval": 1.0,
        "timeout": 0.5,
        "failure_threshold": 2,
        "success_threshold": 1,
        "start_period": 2.0,
    }
    return ComponentSpec(name=name, port=port, **(defaults | fields))


class StageLog(MemoryLog):
    """A log that can be away, and at whose appends the healer can be killed.

    Each append takes `takes` seconds. Those that `refuses` says yes to fail, and write nothing.
    `kill_at` is the number of the append (from 1, counted by `appends`) in the middle of which
    `kill` is called and nothing follows: before it is durable, or with `kill_after` right after.
    """

    def __init__(self) -> None:
        super().__init__()
        self.refuses: Callable[[Sequence[Event]], bool] = lambda _: False
        self.takes = 0.0
        self.appends = 0
        self.kill_at = 0
        self.kill_after = False
        self.kill: Callable[[], None] = lambda: None
        self.killed = asyncio.Event()

    async def append(self, events: Sequence[Event]) -> int:
        await asyncio.sleep(self.takes)
        if self.killed.is_set():
            await asyncio.Event().wait()
        if self.refuses(events):
            raise StoreError("cannot append: the disk is full")
        self.appends += 1
        dying = self.appends == self.kill_at
        position = await super().append(events) if self.kill_after or not dying else 0
        if dying:
            self.kill()
            self.killed.set()
            await asyncio.Event().wait()
        return position


class Stage:
    """The machine, the log and, one after the other, the healers."""

    def __init__(
        self,
        *specs: ComponentSpec,
        budget: Budget | None = None,
        programs: dict[str, Program | Callable[[int], Program]] | None = None,
        manager: str | None = None,
    ) -> None:
        self.specs = {each.name: each for each in specs or (spec(),)}
        self.budget = budget or Budget()
        self.programs = programs or {}
        self.manager = manager
        self.world = World()
        self.clock = FakeClock(time=asyncio.get_running_loop().time)
        self.ids = FakeIds()
        self.prober = FakeProber(self.world)
        self.log = StageLog()
        self.announcements: list[int] = []
        self.launchers: dict[str, FakeLauncher] = {}
        self.launch_errors: dict[str, BaseException] = {}
        self.new_healer()

    def new_healer(self) -> Engine:
        """A healer over the same world and the same log, not started yet."""
        self.host = FakeHost(self.world)
        self.engine = Engine(
            self.specs,
            self.budget,
            log=self.log,
            host=self.host,
            prober=self.prober,
            clock=self.clock,
            ids=self.ids,
            node="node-1",
            launchers=self._launcher,
        )
        return self.engine

    def new_healer_started(self) -> Stage:
        """`async with` this: another healer over the same world and the same log."""
        self.new_healer()
        return self

    async def bury(self) -> None:
        """Clear away what a killed healer was running."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.log.kill_at = 0
        self.log.killed.clear()

    def _launcher(self, component: ComponentSpec) -> Launcher | None:
        if isinstance(component.launch, HookLaunch):
            announcer = FakeLauncher(
                self.host, lambda port: Program(name="announce", address=None), kind="hook"
            )
            self.launchers[f"announce {component.name}"] = announcer
            return announcer
        if component.launch is None:
            return None
        launcher = FakeLauncher(
            self.host,
            self.programs.get(component.name, Program(name=component.name)),
            kind=self.manager or "command",
            stops=self.manager is not None,
            error=self.launch_errors.get(component.name),
        )
        self.launchers[component.name] = launcher
        return launcher

    async def __aenter__(self) -> Stage:
        await self.engine.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.engine.stop()

    # What there is

    async def facts(self, kind: type[FactType], component: str | None = None) -> list[FactType]:
        """All facts of one type, in log order."""
        found = [each.event for each in await self.log.read(limit=100_000)]
        issues = {
            each.originator_id
            for each in found
            if isinstance(each, IssueDetected) and component in {None, each.component}
        }
        if component is not None:
            issues.add(component_stream(component))
            found = [each for each in found if each.originator_id in issues]
        return [each for each in found if isinstance(each, kind)]

    async def names(self, issue: str | None = None) -> list[str]:
        """The type names of all issue facts (of one issue), in log order: how a story reads."""
        return [
            type(each.event).__name__
            for each in await self.log.read(limit=100_000)
            if issue in {None, each.event.originator_id}
            and not each.event.originator_id.startswith("component:")
        ]

    async def issues(self, component: str | None = None) -> list[NetworkIssue]:
        """All issues, as the log tells them."""
        return [
            NetworkIssue.replay(each.originator_id, await self.log.stream(each.originator_id))
            for each in await self.facts(IssueDetected)
            if component in {None, each.component}
        ]

    async def component(self, name: str = "chat_api") -> Component:
        """A component, as the log tells it."""
        stream = component_stream(name)
        return Component.replay(stream, await self.log.stream(stream))

    def serving(self, port: int = PORT) -> WorldProcess | None:
        """Who listens on a port; None: nobody."""
        return next((socket.holders[0] for socket in self.world.on_port(port)), None)

    def answers(self, port: int = PORT) -> bool:
        """Whether a launched process listens on the port and is well."""
        process = self.serving(port)
        return process is not None and process.launch_id is not None and self._is_well(port)

    def _is_well(self, port: int) -> bool:
        process = self.serving(port)
        return process is not None and process.state == "S" and process.answers is Reason.OK

    def signalled(self) -> list[ProcessIdentity]:
        """Everybody who was ever sent a signal by a healer."""
        return list(dict.fromkeys(identity for identity, _ in self.world.signals))

    # What happens

    async def until(self, condition: Callable[[], Any], within: float = 600.0) -> Any:
        """Wait until `condition` (it may be a coroutine function) is true; the answer."""
        try:
            async with asyncio.timeout(within):
                while True:
                    answer = condition()
                    if asyncio.iscoroutine(answer):
                        answer = await answer
                    if answer:
                        return answer
                    await asyncio.sleep(0.01)
        except TimeoutError:
            story = "\n".join(map(str, await self.story()))
            raise AssertionError(f"not within {within:g} s; what happened:\n{story}") from None

    async def story(self) -> list[str]:
        """The log for people, when a test fails."""
        return [_line(each.event) for each in await self.log.read(limit=100_000)]

    async def healthy(self, *names: str, within: float = 600.0) -> None:
        """Wait until components answer, are known to be healthy and have no open issue."""
        wanted = names or tuple(self.specs)

        async def settled() -> bool:
            now = [self.engine.status(name) for name in wanted]
            well = all(
                each.health.health is Health.HEALTHY and self._is_well(each.port) for each in now
            )
            return well and not (await self.log.open_issues()).keys() & wanted

        await self.until(settled, within)

    async def ended(self, count: int = 1, within: float = 600.0) -> list[NetworkIssue]:
        """Wait until so many issues have ended; all issues."""

        async def found_ended() -> list[NetworkIssue] | None:
            issues = await self.issues()
            return issues if len([each for each in issues if each.closed]) >= count else None

        found: list[NetworkIssue] = await self.until(found_ended, within)
        return found

    def crash(self, port: int = PORT) -> WorldProcess:
        """Kill whoever serves the port, with all that shares its session."""
        process = self.serving(port)
        assert process is not None
        self.world.end(process, signal=9)
        return process


def _line(event: Fact) -> str:
    fields = event.model_dump(
        exclude={
            "originator_id",
            "originator_version",
            "timestamp",
            "actor",
            "node",
            "correlation_id",
            "causation_id",
            "evidence",
            "playbooks",
        },
        exclude_defaults=True,
    )
    return f"{event.timestamp:%H:%M:%S.%f} {event.event_id[-12:]} {type(event).__name__} {fields}"
