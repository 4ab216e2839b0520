"""`healer replay at`, `issue` and `diff`: what was then, what became of it, and what changed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from healer.cli.form import Output
from healer.cli.outcome import FAILED, FINE
from healer.cli.output import (
    as_table,
    print_json,
    print_line,
    print_table,
    short_ids,
    to_the_second,
)
from healer.cli.progress import progress_of
from healer.cli.read import Source
from healer.cli.source import open_store, store_of
from healer.errors import UnknownNameError
from healer.ports import EventLog, Recorded
from projections import ALL
from projections.projection import Json
from projections.record import instant
from replay.difference import Change, Comparison
from replay.difference import diff as compared
from replay.issue import Told, find, follow, record_of, tell
from replay.moment import Moment
from replay.moment import at as moment_at
from replay.point import Point, read_point, shown

__all__ = ["at", "diff", "issue"]

_MEDIANS: Final = frozenset({"time_to_detect.overall.p50", "time_to_resolution.overall.p50"})
_LABELS: Final = frozenset({"last_change", "last_probe", "failures", "epoch", "last_issue"})
"""Fields of a component that move along with others and would tell a person nothing more."""


def _point(text: str) -> Point:
    return read_point(text, datetime.now(UTC))


def at(source: Source, when: str, views: Sequence[str], output: Output | None) -> int:
    """The world at `when`; 1 when a projection could not show it."""
    known = [projection.name for projection in ALL]
    for name in views:
        if name not in known:
            raise UnknownNameError("projection", name, known)
    point = _point(when)
    chosen = [projection for projection in ALL if not views or projection.name in views]

    async def read() -> Moment:
        async with open_store(store_of(source.file, source.store)) as log:
            with progress_of("reading the log") as progress:
                return await moment_at(log, point, chosen, progress=progress)

    moment = asyncio.run(read())
    stopped = {name: str(error) for name, error in moment.fold.stopped.items()}
    found = {each.name: moment.fold.view(each.name) for each in chosen if each.name not in stopped}
    if as_table(output):
        _print_moment(moment, found)
    else:
        print_json({**_head(moment), "stopped": stopped, "views": found})
    for problem in stopped.values():
        sys.stderr.write(f"healer: {problem}\n")
    return FAILED if stopped else FINE


def _head(moment: Moment) -> dict[str, Json]:
    return {
        "point": shown(moment.point),
        "position": moment.position,
        "label": instant(moment.label),
        "passed_over": moment.passed_over,
    }


def _print_moment(moment: Moment, views: Mapping[str, Json]) -> None:
    print_line(f"at {_place(moment)}")
    if "components" in views:
        print_table(
            "Components",
            ("component", "health", "address", "process", "open issue", "maintenance"),
            [
                (
                    each["name"],
                    each["health"],
                    f"{each['host']}:{each['port']}",
                    each["process"] and f"{each['process']['name']}[{each['process']['pid']}]",
                    issue,
                    each["maintenance"] and each["maintenance"]["reason"],
                )
                for issue, each in zip(
                    short_ids([each["open_issue"] for each in views["components"]]),
                    views["components"],
                    strict=True,
                )
            ],
            spare=("process",),
        )
    if "active" in views:
        print_table(
            "Open issues",
            ("issue", "component", "issue type", "state", "playbook", "step", "since"),
            [
                (
                    issue,
                    each["component"],
                    each["issue_type"],
                    each["state"],
                    each["playbook"],
                    each["step"],
                    to_the_second(each["since"]),
                )
                for issue, each in zip(
                    short_ids([each["issue_id"] for each in views["active"]]),
                    views["active"],
                    strict=True,
                )
            ],
            spare=("step", "playbook"),
        )
    if "stats" in views:
        figures = views["stats"].items()
        print_table(
            "Statistics",
            ("figure", "value"),
            [(name, value) for name, value in figures if isinstance(value, int | float)],
        )


def _place(moment: Moment) -> str:
    label = f", {instant(moment.label)}" if moment.label else ""
    told = f"{shown(moment.point)}: position {moment.position}{label}"
    if moment.passed_over:
        told += (
            f"; a clock had jumped: {moment.passed_over} facts in front of it bear a later time "
            "and are left out; name a position to have them in"
        )
    return told


def issue(source: Source, name: str, output: Output | None, *, live: bool) -> int:
    """The story of the issue `name`; `live` tells it as it happens, to the issue's end."""

    async def read() -> None:
        async with open_store(store_of(source.file, source.store)) as log:
            with progress_of("looking for the issue") as progress:
                detection = await find(log, name, progress=progress)
            if live:
                await _follow(log, detection, output)
            else:
                await _tell(log, detection, output)

    try:
        asyncio.run(read())
    except KeyboardInterrupt:
        if not live:
            raise
    return FINE


async def _tell(log: EventLog, detection: Recorded, output: Output | None) -> None:
    story = await tell(log, detection)
    if as_table(output):
        _print_title(detection)
        for told in story:
            _print_told(told)
        return
    facts = await log.stream(detection.event.originator_id)
    print_json({**record_of(story, facts), "events": [told.view() for told in story]})


async def _follow(log: EventLog, detection: Recorded, output: Output | None) -> None:
    if as_table(output):
        _print_title(detection)
    async with aclosing(follow(log, detection)) as story:
        async for told in story:
            if as_table(output):
                _print_told(told)
            else:
                print(orjson.dumps(told.view()).decode(), flush=True)  # noqa: T201 - one per line


def _print_title(detection: Recorded) -> None:
    event: Any = detection.event
    print_line(f"issue {event.originator_id} of {event.component}, {instant(event.timestamp)}")


def _print_told(told: Told) -> None:
    print_line(str(told.entry), told.entry.level.value, hang=25)


def diff(source: Source, first: str, second: str, output: Output | None) -> int:
    """What changed from `first` to `second`."""
    a, b = _point(first), _point(second)

    async def read() -> Comparison:
        async with open_store(store_of(source.file, source.store)) as log:
            with progress_of("reading the log") as progress:
                return await compared(log, a, b, progress=progress)

    comparison = asyncio.run(read())
    if as_table(output):
        _print_comparison(comparison)
    else:
        print_json(comparison.view())
    return FINE


def _print_comparison(comparison: Comparison) -> None:
    print_line(f"from {_place(comparison.before)}")
    print_line(f"to {_place(comparison.after)}")
    components = [
        change for change in comparison.components if change.of.rpartition(".")[2] not in _LABELS
    ]
    if components:
        print_table("Components", ("what", "before", "after"), map(_row, components))
    if comparison.issues:
        print_table(
            "Issues",
            ("issue", "component", "issue type", "before", "after"),
            [
                (issue, each.component, each.issue_type, each.before, each.after)
                for issue, each in zip(
                    short_ids([each.issue_id for each in comparison.issues]),
                    comparison.issues,
                    strict=True,
                )
            ],
        )
    if comparison.stats:
        # The others follow from these and from the issues; a program gets them all.
        main = [each for each in comparison.stats if "." not in each.of or each.of in _MEDIANS]
        print_table("Statistics", ("figure", "before", "after"), map(_row, main))
        if len(main) < len(comparison.stats):
            print_line(f"and {len(comparison.stats) - len(main)} finer figures: -o json")
    if not (components or comparison.issues or comparison.stats):
        print_line("nothing changed")


def _row(change: Change) -> tuple[object, object, object]:
    return change.of, _cell(change.before), _cell(change.after)


def _cell(value: Json) -> object:
    if isinstance(value, dict) and "pid" in value:
        return f"{value['name']}[{value['pid']}]"
    return orjson.dumps(value).decode() if isinstance(value, dict | list) else value
