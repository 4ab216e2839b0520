"""Commands that show what the log remembers. They only read, whether or not a healer runs."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import orjson

from healer.api import view
from healer.cli.form import Output
from healer.cli.outcome import FINE
from healer.cli.output import (
    as_table,
    print_json,
    print_line,
    print_table,
    short_ids,
    to_the_second,
)
from healer.cli.progress import progress_of
from healer.cli.source import config_in, open_store, read_views, store_of
from healer.domain.spec import ComponentSpec
from healer.errors import ConfigError
from healer.ports import Recorded
from projections.history import HISTORY, HistoryQuery
from projections.playbook_stats import PLAYBOOK_STATS
from projections.projection import Json, Projection
from projections.recommendations import RECOMMENDATIONS
from projections.stats import STATS
from replay.issue import find

__all__ = ["Source", "events", "history", "issue", "playbooks", "recommend", "stats"]

_BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class Source:
    """Where a command reads: a configuration's log, or the one named by `store`."""

    file: Path | None
    store: str | None


async def _views(source: Source, projection: Projection[Any]) -> view.Views:
    async with open_store(store_of(source.file, source.store)) as log:
        return await read_views(log, [projection])


def stats(source: Source, output: Output | None) -> int:
    """The statistics."""
    found = asyncio.run(_views(source, STATS)).view("stats")
    if not as_table(output):
        print_json(found)
        return FINE
    figures = [(name, value) for name, value in found.items() if isinstance(value, int | float)]
    print_table("Statistics", ("figure", "value"), figures)
    _print_types(found)
    _print_playbooks(found["playbook_stats"])
    return FINE


def _print_types(found: dict[str, Json]) -> None:
    detected, resolved = (
        found[name]["by_issue_type"] for name in ("time_to_detect", "time_to_resolution")
    )
    print_table(
        "Issue types (medians, in seconds since the first evidence)",
        ("issue type", "healings", "success rate %", "detected after", "healthy after", "95 %"),
        [
            (
                name,
                each["n"],
                each["success_rate"],
                detected.get(name, {}).get("p50"),
                resolved.get(name, {}).get("p50"),
                resolved.get(name, {}).get("p95"),
            )
            for name, each in sorted(found["success_by_issue_type"].items())
        ],
        none="nothing has been healed yet",
    )


def playbooks(source: Source, output: Output | None) -> int:
    """What each playbook achieved."""
    found = view.playbook_stats(asyncio.run(_views(source, PLAYBOOK_STATS)))
    if as_table(output):
        _print_playbooks(found["playbook_stats"])
    else:
        print_json(found)
    return FINE


def _print_playbooks(found: dict[str, Json]) -> None:
    columns = ("playbook", "executions", "successes", "failures", "success rate %")
    print_table(
        "Playbooks",
        columns,
        [
            (name, each["executions"], each["successes"], each["failures"], each["success_rate"])
            for name, each in found.items()
        ],
        none="none has run yet",
    )


def history(source: Source, query: HistoryQuery, output: Output | None) -> int:
    """Issues, newest first."""
    known: tuple[str, ...] = ()
    if query.component is not None and source.store is None:
        known = tuple(config_in(source.file).components)
    found = view.history(asyncio.run(_views(source, HISTORY)), query, known=known).view()
    if not as_table(output):
        print_json(found)
        return FINE
    records = found["records"]
    narrowed = query != HistoryQuery(limit=query.limit)
    print_table(
        "Issues",
        (
            "detected (UTC)", "issue", "component", "issue type", "outcome", "playbooks",
            "ended after s",
        ),
        [
            (
                to_the_second(record["timestamp"]),
                name,
                record["component"],
                record["issue_type"],
                record["outcome"] or record["state"],
                " → ".join(record["playbooks_executed"]) or None,
                record["time_to_resolution"],
            )
            for name, record in zip(
                short_ids([each["issue_id"] for each in records]), records, strict=True
            )
        ],
        spare=("ended after s", "playbooks"),
        none="none matches" if narrowed else "none yet: nothing has failed",
    )  # fmt: skip
    if found["next"] is not None:
        print_line(f"older ones: --cursor {found['next']}")
    return FINE


def issue(source: Source, issue_id: str, output: Output | None) -> int:
    """One issue and its story; the beginning of its id is enough."""

    async def read() -> dict[str, Json]:
        async with open_store(store_of(source.file, source.store)) as log:
            with progress_of("looking for the issue") as progress:
                detection = await find(log, issue_id, progress=progress)
            name = detection.event.originator_id
            views = await read_views(log, [HISTORY])
            return view.issue(views, name, await log.stream(name))

    found = asyncio.run(read())
    if not as_table(output):
        print_json(found)
        return FINE
    print_line(f"{found['component']} {found['issue_type']} {found['timestamp']}")
    for entry in found["events"]:
        offset = "" if entry["offset_ms"] is None else f"+{entry['offset_ms']:,.0f} ms"
        print_line(f"{offset:>12}  {entry['state']:<11}  {entry['text']}", entry["level"], hang=27)
    for advice in found["recommendations"]:
        print_line(f"advice: {advice}")
    return FINE


def recommend(source: Source, name: str, output: Output | None) -> int:
    """What a component's record advises."""
    spec: ComponentSpec | None = None
    known: tuple[str, ...] = ()
    try:
        components = config_in(source.file).components
        spec, known = components.get(name), tuple(components)
    except ConfigError:
        if source.store is None:
            raise
    views = asyncio.run(_views(source, RECOMMENDATIONS))
    found = view.recommendations(views, name, spec, known=known)
    if not as_table(output):
        print_json(found)
        return FINE
    for advice in found["recommendations"]:
        print_line(f"- {advice}")
    if not found["recommendations"]:
        print_line(f"nothing to recommend for {name}")
    return FINE


def events(
    source: Source, *, after: int | None, limit: int, follow: bool, output: Output | None
) -> int:
    """The log: its last `limit` facts, or those behind `after`; with `follow`, new ones as well."""
    shown_as_table = as_table(output)

    def show(recorded: Recorded) -> None:
        found = view.event(recorded)
        if not shown_as_table:
            print(orjson.dumps(found).decode(), flush=True)  # noqa: T201 - it is what was asked for
            return
        when: datetime = recorded.event.timestamp
        about = found.get("component") or found["correlation_id"][:8]
        line = f"{recorded.position:>7}  {when:%Y-%m-%d %H:%M:%S.%f}  {about:<16}  {found['text']}"
        print_line(line, found["level"], hang=9)

    async def read() -> None:
        async with open_store(store_of(source.file, source.store)) as log:
            position = max(0, await log.head() - limit) if after is None else after
            if follow:
                follower: Any = log.follow(after=position)
                async with aclosing(follower) as facts:
                    async for recorded in facts:
                        show(recorded)
            while batch := await log.read(after=position, limit=_BATCH):
                for recorded in batch:
                    show(recorded)
                position = batch[-1].position

    try:
        asyncio.run(read())
    except KeyboardInterrupt:
        if not follow:
            raise
    return FINE
