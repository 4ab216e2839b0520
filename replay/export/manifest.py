"""What a directory of exports holds: written last, so that what it names is there and whole."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Self

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from replay.export.error import ExportError

__all__ = ["MANIFEST", "FileEntry", "Manifest", "TableEntry"]

MANIFEST: Final = "manifest.json"
_VERSION: Final = 1


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")


class FileEntry(_Entry):
    """One file: its rows, the least and greatest of their positions, its size in bytes."""

    rows: int
    first: int
    last: int
    bytes: int


class TableEntry(_Entry):
    """One table. `position`: the rows that became final up to there are in `files`, by path;
    `open` are the files of the rows that were not final then. `since` is where it begins."""

    schema_version: int
    since: int
    position: int
    rows: int = 0
    files: dict[str, FileEntry] = {}
    open: dict[str, FileEntry] = {}


class Manifest(_Entry):
    """`log` identifies the log that all is of; `actions` and `context` belong to `bandit`."""

    version: int = _VERSION
    format: str
    log: str
    recurrence_window: float
    actions: list[str] = []
    context: list[str] = []
    tables: dict[str, TableEntry] = {}

    @classmethod
    def load(cls, directory: Path) -> Self | None:
        """The manifest of `directory`; None where there is none.

        Raises:
            ExportError: it cannot be read.
        """
        path = directory / MANIFEST
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ExportError(directory, f"{path}: {error.strerror}", errno=error.errno) from error
        return cls.parse(directory, data)

    @classmethod
    def parse(cls, directory: Path, data: bytes) -> Self:
        """The manifest in `data`.

        Raises:
            ExportError: it is not one, or of another version.
        """
        try:
            manifest = cls.model_validate_json(data)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, problem["loc"])) or "it"
            raise ExportError(
                directory, f"its {MANIFEST} is damaged: {where}: {problem['msg']}"
            ) from error
        if manifest.version != _VERSION:
            raise ExportError(
                directory,
                f"its {MANIFEST} is of version {manifest.version}; allowed: {_VERSION}",
            )
        return manifest

    def dump(self) -> bytes:
        return orjson.dumps(
            self.model_dump(mode="json"), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        )
