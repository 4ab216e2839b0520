"""Sixty components fail at once, for real."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.burst import burst


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_of_sixty_that_are_killed_at_once_none_is_forgotten(tmp_path: Path) -> None:
    seen = await burst(tmp_path, count=60, at_once=4)
    assert len(seen.verified) == 60
    assert 1 <= seen.most <= 4
