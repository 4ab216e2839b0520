"""What was archived stays a part of the log: the same facts, the same figures, the same proof."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from healer.domain.component import component_stream
from healer.errors import IssueConflictError, StoreBusyError, StoreError
from healer.ports import Recorded
from healer.store import SqliteLog
from healer.store.archive import Archived, archive
from healer.store.cold import GROUP
from projections import ALL
from replay.export import export
from replay.independent import examine
from replay.rebuild import rebuild
from replay.verify import Report, verify
from tests.conftest import ROOT
from tests.projections.build import Log, random_log

pytest.importorskip("pyarrow", reason="pyarrow is not installed: the extra `export`")

LATER = datetime(2030, 1, 1, tzinfo=UTC)


async def write(path: Path, facts: Sequence[Recorded]) -> None:
    async with SqliteLog.open(path, new_log_id=lambda: "log-1") as log:
        for start in range(0, len(facts), 500):
            await log.append([each.event for each in facts[start : start + 500]])


def in_order(facts: Sequence[Recorded]) -> list[Recorded]:
    """The same facts by time, as a healer would have written them."""
    ordered = sorted(facts, key=lambda each: each.event.timestamp)
    return [Recorded(place, each.event) for place, each in enumerate(ordered, 1)]


FACTS = in_order(random_log(Random(11), issues=60))
MIDDLE = FACTS[len(FACTS) // 2].event.timestamp


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "log.db"
    asyncio.run(write(path, FACTS))
    return path


@pytest.fixture
def log(original: Path, tmp_path: Path) -> Path:
    for name in ("log.db", "log.db.key"):
        shutil.copy(original.with_name(name), tmp_path / name)
    return tmp_path / "log.db"


async def read_all(path: Path, limit: int = 333) -> list[Recorded]:
    async with SqliteLog.open_readonly(path) as opened:
        assert opened.broken is None
        facts: list[Recorded] = []
        while batch := await opened.read(after=len(facts), limit=limit):
            facts += batch
        assert await opened.head() == len(facts)
    return facts


async def views(path: Path) -> dict[str, bytes]:
    async with SqliteLog.open_readonly(path) as opened:
        return dict((await rebuild(opened, ALL)).snapshot().views)


def check(path: Path) -> Report:
    """Verified by both; what the first one says."""
    report = verify(path)
    assert [problem.message for problem in report.problems] == []
    assert examine(path) == []
    return report


def rows_in(path: Path) -> int:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM event").fetchone()[0])


async def test_facts_figures_and_proof_are_as_they_were(original, log):
    before = await views(original)
    done = archive(log, MIDDLE)
    assert 0 < done.events == done.last < len(FACTS)
    assert rows_in(log) == len(FACTS) - done.events
    assert await read_all(log) == FACTS
    assert await views(log) == before
    report = check(log)
    assert (report.events, report.unseen) == (len(FACTS), 0)
    assert done.path is not None
    assert sorted(each.name for each in log.with_name("log.db.archive").iterdir()) == sorted(
        (done.path.name, done.path.name.replace("events-", "streams-"))
    )


@pytest.mark.parametrize("limit", [1, 7, 1000, 100_000])
async def test_reading_may_begin_and_end_anywhere(log, limit):
    last = archive(log, MIDDLE).last
    async with SqliteLog.open_readonly(log) as opened:
        for after in (-1, 0, 1, last - 3, last - 1, last, last + 1, len(FACTS) - 1, len(FACTS)):
            found = await opened.read(after=after, limit=limit)
            assert found == FACTS[max(after, 0) :][: len(found)]
            assert len(found) == min(limit, len(FACTS) - max(after, 0))


async def test_every_stream_is_whole(log):
    archive(log, MIDDLE)
    streams: dict[str, list[object]] = {}
    for each in FACTS:
        streams.setdefault(each.event.originator_id, []).append(each.event)
    async with SqliteLog.open_readonly(log) as opened:
        for name, facts in streams.items():
            assert await opened.stream(name) == facts
        assert await opened.stream("nobody") == []


async def test_no_issue_lies_across_the_cut(log):
    last = archive(log, MIDDLE).last
    stayed = {each.event.originator_id for each in FACTS[last:]}
    moved = {each.event.originator_id for each in FACTS[:last]}
    assert all(name.startswith("component:") for name in stayed & moved)
    assert all(each.event.timestamp < MIDDLE for each in FACTS[:last])


@pytest.mark.parametrize("absent", [False, True])
async def test_an_issue_that_is_open_goes_on_across_the_cut(tmp_path, absent):
    path = tmp_path / "log.db"
    log = Log()
    log.register()
    log.detect().diagnose().fail("no_playbook")
    held = log.detect("search_api").diagnose()
    log.register("third", 8240)
    await write(path, log.facts)
    count = len(log.facts)
    done = archive(path, LATER)
    assert (done.last, done.held_by) == (count, None)
    log.register("fourth", 8250)
    held.escalate("no_playbook")
    async with SqliteLog.open(path, new_log_id=str) as opened:
        assert await opened.open_issues() == {"search_api": held.id}
        await opened.append([each.event for each in log.facts[count:]])
    middle = len(log.facts)
    assert archive(path, LATER).last == middle
    held.fail("no_playbook")
    log.detect("search_api", previous=held.id)
    async with SqliteLog.open(path, new_log_id=str) as opened:
        with pytest.raises(IssueConflictError, match="its issue issue-0002 is open"):
            await opened.append([log.facts[-1].event])
        await opened.append([each.event for each in log.facts[middle:]])
        assert await opened.open_issues() == {"search_api": "issue-0003"}
        whole = [each.event for each in log.facts if each.event.originator_id == held.id]
        assert await opened.stream(held.id) == whole
    async with SqliteLog.open(path, new_log_id=str) as opened:
        assert await opened.open_issues() == {"search_api": "issue-0003"}
    assert await read_all(path) == log.facts
    if absent:
        shutil.rmtree(tmp_path / "log.db.archive")
        assert check(path).unseen == middle
    else:
        assert archive(path, LATER).last == len(log.facts)
        assert await read_all(path) == log.facts
        assert check(path).events == len(log.facts)


async def test_an_issue_that_ended_behind_the_date_keeps_what_follows_it(tmp_path):
    log = Log()
    log.register()
    held = log.detect("search_api").diagnose()
    log.register("third", 8240)
    date = log.now
    held.fail("no_playbook")
    await write(tmp_path / "log.db", log.facts)
    done = archive(tmp_path / "log.db", date)
    assert (done.last, done.held_by) == (held_position(log.facts, held.id) - 1, held.id)
    check(tmp_path / "log.db")


def held_position(facts: Sequence[Recorded], issue: str) -> int:
    return next(each.position for each in facts if each.event.originator_id == issue)


async def test_the_log_goes_on_and_is_archived_again(log):
    first = archive(log, MIDDLE)
    log_of_all = Log()
    log_of_all.now = FACTS[-1].event.timestamp + timedelta(hours=1)
    name = component_stream("component-0")
    version = sum(each.event.originator_id == name for each in FACTS)
    log_of_all._versions[name] = version
    log_of_all.register("component-0", 8999)
    async with SqliteLog.open(log, new_log_id=str) as opened:
        facts = [*FACTS, Recorded(len(FACTS) + 1, log_of_all.facts[0].event)]
        assert await opened.append([facts[-1].event]) == len(facts)
        with pytest.raises(IssueConflictError, match=f"is at version {version + 1}"):
            await opened.append([facts[-1].event])
        assert (await opened.stream(name))[-1] == facts[-1].event
    assert archive(log, MIDDLE).events == 0
    second = archive(log, LATER)
    assert second.last > first.last
    assert await read_all(log) == facts
    assert check(log).events == len(facts)


async def test_a_log_that_was_archived_to_its_end_can_be_gone_on_with(tmp_path):
    log = Log()
    log.register()
    log.detect().diagnose().fail("no_playbook")
    path = tmp_path / "log.db"
    await write(path, log.facts)
    assert archive(path, LATER).last == len(log.facts)
    assert rows_in(path) == 0
    assert await read_all(path) == log.facts
    log.register("chat_api", 8221)
    async with SqliteLog.open(path, new_log_id=str) as opened:
        assert opened.broken is None
        assert await opened.append([log.facts[-1].event]) == len(log.facts)
    assert await read_all(path) == log.facts
    check(path)


async def test_an_open_reader_does_not_notice(log):
    async with SqliteLog.open_readonly(log) as opened:
        first = await opened.read(after=0, limit=10)
        archive(log, MIDDLE)
        assert await opened.read(after=0, limit=10) == first
        assert await opened.read(after=10, limit=len(FACTS)) == FACTS[10:]


async def test_more_than_a_row_group_is_found_at_every_place(tmp_path):
    log = Log()
    for number in range(GROUP + 50):
        log.register(f"component-{number % 3}", 8000 + number)
    path = tmp_path / "log.db"
    await write(path, log.facts)
    assert archive(path, LATER).events == GROUP + 50
    assert await read_all(path, limit=1000) == log.facts
    async with SqliteLog.open_readonly(path) as opened:
        assert await opened.read(after=GROUP - 2, limit=4) == log.facts[GROUP - 2 : GROUP + 2]
        found = await opened.stream("component:component-1")
    assert found == [each.event for each in log.facts if each.event.component == "component-1"]


async def test_space_returns_to_the_file_system(tmp_path):
    path = tmp_path / "log.db"
    await write(path, in_order(random_log(Random(3), issues=300)))
    size = path.stat().st_size
    done = archive(path, LATER)
    assert done.freed == size - path.stat().st_size > 0.9 * size
    assert done.size < size / 4
    assert done.unreturned is None


async def test_an_export_reads_through_the_archive(original, log, tmp_path):
    archive(log, MIDDLE)
    for path, name in ((original, "a"), (log, "b")):
        async with SqliteLog.open_readonly(path) as opened:
            await export(opened, tmp_path / name, log_id="log-1")
    files = {each.relative_to(tmp_path / "a") for each in (tmp_path / "a").rglob("*.parquet")}
    assert files
    assert all(
        (tmp_path / "a" / each).read_bytes() == (tmp_path / "b" / each).read_bytes()
        for each in files
    )


# --- what can go wrong ---------------------------------------------------------------------------


def test_killed_anywhere_it_is_done_or_nothing_has_happened(log, tmp_path):
    ran = subprocess.run(
        [sys.executable, "-m", "tests.store.killed_archiver", str(log), str(tmp_path), "12"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    copies = [Path(line.split()[0]) / "log.db" for line in ran.stdout.splitlines()]
    assert len(copies) == 12
    whole = 0
    for copy in copies:
        stayed = rows_in(copy)
        whole += stayed == len(FACTS)
        done = archive(copy, LATER)
        # Either the killed one has done it all, or this one does.
        assert done.events in {0, len(FACTS) - rows_in(copy)}
        assert check(copy).events == len(FACTS)
        names = {each.name[:7] for each in copy.with_name("log.db.archive").iterdir()}
        assert names == {"events-", "streams"}
        assert len(list(copy.with_name("log.db.archive").iterdir())) == 2
    assert whole, "no kill came before the end"


def test_a_healer_that_has_the_log_open_keeps_it(log):
    async def run() -> None:
        async with SqliteLog.open(log, new_log_id=str):
            with pytest.raises(StoreBusyError):
                archive(log, LATER)

    asyncio.run(run())
    assert rows_in(log) == len(FACTS)


def test_a_directory_that_cannot_be_written_changes_nothing(log, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(StoreError, match=r"cannot archive .*taken|File exists|Not a directory"):
        archive(log, LATER, directory=tmp_path / "taken")
    assert rows_in(log) == len(FACTS)
    check(log)


_LIMITED = """
import resource, sys
from datetime import UTC, datetime
from pathlib import Path
from healer.errors import StoreError
from healer.store.archive import archive
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), -1))
try:
    print(archive(Path(sys.argv[1]), datetime(2030, 1, 1, tzinfo=UTC)).unreturned)
except StoreError as error:
    print(error)
    sys.exit(7)
"""


@pytest.mark.parametrize("limit", [1_000, 30_000, 60_000, 200_000, 500_000, 900_000])
def test_on_a_full_disk_it_is_done_or_nothing_has_happened(log, limit):
    """A limit on the size of files stands for the full disk: any user can set it."""
    ran = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(log), str(limit)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode in {0, 7}, ran.stderr
    stayed = rows_in(log)
    if ran.returncode == 7:
        assert ran.stdout.startswith(("cannot archive", "cannot open"))
        assert stayed == len(FACTS)
    assert check(log).events == len(FACTS)
    assert archive(log, LATER).events in {0, stayed - rows_in(log)}
    assert check(log).events == len(FACTS)
    assert rows_in(log) < len(FACTS) / 2


def test_without_pyarrow_an_archive_names_the_extra(archived):
    log, _ = archived
    ran = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.modules['pyarrow'] = None\n"
            "sys.argv = ['healer', 'stats', '--store', sys.argv[1]]\n"
            "from healer.cli import main; main()",
            f"sqlite:///{log}",
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 2
    assert "pip install 'network-healer[export]'" in ran.stderr


def test_a_log_with_a_damaged_event_is_not_archived(log):
    with closing(sqlite3.connect(log)) as connection:
        connection.execute("DROP TRIGGER event_is_never_updated")
        edited = "CAST(replace(body, 'edge-1', 'edge-2') AS BLOB)"
        connection.execute(f"UPDATE event SET body = {edited} WHERE position = 9")  # noqa: S608
        connection.commit()
    with pytest.raises(StoreError, match="event 9 does not match its hash"):
        archive(log, LATER)
    assert rows_in(log) == len(FACTS)


@pytest.fixture
def archived(log: Path) -> tuple[Path, Archived]:
    return log, archive(log, MIDDLE)


async def test_without_its_files_the_rest_is_verified_and_what_was_not_seen_is_said(archived):
    log, done = archived
    done.path.rename(done.path.with_name("elsewhere"))
    report = check(log)
    assert (report.unseen, report.events) == (done.last, len(FACTS) - done.last)
    async with SqliteLog.open_readonly(log) as opened:
        assert await opened.read(after=done.last) == FACTS[done.last :][:500]
        with pytest.raises(StoreError, match=r"cannot read the archive .*put it back"):
            await opened.read(after=0)


async def test_files_that_were_moved_beside_the_log_are_found(log, tmp_path):
    done = archive(log, MIDDLE, directory=tmp_path / "cold")
    assert done.path.parent == tmp_path / "cold"
    (tmp_path / "cold").rename(tmp_path / "log.db.archive")
    assert await read_all(log) == FACTS
    assert check(log).unseen == 0


def test_an_edited_archive_is_found(archived):
    log, done = archived
    content = bytearray(done.path.read_bytes())
    content[len(content) // 2] ^= 1
    done.path.write_bytes(content)
    report = verify(log)
    assert not report.ok
    assert str(done.path) in str(report.first_problem)


@pytest.mark.parametrize(
    "attack",
    [
        "UPDATE archive SET head = zeroblob(32)",
        "UPDATE archive SET last = last - 1",
        "DELETE FROM archive",
        "DELETE FROM event WHERE position = (SELECT min(position) FROM event)",
    ],
)
def test_a_forged_account_of_archives_is_found(archived, attack):
    log, _ = archived
    with closing(sqlite3.connect(log)) as connection:
        connection.execute("DROP TRIGGER event_is_never_deleted")
        connection.execute(attack)
        connection.commit()
    assert not verify(log).ok
    if "archive" not in attack:
        assert examine(log)


def test_a_prefix_deleted_without_a_signature_is_found(log):
    with closing(sqlite3.connect(log)) as connection:
        connection.execute("DROP TRIGGER event_is_never_deleted")
        connection.execute("DELETE FROM event WHERE position <= 100")
        connection.commit()
    assert not verify(log).ok
    assert examine(log)


def test_a_file_that_the_log_does_not_know_is_never_removed(log):
    place = log.with_name("log.db.archive")
    place.mkdir()
    foreign = place / "events-000000000001-000000000009.parquet"
    foreign.write_bytes(b"somebody's")
    archive(log, MIDDLE)
    assert foreign.read_bytes() == b"somebody's"


@pytest.mark.parametrize("absent", [False, True])
async def test_a_witness_hears_of_an_archive_and_finds_its_account_in_the_log(tmp_path, absent):
    path, witness = tmp_path / "log.db", tmp_path / "witness"
    async with SqliteLog.open(path, new_log_id=lambda: "log-1", witness=witness) as log:
        await log.append([each.event for each in FACTS])
    archive(path, MIDDLE, witness=witness)
    assert "archived 1 " in witness.read_text()
    if absent:
        shutil.rmtree(tmp_path / "log.db.archive")
    report = verify(path, witness=witness)
    assert report.ok, report.first_problem
    assert report.witnessed == len(FACTS)
    assert examine(path, witness) == []
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TRIGGER checkpoint_is_never_deleted")
        connection.execute("DELETE FROM checkpoint WHERE note LIKE '%archived%'")
        connection.execute("DELETE FROM archive")
        connection.commit()
    assert not verify(path, witness=witness).ok
    assert examine(path, witness)
