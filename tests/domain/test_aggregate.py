"""What all aggregates share: a history that is theirs, and nothing that is not."""

from __future__ import annotations

import pytest

from healer.domain.aggregate import Aggregate
from healer.domain.component import Component
from healer.domain.events import Event
from healer.domain.issue import NetworkIssue
from healer.domain.pause import Pause
from tests import factory


@pytest.mark.parametrize(
    ("aggregate", "event"),
    [
        (NetworkIssue(factory.ISSUE), factory.fleet_paused()),
        (Component("component:chat_api"), factory.issue_verified()),
        (Pause(), factory.component_registered()),
    ],
)
def test_a_fact_of_another_kind_is_never_passed_over(aggregate: Aggregate, event: Event) -> None:
    """Histories may be illegal, but a fact that nobody applies would be forgotten silently."""
    with pytest.raises(AssertionError, match=type(event).__name__):
        aggregate.evolve(event)
