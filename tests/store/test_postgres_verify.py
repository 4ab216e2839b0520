"""A log on a server can be trusted as one in a file can: the same attacks, really made on it."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from healer.domain.health import Health
from healer.errors import StoreError
from healer.store import checkpoint
from replay.archive import open_database
from replay.independent import examine
from replay.verify import Report, verify
from tests import factory
from tests.conftest import ROOT
from tests.projections.build import Log, heal
from tests.replay.tamper import ATTACKERS, ATTACKS, Break, Row
from tests.store.cluster import Cluster

psycopg = pytest.importorskip("psycopg", exc_type=ImportError)

HEALS = 25
_numbers = itertools.count(1)


class Template(NamedTuple):
    """A log that was written by a healer: its database, and where its key and its witness are."""

    database: str
    log: Path
    witness: Path


class BreakDatabase(Break):
    """A log on a server in the hands of somebody who may do everything there."""

    def __init__(self, url: str, log: Path) -> None:
        self.url = url
        super().__init__(log)

    @contextmanager
    def _session(self) -> Iterator[Any]:
        with psycopg.connect(self.url) as connection:
            connection.execute("SET search_path = healer")
            yield connection

    def connected(self) -> AbstractContextManager[Any]:
        return self._session()

    def write(self) -> None:
        with self._session() as connection:
            for table in ("event", "checkpoint"):
                connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
                connection.execute(f"DELETE FROM {table}")  # noqa: S608 - of two tables
            connection.cursor().executemany(
                "INSERT INTO event VALUES (%s, %s, %s, %s, %s, %s, %s)", self.rows
            )
            connection.cursor().executemany(
                "INSERT INTO checkpoint (number, size, note) VALUES (%s, %s, %s)",
                [
                    (number, checkpoint.read(note).size, note)
                    for number, note in enumerate(self.notes, start=1)
                ],
            )
            connection.execute(
                "UPDATE head SET position = %s, hash = %s",
                (self.rows[-1].position, self.rows[-1].hash),
            )


async def _write(url: str, log: Path, witness: Path) -> None:
    from healer.store.postgres import PostgresLog

    told = Log()
    store = await asyncio.to_thread(
        PostgresLog.open,
        url,
        new_log_id=lambda: "log-1",
        key=log.with_name(f"{log.name}.key"),
        witness=witness,
    )
    async with store:
        done = 0
        for _ in range(HEALS):
            heal(told)
            told.health(Health.STARTING, Health.HEALTHY)
            await store.append([recorded.event for recorded in told.facts[done:]])
            done = len(told.facts)


@pytest.fixture(scope="module")
def template(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Template:
    directory = tmp_path_factory.mktemp("signed")
    name = f"signed_{next(_numbers)}"
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    found = Template(name, directory / "log", directory / "witness")
    asyncio.run(_write(cluster.url(name), found.log, found.witness))
    return found


class Case:
    """A log to be broken, and what was told outside before."""

    def __init__(self, url: str, template: Template) -> None:
        self.url = url
        self.witness = template.witness
        self.broken = BreakDatabase(url, template.log)
        self.key = checkpoint.read(self.broken.notes[0]).key.hex()

    def verified(self, *, witness: bool = True, deep: bool = True, beside: int = 10**9) -> Report:
        """By the first public key; the second verifier must be of the same opinion."""
        told = self.witness if witness else None
        with open_database(self.url) as archive:
            report = verify(archive, witness=told, public_key=self.key, deep=deep, beside=beside)
        second = examine(self.url, told, self.key)
        assert (second == []) is report.ok, (second, report.problems)
        return report


@pytest.fixture
def case(cluster: Cluster, template: Template) -> Iterator[Case]:
    name = f"broken_{next(_numbers)}"
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template.database}")
    yield Case(cluster.url(name), template)
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


UNSEEN_WITHOUT_A_WITNESS = {("B", "truncate"), *(("C", attack) for attack in ATTACKS)}


@pytest.mark.parametrize("attacker", ATTACKERS)
@pytest.mark.parametrize("attack", ATTACKS)
def test_six_attacks_by_three_attackers(case: Case, attack: str, attacker: str) -> None:
    ATTACKERS[attacker](case.broken, ATTACKS[attack])
    for witness in (True, False):
        hidden = not witness and (attacker, attack) in UNSEEN_WITHOUT_A_WITNESS
        report = case.verified(witness=witness, deep=False)
        assert report.ok is hidden, report.problems
        assert (report.first_problem is None) is hidden


def test_a_log_that_nobody_touched_is_whole(case: Case) -> None:
    heard: list[tuple[int, int]] = []
    events = len(case.broken.rows)
    with open_database(case.url) as archive:
        report = verify(
            archive,
            witness=case.witness,
            public_key=case.key,
            on_progress=lambda done, total: heard.append((done, total)),
        )
    assert (report.ok, report.first_problem, report.problems) == (True, None, [])
    assert report.events == report.witnessed == events
    assert report.checkpoints == len(case.broken.notes) > HEALS
    assert (report.log_id, report.public_key) == ("log-1", case.key)
    assert heard[0] == (0, events)
    assert heard[-1] == (events, events)
    assert case.verified().ok


def _illegal(rows: list[Row]) -> list[Row]:
    at = [row.topic for row in rows].index("issue.diagnosis_started.v1")
    return [*rows[:at], rows[at], *rows[at:]]


def _unreadable(rows: list[Row]) -> list[Row]:
    return [*rows[:9], rows[9]._replace(body=b"{}"), *rows[10:]]


@pytest.mark.parametrize("attack", [_illegal, _unreadable])
def test_a_second_process_finds_the_same(
    case: Case, attack: Callable[[list[Row]], list[Row]]
) -> None:
    case.broken.attack(attack)
    case.broken.recompute()
    case.broken.write()
    with open_database(case.url) as archive:
        alone = verify(archive)
    with open_database(case.url) as archive:
        beside = verify(archive, beside=1)
    assert beside == alone
    assert alone.found > 0


def test_a_log_that_is_no_table_of_events_is_damaged(case: Case) -> None:
    with psycopg.connect(case.url) as connection:
        connection.execute("ALTER TABLE healer.event DISABLE TRIGGER USER")
        connection.execute("ALTER TABLE healer.event ALTER body DROP NOT NULL")
        connection.execute("UPDATE healer.event SET body = NULL WHERE position = 5")
    assert "damaged" in [problem.code for problem in case.verified(deep=False).problems]


def test_a_claim_that_the_log_does_not_know_is_found(case: Case) -> None:
    with psycopg.connect(case.url) as connection:
        connection.execute("INSERT INTO healer.open_issue VALUES ('chat_api', 'issue-0001')")
    with open_database(case.url) as archive:
        report = verify(archive)
    assert [problem.code for problem in report.problems] == ["claim"]


async def test_a_log_that_is_being_written_is_whole(database: str, tmp_path: Path) -> None:
    from healer.store.postgres import PostgresLog

    log = await asyncio.to_thread(
        PostgresLog.open, database, new_log_id=lambda: "log-1", key=tmp_path / "key"
    )
    async with log:
        for count in range(1, 6):
            issue = f"i{count}"
            await log.append([factory.issue_detected(stream=issue, component="a")])
            with open_database(database) as archive:
                await log.append([factory.issue_verified(stream=issue, version=2)])
                report = await asyncio.to_thread(verify, archive, deep=False)
            codes = {problem.code for problem in report.problems}
            # Signing goes on behind the commits: the first checkpoint may not be there yet.
            assert codes <= {"unsigned"}
            assert report.events == 2 * count - 1


@pytest.mark.timeout(180)
def test_both_verifiers_are_programs(case: Case, tmp_path: Path) -> None:
    def run(*arguments: object) -> tuple[int, str]:
        ran = subprocess.run(
            [sys.executable, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )
        return ran.returncode, ran.stdout + ran.stderr

    options = ("--witness", case.witness, "--public-key", case.key)
    first = ("-m", "healer", "replay", "verify", "-o", "json", "--store")
    status, said = run(*first, case.url, *options)
    assert (status, json.loads(said)["ok"]) == (0, True)
    assert run("-m", "replay.independent", case.url, *options) == (0, "the database is whole\n")
    ATTACKERS["A"](case.broken, ATTACKS["edit"])
    status, said = run("-m", "replay.independent", case.url, *options)
    assert status == 1
    assert "is not what was stored or signed" in said


def test_a_role_that_may_only_read_is_enough(case: Case, cluster: Cluster) -> None:
    name = f"reader_{next(_numbers)}"
    with psycopg.connect(case.url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN")
        try:
            connection.execute(f"GRANT USAGE ON SCHEMA healer TO {name}")
            connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA healer TO {name}")
            theirs = case.url.replace("user=healer", f"user={name}")
            with open_database(theirs) as archive:
                assert verify(archive, witness=case.witness, public_key=case.key).ok
            assert examine(theirs, case.witness, case.key) == []
        finally:
            connection.execute(f"DROP OWNED BY {name}")
            connection.execute(f"DROP ROLE {name}")


def test_what_is_not_there_is_said(cluster: Cluster, database: str) -> None:
    with pytest.raises(StoreError, match="it is empty"), open_database(database):
        pass
    with pytest.raises(StoreError, match="does not exist"), open_database(cluster.url("nowhere")):
        pass
