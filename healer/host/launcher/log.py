"""The file that a component writes its output to."""

from __future__ import annotations

import os
from pathlib import Path

from healer.errors import LaunchError

__all__ = ["component_log", "open_log"]

_FILE_MODE = 0o640
_DIRECTORY_MODE = 0o750


def component_log(logs: Path, component: str) -> Path:
    """Where the output of `component` goes by default."""
    return logs / "components" / f"{component}.log"


def open_log(component: str, path: Path) -> int:
    """Open the log for appending, with its directories; the caller closes the descriptor.

    Append mode is what lets logrotate's copytruncate work under a running component.

    Raises:
        LaunchError: it cannot be opened.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY
    try:
        path.parent.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
        # Without O_NONBLOCK a named pipe that nobody reads would keep us here for ever.
        descriptor = os.open(path, flags | os.O_NONBLOCK, _FILE_MODE)
    except (OSError, ValueError) as error:
        raise LaunchError(
            f"cannot start {component!r}: its log {str(path)!r} cannot be opened: {error}",
            errno=getattr(error, "errno", None),
        ) from error
    os.set_blocking(descriptor, True)
    return descriptor
