"""`healer replay verify`: whether the log can be believed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from healer.cli.form import Output
from healer.cli.outcome import FAILED, FINE
from healer.cli.output import as_table, print_json, print_line
from healer.cli.progress import progress_of
from healer.cli.read import Source
from healer.cli.source import open_store, store_of
from healer.errors import StoreError
from healer.store import SqliteLog
from healer.store.url import is_postgres
from replay.archive import Archive, open_database
from replay.verify import Report
from replay.verify import verify as verify_log

__all__ = ["Trust", "verify"]


@dataclass(frozen=True, slots=True)
class Trust:
    """What is believed more than the log: the file of a witness, the first public key in hex, the
    log's name. With `quick` events are hashed and not decoded."""

    witness: Path | None
    public_key: str | None
    log_id: str | None
    quick: bool


def verify(source: Source, output: Output | None, trust: Trust) -> int:
    """Verify the whole log; 1 when it is bad, and the first bad event is named."""

    async def run() -> Report:
        url = store_of(source.file, source.store)
        if is_postgres(url):
            with open_database(url) as archive:
                return await look(archive)
        async with open_store(url) as log:
            if not isinstance(log, SqliteLog):
                raise StoreError("cannot verify this log: it is gone with its process")
            return await look(log)

    async def look(log: SqliteLog | Archive) -> Report:
        with progress_of("verifying the log") as progress:
            return await asyncio.to_thread(
                verify_log,
                log,
                witness=trust.witness,
                public_key=trust.public_key,
                log_id=trust.log_id,
                deep=not trust.quick,
                on_progress=progress,
            )

    report = asyncio.run(run())
    if as_table(output):
        _print(report)
    else:
        print_json(report.view())
    return FINE if report.ok else FAILED


def _print(report: Report) -> None:
    for problem in report.problems:
        print_line(problem.message, "bad")
    if report.found > len(report.problems):
        print_line(f"... and {report.found - len(report.problems)} more", "bad")
    verdict = "fine" if report.ok else "NOT TO BE BELIEVED"
    print_line(
        f"log {report.log_id}: {report.events} events, {report.checkpoints} checkpoints: {verdict}",
        "good" if report.ok else "bad",
    )
    if report.unseen:
        print_line(
            f"events 1 to {report.unseen} were NOT SEEN: they stand in archives that are not here",
            "warn",
        )
    if report.witnessed is not None:
        print_line(f"the witness vouches for the first {report.witnessed} events")
    if not report.pinned:
        key = f"--public-key {report.public_key}" if report.public_key else "its first public key"
        print_line(
            f"it agrees with itself only: keep {key} elsewhere, or ask a witness (--witness FILE)",
            "warn",
        )
