"""`healer schemas`: the published contract, written or compared."""

from __future__ import annotations

import sys
from pathlib import Path

from healer.cli.contract import drift, write
from healer.cli.form import Output
from healer.cli.outcome import BAD_INPUT, FAILED, FINE
from healer.cli.output import as_table, print_json, print_line

__all__ = ["publish"]


def publish(directory: Path, output: Output | None, *, check: bool) -> int:
    """Write the schemas below `directory`; with `check` only say what differs there, 1 if any."""
    try:
        found = drift(directory) if check else write(directory)
    except OSError as error:
        verb = "read" if check else "write"
        sys.stderr.write(f"healer: cannot {verb} the schemas in {directory}: {error}\n")
        return BAD_INPUT
    if not as_table(output):
        print_json({"directory": str(directory), "drift" if check else "written": found})
    else:
        for line in found:
            print_line(line, "bad" if check else "")
        fine = "nothing differs" if check else f"{len(found)} written"
        print_line(
            f"cannot accept {directory}: run `healer schemas {directory}`"
            if check and found
            else f"{directory}: {fine}",
        )
    return FAILED if check and found else FINE
