"""The record of an issue as a row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from projections.book import COMPONENT_EVENTS, FLEET_EVENTS, follow_issues
from projections.column import Column, Kind, Role
from projections.history import FullRecord
from projections.past import micros
from projections.projection import Cases, Json, Projection

__all__ = ["HISTORY_COLUMNS", "Issues", "history_row", "issues"]

_K, _FACT = Kind, Role.FACT

HISTORY_COLUMNS: Final = (
    Column("position", _K.INT, Role.KEY, "position of the detection in the log"),
    Column("issue_id", _K.STRING, Role.KEY, "the issue"),
    Column("timestamp", _K.TIME, _FACT, "when it was detected"),
    Column("ended", _K.TIME, _FACT, "when it ended", null="it is open"),
    Column("component", _K.STRING, _FACT, "the component"),
    Column("host", _K.STRING, _FACT, "its host"),
    Column("port", _K.INT, _FACT, "its port"),
    Column("issue_type", _K.STRING, _FACT, "the type after diagnosis"),
    Column("detected_as", _K.STRING, _FACT, "the type at detection"),
    Column("severity", _K.STRING, _FACT, "how bad it was"),
    Column("criticality", _K.STRING, _FACT, "how much the component matters"),
    Column("node", _K.STRING, _FACT, "the healer that saw it"),
    Column("state", _K.STRING, _FACT, "detected, diagnosing, remediating, verified or failed"),
    Column("outcome", _K.STRING, _FACT, "healed, recovered, failed or open"),
    Column("success", _K.BOOL, _FACT, "whether the component is well again", null="it is open"),
    Column("reason", _K.STRING, _FACT, "the word that it failed with", null="it did not fail"),
    Column("healed_by", _K.STRING, _FACT, "the playbook that cured it", null="none did"),
    Column("chosen_by", _K.STRING, _FACT, "who or what chose the route", null="it was not routed"),
    Column("approval", _K.STRING, _FACT, "what became of the approval", null="none was asked for"),
    Column("playbooks_executed", _K.STRINGS, _FACT, "playbooks that began, in order"),
    Column("runs", _K.JSON, _FACT, "diagnosis and playbooks: name and success, a list"),
    Column("actions_taken", _K.STRINGS, _FACT, "what was done, one line each"),
    Column(
        "time_to_detect",
        _K.FLOAT,
        _FACT,
        "from the first evidence to the detection",
        "s",
        "a person reported it",
    ),
    Column(
        "time_to_resolution",
        _K.FLOAT,
        _FACT,
        "from the first evidence to the end",
        "s",
        "it is open",
    ),
    Column("evidence", _K.JSON, _FACT, "all that was known when it was classified"),
    Column("findings", _K.STRINGS, _FACT, "codes of the diagnosis"),
    Column("recommendations", _K.STRINGS, _FACT, "what a person was advised"),
    Column("withheld", _K.JSON, _FACT, "refusals with their arithmetic, a list"),
    Column("escalations", _K.JSON, _FACT, "escalations, a list"),
    Column("attempt", _K.INT, _FACT, "heals in a row, this one included; 0: none began", "count"),
    Column("recurrence", _K.INT, _FACT, "issues in a row before this one", "count"),
    Column("previous", _K.STRING, _FACT, "the component's issue before", null="there was none"),
)

_NAMES: Final = tuple(column.name for column in HISTORY_COLUMNS)
_JSON: Final = tuple(column.name for column in HISTORY_COLUMNS if column.kind is Kind.JSON)


@dataclass(slots=True)
class Issues:
    """Records of open issues."""

    open: dict[str, FullRecord] = field(default_factory=dict)


def issues(ended: Callable[[FullRecord], None]) -> Projection[Issues]:
    """A projection that keeps open issues alone, and gives each record away when it has ended."""
    cases: Cases[Issues] = Cases()
    follow_issues(cases, FullRecord, lambda _state, _position, record: ended(record))
    cases.ignore(*COMPONENT_EVENTS, *FLEET_EVENTS)
    return Projection("issues", 1, Issues, cases, _view)


def _view(state: Issues) -> Json:
    return [record.view() for record in state.open.values()]


def history_row(record: FullRecord) -> tuple[Any, ...]:
    """The row of an issue."""
    shown = record.view()
    shown["timestamp"] = micros(record.timestamp)
    runs = record.runs if record.diagnosis is None else (record.diagnosis, *record.runs)
    shown["runs"] = [{"playbook": run.playbook, "success": run.success} for run in runs]
    shown["ended"] = None if record.ended is None else micros(record.ended)
    for name in _JSON:
        shown[name] = orjson.dumps(shown[name], option=orjson.OPT_SORT_KEYS).decode()
    return tuple(shown[name] for name in _NAMES)
