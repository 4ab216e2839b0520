"""Which database a URL names and how it is spoken of, and what its refusals mean."""

from __future__ import annotations

import pytest

from healer.errors import StoreError

psycopg = pytest.importorskip("psycopg", exc_type=ImportError)

from healer.store.postgres.connection import UnreachableError, refusals, words  # noqa: E402
from healer.store.postgres.place import ALLOWED, locate  # noqa: E402

PATIENCE = {
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "3",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
    "application_name": "healer",
}


@pytest.mark.parametrize(
    ("url", "name", "options"),
    [
        (
            "postgresql://healer:s%40cr3t@db.example:5433/log",
            "postgresql://healer@db.example:5433/log",
            {
                "user": "healer",
                "password": "s@cr3t",
                "host": "db.example",
                "port": "5433",
                "dbname": "log",
            },
        ),
        (
            "postgresql:///log?host=/run/pg&user=healer&connect_timeout=9&password=",
            "postgresql://healer@/run/pg/log",
            {"user": "healer", "host": "/run/pg", "dbname": "log", "connect_timeout": "9"},
        ),
        (
            "postgresql://a:1,b:2/log",
            "postgresql://a,b:1,2/log",
            {"host": "a,b", "port": "1,2", "dbname": "log"},
        ),
        (
            "postgresql://a:1,b/log",
            "postgresql://a,b:1,/log",
            {"host": "a,b", "port": "1,", "dbname": "log"},
        ),
        (
            "postgresql:///log?hostaddr=10.0.0.1",
            "postgresql://10.0.0.1/log",
            {"hostaddr": "10.0.0.1", "dbname": "log"},
        ),
        (
            "postgresql:///log?host=a&hostaddr=10.0.0.1",
            "postgresql://a/log",
            {"host": "a", "hostaddr": "10.0.0.1", "dbname": "log"},
        ),
        (
            "postgresql://a/log?options=-c%20x%3Da@b://c@d",
            "postgresql://a/log",
            {"host": "a", "dbname": "log", "options": "-c x=a@b://c@d"},
        ),
        ("postgresql://", "postgresql:///", {}),
    ],
)
def test_a_place_is_named_without_its_secrets(url: str, name: str, options: dict[str, str]) -> None:
    place = locate(url)
    assert (str(place), place.name, place.url) == (name, name, url)
    assert place.options == PATIENCE | options
    assert repr(place) == f"Place(name={name!r})"


AT = (
    "cannot open the PostgreSQL log: its URL has an '@' in front of '?' that does not end "
    f"USER:PASSWORD; write '@' in a password as %40 and '/' as %2F; {ALLOWED}"
)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://healer:a@b@db/log", AT),
        ("postgresql://healer:a/b@db/log", AT),
        ("postgresql://db/log/x@y", AT),
        ("postgresql://db/a://b@c", AT),
        (
            "postgresql://healer:a%b@db/log",
            f"cannot open the PostgreSQL log: its URL cannot be read; {ALLOWED}",
        ),
        (
            "postgresql://db/log?pasword=x",
            f"cannot open the PostgreSQL log: its URL cannot be read; {ALLOWED}",
        ),
        (
            "postgresql://db:54x/log",
            f"cannot open the PostgreSQL log: the port in its URL is not a number; {ALLOWED}",
        ),
        (
            "postgresql://a:1,b:x/log",
            f"cannot open the PostgreSQL log: the port in its URL is not a number; {ALLOWED}",
        ),
    ],
)
def test_what_names_no_database_is_refused_and_the_allowed_is_named(url: str, said: str) -> None:
    with pytest.raises(StoreError) as refused:
        locate(url)
    assert str(refused.value) == said
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


def test_what_the_database_says_is_one_line() -> None:
    assert words(psycopg.OperationalError(" is\n  not\tthere ")) == "is not there"
    assert words(psycopg.OperationalError()) == "OperationalError"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (psycopg.OperationalError, UnreachableError),
        (psycopg.InterfaceError, UnreachableError),
        (psycopg.errors.ReadOnlySqlTransaction, UnreachableError),
        (psycopg.errors.IdleInTransactionSessionTimeout, UnreachableError),
        (psycopg.errors.UniqueViolation, StoreError),
    ],
)
def test_what_may_answer_better_in_a_moment_is_told_from_a_refusal(
    error: type[Exception], kind: type[StoreError]
) -> None:
    with pytest.raises(StoreError) as refused, refusals("read it"):
        raise error("away")
    assert type(refused.value) is kind
    assert str(refused.value) == "cannot read it: away"
    assert type(refused.value.__cause__) is error
