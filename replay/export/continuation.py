"""Whether an export can go on in a directory, and where."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from healer.ports import EventLog
from healer.store.codec import Codec
from replay.export.bandit import CONTEXT
from replay.export.error import ExportError
from replay.export.manifest import Manifest
from replay.export.table import TABLES, Table

__all__ = ["begin_of", "check", "identify"]


async def identify(log: EventLog, log_id: str | None) -> str:
    """What tells this log from another one; empty for a log that is."""
    if log_id is not None:
        return f"id {log_id}"
    first = await log.read(after=0, limit=1)
    if not first:
        return ""
    encoded = Codec().encode(first[0].event)
    words = f"{first[0].position}/{encoded.stream}/{encoded.version}/{encoded.topic}/"
    return f"first {sha256(words.encode() + encoded.body).hexdigest()}"


def check(
    directory: Path,
    manifest: Manifest,
    *,
    format: str,
    identity: str,
    recurrence_window: float,
    head: int,
) -> None:
    """Whether `directory` can be continued with this log, in this form.

    Raises:
        ExportError: it cannot, and why.
    """
    if manifest.log and manifest.log != identity:
        raise ExportError(directory, f"it holds another log ({manifest.log}), not {identity}")
    for what, theirs, ours in (
        ("format", manifest.format, format),
        ("recurrence window", manifest.recurrence_window, recurrence_window),
        ("context", manifest.context, list(CONTEXT)),
    ):
        if theirs != ours:
            shown = f"{theirs}, not {ours}" if what != "context" else "of another version"
            raise ExportError(directory, f"its {what} is {shown}; choose another directory")
    for name, entry in manifest.tables.items():
        if entry.position > head:
            raise ExportError(
                directory,
                f"its table {name} stands at position {entry.position}, and the log ends at {head}",
            )
        if name in TABLES and entry.schema_version != TABLES[name].version:
            raise ExportError(
                directory,
                f"its table {name} is of schema version {entry.schema_version}, this is "
                f"{TABLES[name].version}; choose another directory",
            )


def begin_of(
    directory: Path, manifest: Manifest, tables: Sequence[Table], since: int | None
) -> dict[str, int]:
    """Behind which position each table goes on.

    Raises:
        ExportError: `since` is not where the directory stands.
    """
    begin = {}
    for table in tables:
        entry = manifest.tables.get(table.name)
        if entry is not None and since not in {None, entry.position}:
            raise ExportError(
                directory,
                f"since position {since}: its table {table.name} stands at {entry.position}; "
                f"allowed: {entry.position}, or another directory",
            )
        begin[table.name] = (since or 0) if entry is None else entry.position
    return begin
