"""Sixty components fail at once, for real."""

from __future__ import annotations

from pathlib import Path

import pytest

from healer.domain.spec import Budget
from tests.soak.burst import burst, open_but_for


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_of_sixty_that_are_killed_at_once_none_is_forgotten(tmp_path: Path) -> None:
    seen = await burst(tmp_path, count=60, budget=open_but_for(4))
    assert len(seen.verified) == 60
    assert 1 <= seen.most <= 4
    assert seen.within_budget


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_where_more_than_half_fail_together_healing_holds_and_then_goes_one_by_one(
    tmp_path: Path,
) -> None:
    seen = await burst(tmp_path, count=12, budget=Budget(rearm_after=30))
    assert len(seen.verified) == 12
    assert seen.within_budget
