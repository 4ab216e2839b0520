"""Every road by which a stored event is read, and what is seen on it. Run as a program it prints
that as JSON, read by whichever version of the healer is found first.

    python -m tests.store.roads URL SCRATCH
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from healer.domain import events
from healer.domain.events import EVENT_TYPES
from healer.errors import HealerError, StoreError
from healer.store import SqliteLog, open_log
from projections import ALL
from projections.feed import light
from projections.fold import Fold
from replay.archive import Archive, FileArchive, open_database
from replay.export import export
from replay.rebuild import rebuild
from replay.verify import verify

__all__ = ["seen"]


async def seen(url: str, scratch: Path) -> dict[str, Any]:
    """Road → what is seen on it: figures and names, or why it ends."""
    log = open_log(url, new_log_id=str, read_only=True)
    try:
        return {
            "topics": list(EVENT_TYPES),
            "read": await _read(log),
            "recall": await _recall(log),
            "rebuild": _shown(await rebuild(log, ALL)),
            "live": await _live(log),
            "verify": _verified(url),
            "export": await _export(log, scratch / "events", ("events",)),
            "export since": await _export(log, scratch / "since", ("events",), await _end(log)),
            "export folded": await _export(log, scratch / "history", ("history", "training")),
        }
    finally:
        await log.close()


async def opened(url: str) -> dict[str, str]:
    """The open issues, found by who opens the log to append to it."""
    log: Any
    if url.startswith("sqlite:///"):
        log = SqliteLog.open(Path(url.removeprefix("sqlite:///")), new_log_id=str, cadence=None)
    else:
        log = open_log(url, new_log_id=str)
    try:
        assert log.broken is None
        found: dict[str, str] = await log.open_issues()
    finally:
        await log.close()
    return found


async def _read(log: Any) -> Any:
    facts = []
    try:
        while batch := await log.read(after=len(facts), limit=7):
            facts += batch
    except StoreError as error:
        return str(error)
    streams = {each.event.originator_id for each in facts}
    whole = [fact for stream in sorted(streams) for fact in await log.stream(stream)]
    return [_plain(each.event) for each in facts], [_plain(fact) for fact in whole]


async def _recall(log: Any) -> Any:
    refused: list[StoreError] = []
    found = [
        _plain(event)
        async for batch in log.recall(list(EVENT_TYPES), refused=refused.append)
        for event in batch
    ]
    return found, list(map(str, refused))


async def _live(log: Any) -> Any:
    fold, read = Fold(ALL), light(log)
    while facts := await read(fold.position, 7):
        fold.apply(facts)
    return _shown(fold)


def _shown(fold: Fold) -> Any:
    views = {name: view.decode() for name, view in fold.snapshot().views.items()}
    return views, {name: str(error) for name, error in fold.stopped.items()}


def _archive(url: str) -> Callable[[], AbstractContextManager[Archive]]:
    if url.startswith("sqlite:///"):
        return lambda: FileArchive(Path(url.removeprefix("sqlite:///")))
    return lambda: open_database(url)


def _verified(url: str) -> Any:
    """By one process and by two; they have to agree."""
    with _archive(url)() as archive:
        alone = verify(archive)
    with _archive(url)() as archive:
        assert verify(archive, beside=1) == alone
    return alone.ok, alone.events, [problem.message for problem in alone.problems]


async def _end(log: Any) -> int:
    """Where only the end is to come of the first issue that was cured."""
    rows = await log.rows()
    return int(next(row[0] for row in rows if row[3].startswith("issue.verified."))) - 1


async def _export(
    log: Any, directory: Path, tables: tuple[str, ...], since: int | None = None
) -> Any:
    try:
        await export(log, directory, tables=tables, format="jsonl", log_id="golden", since=since)
    except HealerError as error:
        return str(error)
    return _lines(directory)


def _lines(directory: Path) -> list[Any]:
    lines = [
        json.loads(line)
        for path in sorted(directory.rglob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    # What was written as it is stored says it in the words of its version.
    return [{key: line[key] for key in line.keys() - {"topic", "payload"}} for line in lines]


def _plain(event: Any) -> Any:
    """What is said of an event in every version."""
    kind = getattr(event, "REAL", None) or type(event)
    assert issubclass(kind, events.Event)
    return kind.__name__, event.event_id, event.timestamp.isoformat(), event.actor


if __name__ == "__main__":
    found = asyncio.run(seen(sys.argv[1], Path(sys.argv[2])))
    print(json.dumps(found | {"opened": asyncio.run(opened(sys.argv[1]))}))
