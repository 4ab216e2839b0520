"""Why an export was not made."""

from __future__ import annotations

from pathlib import Path

from healer.errors import HealerError

__all__ = ["ExportError", "MissingExtraError"]


class ExportError(HealerError):
    """An export that was not made, or not to its end. What stands under final names is whole.

    `directory` is where it should have gone, `errno` the system's number where a file was refused.
    """

    def __init__(self, directory: Path, why: str, *, errno: int | None = None) -> None:
        self.directory = directory
        self.errno = errno
        super().__init__(f"cannot export to {directory}: {why}")


class MissingExtraError(HealerError):
    """A library that is not installed. `extra` is what of this distribution brings it."""

    def __init__(self, library: str, extra: str) -> None:
        self.library = library
        self.extra = extra
        super().__init__(
            f"cannot write Parquet: {library} is not installed; install network-healer[{extra}], "
            "or export as jsonl or csv"
        )
