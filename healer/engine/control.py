"""What operators may change while the healer runs: modes, windows, the pause, budgets, approvals.

Each is a fact with the operator's name in it, durable before it holds, and so outlives a restart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import structlog

from healer.domain.aggregate import Stamp
from healer.domain.component import Component
from healer.domain.events import FleetPaused, FleetResumed, MaintenanceStarted
from healer.domain.pause import FLEET_STREAM, Pause
from healer.domain.spec import Mode
from healer.engine.fleet import FleetBook
from healer.engine.journal import Journal
from healer.engine.keeper import Keeper
from healer.errors import IllegalCommandError, IssueConflictError, UnknownNameError
from healer.ports import EventLog, Recorded

__all__ = ["Controls"]

_TRIES: Final = 5
"""How often a race for the one stream of all nodes is run again."""

_log = structlog.get_logger("healer.control")


class Controls:
    """The switches of one node's healer. `actor` is who uses them, `reason` what for."""

    def __init__(
        self,
        keepers: Mapping[str, Keeper],
        fleet: FleetBook,
        journal: Journal,
        *,
        running: Callable[[], bool],
    ) -> None:
        self._keepers = keepers
        self._fleet = fleet
        self._journal = journal
        self._running = running
        self._pause: FleetPaused | None = None
        self._forget: Callable[[], None] | None = None

    # Life

    async def start(self, log: EventLog) -> None:
        """Take in the pause that the log remembers, and those that other nodes will say."""
        self._forget = log.listen(self._heard)
        self._take_in(Pause.replay(FLEET_STREAM, await log.stream(FLEET_STREAM)).since)

    def stop(self) -> None:
        """Listen no more."""
        if self._forget is not None:
            self._forget()
            self._forget = None

    # All components

    @property
    def pause(self) -> FleetPaused | None:
        """The pause that holds, None when heals are allowed."""
        return self._pause

    async def begin_pause(self, actor: str, reason: str) -> FleetPaused:
        """Hold all heals until `end_pause`; those under way finish. The pause that holds now.

        Raises:
            StoreError: it is not durable, and does not hold.
        """
        pause = await self._on_fleet(actor, lambda pause, stamp: pause.begin(reason, stamp=stamp))
        assert pause.since is not None
        return pause.since

    async def end_pause(self, actor: str, reason: str) -> FleetPaused | None:
        """Allow heals again; the pause that has ended, None when there was none.

        Raises:
            StoreError: it is not durable, and the pause goes on.
        """
        held = self._pause
        await self._on_fleet(actor, lambda pause, stamp: pause.end(reason, stamp=stamp))
        return held

    # One component

    async def change_mode(self, name: str, mode: Mode, actor: str, reason: str) -> Mode:
        """How far the healer may go with the component from now on; the mode before.

        Raises:
            UnknownNameError: there is no such component.
            IllegalCommandError: components are not watched.
            StoreError: it is not durable, and does not hold.
        """
        before = Mode.ACT

        def decide(component: Component, stamp: Stamp) -> None:
            nonlocal before
            before = component.mode
            component.change_mode(mode, reason, stamp=stamp)

        await self._keeper(name).decide(actor, decide)
        return before

    async def change_modes(self, mode: Mode, actor: str, reason: str) -> dict[str, Mode]:
        """As `change_mode`, for all components; the modes before.

        Raises:
            IllegalCommandError: components are not watched.
            StoreError: it is not durable for all of them.
        """
        before = await asyncio.gather(
            *(self.change_mode(name, mode, actor, reason) for name in self._keepers)
        )
        return dict(zip(self._keepers, before, strict=True))

    async def begin_maintenance(
        self, name: str, duration: float, actor: str, reason: str
    ) -> MaintenanceStarted:
        """Withhold the component's heals for `duration` seconds from now. A window that is open is
        replaced.

        Raises:
            UnknownNameError: there is no such component.
            IllegalCommandError: components are not watched.
            StoreError: it is not durable, and does not hold.
        """
        window: MaintenanceStarted | None = None

        def decide(component: Component, stamp: Stamp) -> None:
            nonlocal window
            component.start_maintenance(duration, reason, stamp=stamp)
            window = component.maintenance

        await self._keeper(name).decide(actor, decide)
        assert window is not None
        return window

    async def end_maintenance(self, name: str, actor: str, reason: str) -> None:
        """Allow the component's heals again.

        Raises:
            UnknownNameError: there is no such component.
            IllegalCommandError: it is in no maintenance, or components are not watched.
            StoreError: it is not durable, and the window stays open.
        """

        keeper = self._keeper(name)

        def decide(component: Component, stamp: Stamp) -> None:
            if not keeper.maintenance_left():
                raise IllegalCommandError("end the maintenance", f"{name} is in none")
            component.end_maintenance(reason, stamp=stamp)

        await keeper.decide(actor, decide)

    async def rearm(self, name: str, actor: str, reason: str) -> int:
        """Give the component its whole budget back; how many heals in a row are forgotten.

        Raises:
            UnknownNameError: there is no such component.
            IllegalCommandError: components are not watched.
            StoreError: it is not durable, and the budget stays as it is.
        """
        keeper = self._keeper(name)
        attempts = self._fleet.ledger(name).attempts
        await keeper.decide(
            actor,
            lambda component, stamp: component.reset_budget(attempts, reason, stamp=stamp),
        )
        self._fleet.rearm(name)
        return attempts

    # One issue

    async def approve(self, issue_id: str, actor: str) -> str:
        """Allow the heal that the open issue suggests; the component's name.

        Raises:
            UnknownNameError: there is no such issue here.
            IllegalCommandError: it has ended, or suggests nothing.
            StoreError: it is not durable, and does not hold.
        """
        keeper = await self._keeper_of(issue_id, "approve")
        await keeper.approve(actor)
        _log.info("heal_approved", component=keeper.name, issue=issue_id, actor=actor)
        return keeper.name

    async def deny(self, issue_id: str, actor: str, reason: str) -> str:
        """Refuse the heal that the open issue suggests; the component's name.

        Raises:
            UnknownNameError: there is no such issue here.
            IllegalCommandError: it has ended, or suggests nothing.
            StoreError: it is not durable, and does not hold.
        """
        keeper = await self._keeper_of(issue_id, "deny")
        await keeper.deny(actor, reason)
        _log.info("heal_denied", component=keeper.name, issue=issue_id, actor=actor)
        return keeper.name

    # Inside

    def _keeper(self, name: str) -> Keeper:
        keeper = self._keepers.get(name)
        if keeper is None:
            raise UnknownNameError("component", name, tuple(self._keepers))
        if not self._running():
            raise IllegalCommandError(
                f"change {name}",
                "components are not watched; POST /network-healer/initialize first",
            )
        return keeper

    async def _keeper_of(self, issue_id: str, command: str) -> Keeper:
        for keeper in self._keepers.values():
            if keeper.heal is not None and keeper.heal.issue.id == issue_id:
                return keeper
            holder = keeper.standby.holder
            if holder is not None and holder.issue == issue_id:
                why = f"node {holder.node!r} heals it: say it there"
                raise IllegalCommandError(f"{command} issue {issue_id}", why)
        # A stream of something else is no issue either.
        if ":" in issue_id or issue_id == FLEET_STREAM or not await self._known(issue_id):
            open_issues = (keeper.open_issue for keeper in self._keepers.values())
            suggested = [issue.id for issue in open_issues if issue is not None]
            raise UnknownNameError("issue", issue_id, suggested)
        raise IllegalCommandError(f"{command} issue {issue_id}", "it is not open")

    async def _known(self, issue_id: str) -> bool:
        return bool(await self._journal.log.stream(issue_id))

    async def _on_fleet(self, actor: str, decide: Callable[[Pause, Stamp], None]) -> Pause:
        for left in reversed(range(_TRIES)):
            pause = Pause.replay(FLEET_STREAM, await self._journal.log.stream(FLEET_STREAM))
            decide(pause, self._journal.stamp(actor))
            try:
                await self._journal.save(pause)
            except IssueConflictError:
                if not left:
                    raise
                continue
            self._take_in(pause.since)
            return pause
        raise AssertionError

    def _heard(self, facts: Sequence[Recorded]) -> None:
        for recorded in facts:
            match recorded.event:
                case FleetPaused() as paused:
                    self._take_in(paused)
                case FleetResumed():
                    self._take_in(None)
                case _:
                    pass

    def _take_in(self, pause: FleetPaused | None) -> None:
        if (self._pause is None) != (pause is None):
            _log.warning(
                "paused" if pause else "resumed",
                actor=pause.actor if pause else None,
                reason=pause.reason if pause else None,
            )
        self._pause = pause
        self._fleet.pause(paused=pause is not None)
