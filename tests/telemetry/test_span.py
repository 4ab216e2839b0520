"""What the log tells of an issue, as spans."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings

from healer.domain.events import (
    EVENT_TYPES,
    Fact,
    IssueDetected,
    IssueEvent,
    IssueFailed,
    IssueVerified,
)
from healer.ports import Recorded
from healer.telemetry.span import ENDING, Span, spans, trace_id
from tests import factory
from tests.projections.build import Log, heal, logs

CANARY = "hunter2-canary"


def issues(log: list[Recorded]) -> dict[str, list[Any]]:
    """The facts of each issue."""
    found: dict[str, list[Fact]] = defaultdict(list)
    for recorded in log:
        if isinstance(recorded.event, IssueEvent):
            found[recorded.event.originator_id].append(recorded.event)
    return found


def told(log: Log) -> list[Span]:
    [facts] = issues(log.facts).values()
    return spans(facts)


def test_a_heal_is_a_trace_with_a_span_for_each_step() -> None:
    log = Log()
    log.register("chat_api", 8220)
    heal(log)
    made = told(log)
    root = made[-1]
    assert root.name.startswith("heal ")
    assert root.parent is None
    assert root.attributes["healer.component"] == "chat_api"
    assert root.attributes["healer.outcome"] == "healed"
    assert root.failed is None
    names = [span.name for span in made]
    assert names[0] == "diagnose"
    assert "playbook restart_component" in names
    [playbook] = [span for span in made if span.name == "playbook restart_component"]
    steps = [span for span in made if span.name.startswith("step ")]
    assert steps
    assert {span.parent for span in steps} == {playbook.id}
    assert {span.parent for span in made if span not in (*steps, root)} == {root.id}
    for span in made:
        assert root.begun <= span.begun <= span.ended <= root.ended


@settings(max_examples=25)
@given(logs(max_issues=4))
def test_a_trace_is_the_same_whoever_tells_it_and_when(log: list[Recorded]) -> None:
    for facts in issues(log).values():
        made = spans(facts)
        for length in range(len(facts)):
            before = spans(facts[:length])
            assert made[: len(before)] == before
        assert len({span.id for span in made}) == len(made)
        known = {span.id for span in made}
        ended = isinstance(facts[-1], IssueVerified | IssueFailed)
        if ended:
            assert all(span.parent in known for span in made[:-1])
        topics = {fact.originator_version: fact.TOPIC for fact in facts}
        assert {topics[span.ended_by] for span in made} <= set(ENDING)
        assert all(span.begun <= span.ended for span in made)


def test_traces_have_different_names() -> None:
    assert trace_id("a") != trace_id("b")
    assert 0 < trace_id("a") < 2**128


def test_what_failed_is_an_error_with_its_word() -> None:
    log = Log()
    issue = log.detect("chat_api").diagnose().route("clear_port").remediate()
    issue.playbook("clear_port").skip().fail_step().finish().look(healthy=False, after="clear_port")
    issue.escalate().fail("not_cured", 3.0)
    made = {span.name.split()[0]: span for span in told(log)}
    assert made["heal"].failed == "not_cured"
    assert made["heal"].attributes["healer.outcome"] == "failed"
    assert [each.name for each in made["heal"].moments] == ["escalated"]
    assert made["step"].failed is not None
    assert made["verify"].failed == "unhealthy"


@pytest.mark.parametrize(
    "kind", [kind for kind in EVENT_TYPES.values() if issubclass(kind, IssueEvent)]
)
def test_nothing_that_was_said_freely_is_in_a_span(kind: type[IssueEvent]) -> None:
    """Each kind of fact, with the canary in every text that is no name or stable word."""
    name = re.sub("(?<!^)(?=[A-Z])", "_", kind.__name__).lower()
    fact = getattr(factory, name)(stream="i1", version=2)
    spoiled = type(fact).model_validate(_spoiled(fact.model_dump(mode="json")), strict=False)
    first = factory.issue_detected(stream="i1", version=1)
    if kind is IssueDetected:
        first = spoiled
    last = factory.issue_failed(stream="i1", version=3)
    shown = json.dumps([repr(span) for span in spans([first, spoiled, last])])
    assert CANARY not in shown


_FREE = {
    "argv", "command", "cmdline", "cwd", "detail", "environ", "executable", "message", "name",
    "unit", "cgroup", "user", "recommendations", "why", "banner", "body", "location",
}  # fmt: skip


def _spoiled(value: Any, key: str = "") -> Any:
    """`value` with the canary in every free text of it."""
    if isinstance(value, dict):
        if key == "facts":
            return dict.fromkeys(value, CANARY) | {"said": CANARY}
        return {name: _spoiled(each, name) for name, each in value.items()}
    if isinstance(value, list):
        return [_spoiled(each, key) for each in value]
    if isinstance(value, str) and key in _FREE:
        return CANARY
    return value
