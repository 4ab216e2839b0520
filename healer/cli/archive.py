"""`healer archive`: the oldest part of the log, as Parquet beside it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from healer.bootstrap import key_of
from healer.cli.choice import UsageError
from healer.cli.form import Output
from healer.cli.outcome import FINE
from healer.cli.output import as_table, print_json, print_line
from healer.cli.progress import progress_of
from healer.cli.read import Source
from healer.cli.source import config_in, store_of
from healer.store.archive import Archived
from healer.store.archive import archive as archive_file
from healer.store.url import is_postgres, postgres_log, sqlite_file
from replay.point import read_point

__all__ = ["Place", "archive"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where to, and for a log in PostgreSQL the file of the key that signs it."""

    directory: Path | None
    key: Path | None


def archive(source: Source, before: str, place: Place, output: Output | None) -> int:
    """Archive the log of `source`: what is older than `before`, as far as its issues have ended."""
    moment = _date(before, datetime.now(UTC))
    url = store_of(source.file, source.store)
    archive_log = _of_database if is_postgres(url) else _of_file
    done = archive_log(source, url, moment, place)
    if as_table(output):
        _print(done, moment)
    else:
        print_json(asdict(done) | {"path": str(done.path) if done.path else None})
    return FINE


def _of_file(source: Source, url: str, before: datetime, place: Place) -> Archived:
    if place.key is not None:
        raise UsageError(
            f"cannot archive with the key {place.key}: that of a log in a file lies beside it; "
            "allowed: no --key"
        )
    config = config_in(source.file) if source.store is None else None
    with progress_of("archiving") as progress:
        return archive_file(
            sqlite_file(url, "archive"),
            before,
            directory=place.directory,
            witness=config.witness if config else None,
            on_progress=progress,
        )


def _of_database(source: Source, url: str, before: datetime, place: Place) -> Archived:
    if place.directory is None:
        raise UsageError(
            "cannot archive a log in PostgreSQL without --out DIR: a directory that every machine "
            "which reads the log reaches under the same name"
        )
    postgres_log(url)
    from healer.store.postgres.archive import archive as archive_database  # noqa: PLC0415 - an extra

    key, witness = _signing(source, place.key)
    with progress_of("archiving") as progress:
        return archive_database(
            url,
            before,
            directory=place.directory,
            key=key,
            witness=witness,
            on_progress=progress,
        )


def _signing(source: Source, key: Path | None) -> tuple[Path, Path | None]:
    """The file of the key and that of the witness. Who names the log and the key needs no
    configuration."""
    if key is not None and source.store is not None and source.file is None:
        return key, None
    config = config_in(source.file)
    return key or key_of(config), config.witness


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
    freed = f"the log is {done.freed:,} bytes smaller"
    if not done.freed:
        freed = "the log has their space for what comes"
    if done.events:
        print_line(
            f"{done.events} events, up to position {done.last}, stand in {done.path} "
            f"({done.size:,} bytes); {freed}",
            "good",
        )
    else:
        print_line(f"nothing to archive before {before.isoformat()}")
    if done.held_by:
        print_line(f"issue {done.held_by} had not ended by then: what follows it stays", "warn")
    if done.unreturned:
        print_line(f"space could not be given back: {done.unreturned}; run it again", "warn")
