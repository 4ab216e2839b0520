"""Which database a URL names, and how it is spoken of: without its secrets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from healer.errors import StoreError

__all__ = ["ALLOWED", "Place", "locate"]

ALLOWED: Final = "allowed: postgresql://USER[:PASSWORD]@HOST[:PORT]/DATABASE"

# A peer that vanished without a word is noticed after 19 s at most, not after the two hours of the
# system's default; figures in the URL win. Durations in seconds, `tcp_user_timeout` in ms.
_DEFAULTS: Final = {
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "3",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
    "application_name": "healer",
}


@dataclass(frozen=True, slots=True)
class Place:
    """A database: `name` is its URL without secrets, `options` what libpq connects with, `url` what
    was given for it."""

    name: str
    url: str = field(repr=False)
    options: Mapping[str, str] = field(repr=False)

    def __str__(self) -> str:
        return self.name


def locate(url: str) -> Place:
    """The database that `url` names; nothing is connected to.

    Raises:
        StoreError: it cannot be read. What libpq says of it is kept back: it could quote a password
            that was taken for a port or a host.
    """
    address, _, _ = url.partition("?")
    if address.count("@") > 1 or "@" in address.partition("://")[2].partition("/")[2]:
        raise StoreError(
            "cannot open the PostgreSQL log: its URL has an '@' in front of '?' that does not end "
            f"USER:PASSWORD; write '@' in a password as %40 and '/' as %2F; {ALLOWED}"
        )
    try:
        options = {key: str(value) for key, value in conninfo_to_dict(url).items() if value}
    except ProgrammingError:
        raise StoreError(
            f"cannot open the PostgreSQL log: its URL cannot be read; {ALLOWED}"
        ) from None
    if not all(port.isdigit() for port in options.get("port", "0").split(",") if port):
        raise StoreError(
            f"cannot open the PostgreSQL log: the port in its URL is not a number; {ALLOWED}"
        )
    return Place(_name(options), url, _DEFAULTS | options)


def _name(options: Mapping[str, str]) -> str:
    user = f"{options['user']}@" if "user" in options else ""
    host = options.get("host", options.get("hostaddr", ""))
    port = f":{options['port']}" if "port" in options else ""
    return f"postgresql://{user}{host}{port}/{options.get('dbname', '')}"
