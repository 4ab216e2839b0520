"""An export from its beginning to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar, TypeVarTuple, Unpack

from healer.errors import UnknownNameError
from healer.ports import EventLog
from healer.store.cold import Row
from healer.store.compiled import CompiledReader, StoredEvents
from projections.training_state import RECURRENCE_WINDOW
from replay.export import parquet
from replay.export.bandit import CONTEXT, FIRST_ACTIONS
from replay.export.commit import commit, locked, recover
from replay.export.continuation import begin_of, check, identify
from replay.export.error import ExportError
from replay.export.event_row import EventRows
from replay.export.format import FORMATS
from replay.export.manifest import Manifest, TableEntry
from replay.export.staging import Staging
from replay.export.table import TABLES, Table
from replay.export.work import Work

__all__ = ["BATCH", "COMMIT_EVERY", "ExportReport", "TableReport", "export"]

BATCH: Final = 10_000
"""Rows that are written at once."""
_READ: Final = 1_000
"""Events that are read at once: of more, the collector of garbage takes a quarter of the time."""
COMMIT_EVERY: Final = 1_000_000
"""Positions after which what is there is committed: so much is done again after a crash at most."""

Progress = Callable[[int, int], None]
_T = TypeVar("_T")
_Arguments = TypeVarTuple("_Arguments")


@dataclass(frozen=True, slots=True)
class TableReport:
    """One table: rows and files of this export, all rows that the directory holds now, and those
    that are not final yet."""

    rows: int
    files: int
    total: int
    open: int


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was exported. `position` is the last one of the log that the directory knows now;
    `left_out` counts decisions of this export that are no rounds of bandit feedback."""

    directory: Path
    format: str
    position: int
    tables: Mapping[str, TableReport]
    left_out: int


async def export(
    log: EventLog,
    directory: Path,
    *,
    tables: Sequence[str] = tuple(TABLES),
    format: str = "parquet",
    since: int | None = None,
    on_progress: Progress = lambda _done, _total: None,
    log_id: str | None = None,
    recurrence_window: float = RECURRENCE_WINDOW,
    batch: int = BATCH,
    commit_every: int = COMMIT_EVERY,
) -> ExportReport:
    """Write `tables` of `log`, up to its present end, as files into `directory`.

    A directory that holds an export already is continued where it stands. `since` is the position
    behind which a new one begins: events behind it, and the rows that became final behind it. Rows
    that are folded are made from the whole log, whatever `since` says; rows that are not final yet
    stand apart and are replaced by the next export. `on_progress` is told the positions that are
    read, of how many. `log_id` keeps two logs apart; without it the first event does.

    An export that fails or is cancelled leaves what was there before, and what it has committed:
    whole files, and a manifest that names them.

    Raises:
        ExportError: the directory, `since`, or a file was refused.
        UnknownNameError: there is no such table or format.
        MissingExtraError: Parquet, and pyarrow is not installed.
        StoreError: the log cannot be read.
        ProjectionStoppedError: an event that cannot be folded.
    """
    wanted = _wanted(tables, format)
    head = await log.head()
    if since is not None and not 0 <= since <= head:
        raise ExportError(
            directory, f"since position {since}: the log ends at {head}; allowed: 0 to {head}"
        )
    identity = await identify(log, log_id)
    with ExitStack() as stack:
        try:
            await _blocking(stack.enter_context, locked(directory))
            await _blocking(recover, directory)
            found = await _blocking(Manifest.load, directory)
            manifest = found or Manifest(
                format=format,
                log=identity,
                recurrence_window=recurrence_window,
                actions=list(FIRST_ACTIONS),
                context=list(CONTEXT),
            )
            check(
                directory,
                manifest,
                format=format,
                identity=identity,
                recurrence_window=recurrence_window,
                head=head,
            )
            manifest.log = identity or manifest.log
            begin = begin_of(directory, manifest, wanted, since)
            before = {name: _copy(entry) for name, entry in manifest.tables.items()}
            run = _Run(
                log,
                directory,
                wanted,
                manifest,
                begin=begin,
                batch=batch,
                commit_every=commit_every,
            )
            await run.to(head, on_progress)
        except OSError as error:
            raise _refused(directory, error) from error
    return ExportReport(
        directory=directory,
        format=format,
        position=head,
        tables={
            table.name: _report(before.get(table.name), manifest.tables[table.name])
            for table in wanted
        },
        left_out=run.left_out,
    )


class _Run:
    """Reads the log once, and commits what it makes of it."""

    def __init__(
        self,
        log: EventLog,
        directory: Path,
        tables: Sequence[Table],
        manifest: Manifest,
        *,
        begin: Mapping[str, int],
        batch: int,
        commit_every: int,
    ) -> None:
        self._log = log
        self._directory = directory
        self._tables = tables
        self._manifest = manifest
        self._batch = batch
        self._commit_every = commit_every
        self._begin = begin
        self._work = Work(tables, begin, manifest)
        self._events = EventRows(log) if any(not table.folded for table in tables) else None
        self._folded = any(table.folded for table in tables)
        self._light = CompiledReader()
        self._staging = self._stage()

    @property
    def left_out(self) -> int:
        return self._work.rounds.left_out

    def _stage(self) -> Staging:
        metadata = {
            "producer": "network-healer",
            "log": self._manifest.log,
            "recurrence_window_s": str(self._manifest.recurrence_window),
        }
        return Staging(self._directory, self._manifest.format, metadata, batch=self._batch)

    async def to(self, end: int, on_progress: Progress) -> None:
        """Go on to position `end`."""
        read = 0 if self._folded else min(self._begin.values())
        committed = read
        on_progress(read, end)
        if all(
            entry is not None and entry.position == end
            for entry in (self._manifest.tables.get(table.name) for table in self._tables)
        ):
            on_progress(end, end)
            return
        try:
            while read < end:
                reached = await self._take(read, end)
                if reached is None:
                    break
                read = reached
                if read - committed >= self._commit_every and read < end:
                    await _blocking(self._commit, read)
                    committed = read
                on_progress(read, end)
            await _blocking(self._commit, end)
        except BaseException:
            await _blocking(self._staging.abort)
            raise

    async def _take(self, read: int, end: int) -> int | None:
        """What is behind `read`, to all tables; the last position, None at the log's end."""
        most = min(self._batch, _READ) if self._folded else self._batch
        limit = min(most, end - read)
        if isinstance(self._log, StoredEvents):
            rows = await self._log.rows(after=read, limit=limit)
            if not rows:
                return None
            told = [row for row in rows if row[0] > self._begin.get("events", end)]
            if self._events is not None:
                await self._events.prepare_stored(told)
            await _blocking(self._take_stored, rows, told)
            return rows[-1][0]
        facts = await self._log.read(after=read, limit=limit)
        facts = [fact for fact in facts if fact.position <= end]
        if not facts:
            return None
        if self._events is not None:
            begin = self._begin["events"]
            await self._events.prepare([fact for fact in facts if fact.position > begin])
        await _blocking(self._work.take, facts, self._events, self._staging)
        return facts[-1].position

    def _take_stored(self, rows: Sequence[Row], told: Sequence[Row]) -> None:
        """Events as they are stored; to a fold they are light."""
        if self._events is not None:
            self._staging.extend(TABLES["events"], self._events.stored(told))
        if self._folded:
            self._work.take(self._light.facts(rows), None, self._staging)

    def _commit(self, position: int) -> None:
        """All that was taken up to `position` counts from now on."""
        staging, manifest = self._staging, self._manifest.model_copy(deep=True)
        opened = self._work.unfinished(staging)
        staging.finish()
        for table in self._tables:
            entry = manifest.tables.setdefault(
                table.name,
                TableEntry(
                    schema_version=table.version,
                    since=self._begin[table.name],
                    position=self._begin[table.name],
                ),
            )
            entry.position = max(entry.position, position)
            for name, file in staging.finished.items():
                if name.startswith(f"{table.name}/"):
                    entry.files[name] = file
                    entry.rows += file.rows
            rest = opened.get(table.name)
            entry.open = {} if rest is None else {rest: staging.finished[rest]}
        manifest.actions = list(self._work.rounds.actions)
        commit(self._directory, staging.finished, manifest)
        self._manifest.tables, self._manifest.actions = manifest.tables, manifest.actions
        self._staging = self._stage()


async def _blocking(work: Callable[[Unpack[_Arguments]], _T], *arguments: *_Arguments) -> _T:
    """Run `work` in a thread; when cancelled, wait for its end first: it uses what we clean up."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def _wanted(tables: Sequence[str], format: str) -> list[Table]:
    if format not in FORMATS:
        raise UnknownNameError("format", format, sorted(FORMATS))
    for name in tables:
        if name not in TABLES:
            raise UnknownNameError("table", name, sorted(TABLES))
    if not tables:
        raise UnknownNameError("table", "", sorted(TABLES))
    if format == "parquet":
        parquet.require()
    return [table for name, table in TABLES.items() if name in tables]


def _refused(directory: Path, error: OSError) -> ExportError:
    where = f"{error.filename}: " if error.filename else ""
    return ExportError(
        directory,
        f"{where}{error.strerror or error}; what was committed before is whole",
        errno=error.errno,
    )


def _copy(entry: TableEntry) -> TableEntry:
    return entry.model_copy(deep=True)


def _report(before: TableEntry | None, after: TableEntry) -> TableReport:
    return TableReport(
        rows=after.rows - (before.rows if before else 0),
        files=len(after.files) - (len(before.files) if before else 0),
        total=after.rows,
        open=sum(file.rows for file in after.open.values()),
    )
