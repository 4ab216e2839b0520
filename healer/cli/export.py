"""`healer replay export`: the log and what is made of it, as files for other programs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from healer.cli.form import Output
from healer.cli.outcome import FINE
from healer.cli.output import as_table, print_json, print_line, print_table
from healer.cli.progress import progress_of
from healer.cli.read import Source
from healer.cli.source import open_store, store_of
from replay.export import TABLES, ExportReport
from replay.export import export as export_log
from replay.point import require_reached

__all__ = ["export"]

_BANDIT: Final = "bandit"
"""Asked for as a form, it is a table of its own in JSON Lines."""
_COLUMNS: Final = ("rows", "files", "total", "open")


def export(
    source: Source,
    directory: Path,
    output: Output | None,
    *,
    tables: Sequence[str],
    form: str,
    since: int | None,
) -> int:
    """Write or continue the export in `directory`; no `tables` are all of them."""
    if form == _BANDIT:
        tables, form = (_BANDIT,), "jsonl"

    async def run() -> ExportReport:
        async with open_store(store_of(source.file, source.store)) as log:
            if since is not None:
                require_reached(since, await log.head())
            with progress_of("exporting") as progress:
                return await export_log(
                    log,
                    directory,
                    tables=tables or tuple(TABLES),
                    format=form,
                    since=since,
                    on_progress=progress,
                )

    report = asyncio.run(run())
    shown = {name: asdict(table) for name, table in report.tables.items()}
    if as_table(output):
        rows = [(name, *(table[column] for column in _COLUMNS)) for name, table in shown.items()]
        print_table(f"{report.directory} ({report.format})", ("table", *_COLUMNS), rows)
        print_line(f"it holds the log up to position {report.position}", "good")
    else:
        print_json(
            {
                "directory": str(report.directory),
                "format": report.format,
                "position": report.position,
                "left_out": report.left_out,
                "tables": shown,
            }
        )
    return FINE
