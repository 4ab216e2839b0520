"""`healer replay export-case`: an incident of the log, for the simulator to play."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson

from healer.cli.choice import UsageError
from healer.cli.form import Output
from healer.cli.outcome import FINE
from healer.cli.output import as_table, print_json, print_line, print_table
from healer.cli.progress import progress_of
from healer.cli.read import Source
from healer.cli.source import open_store, store_of
from healer.domain.component import component_stream
from healer.domain.events import IssueDetected
from projections.projection import Json
from replay.case import case_of
from replay.issue import find

__all__ = ["export_case"]


def export_case(source: Source, name: str, file: Path | None, output: Output | None) -> int:
    """Write the case of issue `name` to `file`, and tell it where a person reads; None: only tell
    it, in JSON to a program.

    Raises:
        UsageError: the file cannot be written.
    """

    async def read() -> dict[str, Json]:
        async with open_store(store_of(source.file, source.store)) as log:
            with progress_of("looking for the issue") as progress:
                detection = (await find(log, name, progress=progress)).event
            assert isinstance(detection, IssueDetected)
            issue = await log.stream(detection.originator_id)
            return case_of(issue, await log.stream(component_stream(detection.component)))

    case = asyncio.run(read())
    if file is not None:
        try:
            file.write_bytes(orjson.dumps(case, option=orjson.OPT_INDENT_2) + b"\n")
        except OSError as error:
            raise UsageError(f"cannot write {file}: {error.strerror}") from error
    if as_table(output):
        _tell(case, file)
    elif file is None:
        print_json(case)
    return FINE


def _tell(case: dict[str, Json], file: Path | None) -> None:
    incident = case["incident"]
    print_table(
        f"What the simulator does for issue {incident['issue']}",
        ("at s", "kind", "to"),
        [
            (each["at"], each["kind"], f"c{each['component']}" if "component" in each else None)
            for each in case["faults"]
        ],
        none=f"nothing breaks; {incident['component']} is down from the beginning",
    )
    print_line(f"the course to compare with: {', '.join(incident['course'])}")
    if file is not None:
        print_line(f"{file}: play it with python -m tests.simulator --case {file}", "good")
