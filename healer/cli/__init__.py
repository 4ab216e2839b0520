"""The command line `healer`. Every error is one line, and an exit status from one table."""

from __future__ import annotations

import os
import sys

from healer.cli.command import app
from healer.errors import HealerError

__all__ = ["main"]


def main() -> None:
    """Run the command of `sys.argv`; never returns.

    The exit status: 0 fine, 1 unhealthy or failed, 2 usage or bad input.
    """
    try:
        app(prog_name="healer")
    except HealerError as error:
        from healer.cli.outcome import exit_status  # noqa: PLC0415 - paid for by failures only

        sys.stderr.write(f"healer: {error}\n")
        sys.exit(exit_status(error))
    except BrokenPipeError:
        # Whoever read us has gone; what Python would still flush at its exit has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
