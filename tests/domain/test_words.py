"""What the domain says to people: the words are the promise."""

from __future__ import annotations

from typing import Any

import pytest

from healer.domain.duration import format_duration
from healer.domain.lifecycle import mermaid
from healer.domain.process import ExitStatus
from healer.domain.routing import choose_route, playbook_named
from healer.domain.spec import ComponentSpec, IssueType
from healer.errors import UnknownNameError
from tests import factory


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"),
        (0.25, "250ms"),
        (0.9, "900ms"),
        (1, "1s"),
        (1.5, "1.5s"),
        (59.9, "59.9s"),
        (60, "1m"),
        (60.4, "1m"),
        (90, "1m30s"),
        (3600, "1h"),
        (93600, "1d2h"),
    ],
)
def test_a_duration_reads_as_people_write_it(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (ExitStatus(), "unknown"),
        (ExitStatus(code=0), "exit code 0"),
        (ExitStatus(code=3), "exit code 3"),
        (ExitStatus(signal=9), "signal 9"),
    ],
)
def test_the_end_of_a_process_is_told_by_code_or_signal(status: ExitStatus, text: str) -> None:
    assert str(status) == text


def test_an_unknown_playbook_is_refused_by_its_name_with_those_that_exist() -> None:
    with pytest.raises(UnknownNameError) as raised:
        playbook_named("rebuild_world")
    assert str(raised.value).startswith("cannot find playbook 'rebuild_world'; known: ")
    assert "restart_component" in raised.value.known


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, "the component has no rebind range"),
        (
            {"rebind": "8220-8229"},
            "the component has no launcher that could start it elsewhere",
        ),
    ],
)
def test_a_playbook_that_the_component_does_not_allow_is_left_out_with_the_reason(
    fields: dict[str, Any], why: str
) -> None:
    chosen = choose_route(
        IssueType.PORT_CONFLICT, ComponentSpec(name="chat_api", port=8220, **fields)
    )
    assert [(skip.playbook, skip.why) for skip in chosen.skipped] == [("rebind_port", why)]


def test_a_process_is_told_by_name_and_pid() -> None:
    process = factory.process(7)
    assert str(process) == f"{process.name}[7]"
    assert str(factory.process(7, name="")) == "process[7]"


def test_the_lifecycle_is_drawn_as_a_state_diagram() -> None:
    assert mermaid().splitlines()[:2] == ["stateDiagram-v2", "    [*] --> detected"]
