"""A log whose file is removed or replaced while it is open acknowledges nothing that is lost."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from healer.errors import StoreError
from healer.store import SqliteLog
from tests import factory
from tests.conftest import Until


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


def wal(file: Path) -> Path:
    return file.with_name(f"{file.name}-wal")


def opened(file: Path) -> SqliteLog:
    return SqliteLog.open(file, new_log_id=lambda: "log-1")


async def append(log: SqliteLog, version: int) -> int:
    return await log.append([factory.playbook_started(stream="i1", version=version)])


def remove(file: Path) -> None:
    file.unlink()


def remove_all(file: Path) -> None:
    for name in file.parent.glob(f"{file.name}*"):
        name.unlink()


def replace_by_a_copy(file: Path) -> None:
    copy = file.with_name("copy")
    shutil.copy(file, copy)
    copy.replace(file)


def replace_by_another(file: Path) -> None:
    file.unlink()
    file.touch()


def remove_the_wal(file: Path) -> None:
    wal(file).unlink()


def remove_the_directory(file: Path) -> None:
    file.parent.rename(file.parent.with_name(f"{file.parent.name}-gone"))


HARMS = [
    remove,
    remove_all,
    replace_by_a_copy,
    replace_by_another,
    remove_the_wal,
    remove_the_directory,
]


@pytest.mark.parametrize("harm", HARMS)
async def test_nothing_is_acknowledged_into_a_file_that_was_taken_away(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    directory = tmp_path / "home"
    directory.mkdir()
    file = directory / "log.db"
    log = opened(file)
    assert await append(log, 1) == 1
    assert log.unavailable is None
    harm(file)
    assert log.unavailable is not None
    for _ in range(2):
        with pytest.raises(StoreError, match=r"(taken away|replaced) while it was open"):
            await append(log, 2)
    assert await log.head() == 1
    await log.close()


async def test_what_was_acknowledged_outlives_the_loss_of_the_wal(file: Path) -> None:
    log = opened(file)
    acknowledged = [await append(log, version) for version in (1, 2, 3)]
    remove_the_wal(file)
    with pytest.raises(StoreError, match="taken away"):
        await append(log, 4)
    # As after a crash, before the log could be closed: what is in the file itself.
    crashed = file.with_name("crashed.db")
    shutil.copy(file, crashed)
    async with SqliteLog.open_readonly(crashed) as found:
        assert [event.position for event in await found.read()] == acknowledged
        assert found.broken is None
    await log.close()
    async with opened(file) as again:
        assert again.broken is None
        assert await again.head() == 3


async def test_a_file_that_is_brought_back_is_appended_to_again(file: Path, until: Until) -> None:
    async with opened(file) as log:
        assert await append(log, 1) == 1
        away = file.with_name("away.db")
        os.rename(file, away)  # noqa: PTH104 - the same file under another name
        with pytest.raises(StoreError, match="taken away"):
            await append(log, 2)
        os.rename(away, file)  # noqa: PTH104
        await until.soon(lambda: log.unavailable is None)
        assert await append(log, 2) == 2
    async with opened(file) as log:
        assert await log.head() == 2


async def test_a_file_that_vanishes_under_appends_takes_none_with_it(
    file: Path, until: Until
) -> None:
    """Whenever it is taken away between two commits: all that was acknowledged is in it."""
    away = file.with_name("away.db")
    acknowledged: list[int] = []
    log = opened(file)

    async def append_for_ever() -> None:
        while True:
            acknowledged.append(await append(log, len(acknowledged) + 1))

    appending = asyncio.create_task(append_for_ever())
    await until.soon(lambda: len(acknowledged) >= 20)
    await asyncio.to_thread(os.rename, file, away)
    with pytest.raises(StoreError, match="taken away"):
        await appending
    await log.close()
    wal(file).unlink(missing_ok=True)
    async with SqliteLog.open_readonly(away) as found:
        assert await found.head() >= len(acknowledged)
        assert found.broken is None
