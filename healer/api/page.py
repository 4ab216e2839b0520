"""Long pages are made in a thread: the healer watches on meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

from projections.history import Page

__all__ = ["made"]

_LONG: Final = 100
"""Records that take two milliseconds; a thousand take twenty."""

_T = TypeVar("_T")


async def made(page: Page, make: Callable[[Page], _T]) -> _T:
    """What `make` makes of the page, which looks at nothing else."""
    return await asyncio.to_thread(make, page) if len(page.records) > _LONG else make(page)
