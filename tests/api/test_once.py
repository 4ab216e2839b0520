"""An answer is made once for each position of the log; a long one not on the loop's thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, cast

import orjson
import pytest

from healer.api.once import Once
from projections.fold import Fold
from projections.history import HISTORY, HistoryQuery, page
from projections.runner import LiveViews
from projections.shelf import Shelved, Wanted
from tests.projections.build import Log

THREADS: list[int] = []
"""Who read a record's body."""


class Watched(Shelved):
    """A record that says which thread makes something of it."""

    def __getattribute__(self, name: str) -> Any:
        if name == "body":
            THREADS.append(threading.get_ident())
        return super().__getattribute__(name)


class Views:
    """A history of `count` issues, at a position."""

    def __init__(self, count: int) -> None:
        log = Log()
        log.detect()
        fold = Fold([HISTORY])
        fold.apply(log.facts)
        [record] = fold.state("history").newest(Wanted())
        self.position = 1
        self.records = [Watched(*record._replace(position=place)) for place in range(count, 0, -1)]
        self.components = {record.component}

    def state(self, name: str) -> Views:
        assert name == "history"
        return self

    def newest(self, wanted: Wanted) -> Iterator[Shelved]:
        return iter(self.records)


async def asked(once: Once, views: Views) -> bytes:
    THREADS.clear()
    return await once.history(cast(LiveViews, views), HistoryQuery(limit=1000), ())


@pytest.mark.parametrize(("count", "on_the_loop"), [(1, True), (100, True), (101, False)])
async def test_a_long_page_is_made_in_a_thread(count: int, *, on_the_loop: bool) -> None:
    once, views = Once(), Views(count)
    answer = await asked(once, views)
    assert len(THREADS) == count
    assert {each == threading.get_ident() for each in THREADS} == {on_the_loop}
    assert orjson.loads(answer) == page(cast(Any, views), HistoryQuery(limit=1000))
    assert (await asked(once, views), THREADS) == (answer, [])


async def test_an_answer_is_made_anew_where_the_log_has_grown_or_the_history_is_another() -> None:
    once, views = Once(), Views(101)
    first = await asked(once, views)
    views.position += 1
    views.records.pop()
    second = await asked(once, views)
    assert len(orjson.loads(first)["records"]) == 101
    assert len(orjson.loads(second)["records"]) == 100
    other = Views(3)
    other.position = views.position
    assert len(orjson.loads(await asked(once, other))["records"]) == 3
