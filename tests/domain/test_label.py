"""How old a fact is by labels, of clocks that were set and of those that were not."""

from __future__ import annotations

from datetime import timedelta

import pytest

from healer.domain.component import Component, component_stream
from healer.domain.health import Health
from healer.domain.label import Label
from tests import factory
from tests.domain.walk import detected, stamp

HOUR = 3600


def at(second: int) -> Label:
    return Label(factory.BEGIN + timedelta(seconds=second))


@pytest.mark.parametrize(("now", "age"), [(0, 0), (7, 7), (-1, 0), (-HOUR, 0)])
def test_a_fact_is_as_old_as_its_label_says_and_none_from_the_future_has_an_age(
    now: int, age: int
) -> None:
    assert at(0).age(stamp(now).now) == age


@pytest.mark.parametrize(
    ("behind", "now", "age"),
    [
        ([-HOUR], -HOUR + 60, 60),
        ([60, -HOUR], -HOUR + 60, 60),
        ([60, -HOUR, -HOUR + 30], -HOUR + 60, 60),
        ([60], -HOUR, 0),  # which is from the future as well
        ([-HOUR], 60, 60),  # the clock that was behind is right again: its own label is believed
        ([30], 60, 60),
        ([-HOUR], 0, 0),  # it is of this moment
    ],
)
def test_a_fact_from_the_future_is_no_younger_than_what_stands_behind_it(
    behind: list[int], now: int, age: int
) -> None:
    label = at(0)
    for second in behind:
        label.precede(stamp(second).now)
    assert label.age(stamp(now).now) == age


def test_an_issue_is_no_younger_than_its_facts() -> None:
    issue = detected(at=stamp(0))
    assert issue.age(stamp(9).now) == 9
    assert issue.age(stamp(60 - HOUR).now) == 0
    issue.start_diagnosis("diagnose_network", ("port_listening",), stamp=stamp(-HOUR))
    assert issue.age(stamp(60 - HOUR).now) == 60
    assert issue.age(stamp(9).now) == 9


def test_a_window_is_no_younger_than_what_became_of_its_component_in_it() -> None:
    component = Component(component_stream("chat_api"))
    assert component.maintenance_age(stamp(9).now) == 0
    component.start_maintenance(600, "upgrade", stamp=stamp(0))
    assert component.maintenance_age(stamp(9).now) == 9
    component.change_health(Health.HEALTHY, epoch=0, probe=None, stamp=stamp(-HOUR))
    assert component.maintenance_age(stamp(60 - HOUR).now) == 60
    component.start_maintenance(600, "upgrade", stamp=stamp(90 - HOUR))
    assert component.maintenance_age(stamp(99 - HOUR).now) == 9
    component.end_maintenance("done", stamp=stamp(99 - HOUR))
    assert component.maintenance_age(stamp(199 - HOUR).now) == 0
