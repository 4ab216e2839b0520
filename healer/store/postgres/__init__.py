"""The log in PostgreSQL, for several nodes that share one. Needs psycopg: the extra `postgres`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from healer.store.postgres.log import PostgresLog

__all__ = ["PostgresLog"]


def __getattr__(name: str) -> Any:
    # As in `healer.store`: who only reads rows needs nothing of what writes them.
    if name != "PostgresLog":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from healer.store.postgres.log import PostgresLog  # noqa: PLC0415

    return PostgresLog
