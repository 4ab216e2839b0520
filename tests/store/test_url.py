"""Which URLs name a log, and what is said of those that do not."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

import pytest

from healer import store
from healer.errors import StoreError
from healer.store import MemoryLog, SqliteLog, open_log
from healer.store.url import sqlite_file
from tests import factory


def opened(url: str, *, read_only: bool = False) -> SqliteLog | MemoryLog:
    return open_log(url, new_log_id=lambda: "log-1", read_only=read_only)


async def test_three_slashes_are_relative_and_four_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with opened("sqlite:///here.db") as log:
        await log.append([factory.playbook_started(version=1)])
    async with opened(f"sqlite:///{tmp_path}/here.db") as log:
        assert await log.head() == 1


async def test_a_log_can_be_opened_for_reading_only(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    async with opened(url), opened(url, read_only=True) as log:
        with pytest.raises(StoreError, match="it is open for reading only"):
            await log.append([factory.playbook_started(version=1)])


async def test_names_that_mean_something_in_urls_are_names_here(tmp_path: Path) -> None:
    async with opened(f"sqlite:///{tmp_path}/100% a b&c;d.db"):
        assert (tmp_path / "100% a b&c;d.db").exists()
    async with opened(f"sqlite:///{tmp_path}/X.db"):
        assert sqlite_file(f"sqlite:///{tmp_path}/X.db", "archive").exists()
    (tmp_path / "a:").mkdir()
    async with opened(f"sqlite:///{tmp_path}/a://b.db"):
        assert (tmp_path / "a:" / "b.db").exists()


async def test_memory_is_a_log() -> None:
    async with opened("memory:") as log:
        assert isinstance(log, MemoryLog)
    with pytest.raises(StoreError) as refused:
        opened("memory:", read_only=True)
    assert str(refused.value) == ("cannot open memory: for reading only: there is nothing in it")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "healer.db",
        "/var/lib/healer.db",
        "sqlite:healer.db",
        "sqlite://healer.db",
        "sqlite://",
        "sqlite:///",
        "sqlite:////",
        "sqlite:///dir/",
        "sqlite:///x.db?mode=ro",
        "sqlite:///x.db#1",
        "SQLITE:///x.db",
        "memory",
        "mysql://root@host/db",
        "http://host/",
        "\0",
    ],
)
def test_what_names_no_log_is_refused_and_the_allowed_is_named(url: str) -> None:
    with pytest.raises(StoreError, match=r"^cannot open .*; allowed: sqlite:///FILE, .*memory:$"):
        opened(url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://healer:s3cr3t@127.0.0.1:1/db",
        "postgres://healer:s3cr3t@127.0.0.1:1/db",
        "postgresql://healer:p/w@s3cr3t@127.0.0.1:1/db",
        "postgresql://healer:p/s3cr3t@127.0.0.1:1/db",
        "postgresql://healer:p@s3cr3t@127.0.0.1:1/db",
        "postgresql://healer:s3cr3t%@127.0.0.1:1/db",
        "postgresql://healer:s3cr3t",
        "postgresql://healer:s3cr3t@127.0.0.1:port/db",
        "postgresql:///db?host=127.0.0.1&port=1&user=healer&password=s3cr3t",
        "postgresql:///db?password=s3cr3t&pasword=s3cr3t",
        "postgresql:///db?host=127.0.0.1&port=1&password",
        "mysql://healer:s3cr3t@host/db",
        "sqlite://healer:s3cr3t@host/x.db",
        "host=db user=healer password=s3cr3t",
        "healer:s3cr3t@host/db",
    ],
)
def test_a_password_is_never_shown(url: str) -> None:
    with pytest.raises(StoreError) as refused:
        opened(url)
    assert "s3cr3t" not in str(refused.value)


def test_a_missing_client_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "healer.store.postgres", None)
    with pytest.raises(
        StoreError, match=r"psycopg is missing .*'network-healer\[postgres\]'$"
    ) as no:
        opened("postgresql://healer:s3cr3t@host/db")
    assert "s3cr3t" not in str(no.value)


class Server:
    """Says with what it was asked for a log."""

    class PostgresLog:
        @staticmethod
        def open(url: str, **options: Any) -> Any:
            return url, options

        @staticmethod
        def open_readonly(url: str) -> Any:
            return url


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_a_log_on_a_server_is_opened_as_it_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setitem(sys.modules, "healer.store.postgres", cast(Any, Server))
    url = f"{scheme}://healer@host/db"
    asked: dict[str, Any] = {
        "new_log_id": lambda: "log-1",
        "node": "edge-1",
        "key": Path("key"),
        "witness": Path("witness"),
        "rotate_every": 5.0,
    }
    assert cast(Any, open_log(url, **asked)) == (url, asked)
    assert cast(Any, open_log(url, **asked, read_only=True)) == url


async def test_a_log_has_the_witness_and_the_period_of_keys_that_were_asked_for(
    tmp_path: Path,
) -> None:
    url, witness = f"sqlite:///{tmp_path}/log.db", tmp_path / "witness"
    async with open_log(url, new_log_id=lambda: "log-1", witness=witness, rotate_every=0.0):
        pass
    said = witness.read_text()
    assert "network-healer/log-1\\n0\\n" in said
    assert "\\nnext " in said


ALLOWED = "allowed: sqlite:///FILE, sqlite:////ABSOLUTE/FILE"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("mysql://u:p@host/db", "'mysql://u:***@host/db': it is not the URL of a log"),
        ("sqlite:x.db", "'sqlite:x.db': it is not the URL of a log"),
        ("sqlite://x.db", "'sqlite://x.db': it does not name a file"),
        ("sqlite:///x?y", "'sqlite:///x?***': it does not name a file"),
        ("host=x password = y", "'host=x password =***': it is not the URL of a log"),
    ],
)
def test_a_refusal_says_what_is_wrong_and_what_is_allowed(url: str, why: str) -> None:
    with pytest.raises(StoreError) as refused:
        opened(url)
    assert str(refused.value) == (
        f"cannot open {why}; {ALLOWED}, postgresql://USER[:PASSWORD]@HOST[:PORT]/DATABASE, memory:"
    )


def test_a_file_of_a_log_is_found_by_its_url() -> None:
    assert sqlite_file("sqlite:///here.db", "archive") == Path("here.db")
    assert sqlite_file("sqlite:////there/x.db", "archive") == Path("/there/x.db")
    for url in ("here.db", "sqlite:///", "sqlite:///dir/", "sqlite:///x?y", "sqlite:///x#y", "m:"):
        with pytest.raises(StoreError) as refused:
            sqlite_file(url, "archive")
        shown = url.replace("?y", "?***")
        assert str(refused.value) == f"cannot archive {shown!r}; {ALLOWED}"


def test_what_the_package_does_not_have_is_named() -> None:
    assert store.SqliteLog is SqliteLog
    with pytest.raises(AttributeError) as missing:
        store.NoLog  # noqa: B018
    assert str(missing.value) == "module 'healer.store' has no attribute 'NoLog'"
