"""The documented recipe for Spark gives the healer's own figures."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from random import Random

import pytest

from projections.projection import canonical
from projections.stats import STATS
from projections.training import TRAINING
from replay.export import export
from tests.conftest import ROOT
from tests.projections.build import MemoryLog, random_log, view_of
from tests.replay.export.test_export import rows_of

RECIPE = ROOT / "docs" / "recipes" / "spark_rebuild.py"

pytestmark = [
    pytest.mark.skipif(shutil.which("java") is None, reason="java is not installed"),
    pytest.mark.skipif(
        importlib.util.find_spec("pyspark") is None, reason="pyspark is not installed: make spark"
    ),
    pytest.mark.timeout(1000),
]


def test_a_rebuild_on_spark_from_parquet_has_the_figures_of_the_local_one(tmp_path):
    facts = random_log(Random(7), issues=120, components=9)
    asyncio.run(
        export(MemoryLog(facts), tmp_path / "export", tables=("events", "training"), batch=500)
    )
    local = {
        "PYSPARK_SUBMIT_ARGS": "--master local[2] --driver-memory 512m "
        "--conf spark.ui.enabled=false --conf spark.sql.shuffle.partitions=3 "
        f"--conf spark.local.dir={tmp_path} pyspark-shell",
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYTHONPATH": str(ROOT),
    }
    environment = {name: value for name, value in os.environ.items() if name != "SPARK_HOME"}
    ran = subprocess.run(
        [sys.executable, str(RECIPE), str(tmp_path / "export")],
        env=environment | local,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    views = json.loads(ran.stdout)
    assert canonical(views["stats"]) == canonical(view_of(STATS, facts))
    assert canonical(views["training"]) == canonical(view_of(TRAINING, facts))
    assert views["outcomes"] == Counter(
        row["outcome"] for row in rows_of(tmp_path / "export", "training")
    )


def test_the_documentation_shows_where_the_recipe_is():
    assert "(recipes/spark_rebuild.py)" in (ROOT / "docs" / "export.md").read_text()
