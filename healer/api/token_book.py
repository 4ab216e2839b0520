"""Tokens of others: their names, scopes and digests, in a file that only its owner reads.

A token is 32 random bytes; what is kept of it is its SHA-256, so that the file gives nobody a
token. The file is looked at with each request: what is revoked is refused from then on.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final

import orjson

from healer.domain.spec import check_name
from healer.errors import ConfigError, IllegalCommandError, UnknownNameError

__all__ = ["LOCAL_NAME", "Scope", "Token", "TokenBook", "digest", "tokens_path"]

LOCAL_NAME: Final = "local"
"""The token of `healer.token`, which the command line of this machine uses."""

_NAME: Final = "healer.tokens"
_BYTES: Final = 32
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class Scope(StrEnum):
    """What a token may do; each holds those before it."""

    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"

    def holds(self, other: Scope) -> bool:
        """Whether who has this scope has `other`."""
        order = list(Scope)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True, slots=True)
class Token:
    """What is kept of a token; `expires` None is never."""

    name: str
    scope: Scope
    sha256: str
    created: datetime
    expires: datetime | None = None

    def valid(self, now: datetime) -> bool:
        """Whether it may still be used."""
        return self.expires is None or now < self.expires


def digest(token: bytes) -> bytes:
    """What is kept of a token."""
    return hashlib.sha256(token).digest()


def tokens_path(token_file: Path) -> Path:
    """Where the tokens of others lie: beside the token of this machine."""
    return token_file.with_name(_NAME)


class TokenBook:
    """The file at `path`; no file is a book without tokens."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, ...] | None = None
        self._tokens: tuple[Token, ...] = ()

    def find(self, token: bytes, now: datetime) -> Token | None:
        """The valid token whose digest is that of `token`. Looks at all, in constant time each.

        Raises:
            ConfigError: the file cannot be used.
        """
        wanted = digest(token)
        found: Token | None = None
        for each in self.tokens():
            if hmac.compare_digest(bytes.fromhex(each.sha256), wanted):
                found = each
        return found if found is not None and found.valid(now) else None

    def tokens(self) -> Sequence[Token]:
        """All tokens, also those that have expired; the file is read when it has changed.

        Raises:
            ConfigError: the file cannot be used.
        """
        try:
            found = self.path.lstat()
        except FileNotFoundError:
            self._seen, self._tokens = None, ()
            return ()
        except OSError as error:
            raise self._refusal(error.strerror or str(error)) from error
        seen = (found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode)
        if seen != self._seen:
            self._tokens = self._read()
            self._seen = seen
        return self._tokens

    def create(
        self, name: str, scope: Scope, *, now: datetime, lasts: float | None
    ) -> tuple[Token, str]:
        """Make a token that lasts `lasts` seconds; what is kept, and the token, which is not.

        Raises:
            IllegalCommandError: the name is no name, or taken.
            ConfigError: the file cannot be used.
        """
        try:
            check_name(name)
        except ValueError as error:
            raise IllegalCommandError("create a token", str(error)) from error
        with self._locked():
            tokens = self.tokens()
            if name == LOCAL_NAME or any(each.name == name for each in tokens):
                why = f"there is one of the name {name!r} already; revoke it first"
                raise IllegalCommandError("create a token", why)
            secret = secrets.token_hex(_BYTES)
            expires = None if lasts is None else now + timedelta(seconds=lasts)
            made = Token(name, scope, digest(secret.encode()).hex(), now, expires)
            self._write((*tokens, made))
        return made, secret

    def revoke(self, name: str) -> None:
        """Refuse a token from now on.

        Raises:
            UnknownNameError: there is none of that name.
            ConfigError: the file cannot be used.
        """
        with self._locked():
            tokens = self.tokens()
            if all(each.name != name for each in tokens):
                raise UnknownNameError("token", name, [each.name for each in tokens])
            self._write(tuple(each for each in tokens if each.name != name))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """While it lasts nobody else changes the file."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise self._refusal(error.strerror or str(error)) from error
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            yield
        finally:
            os.close(directory)

    def _read(self) -> tuple[Token, ...]:
        try:
            descriptor = os.open(
                self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            )
            with os.fdopen(descriptor, "rb") as file:
                found = os.fstat(file.fileno())
                if not stat.S_ISREG(found.st_mode):
                    raise self._refusal("it is not a regular file")
                if found.st_mode & _OTHERS:
                    raise self._refusal(f"others may use it too; allowed: chmod 600 {self.path}")
                content = file.read()
        except OSError as error:
            raise self._refusal(error.strerror or str(error)) from error
        try:
            listed = orjson.loads(content)["tokens"]
            return tuple(_token(each) for each in listed)
        except (ValueError, KeyError, TypeError) as error:
            raise self._refusal(
                "it is no list of tokens; allowed: what `healer token create` writes"
            ) from error

    def _write(self, tokens: Sequence[Token]) -> None:
        listed = [
            {
                "name": each.name,
                "scope": each.scope.value,
                "sha256": each.sha256,
                "created": each.created.isoformat(),
                "expires": each.expires.isoformat() if each.expires else None,
            }
            for each in tokens
        ]
        part = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            descriptor = os.open(
                part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(orjson.dumps({"tokens": listed}, option=orjson.OPT_INDENT_2))
                    file.flush()
                    os.fsync(file.fileno())
                part.replace(self.path)
            finally:
                part.unlink(missing_ok=True)
        except OSError as error:
            raise self._refusal(error.strerror or str(error)) from error
        self._seen = None

    def _refusal(self, why: str) -> ConfigError:
        return ConfigError(f"the tokens file {self.path}", [why])


def _token(each: dict[str, str | None]) -> Token:
    sha256, expires = str(each["sha256"]), each["expires"]
    if len(bytes.fromhex(sha256)) != hashlib.sha256().digest_size:
        raise ValueError("not a digest")
    return Token(
        name=check_name(str(each["name"])),
        scope=Scope(str(each["scope"])),
        sha256=sha256,
        created=_instant(str(each["created"])),
        expires=None if expires is None else _instant(expires),
    )


def _instant(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("without a time zone")
    return moment.astimezone(UTC)
