"""`healer replay rebuild`: whether what is shown is what the log says."""

from __future__ import annotations

import asyncio
from collections.abc import Container
from hashlib import sha256
from types import MappingProxyType
from typing import Final

from healer.cli.client import Client, NoHealerError
from healer.cli.form import Output
from healer.cli.outcome import FAILED, FINE
from healer.cli.output import as_table, print_json, print_line, print_table
from healer.cli.progress import progress_of
from healer.cli.read import Source
from healer.cli.source import config_in, open_store, store_of
from healer.ports import EventLog
from projections import ALL
from projections.fold import Fold, Snapshot
from projections.projection import Json, canonical
from replay.parity import fold_alone
from replay.rebuild import differences
from replay.rebuild import rebuild as fold_all

__all__ = ["rebuild"]

_TRIES: Final = 5
"""How often a healer that is busy is asked for views between two facts."""
_PAGE: Final = 1000
_DIGEST: Final = 12


_LIVE: Final = "the healer that runs"
_SECOND: Final = "a second fold"
_COLUMNS: Final = ("projection", "version", "bytes", "sha256", "equal", "stopped")


def rebuild(source: Source, output: Output | None) -> int:
    """All projections from nothing, compared with those of the healer that runs or, without one,
    with a second fold; 1 when they differ or one stopped."""
    fold, other, compared_with = asyncio.run(_rebuild(source))
    rows = _rows(fold, other, names=other.views if compared_with == _LIVE else fold.names)
    equal = not any(row["stopped"] or row["equal"] is False for row in rows)
    if as_table(output):
        title = f"Rebuilt at position {fold.position}, compared with {compared_with}"
        print_table(title, _COLUMNS, [[_short(row[name]) for name in _COLUMNS] for row in rows])
        print_line("equal" if equal else "NOT EQUAL", "good" if equal else "bad")
    else:
        told = {"position": fold.position, "compared_with": compared_with, "equal": equal}
        print_json({**told, "projections": rows})
    return FINE if equal else FAILED


def _rows(fold: Fold, other: Snapshot, *, names: Container[str]) -> list[dict[str, Json]]:
    """What became of each projection; `equal` is None where it is not among the compared."""
    rebuilt = fold.snapshot()
    compared = {name: view for name, view in rebuilt.views.items() if name in names}
    unequal = {each.name for each in differences(Snapshot(rebuilt.position, compared), other)}
    rows = []
    for projection in ALL:
        name = projection.name
        view, stopped = rebuilt.views.get(name), fold.stopped.get(name)
        rows.append(
            {
                "projection": name,
                "version": projection.version,
                "bytes": None if view is None else len(view),
                "sha256": None if view is None else sha256(view).hexdigest(),
                "equal": name not in unequal if name in names else None,
                "stopped": None if stopped is None else str(stopped),
            }
        )
    return rows


def _short(value: Json) -> Json:
    return f"{value[:_DIGEST]}..." if isinstance(value, str) and len(value) == 64 else value


async def _rebuild(source: Source) -> tuple[Fold, Snapshot, str]:
    async with open_store(store_of(source.file, source.store)) as log:
        live = None if source.store is not None else await _live(source, log)
        until = await log.head() if live is None else live.position
        with progress_of("folding the log") as progress:
            fold = await fold_all(log, until=until, progress=progress)
        if live is not None:
            return fold, live, _LIVE
        with progress_of("folding it once more") as progress:
            return fold, await fold_alone(log, until=until, progress=progress), _SECOND


async def _live(source: Source, log: EventLog) -> Snapshot | None:
    """The views of the healer that runs, at a position at which the log stood still; None when no
    healer runs, or its log never stands still."""
    client = Client(config_in(source.file))
    for _ in range(_TRIES):
        before = await log.head()
        try:
            views = await asyncio.to_thread(_ask, client)
        except NoHealerError:
            return None
        if await log.head() == before:
            shown = {name: canonical(view) for name, view in views.items()}
            return Snapshot(before, MappingProxyType(shown))
    return None


def _ask(client: Client) -> dict[str, Json]:
    """The views that the API shows as they are."""
    records: list[Json] = []
    cursor = ""
    while True:
        page = client.get(f"/history?limit={_PAGE}{cursor}")
        records += page["records"]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    return {
        "stats": client.get("/stats"),
        "history": records,
        "active": client.get("/active")["active"],
        "playbook_stats": client.get("/playbook-stats")["playbook_stats"],
    }
