"""Answers that depend on the log alone are written once for each position of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from healer.api import view
from projections.projection import Json
from projections.runner import LiveViews

__all__ = ["Once"]


class Once:
    """The encoded answers of the last position that was asked for."""

    def __init__(self) -> None:
        self._answers: dict[str, tuple[int, Any, bytes]] = {}

    def stats(self, views: LiveViews) -> bytes:
        """The answer of `GET stats`."""
        return self._of(views, "stats", lambda: views.view("stats"))

    def active(self, views: LiveViews) -> bytes:
        """The answer of `GET active`."""
        return self._of(views, "active", lambda: view.active(views))

    def _of(self, views: LiveViews, name: str, make: Callable[[], Json]) -> bytes:
        # The state is asked each time: one that stopped raises, one that was replaced is another.
        position, state = views.position, views.state(name)
        kept = self._answers.get(name)
        if kept is not None and kept[0] == position and kept[1] is state:
            return kept[2]
        answer = orjson.dumps(make())
        self._answers[name] = (position, state, answer)
        return answer
