"""The process that folds a part of the projections beside another one: `python -m projections.part
KIND UNTIL NAME...` writes their states, as `Fold.part` gives them, to its standard output.

It is ours, started by `projections.beside` and by nobody else.
"""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

from healer.errors import HealerError
from healer.store.lean import lean_rows
from projections import ALL
from projections.fold import Fold

__all__ = ["main"]


def main(kind: str, until: str, *names: str) -> int:
    """Fold; 1 and the reason on standard error when the log cannot be read."""
    # Nothing that a fold makes is a circle, and the process ends with it.
    gc.disable()
    given = os.fsdecode(sys.stdin.buffer.read())
    source = Path(given) if kind == "file" else given
    fold = Fold([each for each in ALL if each.name in names])
    try:
        for batch in lean_rows(
            source, until=int(until), without=fold.skipped, marks=fold.marks, timed=fold.timed
        ):
            fold.consume(*batch)
    except HealerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.buffer.write(fold.part())
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
