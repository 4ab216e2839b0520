"""What is so at the moment of the scrape, as Prometheus reads it."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol, runtime_checkable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from healer.api.reload import Reload
from healer.api.sink_gauges import sink_gauges
from healer.api.stream import EventStreams
from healer.bootstrap import Healer
from healer.domain.health import Health
from healer.domain.probe import Outcome as ProbeOutcome

__all__ = ["Now", "Readers"]


@runtime_checkable
class _Written(Protocol):
    @property
    def broken(self) -> str | None: ...

    @property
    def unavailable(self) -> str | None: ...


class Readers(Collector):
    """Who reads the log as it grows."""

    def __init__(self, streams: EventStreams) -> None:
        self._streams = streams

    def collect(self) -> Iterable[Metric]:
        yield GaugeMetricFamily(
            "healer_event_streams_open", "Event streams that are open.", value=self._streams.open
        )
        dropped = CounterMetricFamily(
            "healer_event_streams_dropped",
            "Event streams that were ended (slow, revoked) or turned away (refused).",
            labels=("reason",),
        )
        for reason, count in self._streams.dropped.items():
            dropped.add_metric((reason,), count)
        yield dropped


class Now(Collector):
    """The components, the log and the views."""

    def __init__(self, healer: Healer, reload: Reload | None) -> None:
        self._healer = healer
        self._reload = reload

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not read a healer that is not entered yet."""
        return ()

    def collect(self) -> Iterable[Metric]:
        yield from self._components()
        yield from self._log()
        yield from sink_gauges(self._healer)
        yield GaugeMetricFamily(
            "healer_config_last_reload_successful",
            "Whether the last attempt to read the configuration succeeded.",
            value=self._reload is None or self._reload.successful is not False,
        )
        running = platform.python_version()
        build = GaugeMetricFamily(
            "healer_build_info", "The version that runs; always 1.", labels=("version", "python")
        )
        build.add_metric((_version(), running), 1)
        yield build

    def _components(self) -> Iterable[Metric]:
        engine = self._healer.engine
        success = GaugeMetricFamily(
            "healer_probe_success",
            "Whether the last probe was healthy; absent while nothing is known.",
            labels=("component",),
        )
        duration = GaugeMetricFamily(
            "healer_probe_duration_seconds", "What the last probe took.", labels=("component",)
        )
        health = GaugeMetricFamily(
            "healer_component_health",
            "1 for the state that the component is in.",
            labels=("component", "health"),
        )
        opened = GaugeMetricFamily(
            "healer_issues_open", "Issues that have not ended.", labels=("component",)
        )
        healing = GaugeMetricFamily(
            "healer_heals_active", "Components that a playbook is acting on."
        )
        acting = 0
        for name in engine.names:
            status = engine.status(name)
            probe = status.last_probe
            if probe is not None and probe.outcome is not ProbeOutcome.UNKNOWN:
                success.add_metric((name,), probe.outcome is ProbeOutcome.HEALTHY)
                duration.add_metric((name,), probe.elapsed)
            for state in Health:
                health.add_metric((name, state.value), status.health.health is state)
            opened.add_metric((name,), status.issue is not None)
            acting += status.healing
        healing.add_metric((), acting)
        yield from (success, duration, health, opened, healing)
        yield GaugeMetricFamily(
            "healer_paused", "Whether all healing is paused.", value=engine.fleet.paused
        )
        yield GaugeMetricFamily(
            "healer_watching", "Whether components are watched.", value=engine.running
        )

    def _log(self) -> Iterable[Metric]:
        log, views = self._healer.log, self._healer.views
        broken = log.broken if isinstance(log, _Written) else None
        closed = log.unavailable if isinstance(log, _Written) else None
        known = getattr(log, "known_head", None)
        head = views.position if known is None else int(known)
        yield GaugeMetricFamily("healer_log_head", "The last position of the log.", value=head)
        yield GaugeMetricFamily(
            "healer_log_writable",
            "Whether facts can be made durable; nothing is healed while they cannot.",
            value=broken is None and closed is None,
        )
        yield GaugeMetricFamily(
            "healer_log_unsigned",
            "Whether this node signs no checkpoints although it should: it has not the log's key.",
            value=getattr(log, "unsigned", None) is not None,
        )
        yield GaugeMetricFamily(
            "healer_log_unwitnessed",
            "Whether the witness has not heard of the newest checkpoint.",
            value=getattr(log, "unwitnessed", None) is not None,
        )
        yield GaugeMetricFamily(
            "healer_projection_lag_events",
            "How many facts the views are behind the log.",
            value=max(0, head - views.position),
        )
        yield GaugeMetricFamily(
            "healer_projections_stopped",
            "Projections that met a fact which they cannot apply.",
            value=len(views.stopped),
        )


def _version() -> str:
    try:
        return version("network-healer")
    except PackageNotFoundError:
        return "0+unknown"
