"""A PostgreSQL for the tests that want one: started at the first, stopped after the last."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.store.cluster import SHARED, Cluster, find_programs

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def cluster(free_ports: Callable[[int], list[int]]) -> Iterator[Cluster]:
    """A running server; whoever stops it starts it again."""
    missing = "psycopg is not installed (the extra postgres)"
    pytest.importorskip("psycopg", reason=missing, exc_type=ImportError)
    programs = find_programs()
    if programs is None:
        pytest.skip("initdb is neither in PATH nor below /usr/lib/postgresql")
    if shared := os.environ.get(SHARED):
        port, _, directory = shared.partition(":")
        yield Cluster(programs, int(port), running=Path(directory))
        return
    cluster = Cluster(programs, free_ports(1)[0])
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.remove()


@pytest.fixture
def database(cluster: Cluster) -> Iterator[str]:
    """The URL of an empty database, for this test alone."""
    import psycopg

    name = f"log_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    yield cluster.url(name)
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Names an empty log, of each kind in turn; a test may choose by parametrising it."""
    match request.param:
        case "postgresql":
            return str(request.getfixturevalue("database"))
        case "sqlite":
            return f"sqlite:///{tmp_path}/log.db"
        case _:
            return "memory:"
