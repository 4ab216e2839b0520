"""`healer replay verify`: whether the log can be believed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from healer.cli.form import Output
from healer.cli.outcome import FAILED, FINE
from healer.cli.output import as_table, print_json, print_line
from healer.cli.progress import progress_of
from healer.cli.read import Source
from healer.cli.source import open_store, store_of
from healer.errors import StoreError
from healer.ports import EventLog
from replay.audit import Problem, problems

__all__ = ["verify"]

_BATCH = 500


@dataclass(frozen=True, slots=True)
class _Report:
    ok: bool
    first_problem: str | None
    events: int

    def view(self) -> dict[str, Any]:
        return {"ok": self.ok, "first_problem": self.first_problem, "events": self.events}


def verify(
    source: Source, output: Output | None, *, witness: Path | None, public_key: Path | None
) -> int:
    """Check the whole log; 1 when it is bad, and the first bad event is named."""

    async def run() -> _Report:
        async with open_store(store_of(source.file, source.store)) as log:
            with progress_of("verifying") as progress:
                return await _check(log, progress)

    report = asyncio.run(run())
    if not as_table(output):
        print_json(report.view())
    elif report.ok:
        print_line(f"{report.events} events, fine", "good")
    else:
        print_line(str(report.first_problem), "bad")
    return FINE if report.ok else FAILED


async def _check(log: EventLog, progress: Any) -> _Report:
    head = await log.head()
    facts = []
    read = 0
    first: str | None = getattr(log, "broken", None)
    try:
        while batch := await log.read(after=read, limit=_BATCH):
            facts += batch
            read = batch[-1].position
            progress(read, head)
    except StoreError as error:
        first = first or str(error)
    found: Problem | None = next(problems(facts), None)
    first = first or (None if found is None else found.message)
    return _Report(first is None, first, len(facts))
