"""`healer archive`: the oldest part of the log, as Parquet beside it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from healer.cli.choice import UsageError
from healer.cli.form import Output
from healer.cli.outcome import FINE
from healer.cli.output import as_table, print_json, print_line
from healer.cli.progress import progress_of
from healer.cli.read import Source
from healer.cli.source import config_in
from healer.store.archive import Archived
from healer.store.archive import archive as archive_log
from healer.store.url import sqlite_file
from replay.point import read_point

__all__ = ["archive"]


def archive(source: Source, before: str, directory: Path | None, output: Output | None) -> int:
    """Archive the log of `source`: what is older than `before`, as far as its issues have ended."""
    moment = _date(before, datetime.now(UTC))
    config = config_in(source.file) if source.store is None else None
    url = source.store if config is None else config.store
    with progress_of("archiving") as progress:
        done = archive_log(
            sqlite_file(url or "", "archive"),
            moment,
            directory=directory,
            witness=config.witness if config else None,
            on_progress=progress,
        )
    if as_table(output):
        _print(done, moment)
    else:
        print_json(asdict(done) | {"path": str(done.path) if done.path else None})
    return FINE


def _date(text: str, now: datetime) -> datetime:
    point = read_point(text, now)
    if isinstance(point, int):
        raise UsageError(
            f"cannot archive before {text!r}: it is a position; "
            "allowed: a date (2026-03-01, 2026-03-01T12:00:00Z) or an age (-90d)"
        )
    if point > now:
        raise UsageError(
            f"cannot archive before {text}: it lies in the future; "
            f"allowed: until {now.isoformat(timespec='seconds')}"
        )
    return point


def _print(done: Archived, before: datetime) -> None:
    if done.events:
        print_line(
            f"{done.events} events, up to position {done.last}, stand in {done.path} "
            f"({done.size:,} bytes); the log is {done.freed:,} bytes smaller",
            "good",
        )
    else:
        print_line(f"nothing to archive before {before.isoformat()}")
    if done.held_by:
        print_line(f"issue {done.held_by} had not ended by then: what follows it stays", "warn")
    if done.unreturned:
        print_line(f"space could not be given back: {done.unreturned}; run it again", "warn")
