"""A component on a small machine, and the actions of a playbook on it, one at a time."""

from __future__ import annotations

from typing import Any

from healer.domain.component import Component, component_stream
from healer.domain.events import StepStarted
from healer.domain.playbook import Settlement, StepResult
from healer.domain.routing import PLAYBOOKS
from healer.domain.spec import PortRange
from healer.playbooks.action import Action, Plan, Skip, StepFailedError
from healer.playbooks.instance import Instance
from healer.testing import FakeHost, FakeIds, FakeLauncher, FakeProber, Program, World
from tests.domain.walk import given, route, stamp
from tests.engine.stage import PORT, spec

RANGE = PortRange(first=PORT, last=PORT + 2)


class Small:
    """An instance of `chat_api` on a machine of its own, and an issue that has come to RebindPort,
    of which nothing has been done yet."""

    def __init__(self, program: Program | None = None, **fields: Any) -> None:
        self.world = World()
        self.host = FakeHost(self.world)
        self.launcher = FakeLauncher(self.host, program or Program(name="chat_api"))
        self.announcer = FakeLauncher(
            self.host, Program(name="announce", address=None), kind="hook"
        )
        self.instance = Instance(
            spec(**fields),
            Component(component_stream("chat_api")),
            host=self.host,
            prober=FakeProber(self.world),
            ids=FakeIds(),
            launcher=self.launcher,
            announcer=self.announcer,
        )
        self.issue = given("start_diagnosis", "complete_diagnosis")
        route(PLAYBOOKS["rebind_port"])(self.issue, stamp(3))
        self.issue.start_remediation(attempt=1, stamp=stamp(4))
        self.issue.start_playbook(stamp=stamp(5))

    def reserved(self, port: int) -> None:
        """The first step of the playbook has reserved `port`."""
        self.issue.start_step(stamp=stamp(6))
        self.issue.succeed_step(StepResult(port=port), elapsed=0.1, stamp=stamp(7))

    async def plan(self, action: Action) -> Plan:
        found = await action.plan(self.instance, self.issue)
        assert isinstance(found, Plan)
        return found

    async def skipped(self, action: Action) -> str:
        """Why there is nothing to do."""
        found = await action.plan(self.instance, self.issue)
        assert isinstance(found, Skip)
        return found.reason

    async def perform(self, action: Action) -> StepResult:
        return await action.perform(self.instance, self.issue, await self.plan(action))

    async def failure(self, action: Action) -> StepResult:
        """What the action says of its failure."""
        try:
            result = await self.perform(action)
        except StepFailedError as error:
            return error.result
        raise AssertionError(f"{action.name} has not failed: {result}")

    async def settle(self, action: Action, **intent: Any) -> tuple[Settlement, StepResult]:
        """What the action says of an intent whose healer has died."""
        issue = given(
            "start_diagnosis",
            "complete_diagnosis",
            "choose_one",
            "start_remediation",
            "start_playbook",
            "start_step",
        )
        assert isinstance(issue.intent, StepStarted)
        changed = issue.intent.model_copy(update={"port": None, **intent})
        return await action.settle(self.instance, self.issue, changed)
