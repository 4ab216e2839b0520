"""What Prometheus is told of Guardian's sinks, read when asked."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from healer.bootstrap import Healer

__all__ = ["sink_gauges"]


def sink_gauges(healer: Healer) -> Iterable[Metric]:
    """How far each sink is behind, and what became of what it was offered."""
    position, now = healer.views.position, datetime.now(UTC)
    label = ("sink",)
    behind = GaugeMetricFamily(
        "healer_guardian_lag_events", "How many facts the sink is behind the log.", labels=label
    )
    waiting = GaugeMetricFamily(
        "healer_guardian_lag_seconds",
        "How old the fact is that the sink has to acknowledge now; 0 when there is none.",
        labels=label,
    )
    told = CounterMetricFamily(
        "healer_guardian_delivered", "Events that the sink acknowledged.", labels=label
    )
    retries = CounterMetricFamily(
        "healer_guardian_retries", "Events that were offered again.", labels=label
    )
    dead = CounterMetricFamily(
        "healer_guardian_dead_letters",
        "Events that the sink refused until they were given up.",
        labels=label,
    )
    for each in healer.outboxes:
        name = (each.name,)
        age = (now - each.offered).total_seconds() if each.offered is not None else 0.0
        behind.add_metric(name, max(0, position - each.position))
        waiting.add_metric(name, max(0.0, age))
        told.add_metric(name, each.told)
        retries.add_metric(name, each.retries)
        dead.add_metric(name, each.dead)
    return (behind, waiting, told, retries, dead)
