"""The two forms that a command prints in."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Output"]


class Output(StrEnum):
    """For programs, or for people."""

    JSON = "json"
    TABLE = "table"
