"""Logs that are archived, in a file or in a database: the same tests for both."""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from healer.ports import Recorded
from healer.store import SqliteLog, open_log
from healer.store.archive import Archived
from healer.store.archive import archive as archive_file
from replay.archive import open_database
from replay.independent import examine
from replay.verify import Report, verify
from replay.walk import BESIDE
from tests.store.cluster import Cluster

__all__ = ["DatabaseLog", "Databases", "FileLog", "KeptLog", "check"]

_numbers = itertools.count(1)


class KeptLog(ABC):
    """A log of one of the two kinds. `place` is where its archives go, `key` signs it."""

    url: str
    place: Path
    key: Path

    @abstractmethod
    def open(self, *, witness: Path | None = None) -> Any:
        """For a healer."""

    def reading(self) -> Any:
        """For everybody else."""
        return open_log(self.url, new_log_id=str, read_only=True)

    async def write(self, facts: Sequence[Recorded], *, witness: Path | None = None) -> None:
        """Append `facts`."""
        async with self.open(witness=witness) as log:
            for start in range(0, len(facts), 500):
                await log.append([each.event for each in facts[start : start + 500]])

    @abstractmethod
    def archive(
        self, before: datetime, *, directory: Path | None = None, witness: Path | None = None
    ) -> Archived:
        """What `healer archive` does."""

    @abstractmethod
    def connected(self) -> Any:
        """A context with a connection, in which its tables have bare names, and what keeps events
        from being changed is out of force; committed at its end."""

    def rows(self) -> int:
        """How many events are in the database."""
        with self.connected() as connection:
            return int(connection.execute("SELECT count(*) FROM event").fetchone()[0])

    def forge(self, *statements: str) -> None:
        """What who may write the database can do."""
        with self.connected() as connection:
            for statement in statements:
                connection.execute(statement)

    @abstractmethod
    def verified(self, witness: Path | None = None, *, beside: int = BESIDE) -> Report:
        """By the first verifier, with a second process from so many events on."""

    @abstractmethod
    def examined(self, witness: Path | None = None) -> list[str]:
        """By the second one."""


class FileLog(KeptLog):
    """In SQLite."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.url = f"sqlite:///{file}"
        self.place = file.with_name(f"{file.name}.archive")
        self.key = file.with_name(f"{file.name}.key")

    def copy(self, directory: Path) -> FileLog:
        """The same log elsewhere."""
        for each in (self.file, self.key):
            shutil.copy(each, directory / each.name)
        return FileLog(directory / self.file.name)

    def open(self, *, witness: Path | None = None) -> SqliteLog:
        return SqliteLog.open(self.file, new_log_id=lambda: "log-1", witness=witness)

    def archive(
        self, before: datetime, *, directory: Path | None = None, witness: Path | None = None
    ) -> Archived:
        return archive_file(self.file, before, directory=directory, witness=witness)

    @contextmanager
    def connected(self) -> Iterator[Any]:
        with closing(sqlite3.connect(self.file)) as connection:
            names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'")
            triggers = [name for (name,) in names]
            kept = [
                sql
                for (sql,) in connection.execute(
                    "SELECT sql FROM sqlite_schema WHERE type = 'trigger'"
                )
            ]
            for name in triggers:
                connection.execute(f"DROP TRIGGER {name}")
            yield connection
            for sql in kept:
                connection.execute(sql)
            connection.commit()

    def verified(self, witness: Path | None = None, *, beside: int = BESIDE) -> Report:
        return verify(self.file, witness=witness, beside=beside)

    def examined(self, witness: Path | None = None) -> list[str]:
        return examine(self.file, witness)


class DatabaseLog(KeptLog):
    """In PostgreSQL; its key and archives are in `directory`."""

    def __init__(self, url: str, directory: Path) -> None:
        self.url = url
        self.place = directory / "cold"
        self.key = directory / "log.db.key"

    def open(self, *, witness: Path | None = None) -> Any:
        from healer.store.postgres import PostgresLog

        return PostgresLog.open(self.url, new_log_id=lambda: "log-1", key=self.key, witness=witness)

    def archive(
        self, before: datetime, *, directory: Path | None = None, witness: Path | None = None
    ) -> Archived:
        from healer.store.postgres.archive import archive

        return archive(
            self.url, before, directory=directory or self.place, key=self.key, witness=witness
        )

    @contextmanager
    def connected(self) -> Iterator[Any]:
        import psycopg

        with psycopg.connect(self.url) as connection:
            connection.execute("SET search_path = healer")
            for table in ("event", "checkpoint"):
                connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
            yield connection
            for table in ("event", "checkpoint"):
                connection.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")

    def verified(self, witness: Path | None = None, *, beside: int = BESIDE) -> Report:
        with open_database(self.url) as archive:
            return verify(archive, witness=witness, beside=beside)

    def examined(self, witness: Path | None = None) -> list[str]:
        return examine(self.url, witness)


class Databases:
    """Databases of the tests' server, each made from another one or empty."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._made: list[str] = []

    def make(self, template: str | None = None) -> str:
        """The URL of a new one; `template` is the URL of what it begins as."""
        import psycopg

        name = f"archived_{os.getpid()}_{next(_numbers)}"
        like = template and template.partition("///")[2].partition("?")[0]
        with psycopg.connect(self._cluster.url("postgres"), autocommit=True) as connection:
            said = f"CREATE DATABASE {name}" + (f" TEMPLATE {like}" if like else "")
            connection.execute(said.encode())
        self._made.append(name)
        return self._cluster.url(name)

    def drop(self) -> None:
        """All of them."""
        import psycopg

        with psycopg.connect(self._cluster.url("postgres"), autocommit=True) as connection:
            for name in self._made:
                connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def check(log: KeptLog) -> Report:
    """Verified by both; what the first one says."""
    report = log.verified()
    assert [problem.message for problem in report.problems] == []
    assert log.examined() == []
    return report
