"""Files under way: written apart, and given their names only when all of them are whole."""

from __future__ import annotations

import os
import shutil
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from replay.export.file import NewFile
from replay.export.format import FORMATS, Writer
from replay.export.manifest import FileEntry
from replay.export.table import Row, Table

__all__ = ["JOURNAL", "STAGED", "Staging", "sync_directory"]

STAGED: Final = ".staged"
"""Where files under way stand. No reader's pattern for a table finds them there."""

JOURNAL: Final = f"{STAGED}/commit.json"
"""The commit that is being carried out, if there is one."""

_OPEN_PARTS: Final = 16
"""Days that are written to at once, of each table; of more, the one that was written to longest ago
is finished, and gets another part when it comes again."""

_MICROSECONDS_A_DAY: Final = 86_400_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def sync_directory(path: Path) -> None:
    """Make the names in `path` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(slots=True)
class _Part:
    """One file under way."""

    name: str
    file: NewFile
    writer: Writer
    rows: int = 0
    first: int = 0
    last: int = 0

    def write(self, rows: list[Row], place: int) -> None:
        positions = [row[place] for row in rows]
        self.first = min(positions) if not self.rows else min(self.first, *positions)
        self.last = max(self.last, *positions)
        self.rows += len(rows)
        self.writer.write(rows)

    def finish(self) -> FileEntry:
        self.writer.finish({"first": str(self.first), "last": str(self.last)})
        self.file.sync()
        size = self.file.tell()
        self.file.close()
        return FileEntry(rows=self.rows, first=self.first, last=self.last, bytes=size)

    def abandon(self) -> None:
        self.writer.abandon()
        self.file.close()


class Staging:
    """The files of one commit, in `directory`. All of it blocks.

    Each method raises OSError when a file is refused; then `abort`.
    """

    def __init__(
        self, directory: Path, format: str, metadata: Mapping[str, str], *, batch: int
    ) -> None:
        self._root = directory / STAGED
        self._journal = directory / JOURNAL
        self._ending = format
        self._begin = FORMATS[format]
        self._metadata = metadata
        self._batch = batch
        self._waiting: dict[str, tuple[Table, list[Row]]] = {}
        self._parts: dict[str, OrderedDict[int, _Part]] = {}
        self.finished: dict[str, FileEntry] = {}

    def add(self, table: Table, row: Row) -> None:
        """Take one row; it is written with others."""
        waiting = self._waiting.setdefault(table.name, (table, []))[1]
        waiting.append(row)
        if len(waiting) >= self._batch:
            self._flush(table)

    def extend(self, table: Table, rows: Sequence[Row]) -> None:
        """Take many rows."""
        waiting = self._waiting.setdefault(table.name, (table, []))[1]
        waiting.extend(rows)
        if len(waiting) >= self._batch:
            self._flush(table)

    def _flush(self, table: Table) -> None:
        rows = self._waiting.pop(table.name, (table, []))[1]
        time = table.names.index(table.time)
        place = table.names.index(table.position)
        by_day: dict[int, list[Row]] = {}
        for row in rows:
            by_day.setdefault(row[time] // _MICROSECONDS_A_DAY, []).append(row)
        for day, group in by_day.items():
            self._part(table, day, group[0][place]).write(group, place)

    def _part(self, table: Table, day: int, position: int) -> _Part:
        parts = self._parts.setdefault(table.name, OrderedDict())
        part = parts.get(day)
        if part is None:
            if len(parts) >= _OPEN_PARTS:
                self._finish(parts.popitem(last=False)[1])
            date = (_EPOCH + timedelta(days=day)).date().isoformat()
            # A row is written once, so that its position names one part of its day for ever.
            name = f"{table.name}/day={date}/part-{position:012}.{self._ending}"
            part = parts[day] = self._create(table, name)
        parts.move_to_end(day)
        return part

    def _create(self, table: Table, name: str) -> _Part:
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        file = NewFile(path)
        try:
            metadata = {
                **self._metadata,
                "table": table.name,
                "schema_version": str(table.version),
            }
            return _Part(name, file, self._begin(file, table, metadata))
        except BaseException:
            file.close()
            raise

    def _finish(self, part: _Part) -> None:
        try:
            self.finished[part.name] = part.finish()
        except BaseException:
            part.abandon()
            raise

    def replace(self, table: Table, rows: Iterable[Row]) -> str:
        """Write the whole file of rows that are not final, which takes the place of the one before;
        its name."""
        place = table.names.index(table.position)
        part = self._create(table, f"{table.name}_open/open.{self._ending}")
        try:
            group: list[Row] = []
            for row in rows:
                group.append(row)
                if len(group) >= self._batch:
                    part.write(group, place)
                    group = []
            if group:
                part.write(group, place)
        except BaseException:
            part.abandon()
            raise
        self._finish(part)
        return part.name

    def finish(self) -> None:
        """Write what waits and make every file durable, under its name here."""
        for table, _ in list(self._waiting.values()):
            self._flush(table)
        for parts in self._parts.values():
            while parts:
                self._finish(parts.popitem(last=False)[1])
        for directory in {(self._root / name).parent for name in self.finished}:
            sync_directory(directory)

    def abort(self) -> None:
        """Let go of everything. Nothing that is under way stays, but for a commit that has been
        written down: the next export carries it out."""
        for parts in self._parts.values():
            for part in parts.values():
                part.abandon()
        self._parts.clear()
        self._waiting.clear()
        if self._root.exists() and not self._journal.exists():
            shutil.rmtree(self._root)
