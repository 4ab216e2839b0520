"""Tells Guardian, and whoever else is named, of what the log holds; at least once and in order."""

from healer.guardian.outbox import Outbox
from healer.guardian.sinks import Callback, CallbackSink, make_outboxes

__all__ = ["Callback", "CallbackSink", "Outbox", "make_outboxes"]
