"""Statistics, and what became of decisions, aggregated by DuckDB from a Parquet export.

    python duckdb_rebuild.py DIR               # pip install duckdb network-healer

Reads the tables `history`, `training` and `health`, final rows and open ones. DuckDB counts, in SQL
that runs on whatever reads the files; rates, intervals and percentiles are then made by the
healer's own code, so that `stats` is what the healer shows, to the last digit. Prints one object.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb

from projections.statistic import Sample, Tally
from projections.stats import STATS, Grouped, Stats

# Microseconds, and the same to three significant digits: as `projections.statistic.rounded`.
DURATIONS = """
    SELECT issue_type, component, healed_by, us,
           CASE WHEN us < 1000 THEN us ELSE (us + step // 2) // step * step END AS place
    FROM (SELECT *, CAST(10 ** (length(CAST(us AS VARCHAR)) - 3) AS BIGINT) AS step
          FROM (SELECT *, CAST(round({column} * 1e6) AS BIGINT) AS us
                FROM history WHERE {column} IS NOT NULL AND {condition}))
"""
SAMPLES = """
    SELECT CASE GROUPING(issue_type, component, healed_by)
             WHEN 7 THEN 'overall' WHEN 3 THEN 'by_issue_type'
             WHEN 5 THEN 'by_component' ELSE 'by_playbook' END,
           coalesce(issue_type, component, healed_by),
           histogram(place), CAST(sum(us) AS BIGINT), min(us), max(us)
    FROM ({durations})
    GROUP BY GROUPING SETS ((), (issue_type), (component), (healed_by))
    HAVING count(*) > 0
"""
HEALINGS = """
    SELECT {key}, count(*) FILTER (outcome = 'healed'), count(*) FILTER (outcome = 'failed')
    FROM history WHERE attempt > 0 AND outcome IN ('healed', 'failed') GROUP BY 1
"""
RUNS = """
    SELECT playbook, count(*) FILTER (success = 'true'), count(*) FILTER (success = 'false'),
           count(*) FILTER (success IS NULL)
    FROM (SELECT unnest(json_extract_string(runs, '$[*].playbook')) AS playbook,
                 unnest(json_extract_string(runs, '$[*].success')) AS success FROM history)
    GROUP BY 1
"""
REASONS = """
    SELECT reason, count(*)
    FROM (SELECT unnest(json_extract_string({column}, '$[*].reason')) AS reason FROM history)
    GROUP BY 1
"""
OPEN = """
    SELECT count(*) FILTER (outcome = 'open'), count(*) FILTER (outcome = 'open' AND attempt > 0),
           count(*) FILTER (outcome = 'recovered') FROM history
"""


def opened(directory: Path) -> duckdb.DuckDBPyConnection:
    """A view of each table over the files that the manifest names."""
    tables = json.loads((directory / "manifest.json").read_bytes())["tables"]
    connection = duckdb.connect()
    for name in ("history", "training", "health"):
        files = [str(directory / file) for kind in ("files", "open") for file in tables[name][kind]]
        connection.read_parquet(files, hive_partitioning=False).create_view(name)
    return connection


def samples(connection: duckdb.DuckDBPyConnection, column: str, condition: str) -> Grouped:
    """The durations of `column` in the issues for which `condition` holds."""
    made = Grouped()
    query = SAMPLES.format(durations=DURATIONS.format(column=column, condition=condition))
    for group, key, *figures in connection.sql(query).fetchall():
        if group == "overall":
            made.overall.merge(Sample(*figures))
        elif key is not None:
            getattr(made, group)[key].merge(Sample(*figures))
    return made


def tallies(rows: Iterable[tuple[Any, ...]]) -> defaultdict[str, Tally]:
    """Key, successes, failures."""
    return defaultdict(Tally, {key: Tally(good, bad) for key, good, bad, *_ in rows})


def statistics(connection: duckdb.DuckDBPyConnection) -> Any:
    """What the healer shows as its statistics."""

    def asked(query: str, **names: str) -> list[tuple[Any, ...]]:
        return connection.sql(query.format(**names)).fetchall()

    runs = asked(RUNS)
    [(open_issues, active, recovered)] = asked(OPEN)
    view = STATS.view(
        Stats(
            issues=Counter(dict(asked("SELECT issue_type, count(*) FROM history GROUP BY 1"))),
            withheld=Counter(dict(asked(REASONS, column="withheld"))),
            escalated=Counter(dict(asked(REASONS, column="escalations"))),
            recovered=recovered,
            healings=tallies(asked(HEALINGS, key="'all'"))["all"],
            by_issue_type=tallies(asked(HEALINGS, key="issue_type")),
            by_component=tallies(asked(HEALINGS, key="component")),
            playbooks=tallies(runs),
            detect=samples(connection, "time_to_detect", "outcome <> 'open'"),
            resolve=samples(connection, "time_to_resolution", "outcome = 'healed' AND attempt > 0"),
        )
    )
    for name, _, _, running in runs:
        view["playbook_stats"][name]["executions"] += running
    return view | {"open_issues": open_issues, "active_healings": active}


def training(connection: duckdb.DuckDBPyConnection) -> Any:
    """How many rows of each kind the training set has."""
    outcomes = connection.sql(
        "SELECT coalesce(outcome, 'open'), count(*) FROM training GROUP BY 1"
    ).fetchall()
    [(rows, censored)] = connection.sql(
        "SELECT count(*), count(*) FILTER (censored) FROM health"
    ).fetchall()
    return {
        "decisions": {"rows": sum(count for _, count in outcomes), "outcomes": dict(outcomes)},
        "windows": {"rows": rows, "censored": censored},
    }


def rebuild(directory: Path) -> dict[str, Any]:
    """Statistics and training set, from an export."""
    with opened(directory) as connection:
        return {"stats": statistics(connection), "training": training(connection)}


if __name__ == "__main__":
    print(json.dumps(rebuild(Path(sys.argv[1])), sort_keys=True))
