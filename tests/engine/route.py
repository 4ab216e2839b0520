"""One real fault for each issue type, made in the world of a stage, and what heals it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from healer.domain.probe import Reason
from healer.domain.spec import ComponentSpec, IssueType, PortRange
from healer.testing import WorldProcess
from tests.engine.stage import PORT, Stage, spec

__all__ = ["ROUTES", "Fault"]

REBIND = PortRange(first=PORT + 1, last=PORT + 3)


@dataclass(frozen=True, slots=True)
class Fault:
    """`make` breaks the component and says which processes are strangers. `playbooks` are those
    that the heal runs, `starts` how often it starts the component, `port` where that lives then."""

    issue_type: IssueType
    make: Callable[[Stage], list[WorldProcess]]
    playbooks: tuple[str, ...]
    starts: int
    port: int = PORT
    fields: dict[str, Any] | None = None

    @property
    def spec(self) -> ComponentSpec:
        return spec(**(self.fields or {}))


def _stops_listening(stage: Stage) -> list[WorldProcess]:
    stage.world.sockets.clear()
    return []


def _hangs(stage: Stage) -> list[WorldProcess]:
    process = stage.serving()
    assert process is not None
    process.state = "T"
    return []


def _sickens(stage: Stage) -> list[WorldProcess]:
    process = stage.serving()
    assert process is not None
    process.answers = Reason.BAD_STATUS
    return []


def _is_robbed(stage: Stage) -> list[WorldProcess]:
    """A stranger takes the port in the moment in which the component dies."""
    stage.crash()
    thief = stage.world.spawn("thief")
    stage.world.listen(thief, PORT)
    return [thief]


def _leaves_an_orphan(stage: Stage) -> list[WorldProcess]:
    """A child of the component's keeps the socket when the component dies."""
    process = stage.serving()
    assert process is not None
    stage.world.fork(process).answers = Reason.TIMEOUT
    stage.world.end(process, signal=9)
    return []


def _crashes(stage: Stage) -> list[WorldProcess]:
    stage.crash()
    return []


def _is_cut_off(stage: Stage) -> list[WorldProcess]:
    stage.prober.says["chat_api"] = Reason.UNREACHABLE
    asyncio.get_running_loop().call_later(30, stage.prober.says.clear)
    return []


ROUTES = {
    "port_not_listening": Fault(
        IssueType.PORT_NOT_LISTENING, _stops_listening, ("restart_component",), 1
    ),
    "connection_timeout": Fault(
        IssueType.CONNECTION_TIMEOUT, _hangs, ("clear_port", "restart_component"), 1
    ),
    "connection_refused": Fault(IssueType.CONNECTION_REFUSED, _sickens, ("restart_component",), 1),
    "port_conflict": Fault(
        IssueType.PORT_CONFLICT,
        _is_robbed,
        ("clear_port", "rebind_port"),
        1,
        port=PORT + 1,
        fields={"rebind": REBIND, "announce": ("announce",)},
    ),
    "port_conflict_by_an_orphan": Fault(
        IssueType.PORT_CONFLICT,
        _leaves_an_orphan,
        ("clear_port", "restart_component"),
        1,
        fields={"rebind": REBIND},
    ),
    "process_crashed": Fault(IssueType.PROCESS_CRASHED, _crashes, ("restart_component",), 1),
    "network_unreachable": Fault(IssueType.NETWORK_UNREACHABLE, _is_cut_off, (), 0),
}
