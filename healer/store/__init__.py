"""The log on disk, and its twin in memory: two implementations of `healer.ports.EventLog`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from healer.store.memory import MemoryLog
    from healer.store.sqlite import SqliteLog
    from healer.store.url import open_log

__all__ = ["MemoryLog", "SqliteLog", "open_log"]

_MODULES: Final = {"MemoryLog": "memory", "SqliteLog": "sqlite", "open_log": "url"}


def __getattr__(name: str) -> Any:
    # Not before they are asked for: who reads rows and writes none needs no keys, for example.
    try:
        module = _MODULES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(import_module(f"{__name__}.{module}"), name)
