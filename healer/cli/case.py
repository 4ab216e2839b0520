"""`healer replay export-case`: an incident of the log, for the simulator to play."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson

from healer.cli.outcome import FINE
from healer.cli.output import print_json
from healer.cli.progress import progress_of
from healer.cli.read import Source
from healer.cli.source import open_store, store_of
from healer.domain.component import component_stream
from healer.domain.events import IssueDetected
from projections.projection import Json
from replay.case import case_of
from replay.issue import find

__all__ = ["export_case"]


def export_case(source: Source, name: str, file: Path | None) -> int:
    """Write the case of issue `name` to `file`; None: to the standard output."""

    async def read() -> dict[str, Json]:
        async with open_store(store_of(source.file, source.store)) as log:
            with progress_of("looking for the issue") as progress:
                detection = (await find(log, name, progress=progress)).event
            assert isinstance(detection, IssueDetected)
            issue = await log.stream(detection.originator_id)
            return case_of(issue, await log.stream(component_stream(detection.component)))

    case = asyncio.run(read())
    if file is None:
        print_json(case)
    else:
        file.write_bytes(orjson.dumps(case, option=orjson.OPT_INDENT_2) + b"\n")
    return FINE
