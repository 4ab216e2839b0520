"""The two forms that a command prints in."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["LogForm", "Output"]


class Output(StrEnum):
    """For programs, or for people."""

    JSON = "json"
    TABLE = "table"


class LogForm(StrEnum):
    """How the daemon writes its log."""

    JSON = "json"
    CONSOLE = "console"
