"""Tells Guardian, and whoever else wants to know, what happens: CloudEvents through an outbox."""

from __future__ import annotations

from healer.guardian.message import SPEC_TYPE, Message, Messages
from healer.guardian.outbox import Cursor, Outbox
from healer.guardian.sink import Callback, JsonLines, Sink, UndeliveredError, Webhook

__all__ = [
    "SPEC_TYPE",
    "Callback",
    "Cursor",
    "JsonLines",
    "Message",
    "Messages",
    "Outbox",
    "Sink",
    "UndeliveredError",
    "Webhook",
]
