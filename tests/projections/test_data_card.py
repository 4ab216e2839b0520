"""The data card says of every column what the code says."""

from __future__ import annotations

import pytest

from projections.column import card
from projections.training_column import DECISION_COLUMNS, WINDOW_COLUMNS
from tests.conftest import ROOT

CARD = ROOT / "docs" / "training-data-card.md"


@pytest.mark.parametrize("columns", [DECISION_COLUMNS, WINDOW_COLUMNS], ids=["training", "health"])
def test_the_card_has_the_columns_of_the_code(columns):
    table = card(columns)
    assert table in CARD.read_text(), f"{CARD} is older than its columns; it should say:\n{table}"


@pytest.mark.parametrize("columns", [DECISION_COLUMNS, WINDOW_COLUMNS], ids=["training", "health"])
def test_no_two_columns_share_a_name(columns):
    names = [column.name for column in columns]
    assert len(names) == len(set(names))
