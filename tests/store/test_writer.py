"""Fail-stop: after a write that failed nothing is believed until it was looked at again."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from healer.errors import IssueConflictError, StoreError
from healer.ports import Recorded
from healer.store.checkpoint import Cadence
from healer.store.codec import Codec, Encoded
from healer.store.connection import connect
from healer.store.feed import Feed
from healer.store.ledger import Ledger
from healer.store.notary import Sealing
from healer.store.writer import Writer
from tests import factory
from tests.conftest import Until

CODEC = Codec()


class FailingLedger(Ledger):
    """Commits, and then says that it failed: what a lost fsync looks like."""

    failing: bool = True
    held: threading.Event | None = None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.groups: list[int] = []
        # What is refused, and in which words.
        self.refused: dict[str, str] = {}
        super().__init__(*arguments, **options)

    def _ask(self, what: str) -> None:
        if what in self.refused:
            raise sqlite3.OperationalError(self.refused[what])

    def prove(self) -> None:
        self._ask("prove")
        super().prove()

    def seal(self, *, closing: bool = False) -> None:
        self._ask("seal")
        super().seal(closing=closing)

    def change_key(self) -> bytes:
        self._ask("change_key")
        return super().change_key()

    def checkpoint(self) -> None:
        self._ask("checkpoint")
        super().checkpoint()

    def close(self) -> None:
        super().close()
        self._ask("close")

    def append(self, group: Sequence[Sequence[Encoded]]) -> list[int | IssueConflictError]:
        self.groups.append(len(group))
        self._ask("append")
        if self.held is not None:
            self.held.wait(60)
        outcomes = super().append(group)
        if self.failing:
            raise OSError(5, "Input/output error")
        return outcomes


class House:
    """A writer with a clock of its own, whose ledgers are counted."""

    def __init__(self, file: Path, sealing: Sealing | None = None) -> None:
        self.now = 100.0
        self.openings = 0
        self.heard: list[Recorded] = []
        self.released = False
        self.reopen: Callable[[], Ledger] = lambda: Ledger(file, CODEC, sealing=sealing)
        feed = Feed(self._read_nothing, poll=False)
        feed.listen(self.heard.extend)
        self.first = FailingLedger(file, CODEC, lambda: "log-1", sealing=sealing)
        # As in a log that is in use, the ledger is not the last to have the file open.
        self._reader = connect(file, writing=False)
        self.writer = Writer(
            file, self.first, self._open, feed, self._release, monotonic=lambda: self.now
        )

    async def _read_nothing(self, after: int) -> list[Recorded]:
        return []

    def _open(self) -> Ledger:
        self.openings += 1
        return self.reopen()

    def _release(self) -> None:
        self.released = True

    async def append(self, version: int) -> int:
        return await self.writer.append(
            [CODEC.encode(factory.playbook_started(stream="i1", version=version))]
        )

    async def close(self) -> None:
        await self.writer.close(self._reader.close)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "log.db")


async def test_a_failed_commit_is_looked_for_and_told_to_the_listeners(house: House) -> None:
    with pytest.raises(StoreError, match=r"the last write failed: .*Input/output error"):
        await house.append(1)
    assert house.heard == []
    house.now += 1.0
    assert await house.append(2) == 2
    assert house.heard == [
        Recorded(version, factory.playbook_started(stream="i1", version=version))
        for version in (1, 2)
    ]
    assert house.writer.unavailable is None
    await house.close()
    assert house.released


async def test_what_was_on_the_disk_after_all_is_told_once_however_often_it_fails(
    house: House, tmp_path: Path
) -> None:
    house.reopen = lambda: FailingLedger(tmp_path / "log.db", CODEC)
    for version in (1, 2):
        with pytest.raises(StoreError, match="the last write failed"):
            await house.append(version)
        house.now += 1.0
    house.reopen = lambda: Ledger(tmp_path / "log.db", CODEC)
    assert await house.append(3) == 3
    assert [recorded.position for recorded in house.heard] == [1, 2, 3]
    await house.close()


async def test_a_failed_log_is_tried_once_a_second_at_most(house: House) -> None:
    with pytest.raises(StoreError):
        await house.append(1)

    def still_failing() -> Ledger:
        raise StoreError("cannot open it: the disk is gone")

    house.reopen = still_failing
    for step in (0.5, 0.4, 0.2, 0.5, 0.6):
        house.now += step
        with pytest.raises(StoreError, match="the last write failed"):
            await house.append(1)
    assert house.openings == 2
    await house.close()


async def test_a_log_that_lost_what_was_acknowledged_is_not_appended_to(
    house: House, tmp_path: Path
) -> None:
    house.first.failing = False
    assert await house.append(1) == 1
    house.first.failing = True
    with pytest.raises(StoreError):
        await house.append(2)
    house.reopen = lambda: Ledger(tmp_path / "other.db", CODEC, lambda: "log-2")
    house.now += 1.0
    with pytest.raises(StoreError, match="event 1 was acknowledged and is missing"):
        await house.append(2)
    await house.close()


async def test_everybody_in_a_failed_group_is_told(house: House) -> None:
    outcomes = await asyncio.gather(*(house.append(v) for v in (1, 2, 3)), return_exceptions=True)
    assert all(isinstance(outcome, StoreError) for outcome in outcomes)
    assert len({id(outcome) for outcome in outcomes}) == 3
    await house.close()


async def test_a_wait_on_a_loop_that_is_gone_hurts_nobody(house: House) -> None:
    house.first.failing = False

    def leave_without_waiting() -> None:
        async def leave() -> None:
            waiting = asyncio.create_task(house.append(1))
            await asyncio.sleep(0)
            waiting.cancel()

        asyncio.run(leave())

    await asyncio.to_thread(leave_without_waiting)
    assert await house.append(2) == 2
    await house.close()


async def test_without_a_descriptor_left_nothing_is_appended_and_later_it_is(
    house: House, tmp_path: Path
) -> None:
    house.first.failing = False
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, most))
    try:
        with pytest.raises(StoreError) as failed:
            await house.append(1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, most))
    assert str(failed.value) == f"cannot write to {tmp_path / 'log.db'}: Too many open files"
    assert await house.append(1) == 1
    await house.close()


async def test_what_failed_and_where_is_said_to_who_appends_and_to_who_asks(
    house: House, tmp_path: Path
) -> None:
    file = tmp_path / "log.db"
    why = "the last write failed: [Errno 5] Input/output error (OSError)"
    with pytest.raises(StoreError) as failed:
        await house.append(1)
    assert str(failed.value) == f"cannot append to {file}: {why}"
    assert isinstance(failed.value.__cause__, OSError)
    assert house.writer.unavailable == why
    with pytest.raises(StoreError) as failed:
        await house.append(2)
    assert str(failed.value) == f"cannot append to {file}: {why}"

    def still_failing() -> Ledger:
        raise StoreError("cannot open it: the disk is gone")

    house.reopen = still_failing
    house.now += 1.0
    with pytest.raises(StoreError) as failed:
        await house.append(2)
    assert str(failed.value) == (
        f"cannot append to {file}: {why}; opening it again: cannot open it: the disk is gone"
    )
    await house.close()


async def test_a_ledger_that_cannot_even_be_closed_is_let_go_of(house: House) -> None:
    house.first.refused["close"] = "no"
    with pytest.raises(StoreError, match=r"Input/output error \(OSError\); closing it: no$"):
        await house.append(1)
    house.now += 1.0
    assert await house.append(2) == 2
    await house.close()


async def test_a_log_that_is_found_broken_after_a_failure_can_only_be_read(
    house: House, tmp_path: Path
) -> None:
    with pytest.raises(StoreError):
        await house.append(1)
    with closing(sqlite3.connect(tmp_path / "log.db")) as connection:
        connection.execute("DROP TRIGGER event_is_never_updated")
        connection.execute("UPDATE event SET stream = 'i9'")
        connection.commit()
    house.now += 1.0
    for _ in range(2):
        with pytest.raises(StoreError, match="event 1 does not match its hash"):
            await house.append(2)
    assert house.writer.broken == "event 1 does not match its hash"
    assert house.openings == 1
    assert house.heard == []
    await house.close()


async def test_a_last_checkpoint_that_fails_is_told_and_the_lock_is_let_go_of(
    house: House, tmp_path: Path, until: Until
) -> None:
    house.first.failing = False
    assert await house.append(1) == 1
    house.first.refused["checkpoint"] = "the disk is full"
    with pytest.raises(StoreError) as failed:
        await house.close()
    assert str(failed.value) == f"cannot checkpoint {tmp_path / 'log.db'}: the disk is full"
    assert house.released
    await until.soon(lambda: not house.writer.alive)
    with closing(Ledger(tmp_path / "log.db", CODEC)) as again:
        assert (again.head, again.broken) == (1, None)


async def test_a_close_that_fails_otherwise_is_told_as_it_is(house: House, until: Until) -> None:
    def finish() -> None:
        raise RuntimeError("not today")

    with pytest.raises(RuntimeError, match="not today"):
        await house.writer.close(finish)
    assert house.released
    await until.soon(lambda: not house.writer.alive)


async def test_a_key_that_cannot_be_changed_now_is_told_to_who_asked(house: House) -> None:
    with pytest.raises(StoreError, match=r"cannot change the key of .*: it is not signed$"):
        await house.writer.change_key()
    with pytest.raises(StoreError):
        await house.append(1)
    with pytest.raises(StoreError, match=r"cannot append to .*: the last write failed"):
        await house.writer.change_key()
    await house.close()


async def test_what_failed_is_said_to_work_again_though_nobody_appends(
    house: House, until: Until
) -> None:
    with pytest.raises(StoreError):
        await house.append(1)
    assert house.writer.unavailable is not None
    house.now += 1.0
    await until.soon(lambda: house.writer.unavailable is None)
    assert house.openings == 1
    await house.close()


async def test_what_waits_for_a_commit_is_committed_together_by_the_next(
    house: House, until: Until
) -> None:
    house.first.failing = False
    house.first.held = threading.Event()
    first = asyncio.create_task(house.append(1))
    await until.soon(lambda: house.first.groups == [1])
    others = [asyncio.create_task(house.append(version)) for version in (2, 3, 4)]
    # A turn of the loop puts each of them in the queue.
    await asyncio.sleep(0)
    house.first.held.set()
    assert await asyncio.gather(first, *others) == [1, 2, 3, 4]
    assert house.first.groups == [1, 3]
    await house.close()


async def test_a_log_that_does_not_yet_work_again_says_why(
    house: House, tmp_path: Path, until: Until
) -> None:
    with pytest.raises(StoreError):
        await house.append(1)
    again = FailingLedger(tmp_path / "log.db", CODEC)
    again.refused["prove"] = "still no"
    house.reopen = lambda: again
    house.now += 1.0
    why = "the last write failed: still no (OperationalError)"
    await until.soon(lambda: house.writer.unavailable == why)
    await house.close()


async def test_a_key_that_could_not_be_changed_is_nobodys(house: House) -> None:
    house.first.refused["change_key"] = "no room"
    with pytest.raises(StoreError) as failed:
        await house.writer.change_key()
    why = "the last write failed: no room (OperationalError)"
    assert str(failed.value).endswith(f": {why}")
    assert house.writer.unavailable == why
    await house.close()


async def test_a_checkpoint_that_fails_is_said_though_what_it_covers_is_durable(
    house: House, until: Until
) -> None:
    house.first.failing = False
    house.first.refused["seal"] = "no room"
    assert await house.append(1) == 1
    why = "the last write failed: no room (OperationalError)"
    await until.soon(lambda: house.writer.unavailable == why)
    await house.close()


@pytest.mark.parametrize("appending", [False, True])
async def test_a_log_that_works_again_is_signed_within_the_period(
    tmp_path: Path, until: Until, appending: bool
) -> None:
    file = tmp_path / "log.db"
    house = House(file, Sealing(tmp_path / "key", Cadence(period=0.2)))
    with pytest.raises(StoreError):
        await house.append(1)
    house.now += 1.0
    if appending:
        assert await house.append(2) == 2
    with closing(connect(file, writing=False)) as reading:
        last = "SELECT max(size) FROM checkpoint"
        await until.soon(lambda: reading.execute(last).fetchone() == (1 + appending,))
    await house.close()


async def test_a_commit_that_is_not_on_the_disk_is_not_missed(house: House) -> None:
    house.first.failing = False
    assert await house.append(1) == 1
    house.first.refused["append"] = "no room"
    with pytest.raises(StoreError, match="no room"):
        await house.append(2)
    house.now += 1.0
    assert await house.append(2) == 2
    assert [recorded.position for recorded in house.heard] == [1, 2]
    await house.close()


async def test_what_was_taken_away_from_a_log_that_failed_is_named(
    house: House, tmp_path: Path
) -> None:
    with pytest.raises(StoreError):
        await house.append(1)
    wal = tmp_path / "log.db-wal"
    wal.rename(tmp_path / "elsewhere")
    lost = f"{wal} was taken away while it was open: No such file or directory"
    with pytest.raises(StoreError) as failed:
        await house.append(2)
    assert str(failed.value) == f"cannot append to {tmp_path / 'log.db'}: {lost}"
    (tmp_path / "elsewhere").rename(wal)
    await house.close()
