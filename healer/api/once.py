"""Answers that depend on the log alone are written once for each position of it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final, NamedTuple

import orjson

from healer.api import view
from healer.api.page import made
from projections.history import HistoryQuery, Page
from projections.projection import Json
from projections.runner import LiveViews

__all__ = ["Once"]

_KEPT: Final = 16
"""Questions whose last answers are kept, each of some 100 KB at most."""


class _Moment(NamedTuple):
    position: int
    state: Any


class Once:
    """The encoded answers of the last position that was asked for."""

    def __init__(self) -> None:
        self._answers: OrderedDict[Hashable, tuple[_Moment, bytes]] = OrderedDict()

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

    async def history(self, views: LiveViews, query: HistoryQuery, known: Sequence[str]) -> bytes:
        """The answer of `GET history`. Raises as `view.history` does."""
        key = (query, query.component in known)
        now = self._now(views, "history")
        answer = self._kept(key, now)
        if answer is None:
            page = view.history(views, query, known=known)
            answer = self._keep(key, now, await made(page, _encoded))
        return answer

    def _of(self, views: LiveViews, name: str, key: Hashable, make: Callable[[], Json]) -> bytes:
        now = self._now(views, name)
        answer = self._kept(key, now)
        return self._keep(key, now, orjson.dumps(make())) if answer is None else answer

    def _now(self, views: LiveViews, name: str) -> _Moment:
        # The state is asked each time: one that stopped raises, one that was replaced is another.
        return _Moment(views.position, views.state(name))

    def _kept(self, key: Hashable, now: _Moment) -> bytes | None:
        then, answer = self._answers.get(key, (None, None))
        same = then is not None and then.position == now.position and then.state is now.state
        return answer if same else None

    def _keep(self, key: Hashable, now: _Moment, answer: bytes) -> bytes:
        self._answers[key] = (now, answer)
        self._answers.move_to_end(key)
        if len(self._answers) > _KEPT:
            self._answers.popitem(last=False)
        return answer


def _encoded(page: Page) -> bytes:
    return orjson.dumps(page.view())
