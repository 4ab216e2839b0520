"""`healer replay rebuild`: whether what is shown is what the log says."""

from __future__ import annotations

import asyncio
from types import MappingProxyType
from typing import Final, NamedTuple

from healer.cli.client import Client, NoHealerError
from healer.cli.form import Output
from healer.cli.outcome import FAILED, FINE
from healer.cli.output import as_table, print_json, print_line, print_table
from healer.cli.progress import progress_of
from healer.cli.read import Source
from healer.cli.source import config_in, open_store, store_of
from projections import ALL
from projections.fingerprint import Fingerprint, Fingerprints
from projections.fold import Fold
from projections.projection import Json
from replay.parity import fold_alone
from replay.rebuild import differences
from replay.rebuild import rebuild as fold_all

__all__ = ["rebuild"]

_DIGEST: Final = 12


_LIVE: Final = "the healer that runs"
_SECOND: Final = "a second fold"
_COLUMNS: Final = ("projection", "version", "bytes", "sha256", "equal", "stopped")


class _Other(NamedTuple):
    """What a rebuild is compared with, and which versions of projections it has."""

    what: str
    shown: Fingerprints
    versions: dict[str, int]


def rebuild(source: Source, output: Output | None) -> int:
    """All projections from nothing, compared with those of the healer that runs or, without one,
    with a second fold; 1 when they differ or one stopped."""
    fold, other = asyncio.run(_rebuild(source))
    rows = _rows(fold, other)
    bad = [row["projection"] for row in rows if row["stopped"] or row["equal"] is False]
    if as_table(output):
        title = f"Rebuilt at position {fold.position}, compared with {other.what}"
        print_table(title, _COLUMNS, [[_short(row[name]) for name in _COLUMNS] for row in rows])
        verdict = f"NOT EQUAL: {', '.join(bad)}" if bad else "equal"
        print_line(verdict, "bad" if bad else "good")
    else:
        told = {"position": fold.position, "compared_with": other.what, "equal": not bad}
        print_json({**told, "projections": rows})
    return FAILED if bad else FINE


def _rows(fold: Fold, other: _Other) -> list[dict[str, Json]]:
    """What became of each projection; `equal` is None where the other has none of its version."""
    rebuilt = fold.fingerprints()
    unequal = {each.name for each in differences(rebuilt, other.shown)}
    rows = []
    for projection in ALL:
        name = projection.name
        view, stopped = rebuilt.views.get(name), fold.stopped.get(name)
        compared = other.versions.get(name) == projection.version
        rows.append(
            {
                "projection": name,
                "version": projection.version,
                "bytes": None if view is None else view.size,
                "sha256": None if view is None else view.sha256,
                "equal": name not in unequal if compared else None,
                "stopped": None if stopped is None else str(stopped),
            }
        )
    return rows


def _short(value: Json) -> Json:
    return f"{value[:_DIGEST]}..." if isinstance(value, str) and len(value) == 64 else value


async def _rebuild(source: Source) -> tuple[Fold, _Other]:
    async with open_store(store_of(source.file, source.store)) as log:
        live = None if source.store is not None else await _live(source)
        until = await log.head() if live is None else live.shown.position
        with progress_of("folding the log") as progress:
            fold = await fold_all(log, until=until, progress=progress)
        if live is not None:
            return fold, live
        with progress_of("folding it once more") as progress:
            again = await fold_alone(log, until=until, progress=progress)
        versions = {each.name: each.version for each in ALL}
        return fold, _Other(_SECOND, again.fingerprints(), versions)


async def _live(source: Source) -> _Other | None:
    """What the healer that runs shows; None when none does."""
    client = Client(config_in(source.file))
    try:
        # A long history takes its time.
        answer = await asyncio.to_thread(client.get, "/views", within=None)
    except NoHealerError:
        return None
    views = answer["views"]
    shown = {
        each["view"]: Fingerprint(each["bytes"], each["sha256"])
        for each in views
        if each["sha256"] is not None
    }
    found = Fingerprints(answer["position"], MappingProxyType(shown))
    return _Other(_LIVE, found, {each["view"]: each["version"] for each in views})
