"""The log on disk, and its twin in memory: two implementations of `healer.ports.EventLog`."""

from healer.store.memory import MemoryLog
from healer.store.sqlite import SqliteLog
from healer.store.url import open_log

__all__ = ["MemoryLog", "SqliteLog", "open_log"]
