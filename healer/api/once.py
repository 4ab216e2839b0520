"""Answers that depend on the log alone are written once for each position of it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final

import orjson

from healer.api import view
from projections.history import HistoryQuery
from projections.projection import Json
from projections.runner import LiveViews

__all__ = ["Once"]

_KEPT: Final = 16
"""Questions whose last answers are kept, each of some 100 KB at most."""


class Once:
    """The encoded answers of the last position that was asked for."""

    def __init__(self) -> None:
        self._answers: OrderedDict[Hashable, tuple[int, Any, bytes]] = OrderedDict()

    def stats(self, views: LiveViews) -> bytes:
        """The answer of `GET stats`."""
        return self._of(views, "stats", "stats", lambda: views.view("stats"))

    def active(self, views: LiveViews) -> bytes:
        """The answer of `GET active`."""
        return self._of(views, "active", "active", lambda: view.active(views))

    def playbook_stats(self, views: LiveViews) -> bytes:
        """The answer of `GET playbook-stats`."""
        name = "playbook_stats"
        return self._of(views, name, name, lambda: view.playbook_stats(views))

    def history(self, views: LiveViews, query: HistoryQuery, known: Sequence[str]) -> bytes:
        """The answer of `GET history`. Raises as `view.history` does."""
        key = (query, query.component in known)
        return self._of(views, "history", key, lambda: view.history(views, query, known=known))

    def _of(self, views: LiveViews, name: str, key: Hashable, make: Callable[[], Json]) -> bytes:
        # The state is asked each time: one that stopped raises, one that was replaced is another.
        position, state = views.position, views.state(name)
        kept = self._answers.get(key)
        if kept is not None and kept[0] == position and kept[1] is state:
            return kept[2]
        answer = orjson.dumps(make())
        self._answers[key] = (position, state, answer)
        self._answers.move_to_end(key)
        if len(self._answers) > _KEPT:
            self._answers.popitem(last=False)
        return answer
