"""What was archived stays a part of the log: the same facts, the same figures, the same proof."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from healer.domain.component import component_stream
from healer.errors import IssueConflictError, StoreBusyError, StoreError
from healer.ports import Recorded
from healer.store.archive import Archived
from healer.store.archive import archive as archive_file
from healer.store.cold import COLUMNS, GROUP, Cold, Row, Segment
from healer.store.cut import Cut
from healer.store.segment import write
from projections import ALL
from replay.export import export
from replay.rebuild import rebuild
from tests.conftest import ROOT
from tests.projections.build import Log, random_log
from tests.store.archiving import DatabaseLog, Databases, FileLog, KeptLog, check

pytest.importorskip("pyarrow", reason="pyarrow is not installed: the extra `export`")

LATER = datetime(2030, 1, 1, tzinfo=UTC)


def in_order(facts: Sequence[Recorded]) -> list[Recorded]:
    """The same facts by time, as a healer would have written them."""
    ordered = sorted(facts, key=lambda each: each.event.timestamp)
    return [Recorded(place, each.event) for place, each in enumerate(ordered, 1)]


FACTS = in_order(random_log(Random(11), issues=60))
MIDDLE = FACTS[len(FACTS) // 2].event.timestamp


class Logs:
    """Logs of one kind: empty ones, and copies of one that holds `FACTS`."""

    def __init__(self, directory: Path, databases: Databases | None) -> None:
        self._databases = databases
        self.original = self._new(directory)
        asyncio.run(self.original.write(FACTS))

    def _new(self, directory: Path) -> KeptLog:
        if self._databases is None:
            return FileLog(directory / "log.db")
        return DatabaseLog(self._databases.make(), directory)

    def empty(self, directory: Path) -> KeptLog:
        return self._new(directory)

    def copy(self, directory: Path) -> KeptLog:
        if isinstance(self.original, FileLog):
            return self.original.copy(directory)
        assert self._databases is not None
        copy = DatabaseLog(self._databases.make(self.original.url), directory)
        shutil.copy(self.original.key, copy.key)
        return copy


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def logs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Logs]:
    databases = None
    if request.param == "postgresql":
        databases = Databases(request.getfixturevalue("cluster"))
    try:
        yield Logs(tmp_path_factory.mktemp("log"), databases)
    finally:
        if databases is not None:
            databases.drop()


@pytest.fixture
def original(logs: Logs) -> KeptLog:
    return logs.original


@pytest.fixture
def log(logs: Logs, tmp_path: Path) -> KeptLog:
    """A log of `FACTS`."""
    return logs.copy(tmp_path)


@pytest.fixture
def empty(logs: Logs, tmp_path: Path) -> KeptLog:
    return logs.empty(tmp_path)


@pytest.fixture(scope="module")
def in_a_file(tmp_path_factory: pytest.TempPathFactory) -> KeptLog:
    return Logs(tmp_path_factory.mktemp("file"), None).original


@pytest.fixture
def file(in_a_file: FileLog, tmp_path: Path) -> FileLog:
    """A log of `FACTS` in SQLite, for what only a file can do."""
    return in_a_file.copy(tmp_path)


async def read_all(log: KeptLog, limit: int = 333) -> list[Recorded]:
    async with log.reading() as opened:
        assert opened.broken is None
        facts: list[Recorded] = []
        while batch := await opened.read(after=len(facts), limit=limit):
            facts += batch
        assert await opened.head() == len(facts)
    return facts


async def views(log: KeptLog) -> dict[str, bytes]:
    async with log.reading() as opened:
        return dict((await rebuild(opened, ALL)).snapshot().views)


async def test_facts_figures_and_proof_are_as_they_were(original, log):
    before = await views(original)
    done = log.archive(MIDDLE)
    assert 0 < done.events == done.last < len(FACTS)
    assert done.unreturned is None
    assert log.rows() == len(FACTS) - done.events
    assert await read_all(log) == FACTS
    assert await views(log) == before
    report = check(log)
    assert (report.events, report.unseen) == (len(FACTS), 0)
    assert log.verified(beside=1) == report
    assert done.path is not None
    assert sorted(each.name for each in log.place.iterdir()) == sorted(
        (done.path.name, done.path.name.replace("events-", "streams-"))
    )


@pytest.mark.parametrize("limit", [1, 7, 1000, 100_000])
async def test_reading_may_begin_and_end_anywhere(log, limit):
    last = log.archive(MIDDLE).last
    async with log.reading() as opened:
        for after in (-1, 0, 1, last - 3, last - 1, last, last + 1, len(FACTS) - 1, len(FACTS)):
            found = await opened.read(after=after, limit=limit)
            assert found == FACTS[max(after, 0) :][: len(found)]
            assert len(found) == min(limit, len(FACTS) - max(after, 0))


async def test_every_stream_is_whole(log):
    log.archive(MIDDLE)
    streams: dict[str, list[object]] = {}
    for each in FACTS:
        streams.setdefault(each.event.originator_id, []).append(each.event)
    async with log.reading() as opened:
        for name, facts in streams.items():
            assert await opened.stream(name) == facts
        assert await opened.stream("nobody") == []


async def test_no_issue_lies_across_the_cut(log):
    last = log.archive(MIDDLE).last
    stayed = {each.event.originator_id for each in FACTS[last:]}
    moved = {each.event.originator_id for each in FACTS[:last]}
    assert all(name.startswith("component:") for name in stayed & moved)
    assert all(each.event.timestamp < MIDDLE for each in FACTS[:last])


@pytest.mark.parametrize("absent", [False, True])
async def test_an_issue_that_is_open_goes_on_across_the_cut(empty, absent):
    log = Log()
    log.register()
    log.detect().diagnose().fail("no_playbook")
    held = log.detect("search_api").diagnose()
    log.register("third", 8240)
    await empty.write(log.facts)
    count = len(log.facts)
    done = empty.archive(LATER)
    assert (done.last, done.held_by) == (count, None)
    log.register("fourth", 8250)
    held.escalate("no_playbook")
    async with empty.open() as opened:
        assert await opened.open_issues() == {"search_api": held.id}
        await opened.append([each.event for each in log.facts[count:]])
    middle = len(log.facts)
    assert empty.archive(LATER).last == middle
    held.fail("no_playbook")
    log.detect("search_api", previous=held.id)
    async with empty.open() as opened:
        with pytest.raises(IssueConflictError, match="its issue issue-0002 is open"):
            await opened.append([log.facts[-1].event])
        await opened.append([each.event for each in log.facts[middle:]])
        assert await opened.open_issues() == {"search_api": "issue-0003"}
        whole = [each.event for each in log.facts if each.event.originator_id == held.id]
        assert await opened.stream(held.id) == whole
    async with empty.open() as opened:
        assert await opened.open_issues() == {"search_api": "issue-0003"}
    assert await read_all(empty) == log.facts
    if absent:
        shutil.rmtree(empty.place)
        assert check(empty).unseen == middle
    else:
        assert empty.archive(LATER).last == len(log.facts)
        assert await read_all(empty) == log.facts
        assert check(empty).events == len(log.facts)
        # What ended in an archive is not taken for open because an older one says that it was.
        async with empty.open() as opened:
            assert opened.broken is None
            assert await opened.open_issues() == {"search_api": "issue-0003"}
            for issue in ("issue-0001", held.id):
                whole = [each.event for each in log.facts if each.event.originator_id == issue]
                assert await opened.stream(issue) == whole


async def test_an_issue_that_ended_behind_the_date_keeps_what_follows_it(empty):
    log = Log()
    log.register()
    held = log.detect("search_api").diagnose()
    log.register("third", 8240)
    date = log.now
    held.fail("no_playbook")
    await empty.write(log.facts)
    done = empty.archive(date)
    assert (done.last, done.held_by) == (held_position(log.facts, held.id) - 1, held.id)
    check(empty)


async def test_an_issue_that_began_with_the_last_older_event_is_kept_with_the_rest_of_it(empty):
    log = Log()
    log.register()
    held = log.detect("search_api")
    date = log.now
    held.diagnose().fail("no_playbook")
    await empty.write(log.facts)
    done = empty.archive(date)
    assert (done.last, done.held_by) == (held_position(log.facts, held.id) - 1, held.id)


def held_position(facts: Sequence[Recorded], issue: str) -> int:
    return next(each.position for each in facts if each.event.originator_id == issue)


async def test_the_log_goes_on_and_is_archived_again(log):
    first = log.archive(MIDDLE)
    log_of_all = Log()
    log_of_all.now = FACTS[-1].event.timestamp + timedelta(hours=1)
    name = component_stream("component-0")
    version = sum(each.event.originator_id == name for each in FACTS)
    log_of_all._versions[name] = version
    log_of_all.register("component-0", 8999)
    async with log.open() as opened:
        facts = [*FACTS, Recorded(len(FACTS) + 1, log_of_all.facts[0].event)]
        assert await opened.append([facts[-1].event]) == len(facts)
        with pytest.raises(IssueConflictError, match=f"is at version {version + 1}"):
            await opened.append([facts[-1].event])
        assert (await opened.stream(name))[-1] == facts[-1].event
    nothing = log.archive(MIDDLE)
    assert (nothing.events, nothing.last, nothing.path) == (0, first.last, None)
    assert (nothing.size, nothing.freed, nothing.unreturned) == (0, 0, None)
    second = log.archive(LATER)
    assert second.last > first.last
    assert await read_all(log) == facts
    assert check(log).events == len(facts)


async def test_a_log_that_was_archived_to_its_end_can_be_gone_on_with(empty):
    log = Log()
    log.register()
    log.detect().diagnose().fail("no_playbook")
    await empty.write(log.facts)
    assert empty.archive(LATER).last == len(log.facts)
    assert empty.rows() == 0
    assert await read_all(empty) == log.facts
    log.register("chat_api", 8221)
    async with empty.open() as opened:
        assert opened.broken is None
        assert await opened.append([log.facts[-1].event]) == len(log.facts)
    assert await read_all(empty) == log.facts
    check(empty)


async def test_an_open_reader_does_not_notice(log):
    async with log.reading() as opened:
        first = await opened.read(after=0, limit=10)
        log.archive(MIDDLE)
        assert await opened.read(after=0, limit=10) == first
        assert await opened.read(after=10, limit=len(FACTS)) == FACTS[10:]


def test_what_was_archived_between_two_looks_is_not_left_out(file: FileLog) -> None:
    """Who reads the database behind a second archiving joins it with the first archive only: what
    comes between is given by the next read."""
    first = file.archive(MIDDLE)
    assert first.path is not None
    with closing(Cold([Segment(1, first.last, b"", b"", first.path)])) as cold:
        found = cold.rows(0, first.last)
        late: list[Row] = [(first.last + 9, *found[-1][1:])]
        assert cold.joined(0, first.last + 5, late) == found
        assert cold.joined(first.last, 5, late) == late
        late = [(first.last + 1, *found[-1][1:])]
        assert cold.joined(0, first.last + 5, late) == [*found, *late]


async def test_more_than_a_row_group_is_found_at_every_place(empty):
    log = Log()
    for number in range(GROUP + 50):
        log.register(f"component-{number % 3}", 8000 + number)
    await empty.write(log.facts)
    assert empty.archive(LATER).events == GROUP + 50
    assert await read_all(empty, limit=1000) == log.facts
    async with empty.reading() as opened:
        assert await opened.read(after=GROUP - 2, limit=4) == log.facts[GROUP - 2 : GROUP + 2]
        found = await opened.stream("component:component-1")
    assert found == [each.event for each in log.facts if each.event.component == "component-1"]


async def test_space_returns_to_the_file_system(tmp_path):
    log = FileLog(tmp_path / "log.db")
    await log.write(in_order(random_log(Random(3), issues=300)))
    size = log.file.stat().st_size
    done = log.archive(LATER)
    assert done.freed == size - log.file.stat().st_size > 0.9 * size
    assert done.size < size / 4
    assert done.unreturned is None


def test_its_files_are_their_owners_and_what_the_manual_says(log):
    reading = pytest.importorskip("pyarrow.parquet")
    before = os.umask(0)
    try:
        done = log.archive(MIDDLE)
    finally:
        os.umask(before)
    streams = done.path.with_name(done.path.name.replace("events-", "streams-"))
    assert done.path.name == f"events-{1:012}-{done.last:012}.parquet"
    assert stat.S_IMODE(log.place.stat().st_mode) == 0o700
    assert done.size == done.path.stat().st_size + streams.stat().st_size
    for path in (done.path, streams):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        file = reading.ParquetFile(path)
        assert file.schema_arrow.names == list(COLUMNS)
        assert not any(field.nullable for field in file.schema_arrow)
        assert [str(field.type) for field in file.schema_arrow] == [
            *("int64", "string", "int64", "string", "int64", "binary", "fixed_size_binary[32]")
        ]
        group = file.metadata.row_group(0)
        columns = {group.column(n).path_in_schema: group.column(n) for n in range(len(COLUMNS))}
        assert {column.compression for column in columns.values()} == {"ZSTD"}
        encoded = {name for name, column in columns.items() if column.has_dictionary_page}
        assert encoded == {"stream", "topic"}
    kept = reading.read_table(streams).to_pylist()
    order = [(row["stream"], row["version"]) for row in kept]
    assert order == sorted(order)
    assert {row["stream"] for row in kept} == {
        each.event.originator_id for each in FACTS[: done.last] if ":" in each.event.originator_id
    }


def test_how_far_it_is_is_told(file):
    steps: list[tuple[int, int]] = []
    done = archive_file(file.file, MIDDLE, on_progress=lambda *step: steps.append(step))
    assert steps == [(done.events, done.events)]
    assert archive_file(file.file, MIDDLE).events == 0


class StoppedError(Exception):
    """By whoever looks on."""


def test_a_run_that_is_stopped_leaves_nothing(file: FileLog) -> None:
    def stop(done: int, total: int) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        archive_file(file.file, LATER, on_progress=stop)
    assert list(file.place.iterdir()) == []
    assert check(file).events == len(FACTS)


class InBatches:
    """The events of a log in SQLite, a hundred at a time."""

    log_id = "log-1"

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def hash_at(self, position: int) -> bytes | None:
        query = "SELECT hash FROM event WHERE position = ?"
        return bytes(self._connection.execute(query, (position,)).fetchone()[0])

    def rows(self, last: int) -> Iterator[list[Row]]:
        found = self._connection.execute("SELECT * FROM event WHERE position <= ?", (last,))
        while batch := found.fetchmany(100):
            yield batch

    def stream(self, stream: str, version: int) -> list[Row]:
        raise AssertionError("no stream goes on")


def test_each_step_says_how_far_all_of_them_are(file: FileLog, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    with closing(sqlite3.connect(file.file)) as connection:
        cut = Cut(1, 250, None, {})
        write(InBatches(connection), tmp_path, cut, (), lambda *step: steps.append(step))
    assert steps == [(100, 250), (200, 250), (250, 250)]


async def test_an_export_reads_through_the_archive(original, log, tmp_path):
    log.archive(MIDDLE)
    for each, name in ((original, "a"), (log, "b")):
        async with each.reading() as opened:
            await export(opened, tmp_path / name, log_id="log-1")
    files = {each.relative_to(tmp_path / "a") for each in (tmp_path / "a").rglob("*.parquet")}
    assert files
    assert all(
        (tmp_path / "a" / each).read_bytes() == (tmp_path / "b" / each).read_bytes()
        for each in files
    )


# --- what can go wrong ---------------------------------------------------------------------------


def test_killed_anywhere_it_is_done_or_nothing_has_happened(file, tmp_path):
    ran = subprocess.run(
        [
            sys.executable,
            *("-m", "tests.store.killed_archiver", str(file.file), str(tmp_path), "6"),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    copies = [FileLog(Path(line.split()[0]) / "log.db") for line in ran.stdout.splitlines()]
    assert len(copies) == 6
    whole = 0
    for copy in copies:
        stayed = copy.rows()
        whole += stayed == len(FACTS)
        done = copy.archive(LATER)
        # Either the killed one has done it all, or this one does.
        assert done.events in {0, len(FACTS) - copy.rows()}
        assert check(copy).events == len(FACTS)
        names = {each.name[:7] for each in copy.place.iterdir()}
        assert names == {"events-", "streams"}
        assert len(list(copy.place.iterdir())) == 2
    assert whole, "no kill came before the end"


def test_a_healer_that_has_the_log_open_keeps_it(file):
    async def run() -> None:
        async with file.open():
            with pytest.raises(StoreBusyError):
                file.archive(LATER)

    asyncio.run(run())
    assert file.rows() == len(FACTS)


def _somebody_elses(file: Path, journal: str = "DELETE") -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(f"PRAGMA journal_mode = {journal}")
        connection.execute("CREATE TABLE song (name TEXT)")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda file: file.write_bytes(b"no database, but long enough to be one" * 100), "not a"),
        (lambda file: file.touch(), "it is empty"),
        (_somebody_elses, "another program"),
        (lambda file: _somebody_elses(file, "WAL"), "another program"),
    ],
)
def test_what_is_no_log_stays_as_it_is_and_alone(tmp_path, make, why):
    file = tmp_path / "log.db"
    make(file)
    before = file.read_bytes()
    with pytest.raises(StoreError, match=rf"^cannot open .*log\.db: .*{why}"):
        archive_file(file, LATER)
    assert file.read_bytes() == before
    assert [*tmp_path.iterdir()] == [file]


def test_a_directory_that_cannot_be_written_changes_nothing(log, tmp_path):
    (tmp_path / "taken").write_text("")
    said = r"cannot archive .*(taken|File exists|Not a directory).*nothing was moved"
    with pytest.raises(StoreError, match=said):
        log.archive(LATER, directory=tmp_path / "taken")
    assert log.rows() == len(FACTS)
    check(log)


_LIMITED = """
import resource, sys
from pathlib import Path
from healer.errors import StoreError
from tests.store.archiving import DatabaseLog, FileLog
from tests.store.test_archive import LATER
_, name, directory, limit = sys.argv
log = DatabaseLog(name, Path(directory)) if "://" in name else FileLog(Path(name))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), -1))
try:
    print(log.archive(LATER).unreturned)
except StoreError as error:
    print(error)
    sys.exit(7)
"""


@pytest.mark.parametrize("limit", [1_000, 30_000, 60_000, 200_000, 500_000, 900_000])
def test_on_a_full_disk_it_is_done_or_nothing_has_happened(log, tmp_path, limit):
    """A limit on the size of files stands for the full disk: any user can set it."""
    name = str(log.file) if isinstance(log, FileLog) else log.url
    ran = subprocess.run(
        [sys.executable, "-c", _LIMITED, name, str(tmp_path), str(limit)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode in {0, 7}, ran.stderr
    stayed = log.rows()
    if ran.returncode == 7:
        assert ran.stdout.startswith(("cannot archive", "cannot open"))
        assert stayed == len(FACTS)
    assert check(log).events == len(FACTS)
    assert log.archive(LATER).events in {0, stayed - log.rows()}
    assert check(log).events == len(FACTS)
    assert log.rows() < len(FACTS) / 2


def test_without_pyarrow_an_archive_names_the_extra(archived):
    log, _ = archived
    ran = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.modules['pyarrow'] = None\n"
            "sys.argv = ['healer', 'stats', '--store', sys.argv[1]]\n"
            "from healer.cli import main; main()",
            log.url,
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 2
    assert ran.stderr == (
        "healer: cannot use an archive: pyarrow is missing (import of pyarrow halted; None in "
        "sys.modules); install it with: pip install 'network-healer[export]'\n"
    )


def test_a_log_with_a_damaged_event_is_not_archived(log):
    log.forge("UPDATE event SET topic = 'x' WHERE position = 9")
    with pytest.raises(StoreError, match=r"event 9 does not match its hash.*nothing was moved"):
        log.archive(LATER)
    assert log.rows() == len(FACTS)


def test_a_broken_log_is_not_archived(file: FileLog) -> None:
    last = len(FACTS)
    file.forge(f"UPDATE event SET topic = 'x' WHERE position = {last}")  # noqa: S608
    with pytest.raises(StoreError) as refused:
        file.archive(LATER)
    assert str(refused.value) == (
        f"cannot archive {file.file}: event {last} does not match its hash; nothing was moved"
    )


def test_a_log_on_a_disk_that_cannot_be_written_is_not_archived(
    file: FileLog, small_disk: Path
) -> None:
    copy = file.copy(small_disk)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StoreError, match=r"^cannot open .*: it is not writable for us$"):
        copy.archive(LATER)


async def test_one_event_is_archived_far_from_the_log(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    log = Log()
    log.register()
    kept = FileLog(tmp_path / "log.db")
    await kept.write(log.facts)
    size = kept.file.stat().st_size
    place = tmp_path_factory.mktemp("far") / "from" / "it"
    done = kept.archive(LATER, directory=place)
    assert (done.events, done.last, done.held_by, done.unreturned) == (1, 1, None, None)
    assert done.path is not None
    assert done.path.parent == place
    assert done.freed == max(0, size - kept.file.stat().st_size)
    assert await read_all(kept) == log.facts
    assert check(kept).events == 1
    log.register(port=8221)
    await kept.write(log.facts[1:])
    async with kept.reading() as opened:
        stream = log.facts[0].event.originator_id
        assert await opened.stream(stream) == [each.event for each in log.facts]
        await opened.require_past()
    done.path.write_bytes(b"somebody's")
    async with kept.reading() as opened:
        with pytest.raises(StoreError, match=rf"cannot read the archive {done.path}: "):
            await opened.require_past()


@pytest.fixture
def archived(log: KeptLog) -> tuple[KeptLog, Archived]:
    return log, log.archive(MIDDLE)


async def test_without_its_files_the_rest_is_verified_and_what_was_not_seen_is_said(archived):
    log, done = archived
    done.path.rename(done.path.with_name("elsewhere"))
    report = check(log)
    assert (report.unseen, report.events) == (done.last, len(FACTS) - done.last)
    async with log.reading() as opened:
        assert await opened.read(after=done.last) == FACTS[done.last :][:500]
        with pytest.raises(
            StoreError, match=rf"cannot read the archive {done.path}: .*put it back"
        ):
            await opened.read(after=0)


async def test_who_needs_all_of_the_past_is_told_which_archive_is_not_there(archived):
    log, first = archived
    second = log.archive(LATER)
    assert second.path != first.path
    async with log.reading() as opened:
        await opened.require_past()
    streams = second.path.with_name(second.path.name.replace("events-", "streams-"))
    for path in (streams, second.path):
        aside = path.rename(path.with_name("aside"))
        async with log.reading() as opened:
            with pytest.raises(
                StoreError, match=rf"cannot read the archive {path}: the file is not there; put it"
            ):
                await opened.require_past()
        aside.rename(path)


async def test_files_are_looked_for_first_where_they_were_written(file, tmp_path):
    done = file.archive(MIDDLE, directory=tmp_path / "cold")
    (tmp_path / "log.db.archive").mkdir()
    copy = tmp_path / "log.db.archive" / done.path.name
    copy.write_bytes(b"somebody's")
    assert await read_all(file) == FACTS
    copy.unlink()
    done.path.unlink()
    async with file.reading() as opened:
        with pytest.raises(StoreError, match=rf"cannot read the archive {done.path}: "):
            await opened.read(after=0)


async def test_files_that_were_moved_beside_the_log_are_found(file, tmp_path):
    done = file.archive(MIDDLE, directory=tmp_path / "cold")
    assert done.path.parent == tmp_path / "cold"
    (tmp_path / "cold").rename(tmp_path / "log.db.archive")
    assert await read_all(file) == FACTS
    assert check(file).unseen == 0


async def test_a_file_of_streams_that_is_not_there_is_named(file: FileLog) -> None:
    done = file.archive(MIDDLE)
    assert done.path is not None
    streams = done.path.with_name(done.path.name.replace("events-", "streams-"))
    streams.unlink()
    async with file.reading() as opened:
        with pytest.raises(StoreError) as refused:
            await opened.stream("nobody")
    gone = "the file is not there; put it back, or where it is looked for (docs/archive.md)"
    assert str(refused.value) == f"cannot read the archive {streams}: {gone}"
    with closing(Cold(())) as cold, pytest.raises(StoreError) as refused:
        list(cold.batches(streams))
    assert str(refused.value) == f"cannot read the archive {streams}: {gone}"


def test_an_event_that_is_not_where_an_archive_should_have_it_is_named(file: FileLog) -> None:
    done = file.archive(MIDDLE)
    assert done.path is not None
    for first, last, after in ((0, done.last, 0), (1, done.last + 9, done.last)):
        cold = Cold([Segment(first, last, b"", b"", done.path)])
        with closing(cold), pytest.raises(StoreError) as refused:
            cold.rows(after, 5)
        assert str(refused.value) == (
            f"cannot read the archive {done.path}: event {after + 1} is missing"
        )


def _edit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _swap(path: Path) -> None:
    other = path.with_name(path.name.replace("events-", "streams-"))
    other.rename(path.with_name("aside"))
    path.rename(other)
    path.with_name("aside").rename(path)


@pytest.mark.parametrize("attack", [_edit, _swap])
def test_an_edited_archive_is_found(archived, attack):
    log, done = archived
    attack(done.path)
    report = log.verified()
    assert not report.ok
    assert str(done.path) in str(report.first_problem)


@pytest.mark.parametrize(
    "attack",
    [
        "UPDATE archive SET head = (SELECT hash FROM event LIMIT 1)",
        "UPDATE archive SET last = last - 1",
        "DELETE FROM archive",
        "DELETE FROM event WHERE position = (SELECT min(position) FROM event)",
    ],
)
def test_a_forged_account_of_archives_is_found(archived, attack):
    log, _ = archived
    log.forge(attack)
    assert not log.verified().ok
    if "archive" not in attack:
        assert log.examined()


def test_a_prefix_deleted_without_a_signature_is_found(log):
    log.forge("DELETE FROM event WHERE position <= 100")
    assert not log.verified().ok
    assert log.examined()


def test_a_file_that_the_log_does_not_know_is_never_removed(log):
    log.place.mkdir()
    names = ("000000000001-000000000009", f"000000000001-{len(FACTS) + 1:012}", "somewhere")
    foreign = [log.place / f"events-{name}.parquet" for name in names]
    for path in foreign:
        path.write_bytes(b"somebody's")
    log.archive(MIDDLE)
    for path in foreign:
        assert path.read_bytes() == b"somebody's"


@pytest.mark.parametrize("halved", [False, True])
def test_what_a_run_that_died_has_left_is_removed_where_the_log_still_has_it(
    log: KeptLog, in_a_file: FileLog, tmp_path: Path, halved: bool
) -> None:
    (tmp_path / "twin").mkdir()
    dead = in_a_file.copy(tmp_path / "twin")
    dead.archive(MIDDLE)
    log.place.mkdir()
    for path in dead.place.iterdir():
        shutil.copy(path, log.place / path.name)
        (log.place / f".new-{path.name}").write_bytes(b"half")
    if halved:
        for path in log.place.glob("streams-*"):
            path.unlink()
    # In whichever order the directory gives them.
    foreign = {f"events-{name}.parquet" for name in "abcdefgh"}
    for name in foreign:
        (log.place / name).write_bytes(b"somebody's")
    whole = log.archive(LATER)
    assert whole.path is not None
    left = {whole.path.name, whole.path.name.replace("events-", "streams-")} | foreign
    assert {path.name for path in log.place.iterdir()} == left
    # A second run has nothing to remove: what is named by a signature stays.
    assert log.archive(LATER).events == 0
    assert {path.name for path in log.place.iterdir()} == left
    assert check(log).unseen == 0


def test_a_file_of_the_name_that_is_wanted_is_not_written_over(log: KeptLog) -> None:
    log.place.mkdir()
    last = len(FACTS)
    foreign = log.place / f"streams-000000000001-{last:012}.parquet"
    foreign.write_bytes(b"somebody's")
    with pytest.raises(StoreError) as refused:
        log.archive(LATER)
    taken = foreign.with_name(foreign.name.replace("streams-", "events-"))
    assert str(refused.value) == (
        f"cannot archive up to event {last}: {taken} is there and is not of this log; "
        "nothing was moved"
    )
    assert [path.name for path in log.place.iterdir()] == [foreign.name]
    assert foreign.read_bytes() == b"somebody's"
    assert log.rows() == last


def test_events_stay_immutable_in_a_log_that_was_archived(file: FileLog) -> None:
    file.archive(MIDDLE)
    with closing(sqlite3.connect(file.file)) as connection:
        for statement in ("DELETE FROM event", "UPDATE event SET topic = 'x'"):
            with pytest.raises(sqlite3.IntegrityError, match="the log is immutable"):
                connection.execute(statement)


@pytest.mark.parametrize("absent", [False, True])
async def test_a_witness_hears_of_an_archive_and_finds_its_account_in_the_log(
    empty, tmp_path, absent
):
    witness = tmp_path / "witness"
    await empty.write(FACTS, witness=witness)
    empty.archive(MIDDLE, witness=witness)
    assert "archived 1 " in witness.read_text()
    if absent:
        shutil.rmtree(empty.place)
    report = empty.verified(witness)
    assert report.ok, report.first_problem
    assert report.witnessed == len(FACTS)
    assert empty.examined(witness) == []
    empty.forge("DELETE FROM checkpoint WHERE note LIKE '%archived%'", "DELETE FROM archive")
    assert not empty.verified(witness).ok
    assert empty.examined(witness)
