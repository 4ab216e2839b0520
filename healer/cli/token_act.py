"""What `healer token` does: it changes the file that the healer looks at with each request."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from healer.api.token import read_token, token_path
from healer.api.token_book import Scope, Token, TokenBook, tokens_path
from healer.cli.choice import UsageError
from healer.cli.form import Output
from healer.cli.outcome import FINE
from healer.cli.output import as_table, print_json, print_line, print_table
from healer.cli.source import config_in
from healer.domain.duration import parse_duration
from healer.errors import UnknownNameError

__all__ = ["create", "revoke", "show", "show_all"]


def _book(file: Path | None) -> TokenBook:
    return TokenBook(tokens_path(token_path(config_in(file))))


def create(
    file: Path | None, name: str, scope: str, expires: str | None, output: Output | None
) -> int:
    """Make a token."""
    if scope not in (known := [each.value for each in Scope]):
        raise UnknownNameError("scope", scope, known)
    lasts = None if expires is None else _duration(expires)
    made, secret = _book(file).create(name, Scope(scope), now=datetime.now(UTC), lasts=lasts)
    if as_table(output):
        print_line(f"{name} may {scope}; it is shown this once:")
        sys.stdout.write(f"{secret}\n")
    else:
        print_json({**_shown(made), "token": secret})
    return FINE


def show_all(file: Path | None, output: Output | None) -> int:
    """All tokens, without the tokens."""
    tokens = [_shown(each) for each in _book(file).tokens()]
    if not as_table(output):
        print_json({"tokens": tokens})
        return FINE
    columns = ("name", "scope", "created", "expires", "valid")
    print_table("Tokens", columns, [[each[column] for column in columns] for each in tokens])
    return FINE


def revoke(file: Path | None, name: str, output: Output | None) -> int:
    """Refuse a token from now on."""
    _book(file).revoke(name)
    if as_table(output):
        print_line(f"{name} is revoked")
    else:
        print_json({"name": name, "revoked": True})
    return FINE


def show(file: Path | None, output: Output | None) -> int:
    """The token of this machine; bare in a pipe as well, for `$(healer token show)`."""
    token = read_token(token_path(config_in(file)))
    if output is Output.JSON:
        print_json({"token": token})
    else:
        sys.stdout.write(f"{token}\n")
    return FINE


def _duration(text: str) -> float:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise UsageError(f"cannot create a token: {error}") from error
    if seconds == 0:
        raise UsageError("cannot create a token that expires at once; allowed: 90d")
    return seconds


def _shown(token: Token) -> dict[str, Any]:
    return {
        "name": token.name,
        "scope": token.scope.value,
        "created": token.created.isoformat(timespec="seconds"),
        "expires": token.expires.isoformat(timespec="seconds") if token.expires else None,
        "valid": token.valid(datetime.now(UTC)),
    }
