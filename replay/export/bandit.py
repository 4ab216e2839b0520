"""Logged bandit feedback: decisions in the form that off-policy evaluation tools read.

The fields are those of the Open Bandit Pipeline (Saito, Aihara, Matsutani, Narita, "Open Bandit
Dataset and Pipeline", NeurIPS 2021): n_rounds, n_actions, context, action, reward, pscore,
position. A round is a decision whose action was carried out to its end, so that its reward was
seen; withheld and superseded ones have none and are left out, and so is one whose propensity is
zero or not known, which no estimator could weigh.

Rows, not arrays in an .npz: rows can be appended, read in part and made in bounded memory, and the
program needs no numpy for them. `bandit_feedback` makes the arrays, where numpy is.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from healer.domain.routing import PLAYBOOKS
from healer.domain.spec import Criticality, IssueType, Mode, Severity
from projections.column import Column, Kind, Role
from projections.decision_row import NO_PLAYBOOK
from projections.training_column import DECISION_COLUMNS
from replay.export.error import ExportError
from replay.export.manifest import Manifest

__all__ = ["BANDIT_COLUMNS", "CONTEXT", "FIRST_ACTIONS", "Rounds", "bandit_feedback"]

_K = Kind

BANDIT_COLUMNS: Final = (
    Column("log_position", _K.INT, Role.KEY, "position of the decision in the log"),
    Column("decision_id", _K.STRING, Role.KEY, "the decision, as in `training`"),
    Column("time", _K.TIME, Role.KEY, "when it was made"),
    Column("component", _K.STRING, Role.KEY, "the component"),
    Column(
        "context",
        _K.FLOATS,
        Role.FEATURE,
        "the features as numbers; their names are `context` in the manifest",
    ),
    Column("action", _K.INT, Role.ACTION, "index of the action in `actions` in the manifest"),
    Column("action_name", _K.STRING, Role.ACTION, "the action's name"),
    Column("candidates", _K.STRINGS, Role.ACTION, "the actions that could be chosen"),
    Column("position", _K.INT, Role.ACTION, "the slot of a list of actions: always 0"),
    Column("pscore", _K.FLOAT, Role.ACTION, "probability of the action, above 0", "probability"),
    Column("reward", _K.FLOAT, Role.LABEL, "1: the action cured it, 0: it did not"),
)

FIRST_ACTIONS: Final = (*sorted(PLAYBOOKS), NO_PLAYBOOK)
"""The actions by index; those of other logs get the next ones as they appear."""

_NUMBERS: Final = tuple(
    (column.name, bool(column.null))
    for column in DECISION_COLUMNS
    if column.role is Role.FEATURE and column.kind in {Kind.INT, Kind.FLOAT, Kind.BOOL}
)
_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "issue_type": tuple(IssueType),
    "severity": tuple(Severity),
    "criticality": tuple(Criticality),
    "mode": tuple(Mode),
    "previous_outcome": ("healed", "recovered", "failed"),
    "dependency_state": ("healthy", "unhealthy", "unknown"),
}


def _names() -> Iterator[str]:
    for name, nullable in _NUMBERS:
        yield name
        if nullable:
            yield f"{name} is null"
    for name, values in _CHOICES.items():
        for value in values:
            yield f"{name} = {value}"


CONTEXT: Final = tuple(_names())
"""What each number of the context is. A number that is null is 0 and has an indicator beside it; a
word has an indicator for each value that it can have."""


def _context(row: Mapping[str, Any]) -> Iterator[float]:
    for name, nullable in _NUMBERS:
        value = row[name]
        yield 0.0 if value is None else float(value)
        if nullable:
            yield float(value is None)
    for name, values in _CHOICES.items():
        given = row[name]
        for value in values:
            yield float(value == given)


class Rounds:
    """Makes rounds of decisions. `actions` grows by names that were not known; `left_out` counts
    the decisions that are no rounds."""

    def __init__(self, actions: Sequence[str] = FIRST_ACTIONS) -> None:
        self.actions = list(actions)
        self.left_out = 0
        self._index = {name: index for index, name in enumerate(self.actions)}

    def row(self, decision: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """The round of a decision that is final; None where it is none."""
        cured, pscore = decision["cured_by_action"], decision["propensity"]
        if cured is None or not pscore:
            self.left_out += 1
            return None
        action = decision["action"]
        index = self._index.get(action)
        if index is None:
            index = self._index[action] = len(self.actions)
            self.actions.append(action)
        return (
            decision["position"],
            decision["decision_id"],
            decision["time"],
            decision["component"],
            list(_context(decision)),
            index,
            action,
            decision["candidates"] or [NO_PLAYBOOK],
            0,
            pscore,
            float(cured),
        )


def bandit_feedback(directory: Path) -> dict[str, Any]:
    """What the Open Bandit Pipeline calls `bandit_feedback`, of the Parquet export in `directory`.

    A dictionary of numpy arrays by the pipeline's names, and `actions` and `context_names`. All
    rounds are in memory then; they are 0.4 KB each.

    Raises:
        ExportError: there is no export of the table `bandit` in Parquet.
        ImportError: numpy or pyarrow is not installed.
    """
    manifest = Manifest.load(directory)
    table = None if manifest is None else manifest.tables.get("bandit")
    if manifest is None or table is None or manifest.format != "parquet":
        raise ExportError(directory, "it holds no table bandit in Parquet to read")
    numpy = importlib.import_module("numpy")
    parquet = importlib.import_module("pyarrow.parquet")
    columns = ["log_position", "context", "action", "position", "pscore", "reward"]
    rounds: list[dict[str, Any]] = []
    for name in table.files:
        rounds += parquet.ParquetFile(directory / name).read(columns=columns).to_pylist()
    rounds.sort(key=lambda entry: int(entry["log_position"]))
    return {
        "n_rounds": len(rounds),
        "n_actions": len(manifest.actions),
        "context": numpy.array([each["context"] for each in rounds], dtype=float).reshape(
            len(rounds), len(CONTEXT)
        ),
        "action_context": numpy.eye(len(manifest.actions)),
        "action": numpy.array([each["action"] for each in rounds], dtype=int),
        "position": numpy.array([each["position"] for each in rounds], dtype=int),
        "reward": numpy.array([each["reward"] for each in rounds], dtype=float),
        "pscore": numpy.array([each["pscore"] for each in rounds], dtype=float),
        "expected_reward": None,
        "actions": tuple(manifest.actions),
        "context_names": CONTEXT,
    }
