"""Traces: what the log tells of each issue, as OpenTelemetry spans for whoever collects them."""

from healer.telemetry.tracing import make_tracing

__all__ = ["make_tracing"]
