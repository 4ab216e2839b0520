"""The process that folds a part of the projections beside another one: `main(KIND, UNTIL,
NAME...)`.

It says `HERE` on its standard output when it has started, and takes from its standard input the
log's source, `END`, and the states to go on with. It writes those at UNTIL; both as `Fold.part`
gives them.

It is ours, started by `projections.beside` and by nobody else.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final, NoReturn

from healer.errors import HealerError
from healer.store.lean import lean_rows
from projections import ALL
from projections.fold import Fold

__all__ = ["END", "HERE", "main"]

HERE: Final = b"."
END: Final = b"\0"
"""What is in no path and in no URL."""


def main(kind: str, until: str, *names: str) -> NoReturn:
    """Fold, and end the process: with 1 and the reason on standard error when the log cannot be
    read."""
    sys.stdout.buffer.write(HERE)
    sys.stdout.buffer.flush()
    given, _, part = sys.stdin.buffer.read().partition(END)
    source = Path(os.fsdecode(given)) if kind == "file" else os.fsdecode(given)
    fold = Fold.of([each for each in ALL if each.name in names], part)
    try:
        for batch in lean_rows(
            source,
            until=int(until),
            without=fold.skipped,
            marks=fold.marks,
            timed=fold.timed,
            after=fold.position,
        ):
            fold.consume(*batch)
    except HealerError as error:
        sys.exit(str(error))
    sys.stdout.buffer.write(fold.part(fold.names))
    sys.stdout.buffer.flush()
    # Somebody waits for the end, and nobody for what was made to be taken apart.
    os._exit(0)
