"""The documented recipe for DuckDB gives the healer's own figures."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from random import Random

import pytest

from projections.projection import canonical
from projections.stats import STATS
from projections.training import TRAINING
from replay.export import export
from tests.conftest import ROOT
from tests.projections.build import MemoryLog, random_log, view_of

RECIPE = ROOT / "docs" / "recipes" / "duckdb_rebuild.py"

pytest.importorskip("duckdb")


@pytest.mark.parametrize(("issues", "seed"), [(120, 7), (40, 8), (1, 9)])
def test_figures_aggregated_from_parquet_are_those_of_the_fold(tmp_path, issues, seed):
    facts = random_log(Random(seed), issues=issues, components=9)
    tables = ("history", "training", "health")
    asyncio.run(export(MemoryLog(facts), tmp_path / "export", tables=tables, batch=50))
    ran = subprocess.run(
        [sys.executable, str(RECIPE), str(tmp_path / "export")],
        env={"PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "TZ": "UTC"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    views = json.loads(ran.stdout)
    assert canonical(views["stats"]) == canonical(view_of(STATS, facts))
    shown = view_of(TRAINING, facts)
    assert views["training"] == {
        "decisions": {name: shown["decisions"][name] for name in ("rows", "outcomes")},
        "windows": {name: shown["windows"][name] for name in ("rows", "censored")},
    }


def test_the_documentation_shows_where_the_recipe_is():
    assert "(recipes/duckdb_rebuild.py)" in (ROOT / "docs" / "export.md").read_text()
