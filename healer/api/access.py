"""Who a request comes from, and whether they may do what it asks."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import structlog

from healer.api.limit import Limit
from healer.api.token_book import LOCAL_NAME, Scope, TokenBook, digest
from healer.errors import ConfigError

__all__ = ["ACTING_PER_MINUTE", "Access", "Caller", "scope_of"]

ACTING_PER_MINUTE: Final = 120
_FAILURES_PER_MINUTE: Final = 10
_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_OPEN: Final = frozenset({"/", "/livez", "/readyz", "/favicon.ico"})
_RELOAD: Final = "/network-healer/reload"
_VIEWS: Final = "/network-healer/views/"

_log = structlog.get_logger("healer.api")


def scope_of(method: str, path: str) -> Scope | None:
    """What a request needs; None: nothing, it is a page of the dashboard without facts in it."""
    if method in _READING:
        return None if path in _OPEN or path.startswith("/static/") else Scope.READ
    return Scope.ADMIN if path == _RELOAD or path.startswith(_VIEWS) else Scope.OPERATE


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose token it is. `allowed` says whether it still may do what it was let in for."""

    name: str
    scope: Scope
    allowed: Callable[[], bool]


def _always() -> bool:
    return True


class Access:
    """The tokens that are accepted: the one of this machine, and those in `book`."""

    def __init__(
        self,
        token: str,
        book: TokenBook | None = None,
        *,
        read_open: bool = True,
        acting_per_minute: int = ACTING_PER_MINUTE,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.read_open = read_open
        self._digest = digest(token.encode())
        self._book = book
        self._now = now
        self._acting = Limit(acting_per_minute)
        self._failures = Limit(_FAILURES_PER_MINUTE)

    def caller(self, token: bytes) -> Caller | None:
        """Who holds `token`; None: nobody, any more."""
        if hmac.compare_digest(digest(token), self._digest):
            return Caller(LOCAL_NAME, Scope.ADMIN, _always)
        if self._book is None:
            return None
        try:
            found = self._book.find(token, self._now())
        except ConfigError as error:
            # Nobody is let in by a list that cannot be read.
            _log.error("tokens_unusable", error=str(error))
            return None
        if found is None:
            return None
        return Caller(found.name, found.scope, lambda: self.caller(token) is not None)

    def acting(self, caller: Caller) -> int | None:
        """None when the caller may act now; else in how many seconds."""
        return self._acting.take(caller.name)

    def failed(self, peer: str) -> int | None:
        """Count a failure; None, or in how many seconds `peer` may try again."""
        return self._failures.take(peer)
