"""What a healer remembers of its components' past, though the wall clock was set meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from healer.domain.events import POLICY, Event, RemediationStarted
from healer.domain.health import Health
from healer.domain.label import Label
from healer.domain.spec import Backoff, Budget
from healer.engine.past import Memory, Past
from tests import factory
from tests.engine.stage import Stage, in_virtual_time

HOUR = 3600
NAMES = ("chat_api", "bus")


def at(second: int) -> datetime:
    return factory.BEGIN + timedelta(seconds=second)


def attempt(second: int, number: int = 1, issue: str = "i1") -> Event:
    return factory.remediation_started(stream=issue, attempt=number, timestamp=at(second))


def detected(second: int, issue: str = "i1", component: str = "chat_api") -> Event:
    return factory.issue_detected(stream=issue, component=component, timestamp=at(second))


def denied(second: int, issue: str = "i1", actor: str = "api:alice") -> Event:
    return factory.approval_denied(stream=issue, actor=actor, timestamp=at(second))


def seen(second: int, after: Health, component: str = "chat_api") -> Event:
    return factory.health_changed(component=component, after=after, timestamp=at(second))


def remembered(now: int, *facts: Event) -> Past:
    memory = Memory(NAMES, at(now))
    for fact in facts:
        memory.read(fact)
    return memory.pasts["chat_api"]


def age(label: Label | None, now: int) -> float | None:
    return None if label is None else label.age(at(now))


def test_nothing_is_remembered_of_what_has_no_past() -> None:
    assert remembered(0) == Past()
    of_others = (detected(0, component="gone"), attempt(1), denied(2), attempt(3, issue="i0"))
    assert remembered(9, *of_others, seen(4, Health.HEALTHY, "gone")) == Past()


def test_the_last_heal_speaks_for_those_before_it_whatever_their_labels_say() -> None:
    # The clock was set back by an hour behind the first.
    facts = (detected(0), attempt(0), detected(10 - HOUR, "i2"), attempt(20 - HOUR, 3, "i2"))
    past = remembered(-600, *facts)
    assert (past.attempts, past.begun, age(past.attempted, -600)) == (3, "i2", HOUR - 620)
    assert past.detected is facts[2]


@pytest.mark.parametrize("component", NAMES)
@pytest.mark.parametrize("also", [(), (60, 90)])
def test_a_heal_from_the_future_is_as_old_as_the_next_fact_that_is_not(
    component: str, also: Sequence[int]
) -> None:
    ahead = [seen(second, Health.SUSPECT, component) for second in also]
    behind = [seen(second, Health.HEALTHY, component) for second in (30 - HOUR, -900)]
    past = remembered(-600, detected(0), attempt(0), *ahead, *behind)
    assert age(past.attempted, -600) == HOUR - 630
    assert age(remembered(-600, detected(0), attempt(0), *ahead).attempted, -600) == 0


def test_a_heal_of_a_clock_that_was_not_set_is_as_old_as_its_label_says() -> None:
    past = remembered(600, detected(0), attempt(0), seen(60, Health.HEALTHY, "bus"))
    assert age(past.attempted, 600) == 600


def test_a_refusal_from_the_future_is_as_old_as_the_next_fact_that_is_not() -> None:
    behind = seen(-HOUR, Health.SUSPECT)
    past = remembered(-600, detected(0), denied(0), behind)
    assert (age(past.denied, -600), past.attempted) == (HOUR - 600, None)


def test_a_refusal_holds_until_it_is_well_healed_or_allowed_again() -> None:
    refused = (detected(0), denied(1))
    assert age(remembered(9, *refused).denied, 9) == 8
    assert age(remembered(9, *refused, seen(2, Health.UNHEALTHY)).denied, 9) == 8
    for ends in (seen(2, Health.HEALTHY), attempt(2), factory.budget_reset(timestamp=at(2))):
        assert remembered(9, *refused, ends).denied is None
    assert remembered(9, detected(0), denied(1, actor=POLICY)).denied is None
    assert age(remembered(9, detected(0), attempt(1), denied(3)).denied, 9) == 6


def test_a_reset_forgets_the_heals_and_not_the_issue() -> None:
    past = remembered(9, detected(0), attempt(1), factory.budget_reset(timestamp=at(2)))
    assert (past.attempts, past.attempted, past.begun) == (0, None, "i1")


def test_the_last_health_is_remembered_and_whether_it_was_ever_well() -> None:
    past = remembered(9, seen(1, Health.HEALTHY), seen(2, Health.UNHEALTHY))
    assert (past.health, past.was_healthy) == (Health.UNHEALTHY, True)
    assert not remembered(9, seen(2, Health.UNHEALTHY)).was_healthy


@in_virtual_time
async def test_what_was_healed_before_the_clock_was_set_back_does_not_count_for_ever() -> None:
    backoff = Backoff(initial=1, reset_after=600, jitter=0)
    async with Stage(budget=Budget(backoff=backoff)) as stage:
        await stage.healthy()
        stage.crash()
        await stage.healthy()
        stage.clock.set_wall(-HOUR)
        await asyncio.sleep(601)
        stage.crash()
        await stage.healthy()
        await asyncio.sleep(601)
    async with stage.new_healer_started():
        await stage.healthy()
        stage.crash()
        await stage.healthy()
        attempts = [each.attempt for each in await stage.facts(RemediationStarted)]
    assert attempts == [1, 1, 1, 1]
