"""An export is read back by the programs that it is for, and is never half there."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest

from healer.errors import StoreError, UnknownNameError
from healer.ports import Recorded
from healer.store import SqliteLog
from projections.stats import STATS
from replay.export import TABLES, ExportError, export
from replay.export.bandit import CONTEXT, bandit_feedback
from replay.export.manifest import Manifest
from tests.conftest import ROOT, Processes, Until, unmeasured
from tests.projections.build import Log, MemoryLog, heal, random_log, view_of

pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed: the extra `export`")

FACTS = random_log(Random(5), issues=80)


def rows_of(directory: Path, table: str, *, final: bool = True) -> list[dict[str, Any]]:
    """The rows that the manifest names, by position."""
    parquet = pytest.importorskip("pyarrow.parquet")
    manifest = Manifest.load(directory)
    assert manifest is not None
    entry = manifest.tables[table]
    rows: list[dict[str, Any]] = []
    for name in entry.files if final else entry.open:
        rows += parquet.ParquetFile(directory / name).read().to_pylist()
    return sorted(rows, key=lambda row: row[TABLES[table].position])


def files(directory: Path) -> list[str]:
    """All that has a name there, but for the lock."""
    return sorted(
        str(path.relative_to(directory))
        for path in directory.rglob("*")
        if path.is_file() and path.name != ".lock"
    )


# --- read back, as a user would ------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("parquet")
    asyncio.run(export(MemoryLog(FACTS), directory, batch=700))
    return directory


def test_duckdb_gets_the_figures_of_the_statistics(exported):
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    stats = view_of(STATS, FACTS)
    with duckdb.connect() as database:
        history = database.read_parquet(str(exported / "history" / "*" / "*.parquet"))
        events = database.read_parquet(str(exported / "events" / "*" / "*.parquet"))
        found = dict(history.aggregate("outcome, count(*)").fetchall())
        not_cured = events.filter("payload->>'reason' = 'not_cured'").count("*").fetchall()
        total = events.count("*").fetchall()
    assert found["healed"] == stats["successful_healings"]
    assert found["recovered"] == stats["self_recovered"]
    assert sum(found.values()) == stats["issues"] - stats["open_issues"]
    assert not_cured > [(0,)]
    assert total == [(len(FACTS),)]


def test_polars_prunes_days_and_sees_times_in_utc(exported):
    polars = pytest.importorskip("polars", reason="polars is not installed")
    events = polars.scan_parquet(exported / "events", hive_partitioning=True)
    day = FACTS[0].event.timestamp.date()
    found = events.filter(polars.col("day") == day).select("time").collect()
    assert found.height == sum(each.event.timestamp.date() == day for each in FACTS)
    assert found.schema["time"] == polars.Datetime("us", "UTC")


def test_pandas_reads_the_training_set_with_its_types(exported):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.read_parquet(exported / "training")
    assert len(frame) == len(rows_of(exported, "training"))
    assert frame["propensity"].dtype == "float64"
    assert frame["finding_cpu_strained"].dtype == "bool"
    assert str(frame["time"].dt.tz) == "UTC"
    assert set(frame["outcome"]) <= {"cured", "not_cured", "recovered", "withheld", "superseded"}
    assert list(frame["candidates"].iloc[0])


KEYS = {"events": "version", "history": "time_to_resolution", "training": "propensity"}
"""A number of each table that is read back."""


@pytest.mark.parametrize("reader", ["duckdb", "polars", "pandas"])
@pytest.mark.parametrize("form", ["jsonl", "csv"])
@pytest.mark.parametrize("table", KEYS)
async def test_lines_and_csv_are_read_by_all_three(tmp_path, exported, reader, form, table):
    library = pytest.importorskip(reader, reason=f"{reader} is not installed")
    await export(MemoryLog(FACTS), tmp_path, format=form, tables=(table,))
    paths = sorted(tmp_path.glob(f"{table}/*/*.{form}"))
    columns = ["position", "component", KEYS[table]]
    if reader == "duckdb":
        with library.connect() as database:
            read = database.read_json if form == "jsonl" else database.read_csv
            rows = read(str(tmp_path / table / "*" / f"*.{form}"))
            found = rows.project(", ".join(columns)).fetchall()
    elif reader == "polars":
        read = library.read_ndjson if form == "jsonl" else library.read_csv
        frames = [read(path, infer_schema_length=None).select(columns) for path in paths]
        found = library.concat(frames).rows()
    else:
        frames = [
            library.read_json(path, lines=True) if form == "jsonl" else library.read_csv(path)
            for path in paths
        ]
        frame = library.concat([frame[columns] for frame in frames])
        found = list(frame.itertuples(index=False, name=None))
    told = [tuple(row[name] for name in columns) for row in rows_of(exported, table)]
    found = sorted(found)
    assert [row[:2] for row in found] == [row[:2] for row in told]
    assert [row[2] for row in found] == pytest.approx([row[2] for row in told])


async def test_a_line_has_json_in_it_and_not_json_in_a_string(tmp_path):
    log = Log()
    heal(log)
    await export(MemoryLog(log.facts), tmp_path, format="jsonl")
    [file] = tmp_path.glob("events/*/*.jsonl")
    first = json.loads(file.read_text().splitlines()[0])
    assert first["payload"]["evidence"]["probe"]["reason"] == "refused"
    assert first["time"] == "2026-03-01T12:00:00.000000Z"
    assert first["causation_id"] is None


def test_bandit_feedback_has_the_pipelines_fields(exported):
    """What the Open Bandit Pipeline refuses to do without, shape for shape."""
    numpy = pytest.importorskip("numpy", reason="numpy is not installed")
    feedback = bandit_feedback(exported)
    rounds, actions = feedback["n_rounds"], feedback["n_actions"]
    assert rounds > 0
    assert feedback["context"].shape == (rounds, len(CONTEXT))
    assert numpy.isfinite(feedback["context"]).all()
    assert feedback["action_context"].shape[0] == actions
    for name in ("action", "position"):
        assert feedback[name].shape == (rounds,)
        assert numpy.issubdtype(feedback[name].dtype, numpy.integer)
    assert (feedback["position"] == 0).all()
    assert 0 <= feedback["action"].min() <= feedback["action"].max() < actions
    for name in ("reward", "pscore"):
        assert feedback[name].shape == (rounds,)
        assert numpy.issubdtype(feedback[name].dtype, numpy.floating)
    assert ((feedback["pscore"] > 0) & (feedback["pscore"] <= 1)).all()
    carried_out = [
        row for row in rows_of(exported, "training") if row["cured_by_action"] is not None
    ]
    assert feedback["reward"].sum() == sum(row["cured_by_action"] for row in carried_out)


CHANCES = {"clear_port": 0.25, "restart_component": 0.75}
LOGGED = (
    ("clear_port", True),
    ("clear_port", True),
    ("restart_component", True),
    ("restart_component", False),
    ("restart_component", False),
    ("restart_component", False),
)
"""What a policy of these chances did, and whether it cured."""


async def test_bandit_feedback_weighs_to_the_value_of_a_policy_that_was_not_logged(tmp_path):
    numpy = pytest.importorskip("numpy", reason="numpy is not installed")
    log = Log()
    for first, cured in LOGGED:
        second = next(name for name in CHANCES if name != first)
        issue = log.detect().diagnose().route(first, second, chances=CHANCES).remediate()
        issue.run(first, cured=cured)
        if not cured:  # the cure is then the second one's, and no reward of the first
            issue.run(second, cured=True)
        issue.verify(first if cured else second)
        log.wait(hours=2)
    withheld = log.detect().diagnose().route(*CHANCES, chances=CHANCES)
    withheld.withhold().escalate("observe").fail("withheld")  # no round
    await export(MemoryLog(log.facts), tmp_path)
    feedback = bandit_feedback(tmp_path)
    rounds, actions = feedback["n_rounds"], feedback["n_actions"]
    names = feedback["actions"]
    assert [names[action] for action in feedback["action"]] == [first for first, _ in LOGGED]
    assert feedback["reward"].tolist() == [cured for _, cured in LOGGED]
    assert feedback["pscore"].tolist() == [CHANCES[first] for first, _ in LOGGED]
    # Of a policy that takes either as often: each clear_port weighs 0.5 / 0.25 = 2, each
    # restart_component 0.5 / 0.75 = 2/3, as the pipeline finds it in its `action_dist`.
    action_dist = numpy.zeros((rounds, actions, 1))
    for name in CHANCES:
        action_dist[:, names.index(name), 0] = 0.5
    chosen = (numpy.arange(rounds), feedback["action"], feedback["position"])
    weight = action_dist[chosen] / feedback["pscore"]
    gained = (weight * feedback["reward"]).sum()
    # IPS: (2 + 2 + 2/3) / 6. SNIPS: the same sum over 2 + 2 + 4 * 2/3. What was logged got 1/2.
    assert gained / rounds == pytest.approx(7 / 9)
    assert gained / weight.sum() == pytest.approx(7 / 10)
    assert feedback["reward"].mean() == 1 / 2


# --- types, metadata, partitions -----------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda each: each.name)
def test_a_file_has_the_columns_types_and_metadata_of_its_table(exported, table):
    parquet = pytest.importorskip("pyarrow.parquet")
    for path in exported.glob(f"{table.name}/*/*.parquet"):
        file = parquet.ParquetFile(path)
        schema = file.schema_arrow
        assert tuple(schema.names) == table.names
        assert [str(schema.field(table.time).type)] == ["timestamp[us, tz=UTC]"]
        metadata = file.metadata.metadata
        assert metadata[b"schema_version"] == str(table.version).encode()
        assert metadata[b"log"].startswith(b"first ")
        rows = file.read().to_pylist()
        positions = [row[table.position] for row in rows]
        assert (int(metadata[b"first"]), int(metadata[b"last"])) == (min(positions), max(positions))
        assert path.name == f"part-{positions[0]:012}.parquet"
        assert {f"day={row[table.time].date()}" for row in rows} == {path.parent.name}


def test_every_event_is_there_once_with_its_component(exported):
    rows = rows_of(exported, "events")
    assert [row["position"] for row in rows] == [each.position for each in FACTS]
    assert all(row["component"] for row in rows)
    assert all((row["issue_id"] is None) == ("component:" in row["stream"]) for row in rows)


def test_final_rows_and_those_that_are_not_make_the_whole(exported):
    stats = view_of(STATS, FACTS)
    assert len(rows_of(exported, "history", final=False)) == stats["open_issues"]
    final = {row["decision_id"] for row in rows_of(exported, "training")}
    rest = {row["decision_id"] for row in rows_of(exported, "training", final=False)}
    routed = {each.event.event_id for each in FACTS if "route_chosen" in each.event.TOPIC}
    assert final | rest == routed
    assert not final & rest


# --- incremental, resumable ----------------------------------------------------------------------


@pytest.mark.parametrize("cuts", [(1,), (0, 600), (17, 400, 401, 900)])
async def test_an_export_in_parts_has_the_rows_of_one_in_a_piece(tmp_path, exported, cuts):
    for end in (*cuts, len(FACTS)):
        report = await export(MemoryLog(FACTS[:end]), tmp_path, batch=100)
        assert report.position == end
    for table in TABLES:
        assert rows_of(tmp_path, table) == rows_of(exported, table)
        assert rows_of(tmp_path, table, final=False) == rows_of(exported, table, final=False) or (
            table in {"events", "bandit"}
        )


async def test_commits_on_the_way_change_no_row(tmp_path, exported):
    await export(MemoryLog(FACTS), tmp_path, batch=100, commit_every=300)
    for table in TABLES:
        assert rows_of(tmp_path, table) == rows_of(exported, table)


async def test_tables_can_be_added_to_a_directory_later(tmp_path, exported):
    await export(MemoryLog(FACTS), tmp_path, tables=("events",))
    report = await export(MemoryLog(FACTS), tmp_path, tables=("events", "history"))
    assert (report.tables["events"].rows, report.tables["events"].total) == (0, len(FACTS))
    assert rows_of(tmp_path, "history") == rows_of(exported, "history")


async def test_since_begins_behind_a_position(tmp_path, exported):
    await export(MemoryLog(FACTS), tmp_path, since=500)
    assert [row["position"] for row in rows_of(tmp_path, "events")] == [
        each.position for each in FACTS[500:]
    ]
    assert all(row["component"] for row in rows_of(tmp_path, "events"))
    # What was detected before and ended behind it became final behind it.
    late = rows_of(tmp_path, "history")
    assert 0 < len(late) < len(rows_of(exported, "history"))
    assert min(row["position"] for row in late) < 500


async def test_nothing_new_writes_nothing(tmp_path):
    await export(MemoryLog(FACTS), tmp_path)
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in files(tmp_path)}
    report = await export(MemoryLog(FACTS), tmp_path)
    assert all(table.rows == 0 for table in report.tables.values())
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in files(tmp_path)} == before


async def test_progress_is_told_from_nothing_to_the_end(tmp_path):
    steps: list[tuple[int, int]] = []
    await export(
        MemoryLog(FACTS), tmp_path, batch=500, on_progress=lambda *step: steps.append(step)
    )
    assert steps[0] == (0, len(FACTS))
    assert steps[-1] == (len(FACTS), len(FACTS))
    assert steps == sorted(steps)
    assert len(steps) > 2


async def test_an_empty_log_is_exported_and_then_continued(tmp_path, exported):
    await export(MemoryLog(), tmp_path)
    assert rows_of(tmp_path, "events") == []
    await export(MemoryLog(FACTS), tmp_path)
    assert rows_of(tmp_path, "history") == rows_of(exported, "history")


# --- trouble -------------------------------------------------------------------------------------


class FailingLog(MemoryLog):
    """Cannot be read behind a position."""

    def __init__(self, facts: Sequence[Recorded], until: int) -> None:
        super().__init__(facts)
        self.until = until

    async def read(self, *, after: int = 0, limit: int = 500) -> list[Recorded]:
        if after >= self.until:
            raise StoreError("cannot read the log: the database is away")
        return await super().read(after=after, limit=limit)


async def test_a_log_that_fails_on_the_way_leaves_what_was_committed_and_is_continued(
    tmp_path, exported
):
    with pytest.raises(StoreError, match="the database is away"):
        await export(FailingLog(FACTS, 200), tmp_path, batch=100)
    assert files(tmp_path) == []
    with pytest.raises(StoreError, match="the database is away"):
        await export(FailingLog(FACTS, 700), tmp_path, batch=100, commit_every=300)
    manifest = Manifest.load(tmp_path)
    assert manifest is not None
    assert 300 <= manifest.tables["events"].position < 700
    assert not (tmp_path / ".staged").exists()
    await export(MemoryLog(FACTS), tmp_path, batch=100)
    for table in TABLES:
        assert rows_of(tmp_path, table) == rows_of(exported, table)


async def test_a_cancelled_export_leaves_nothing_under_way(tmp_path):
    begun = asyncio.Event()

    def progress(done: int, _total: int) -> None:
        if done:
            begun.set()

    task = asyncio.create_task(export(MemoryLog(FACTS), tmp_path, batch=20, on_progress=progress))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert files(tmp_path) == []


_LIMITED = """
import asyncio, resource, sys
from pathlib import Path
from random import Random
from replay.export import ExportError, export
from tests.projections.build import MemoryLog, random_log
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), -1))
try:
    asyncio.run(export(MemoryLog(random_log(Random(5), issues=80)), Path(sys.argv[1]),
                       format=sys.argv[3], batch=100))
except ExportError as error:
    print(error)
    sys.exit(7)
"""


@pytest.mark.parametrize("form", ["parquet", "jsonl", "csv"])
def test_a_file_that_is_refused_is_named_and_nothing_stands_under_a_final_name(tmp_path, form):
    """A limit on the size of files stands for the full disk: any user can set it."""
    ran = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(tmp_path), "6000", form],
        cwd=ROOT,
        env=unmeasured(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 7, ran.stdout + ran.stderr
    assert ran.stdout.startswith(f"cannot export to {tmp_path}: ")
    assert "File too large" in ran.stdout
    assert ran.stderr == ""
    assert files(tmp_path) == []


_FULL = """
set -e
mount -t tmpfs -o size=200k none "$1"
status=0
"$2" -c "$3" "$1" 100000000 "$4" || status=$?
ls -A "$1"
exit $status
"""


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, form):
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("a small file system of its own takes root and unshare")
    ran = subprocess.run(
        ["unshare", "--mount", "sh", "-c", _FULL, "sh", tmp_path, sys.executable, _LIMITED, form],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if "mount:" in ran.stderr or "unshare:" in ran.stderr:
        pytest.skip(f"no file system can be mounted here: {ran.stderr.strip()}")
    assert ran.returncode == 7, ran.stdout + ran.stderr
    message, *left = ran.stdout.splitlines()
    assert "No space left on device" in message
    assert left == [".lock"]


_ENDLESS = """
import asyncio, sys
from pathlib import Path
from random import Random
from replay.export import export
from tests.projections.build import MemoryLog, random_log
asyncio.run(export(MemoryLog(random_log(Random(5), issues=80)), Path(sys.argv[1]),
                   batch=20, commit_every=40))
"""


def _count(directory: Path) -> int:
    """Files below it; a directory that goes while it is listed is passed over, unlike by glob."""
    return sum(len(names) for _, _, names in os.walk(directory))


@pytest.mark.parametrize("files_seen", [1, 6, 14])
def test_an_export_that_is_killed_anywhere_is_continued_to_the_same_rows(
    tmp_path: Path, exported: Path, processes: Processes, until: Until, files_seen: int
) -> None:
    process = processes.start(sys.executable, "-c", _ENDLESS, str(tmp_path), cwd=ROOT)
    until(lambda: process.poll() is not None or _count(tmp_path) >= files_seen)
    process.kill()
    process.wait(timeout=60)
    asyncio.run(export(MemoryLog(FACTS), tmp_path))
    for table in TABLES:
        assert rows_of(tmp_path, table) == rows_of(exported, table)
    manifest = Manifest.load(tmp_path)
    assert manifest is not None
    named = {name for entry in manifest.tables.values() for name in (*entry.files, *entry.open)}
    assert files(tmp_path) == sorted({*named, "manifest.json"})


async def test_a_commit_that_was_written_down_is_carried_out_by_the_next_export(tmp_path, exported):
    obstacle = tmp_path / "health"  # what comes before it in the alphabet has its name already
    obstacle.write_text("in the way")
    with pytest.raises(ExportError, match="health"):
        await export(MemoryLog(FACTS[:600]), tmp_path)
    assert (tmp_path / ".staged" / "commit.json").exists()
    assert not (tmp_path / "manifest.json").exists()
    obstacle.unlink()
    await export(MemoryLog(FACTS), tmp_path)
    for table in TABLES:
        assert rows_of(tmp_path, table) == rows_of(exported, table)
    assert not (tmp_path / ".staged").exists()


@pytest.mark.parametrize("data", [b"", b"[]", b'{"names": 3, "manifest": "{}"}'])
async def test_a_damaged_journal_is_named_and_nothing_is_removed(tmp_path, data):
    (tmp_path / ".staged").mkdir()
    (tmp_path / ".staged" / "commit.json").write_bytes(data)
    with pytest.raises(ExportError, match=r"commit\.json is damaged"):
        await export(MemoryLog(FACTS), tmp_path)
    assert (tmp_path / ".staged" / "commit.json").read_bytes() == data


async def test_two_exports_do_not_write_into_one_directory(tmp_path):
    from replay.export.commit import locked

    with locked(tmp_path), pytest.raises(ExportError, match="another export is under way"):
        await export(MemoryLog(FACTS), tmp_path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"since": -1}, "since position -1: the log ends at"),
        ({"since": 10**6}, "since position 1000000: the log ends at"),
        ({"since": 3}, "its table events stands at"),
        ({"format": "csv"}, "its format is parquet, not csv"),
        ({"recurrence_window": 60.0}, "its recurrence window is 1800.0, not 60.0"),
        ({"log_id": "another"}, "it holds another log"),
    ],
)
async def test_what_does_not_go_with_the_directory_is_refused_and_changes_nothing(
    tmp_path, options, said
):
    await export(MemoryLog(FACTS), tmp_path)
    before = files(tmp_path)
    with pytest.raises(ExportError, match=said):
        await export(MemoryLog(FACTS), tmp_path, **options)
    assert files(tmp_path) == before


async def test_another_log_or_one_that_was_cut_is_refused(tmp_path):
    await export(MemoryLog(FACTS), tmp_path)
    with pytest.raises(ExportError, match="it holds another log"):
        await export(MemoryLog(random_log(Random(6), issues=80)), tmp_path)
    with pytest.raises(ExportError, match=r"stands at position .*, and the log ends at 50"):
        await export(MemoryLog(FACTS[:50]), tmp_path)


@pytest.mark.parametrize("data", [b"", b"{", b'{"version": 9}', b"[]"])
async def test_a_damaged_manifest_is_named(tmp_path, data):
    await export(MemoryLog(FACTS), tmp_path)
    (tmp_path / "manifest.json").write_bytes(data)
    with pytest.raises(ExportError, match=r"manifest\.json is damaged"):
        await export(MemoryLog(FACTS), tmp_path)


@pytest.mark.parametrize(
    "options", [{"format": "xlsx"}, {"tables": ("events", "users")}, {"tables": ()}]
)
async def test_a_name_that_nothing_bears_is_refused_with_those_that_there_are(tmp_path, options):
    with pytest.raises(UnknownNameError, match="known: "):
        await export(MemoryLog(FACTS), tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


async def test_a_directory_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ExportError, match=r"cannot export to .*/file: .*File exists"):
        await export(MemoryLog(FACTS), tmp_path / "file")


_WITHOUT = """
import asyncio, sys
from pathlib import Path
sys.modules["pyarrow"] = None
from replay.export import MissingExtraError, export
from tests.projections.build import Log, MemoryLog, heal
log = Log()
heal(log)
asyncio.run(export(MemoryLog(log.facts), Path(sys.argv[1]), format="csv"))
try:
    asyncio.run(export(MemoryLog(log.facts), Path(sys.argv[1]) / "parquet"))
except MissingExtraError as error:
    print(error)
"""


def test_without_pyarrow_the_extra_is_named_and_the_other_formats_work(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-c", _WITHOUT, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "install network-healer[export]" in ran.stdout
    assert list(tmp_path.glob("events/*/*.csv"))
    assert not (tmp_path / "parquet").exists()


async def test_a_log_on_disk_is_exported_while_it_is_open(tmp_path, exported):
    async with SqliteLog.open(tmp_path / "log.db", new_log_id=lambda: "1" * 32) as log:
        await log.append([each.event for each in FACTS])
        await export(log, tmp_path / "out", log_id="1" * 32)
    for table in TABLES:
        assert rows_of(tmp_path / "out", table) == rows_of(exported, table)


# --- events alone, as they are stored ------------------------------------------------------------


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stored") / "log.db"

    async def write() -> None:
        async with SqliteLog.open(path, new_log_id=lambda: "log-1") as log:
            await log.append([each.event for each in FACTS])

    asyncio.run(write())
    return path


@pytest.mark.parametrize("since", [None, 1, 333, len(FACTS) // 2, len(FACTS)])
async def test_events_as_stored_are_the_rows_of_decoded_ones(tmp_path, stored, since):
    options = {"tables": ("events",), "since": since, "batch": 70}
    async with SqliteLog.open_readonly(stored) as log:
        await export(log, tmp_path / "stored", **options)
    await export(MemoryLog(FACTS), tmp_path / "decoded", **options)
    assert rows_of(tmp_path / "stored", "events") == rows_of(tmp_path / "decoded", "events")
    assert files(tmp_path / "stored") == files(tmp_path / "decoded")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("body = CAST('{' AS BLOB)", "cannot read event 9: topic"),
        (
            "topic = 'issue.detected.v9'",
            "cannot read event 9: topic issue.detected.v9 is not known",
        ),
    ],
)
async def test_an_event_that_cannot_be_read_ends_the_export_by_name(tmp_path, stored, change, why):
    shutil.copy(stored, tmp_path / "log.db")
    with closing(sqlite3.connect(tmp_path / "log.db")) as connection:
        connection.execute("DROP TRIGGER event_is_never_updated")
        connection.execute(f"UPDATE event SET {change} WHERE position = 9")  # noqa: S608
        connection.commit()
    async with SqliteLog.open_readonly(tmp_path / "log.db") as log:
        with pytest.raises(StoreError, match=why):
            await export(log, tmp_path / "out", tables=("events",))
    assert files(tmp_path / "out") == []
