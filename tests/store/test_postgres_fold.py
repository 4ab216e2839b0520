"""Projections of a log on a server: from its rows, in one process and in two."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from healer.errors import StoreError
from healer.store.lean import Lean
from projections import ALL
from projections.beside import fold_file
from projections.fold import Fold
from projections.runner import LiveViews
from replay.rebuild import rebuild
from tests.conftest import Until
from tests.projections.build import random_log

pytest.importorskip("psycopg", exc_type=ImportError)

FACTS = random_log(Random(11), issues=60)
MIDDLE = len(FACTS) // 2
ways = pytest.mark.parametrize("long", [1, 1 << 40], ids=["two processes", "one"])


@pytest.fixture
async def written(database: str) -> str:
    from healer.store.postgres import PostgresLog

    log = await asyncio.to_thread(PostgresLog.open, database, new_log_id=lambda: "1" * 32)
    async with log:
        await log.append([each.event for each in FACTS])
    return database


def folded(count: int) -> Fold:
    fold = Fold(ALL)
    fold.apply(FACTS[:count])
    return fold


@ways
async def test_rows_show_the_bytes_that_facts_show(written: str, long: int) -> None:
    fold = await fold_file(written, until=MIDDLE, long=long)
    assert fold.snapshot() == folded(MIDDLE).snapshot()
    fold.apply(FACTS)
    assert fold.snapshot() == folded(len(FACTS)).snapshot()


async def test_live_views_and_a_rebuild_are_equal(written: str, until: Until) -> None:
    from healer.store.postgres import PostgresLog

    async with await asyncio.to_thread(PostgresLog.open_readonly, written) as log:
        assert isinstance(log, Lean)
        views = LiveViews(log)
        running = asyncio.create_task(views.run())
        await until.soon(lambda: views.position == len(FACTS))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        rebuilt = await rebuild(log)
        assert rebuilt.snapshot() == folded(len(FACTS)).snapshot()
        assert views.stopped == {}


async def test_a_process_beside_that_cannot_read_says_so_without_the_password() -> None:
    url = "postgresql://healer:s3cr3t@127.0.0.1:1/nowhere?connect_timeout=2"
    with pytest.raises(StoreError, match="cannot read postgresql://healer@") as error:
        await fold_file(url, until=5, long=1)
    assert "s3cr3t" not in str(error.value)
