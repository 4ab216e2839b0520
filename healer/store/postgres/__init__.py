"""The log in PostgreSQL, for several nodes that share one. Needs psycopg: the extra `postgres`."""

from healer.store.postgres.log import PostgresLog

__all__ = ["PostgresLog"]
