"""The files `<logs>/healings_YYYYMMDD.jsonl`: one line for each issue that ended on that day (UTC).

They are a projection too: removed and written anew they are the same, byte for byte. Where it
stands is not kept beside them: each line carries the log position of its issue's end, and the last
whole line of the files is where writing goes on. A line that a crash cut short is cut off first. So
no line is left out and none is written twice, wherever the writer dies.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import orjson

from healer.errors import HealerError, StoreError
from healer.ports import EventLog, Recorded
from healer.store import SqliteLog
from projections.beside import fold_file
from projections.book import COMPONENT_EVENTS, FLEET_EVENTS, follow_issues
from projections.feed import batches
from projections.fold import Fold
from projections.history import FullRecord
from projections.projection import Cases, Projection, ProjectionStoppedError
from projections.record import instant

__all__ = ["HealingFileError", "HealingFiles", "render"]

_PATTERN: Final = "healings_*.jsonl"
_LONG: Final = 10_000
"""Events from which on the loop would be busy for long."""
_TAIL: Final = 1 << 16
"""How much of a file is read at a time in search of its last line."""


class HealingFileError(HealerError):
    """A file that cannot be continued; it is left as it is. `path` names it."""

    def __init__(self, path: Path, why: str) -> None:
        self.path = path
        super().__init__(f"cannot continue {path}: {why}; move it away to have it written anew")


def render(record: FullRecord, position: int) -> tuple[str, bytes]:
    """The file's name and the line, newline included, of an issue that ended at `position`.

    `timestamp` is the end, `time_to_resolution` the seconds from the first evidence to it.
    """
    ended = instant(record.ended) or ""
    resolved_in = record.resolved_in
    line = {
        "position": position,
        "timestamp": ended,
        "detected": instant(record.timestamp),
        "issue_id": record.issue_id,
        "component": record.component,
        "port": record.port,
        "issue_type": record.issue_type,
        "severity": record.severity,
        "playbooks": [run.playbook for run in record.runs],
        "success": record.success,
        "outcome": record.outcome,
        "actions_taken": record.actions,
        "time_to_resolution": None if resolved_in is None else resolved_in / 1_000_000,
    }
    name = f"healings_{ended[:10].replace('-', '')}.jsonl"
    return name, orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


@dataclass(slots=True)
class _Lines:
    """Records of open issues, and lines that wait to be written: position, file name, line. Those
    of issues that ended by the position `written` are there already."""

    written: int = 0
    open: dict[str, FullRecord] = field(default_factory=dict)
    waiting: list[tuple[int, str, bytes]] = field(default_factory=list)


def _finish(state: _Lines, position: int, record: FullRecord) -> None:
    if position > state.written:
        state.waiting.append((position, *render(record, position)))


_cases: Cases[_Lines] = Cases()
follow_issues(_cases, FullRecord, _finish)
_cases.ignore(*COMPONENT_EVENTS, *FLEET_EVENTS)


class HealingFiles:
    """Writes the files of `directory`, behind a log.

    Raises:
        HealingFileError: a file that is there does not end in a line of ours.
        OSError: the directory cannot be made or read.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.trouble: OSError | HealerError | None = None
        directory.mkdir(parents=True, exist_ok=True)
        self.position = max(map(_mend, sorted(directory.glob(_PATTERN))), default=0)
        self._last: str | None = None
        self._begin()

    def _begin(self) -> None:
        self._lines = lines = _Lines(written=self.position)
        self._fold = Fold([Projection("files", 1, lambda: lines, _cases, _waiting)])

    def feed(self, facts: Sequence[Recorded]) -> None:
        """Take facts, from the log's first on; nothing is written before `flush`."""
        self._fold.apply(facts)

    def flush(self) -> None:
        """Write the lines that wait. Blocks on the disk.

        Raises:
            OSError: they could not all be written; those that were not wait on.
            ProjectionStoppedError: a fact that cannot be read; all lines before it are written, and
                none behind it.
        """
        waiting = self._lines.waiting
        while waiting:
            position, name, line = waiting[0]
            self._append(name, line)
            self.position = position
            del waiting[0]
        self._fold.state("files")

    def _append(self, name: str, line: bytes) -> None:
        if self._last is not None and self._last != name:
            # A power cut must not take lines of yesterday's file and leave today's.
            _sync(self.directory / self._last)
        descriptor = os.open(
            self.directory / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640
        )
        try:
            size = os.fstat(descriptor).st_size
            try:
                written = 0
                while written < len(line):
                    written += os.write(descriptor, line[written:])
            except OSError:
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)
        self._last = name

    async def run(self, log: EventLog, *, retry: float = 5.0) -> None:
        """Follow `log` until cancelled. A disk that refuses is tried again every `retry` seconds;
        meanwhile `trouble` says why.

        Raises:
            ProjectionStoppedError: a fact that cannot be read; `trouble` goes on saying so.
        """
        if isinstance(log, SqliteLog) and (head := await log.head()) >= _LONG:
            # Beside the loop, without the facts that no line needs.
            try:
                self._fold = await fold_file(log.file, self._fold.projections, until=head)
            except StoreError:
                self._begin()  # and below it is tried again
        try:
            await self._flushed(retry)
            async with aclosing(batches(log, after=self._fold.position, retry=retry)) as feed:
                async for facts in feed:
                    self.feed(facts)
                    await self._flushed(retry)
        except ProjectionStoppedError as error:
            self.trouble = error
            raise

    async def _flushed(self, retry: float) -> None:
        while self._lines.waiting or self._fold.stopped:
            try:
                await asyncio.to_thread(self.flush)
            except OSError as error:
                self.trouble = error
                await asyncio.sleep(retry)
            else:
                self.trouble = None


def _waiting(state: _Lines) -> int:
    """What the fold shows: how many lines wait."""
    return len(state.waiting)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _mend(path: Path) -> int:
    """Cut off an unfinished last line; the position that the last whole line carries, else 0."""
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        tail = b""
        start = end
        while start > 0 and tail.count(b"\n") < 2:
            start = max(0, start - _TAIL)
            file.seek(start)
            tail = file.read(end - start)
        whole = tail[: tail.rfind(b"\n") + 1]
        if len(whole) != len(tail):
            file.truncate(start + len(whole))
    if not whole:
        return 0
    last = whole.splitlines()[-1]
    try:
        return int(orjson.loads(last)["position"])
    except (ValueError, KeyError, TypeError) as error:
        raise HealingFileError(path, f"its last line {last[:80]!r} is not one of ours") from error
