"""Statistics and training set, rebuilt on Apache Spark from the Parquet export of the events.

    python spark_rebuild.py DIR                # local mode: pip install 'pyspark>=4,<5', Java 17
    spark-submit --master ... spark_rebuild.py s3a://bucket/DIR

Executors need `network-healer` installed. A component's events go to one partition, in log order;
there the healer's own folds run, and their states are merged, so that the figures are not like the
healer's but the healer's. Prints one object: `stats`, `training` (with a digest of all its rows),
and `outcomes`, which Spark alone counts in the table of decisions.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from pyspark.sql import Row, SparkSession

from healer.ports import Recorded
from healer.store.codec import Codec
from projections.fold import Fold
from projections.stats import STATS
from projections.training import TRAINING

PROJECTIONS = (STATS, TRAINING)


def fold(rows: Iterable[Row]) -> Iterator[list[Any]]:
    """The states of the projections after the events of one partition."""
    decode, states = Codec().decode, Fold(PROJECTIONS)
    states.apply(
        Recorded(row.position, decode(*row[1:4], row.payload.encode(), place=f"event {row[0]}"))
        for row in rows
    )
    yield [states.state(projection.name) for projection in PROJECTIONS]


def merge(left: list[Any], right: list[Any]) -> list[Any]:
    """The states of two partitions as those of both."""
    return [
        projection.merge(ours, theirs)
        for projection, ours, theirs in zip(PROJECTIONS, left, right, strict=True)
        if projection.merge is not None
    ]


def rebuild(spark: SparkSession, directory: str) -> dict[str, Any]:
    """The views of the projections, from the events of an export."""
    events = (
        spark.read.parquet(f"{directory}/events")
        .select("position", "stream", "version", "topic", "payload", "component")
        .repartition("component")
        .sortWithinPartitions("position")
    )
    states = events.rdd.mapPartitions(fold).treeReduce(merge)
    return {each.name: each.view(state) for each, state in zip(PROJECTIONS, states, strict=True)}


def outcomes(spark: SparkSession, directory: str) -> dict[str, int]:
    """Decisions that are final, by what became of them."""
    decisions = spark.read.parquet(f"{directory}/training")
    return {row["outcome"]: row["count"] for row in decisions.groupBy("outcome").count().collect()}


if __name__ == "__main__":
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    session = SparkSession.builder.appName("network-healer").getOrCreate()
    views = rebuild(session, sys.argv[1])
    views["outcomes"] = outcomes(session, sys.argv[1])
    session.stop()
    print(json.dumps(views, sort_keys=True))
