"""Routes: the design's table, the component's own, the operator's."""

from __future__ import annotations

import pytest

from healer.domain.routing import PLAYBOOKS, ROUTES, choose_route, playbook_named
from healer.domain.spec import CommandLaunch, ComponentSpec, IssueType
from healer.errors import UnknownNameError
from healer.playbooks import ACTIONS

TABLE = {
    "port_not_listening": ["restart_component"],
    "connection_timeout": ["clear_port", "restart_component"],
    "connection_refused": ["restart_component", "clear_port"],
    "port_conflict": ["clear_port", "rebind_port"],
    "process_crashed": ["restart_component"],
    "network_unreachable": [],
}
FULL = ComponentSpec(
    name="chat_api",
    port=8220,
    rebind="8220-8229",  # type: ignore[arg-type]
    launch=CommandLaunch(command=("chat_api",)),
)
BARE = ComponentSpec(name="chat_api", port=8220)


def test_the_table_is_the_design_s() -> None:
    assert {kind.value: list(names) for kind, names in ROUTES.items()} == TABLE


@pytest.mark.parametrize("kind", IssueType)
def test_a_component_with_everything_gets_the_whole_route(kind: IssueType) -> None:
    route = choose_route(kind, FULL)
    assert [playbook.name for playbook in route.playbooks] == TABLE[kind]
    assert route.candidates == tuple(TABLE[kind])
    assert route.skipped == ()
    assert route.chosen_by == "table"
    assert sum(route.probabilities) == (1 if TABLE[kind] else 0)


def test_what_cannot_be_used_is_left_out_and_said_why() -> None:
    route = choose_route(IssueType.PORT_CONFLICT, BARE)
    assert [playbook.name for playbook in route.playbooks] == ["clear_port"]
    assert [(each.playbook, "range" in each.why) for each in route.skipped] == [
        ("rebind_port", True)
    ]
    without_launcher = FULL.model_copy(update={"launch": None})
    route = choose_route(IssueType.PORT_CONFLICT, without_launcher)
    assert "launcher" in route.skipped[0].why


def test_the_component_s_own_route_comes_before_the_table_and_the_operator_before_both() -> None:
    own = FULL.model_copy(update={"routes": {IssueType.PROCESS_CRASHED: ("clear_port",)}})
    route = choose_route(IssueType.PROCESS_CRASHED, own)
    assert (route.candidates, route.chosen_by) == (("clear_port",), "component")
    route = choose_route(IssueType.PROCESS_CRASHED, own, forced=("rebind_port",))
    assert (route.candidates, route.chosen_by) == (("rebind_port",), "operator")


def test_a_skipped_playbook_leaves_the_next_one_first() -> None:
    route = choose_route(IssueType.CONNECTION_TIMEOUT, FULL, skip=("clear_port",))
    assert [playbook.name for playbook in route.playbooks] == ["restart_component"]
    assert route.probabilities == (0.0, 1.0)
    assert route.skipped[0].why == "the operator skips it"


@pytest.mark.parametrize("argument", ["forced", "skip"])
def test_an_unknown_playbook_is_refused_with_all_that_there_are(argument: str) -> None:
    with pytest.raises(UnknownNameError) as raised:
        choose_route(IssueType.PROCESS_CRASHED, FULL, **{argument: ("reboot",)})  # type: ignore[arg-type]
    assert raised.value.name == "reboot"
    assert raised.value.known == ("clear_port", "rebind_port", "restart_component")


def test_every_step_of_every_playbook_has_an_action() -> None:
    steps = {step.action for playbook in PLAYBOOKS.values() for step in playbook.steps}
    assert steps == set(ACTIONS)
    assert playbook_named("clear_port") is PLAYBOOKS["clear_port"]
